//! Cursors over a map that changes: what Go promises of `range`, under random
//! changes, growth, tidying and shrinking.
#![cfg(feature = "collections")]

mod map_support;

use std::collections::{HashMap, HashSet};

use map_support::{MASKS, Masked, Random};
use spanalloc::map::{Growth, Map, Policy};

/// Entries there all the time come exactly once, removed ones never after their
/// removal, and no key twice unless it was removed and inserted again.
#[test]
fn an_iteration_under_changes_keeps_gos_promises() {
    let mut crossed = 0;
    for seed in 0..300u64 {
        let mut random = Random(seed);
        let growth = [Growth::Incremental, Growth::AtOnce][seed as usize % 2];
        let mask = MASKS[seed as usize % MASKS.len()];
        let mut map =
            Map::with_hasher(Masked(mask)).with_policy(Policy { growth, ..Policy::default() });
        for _ in 0..random.below(200) {
            let key = random.below(400);
            map.insert(key, key);
        }
        let mut throughout: HashSet<u64> = map.keys().copied().collect();
        let mut yielded: HashMap<u64, u32> = HashMap::new();
        let mut insertions: HashMap<u64, u32> = throughout.iter().map(|&key| (key, 1)).collect();
        let changes = random.below(12);
        let mut cursor = map.cursor();
        while let Some((&key, &value)) = cursor.next(&map) {
            assert_eq!(map.get(&key), Some(&value), "seed {seed}: {key} is not there");
            *yielded.entry(key).or_default() += 1;
            for _ in 0..random.below(changes + 1) {
                let key = random.below(400);
                match random.below(8) {
                    0..=4 if map.len() < 390 => {
                        if map.insert(key, random.next()).is_none() {
                            *insertions.entry(key).or_default() += 1;
                        }
                    }
                    5 | 6 => {
                        map.remove(&key);
                        throughout.remove(&key);
                    }
                    _ if random.below(6) == 0 => map.shrink_to_fit(),
                    _ => map.reserve(random.below(500) as usize),
                }
            }
        }
        for key in throughout {
            assert_eq!(yielded.get(&key), Some(&1), "seed {seed}: {key} was there all the time");
        }
        for (key, times) in yielded {
            assert!(times <= insertions[&key], "seed {seed}: {key} came {times} times");
        }
        crossed += cursor.generations_crossed();
        assert_eq!(cursor.generation(), map.generation());
        assert!(cursor.next(&map).is_none());
    }
    assert!(crossed > 500, "only {crossed} arrays were changed under cursors");
}

#[test]
fn what_is_removed_ahead_is_not_yielded_and_values_are_current() {
    let mut map: Map<u32, u32> = (0..1000).map(|n| (n, 0)).collect();
    let mut cursor = map.cursor();
    let mut seen = 0;
    while let Some((&key, &value)) = cursor.next(&map) {
        assert_eq!(value, key % 2 * seen.min(1));
        seen += 1;
        if seen == 1 {
            let odd = key % 2;
            map.retain(|other, _| other % 2 == odd || *other == key);
            map.iter_mut().for_each(|(key, value)| *value = key % 2);
        }
    }
    assert_eq!(seen, 500);
}

#[test]
fn cursors_start_anywhere() {
    let map: Map<u32, ()> = (0..1000).map(|n| (n, ())).collect();
    let firsts: HashSet<u32> =
        (0..50).filter_map(|_| map.cursor().next(&map).map(|(key, ())| *key)).collect();
    assert!(firsts.len() > 10, "{firsts:?}");
    let empty: Map<u32, ()> = Map::new();
    assert!(empty.cursor().next(&empty).is_none());
}
