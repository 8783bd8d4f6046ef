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

/// A cursor that begins while the map grows finds two of its ranges in one chain that is
/// not evacuated; each entry comes with its own.
#[test]
fn a_cursor_may_begin_in_a_growth() {
    for seed in 0..20u64 {
        let mut random = Random(seed);
        let mut map = Map::with_hasher(Masked(u64::MAX));
        while map.len() < 2000 || map.stats().old.is_none() {
            map.insert(random.next(), ());
        }
        let old = map.stats().old.unwrap();
        assert!(old.buckets - old.evacuated > 100, "{old:?}");
        let mut throughout: HashSet<u64> = map.keys().copied().collect();
        let mut cursor = map.cursor();
        let mut inserted = 0;
        while let Some((&key, ())) = cursor.next(&map) {
            assert!(throughout.remove(&key) || key < inserted, "seed {seed}: {key} came twice");
            // Ends the growth sooner or later, or not before the cursor.
            if seed % 2 == 0 && random.below(30) == 0 {
                map.insert(inserted, ());
                inserted += 1;
            }
        }
        assert!(throughout.is_empty(), "seed {seed}: {throughout:?} did not come");
    }
}

/// A cursor whose map shrinks below its ranges finds many of them in one chain.
#[test]
fn a_map_may_shrink_below_its_cursors_ranges() {
    for seed in 0..20u64 {
        let mut random = Random(seed);
        let mut map: Map<u64, (), _> = Map::with_hasher(Masked(u64::MAX));
        map.extend((0..2000).map(|key| (key, ())));
        let ranges = map.stats().buckets;
        let mut cursor = map.cursor();
        let mut yielded = HashSet::new();
        for _ in 0..random.below(1000) {
            yielded.extend(cursor.next(&map).map(|(&key, ())| key));
        }
        map.retain(|key, ()| key % 16 == seed % 16);
        map.shrink_to_fit();
        assert!(map.stats().buckets * 8 <= ranges);
        while let Some((&key, ())) = cursor.next(&map) {
            assert!(yielded.insert(key), "seed {seed}: {key} came twice");
            if random.below(20) == 0 {
                map.shrink_to_fit();
                map.reserve(random.below(500) as usize);
            }
        }
        assert!(map.keys().all(|key| yielded.contains(key)), "seed {seed}");
    }
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
