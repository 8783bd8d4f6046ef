//! A search engine: `tantivy` indexes documents in memory and answers queries.

use harness::{Kind, Rng, Run, Workload};
use tantivy::collector::{Count, TopDocs};
use tantivy::query::QueryParser;
use tantivy::schema::{Field, STORED, Schema, TEXT};
use tantivy::{Index, TantivyDocument, TantivyError};

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "tantivy_index",
        kind: Kind::Time,
        about: "index documents of a title and 80 words with one writer, commit, per document",
        run: tantivy_index,
    },
    Workload {
        name: "tantivy_query",
        kind: Kind::Time,
        about: "parse a query of three terms and take the best ten, in two threads",
        run: tantivy_query,
    },
];

struct Library {
    index: Index,
    title: Field,
    body: Field,
}

impl Library {
    /// An index of `documents` documents, the same each time.
    fn build(documents: usize) -> Result<Self, TantivyError> {
        let mut schema = Schema::builder();
        let title = schema.add_text_field("title", TEXT | STORED);
        let body = schema.add_text_field("body", TEXT);
        let index = Index::create_in_ram(schema.build());
        let mut writer = index.writer_with_num_threads(1, 32 << 20)?;
        let mut rng = Rng::new(30);
        for _ in 0..documents {
            let mut document = TantivyDocument::default();
            document.add_text(title, words(&mut rng, 4));
            document.add_text(body, words(&mut rng, 80));
            writer.add_document(document)?;
        }
        writer.commit()?;
        Ok(Self { index, title, body })
    }

    /// How many documents match each of `queries` random queries, summed.
    fn ask(&self, seed: u64, queries: usize) -> Result<u64, TantivyError> {
        let searcher = self.index.reader()?.searcher();
        let parser = QueryParser::for_index(&self.index, vec![self.title, self.body]);
        let mut rng = Rng::new(seed);
        let mut found = 0;
        for _ in 0..queries {
            let query = parser.parse_query(&words(&mut rng, 3))?;
            let best = TopDocs::with_limit(10).order_by_score();
            let (best, count) = searcher.search(&query, &(best, Count))?;
            for (_, address) in best {
                let document: TantivyDocument = searcher.doc(address)?;
                found += document.len() as u64;
            }
            found += count as u64;
        }
        Ok(found)
    }
}

/// `count` words; as in a language, few are frequent and many are rare.
fn words(rng: &mut Rng, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        let range = 1 << rng.between(3, 14);
        text.push_str("term");
        text.push_str(&rng.below(range).to_string());
        text.push(' ');
    }
    text
}

fn tantivy_index(run: &mut Run) {
    let documents = run.count(10_000);
    let library = run.time(documents, || Library::build(documents).expect("memory suffices"));
    run.check(library.ask(31, 20).expect("the index is sound"));
}

fn tantivy_query(run: &mut Run) {
    let library = Library::build(run.count(4_000)).expect("memory suffices");
    let queries = run.count(3_000);
    let found: u64 = run.time(2 * queries, || {
        std::thread::scope(|scope| {
            let ask = |seed| library.ask(seed, queries).expect("the index is sound");
            let other = scope.spawn(move || ask(32));
            ask(33) + other.join().expect("no workload panics")
        })
    });
    run.check(found);
}
