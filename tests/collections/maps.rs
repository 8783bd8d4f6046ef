//! What the maps' calls promise beside what a map does.

use crate::map_support::Random;
use crate::map_support::counting::{allocations, refusing_above};
use spanalloc::map::{Growth, Lazy, Map, Policy, Sharded, Sweep};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Entries move by evacuation while the generation stays: it counts arrays and seeds alone.
#[test]
fn a_generation_is_an_array_not_a_place() {
    let mut map: Map<u32, u32> = (0..1000).map(|n| (n, n)).collect();
    while map.stats().old.is_none() {
        map.insert(map.len() as u32, 0);
    }
    let (generation, moved) = (map.generation(), map.stats().growth.entries_moved);
    map.insert(u32::MAX, 0);
    assert!(map.stats().growth.entries_moved > moved, "a growth is under way");
    assert_eq!(map.generation(), generation);
}

#[test]
fn extending_keeps_the_number_of_buckets_that_never_grows() {
    let never = Policy { growth: Growth::Never, ..Policy::default() };
    let mut map: Map<u32, u32> = Map::with_capacity(100).with_policy(never);
    let buckets = map.stats().buckets;
    map.extend((0..10_000).map(|n| (n, n)));
    map.extend((0..20_000).map(|n| (n, n)));
    assert_eq!((map.stats().buckets, map.len(), map.check()), (buckets, 20_000, Ok(())));
}

#[test]
fn an_empty_map_shrinks_no_further_than_told() {
    let mut map: Map<u32, u32> = (0..1000).map(|n| (n, n)).collect();
    map.clear();
    map.shrink_to(5);
    assert!((5..100).contains(&map.capacity()), "{}", map.capacity());
    map.shrink_to(5);
    assert!(map.capacity() >= 5);
    map.shrink_to_fit();
    assert_eq!((map.capacity(), map.stats().bytes), (0, 0));
    map.shrink_to(5);
    assert_eq!(map.stats().bytes, 0, "shrinking makes no room");
}

#[test]
fn counting_the_entries_of_shards_allocates_nothing() {
    let map = Sharded::new(8);
    for n in 0..100 {
        map.insert(n, n);
    }
    let (calls, _, seen) = allocations(|| (map.len(), map.is_empty()));
    assert_eq!((calls, seen), (0, (100, false)));
}

/// Clearing a map that has nothing does not go over its array.
#[test]
fn clearing_an_empty_map_costs_nothing() {
    let mut map: Map<u64, u64> = Map::with_capacity(1 << 18);
    map.extend((0..1000).map(|n| (n, n)));
    let mut clear = |times: u32| {
        let since = Instant::now();
        (0..times).for_each(|_| map.clear());
        since.elapsed()
    };
    let once = clear(1);
    // The least of several, for one of them may be interrupted.
    let often = (0..10).map(|_| clear(100)).min().unwrap();
    assert!(often < once, "100 times {often:?}, once {once:?}");
    map.extend((0..100_000).map(|n| (n, n)));
    map.retain(|_, _| false);
    map.clear();
    assert_eq!((map.check(), map.stats().slots.empty_one), (Ok(()), 0));
}

#[test]
fn a_capacity_that_cannot_be_had_is_an_error() {
    for capacity in [0, 1, 8, 9, 1000] {
        let (tried, made) =
            (Map::<u64, u64>::try_with_capacity(capacity).unwrap(), Map::with_capacity(capacity));
        let shape = |map: &Map<u64, u64>| {
            let stats = map.stats();
            (map.capacity(), map.bytes(), stats.buckets, stats.growth, stats.arrays_by_tier)
        };
        assert_eq!(shape(&tried), shape(&made));
    }
    let refused = refusing_above(1 << 16, || Map::<u64, u64>::try_with_capacity(1 << 16));
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("65536"), "{message}");
    assert!(Map::<u64, u64>::try_with_capacity(usize::MAX).is_err());
}

#[test]
fn bytes_are_those_of_the_statistics() {
    let mut map: Map<u64, u64> = Map::new();
    for n in 0..5000 {
        map.insert(n, n);
        if n % 97 == 0 {
            assert_eq!(map.bytes(), map.stats().bytes);
        }
    }
}

