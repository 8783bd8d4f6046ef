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

/// Does `ops` insertions and removals, half and half; returns what was removed.
fn churn(
    ops: usize,
    mut insert: impl FnMut(String, String),
    mut remove: impl FnMut(&str) -> Option<String>,
) -> u64 {
    let mut rng = Rng::new(21);
    let mut removed = 0;
    for _ in 0..ops {
        insert(key(&mut rng), value(&mut rng));
        removed += remove(&key(&mut rng)).map_or(0, |value| value.len() as u64);
    }
    removed
}

fn hashmap_strings(run: &mut Run) {
    let ops = run.count(600_000);
    let map = std::cell::RefCell::new(HashMap::new());
    let removed = run.time(ops, || {
        churn(
            ops,
            |key, value| drop(map.borrow_mut().insert(key, value)),
            |key| map.borrow_mut().remove(key),
        )
    });
    run.check(removed);
}

fn btreemap_strings(run: &mut Run) {
    let ops = run.count(300_000);
    let map = std::cell::RefCell::new(BTreeMap::new());
    let removed = run.time(ops, || {
        churn(
            ops,
            |key, value| drop(map.borrow_mut().insert(key, value)),
            |key| map.borrow_mut().remove(key),
        )
    });
    run.check(removed);
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
