//! What the maps' calls promise beside what a map does.

use crate::map_support::counting::{allocations, refusing_above};
use spanalloc::map::{Growth, Map, Policy, Sharded};
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
    let (once, often) = (clear(1), clear(100));
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