#[test]
fn a_map_s_statistics_read_well() {
    let mut map: Map<u32, u32, _> = Map::with_hasher(crate::map_support::Masked(7));
    let empty = map.stats().to_string();
    assert!(empty.starts_with("0 entries in 0 buckets, 0.00 of 6.50 each"), "{empty}");
    map.extend((0..1000).map(|n| (n, n)));
    map.insert(1, 1);
    while map.stats().old.is_none() {
        map.insert(map.len() as u32, 0);
    }
    let (stats, text) = (map.stats(), map.stats().to_string());
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    assert!(text.contains("\nupdate                            1     0."), "{text}");
    assert!(text.contains("\n4 or more"), "{text}");
    assert!(text.contains(&format!("growing: {}", stats.old.unwrap().evacuated)), "{text}");
    assert!(text.ends_with(" 0 in blocks of large keys and values"), "{text}");
}

/// The calls of a map of shards against a map of std's.
#[test]
fn shards_do_what_a_map_does() {
    for shards in [1, 8] {
        let (ours, mut theirs) = (Sharded::new(shards), HashMap::new());
        let mut random = Random(shards as u64);
        for _ in 0..3000 {
            let (key, value) = (random.below(200), random.next() % 100);
            match random.below(50) {
                0..=19 => assert_eq!(
                    ours.get_or_insert_with(key, || value),
                    *theirs.entry(key).or_insert(value)
                ),
                20..=29 => assert_eq!(ours.remove_entry(&key), theirs.remove_entry(&key)),
                30..=38 => assert_eq!(
                    ours.update(&key, |place| std::mem::replace(place, value)),
                    theirs.get_mut(&key).map(|place| std::mem::replace(place, value))
                ),
                39..=47 => {
                    assert_eq!(ours.get_with(&key, |place| *place), theirs.get(&key).copied());
                }
                48 => {
                    ours.retain(|key, value| (*key + *value) % 3 > 0);
                    theirs.retain(|key, value| (*key + *value) % 3 > 0);
                }
                _ => {
                    if random.below(5) == 0 {
                        ours.clear();
                        theirs.clear();
                    }
                }
            }
            assert_eq!(ours.len(), theirs.len());
        }
        ours.for_each_shard(|shard| assert_eq!(shard.check(), Ok(())));
    }
}

#[test]
fn what_one_thread_makes_no_other_does() {
    let map: Sharded<u32, u32> = Sharded::new(2);
    let made = std::sync::atomic::AtomicU32::new(0);
    let make = || made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..100).for_each(|key| assert!(map.get_or_insert_with(key, make) < 100))
            });
        }
    });
    assert_eq!(made.into_inner(), 100);
    let looked = catch_unwind(AssertUnwindSafe(|| map.get_with(&1, |_| panic!("in the middle"))));
    assert!(looked.is_err() && map.get(&1).is_some());
}

#[test]
fn iterating_a_lazy_map_passes_marked_entries_by() {
    let mut map = Lazy::new(Sweep::Space(usize::MAX));
    (0..100).for_each(|key| assert_eq!(map.insert(key, key, 0), None));
    (0..100).step_by(3).for_each(|key| assert!(map.remove(&key, 1)));
    map.iter_mut().for_each(|(_, value)| *value *= 2);
    let there = |key: &u32| !key.is_multiple_of(3);
    assert!(map.iter().all(|(key, value)| there(key) && *value == 2 * key));
    let mut keys: Vec<u32> = map.keys().copied().collect();
    keys.sort_unstable();
    assert_eq!((keys.len(), map.len()), (66, 66));
    assert!((0..100).filter(there).eq(keys));
    assert!((0..100).all(|key| map.contains_key(&key) == there(&key)));
    map.clear();
    assert_eq!((map.iter().count(), map.stats().backlog, map.check()), (0, 0, Ok(())));
    assert_eq!((map.insert(1, 1, 2), map.stats().revived), (None, 0));
}
