//! Maps of strings: entries come and go, keys and values are owned.

use harness::{Kind, Rng, Run, Workload};
use std::collections::{BTreeMap, HashMap};

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "hashmap_strings",
        kind: Kind::Time,
        about: "HashMap<String, String> of up to 50,000 entries, insert and remove at random",
        run: hashmap_strings,
    },
    Workload {
        name: "btreemap_strings",
        kind: Kind::Time,
        about: "BTreeMap<String, String> of up to 50,000 entries, insert and remove at random",
        run: btreemap_strings,
    },
    Workload {
        name: "word_count",
        kind: Kind::Time,
        about: "group 20,000 words into HashMap<String, Vec<String>>, sort, drop; per word",
        run: word_count,
    },
];

/// Keys are drawn from twice as many, so that about half of them are present.
const KEYS: usize = 100_000;

fn key(rng: &mut Rng) -> String {
    format!("customer/{:06}/orders", rng.below(KEYS))
}

fn value(rng: &mut Rng) -> String {
    "v".repeat(rng.between(4, 120))
}

/// Insertions and removals, half and half, in a map that begins empty.
fn churn<M: Default>(
    run: &mut Run,
    ops: usize,
    insert: impl Fn(&mut M, String, String) -> Option<String>,
    remove: impl Fn(&mut M, &str) -> Option<String>,
) {
    let ops = run.count(ops);
    let mut rng = Rng::new(21);
    let mut map = M::default();
    let removed = run.time(ops, || {
        let mut removed = 0;
        for _ in 0..ops {
            insert(&mut map, key(&mut rng), value(&mut rng));
            removed += remove(&mut map, &key(&mut rng)).map_or(0, |value| value.len() as u64);
        }
        drop(map);
        removed
    });
    run.check(removed);
}

fn hashmap_strings(run: &mut Run) {
    churn::<HashMap<_, _>>(run, 600_000, HashMap::insert, |map, key| map.remove(key));
}

fn btreemap_strings(run: &mut Run) {
    churn::<BTreeMap<_, _>>(run, 300_000, BTreeMap::insert, |map, key| map.remove(key));
}

fn word_count(run: &mut Run) {
    let (passes, words) = (run.count(80), 20_000);
    let groups = run.time(passes * words, || {
        let mut groups = 0;
        for pass in 0..passes {
            let mut rng = Rng::new(pass as u64);
            let mut by_stem: HashMap<String, Vec<String>> = HashMap::new();
            for _ in 0..words {
                let word = format!("word{}", rng.below(60_000));
                by_stem.entry(word[..word.len() - 1].to_owned()).or_default().push(word);
            }
            let mut sorted: Vec<_> = by_stem.into_iter().collect();
            sorted.sort();
            groups += sorted.len() as u64;
        }
        groups
    });
    run.check(groups);
}
