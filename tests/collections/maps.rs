//! What the maps' calls promise beside what a map does.

use crate::map_support::counting::allocations;
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
