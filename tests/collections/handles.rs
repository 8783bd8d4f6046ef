//! The map with handles beside what the oracle's random operations meet.

use crate::map_support::counting::refusing_above;
use crate::map_support::{Masked, Random};
use spanalloc::map::{Handle, HandleMap};
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// Removing by handle, by key and by iteration against what is known, under good and bad hashers.
#[test]
fn entries_are_removed_by_their_handles_alone() {
    for (seed, mask) in crate::map_support::MASKS.into_iter().enumerate() {
        let mut random = Random(seed as u64);
        let mut map: HandleMap<u64, u64, _> = HandleMap::with_hasher(Masked(mask));
        let mut known: HashMap<u64, (Handle, u64)> = HashMap::new();
        let mut stale: Vec<Handle> = Vec::new();
        for _ in 0..2000 {
            let (key, value) = (random.below(300), random.next());
            match random.below(10) {
                0..=3 => {
                    let (handle, place) = map.get_or_insert_with(key, || value);
                    assert_eq!((handle, *place), *known.entry(key).or_insert((handle, value)));
                    assert!(!stale.contains(&handle));
                }
                4..=5 => {
                    let removed = map.remove_entry(&key);
                    let expected = known.remove(&key);
                    stale.extend(expected.map(|(handle, _)| handle));
                    assert_eq!(removed, expected.map(|(_, value)| (key, value)));
                }
                6..=7 => {
                    let Some((&key, &(handle, value))) = known.iter().next() else { continue };
                    assert_eq!(map.remove_handle(handle), Some((key, value)));
                    known.remove(&key);
                    stale.push(handle);
                }
                8 => {
                    for (key, value) in &mut map {
                        *value ^= key;
                    }
                    known.iter_mut().for_each(|(key, (_, value))| *value ^= key);
                }
                _ => {
                    map.values_mut().for_each(|value| *value = value.wrapping_add(1));
                    known.values_mut().for_each(|(_, value)| *value = value.wrapping_add(1));
                }
            }
            let old = stale.get(random.below(stale.len().max(1) as u64) as usize);
            assert!(old.is_none_or(|&handle| map.remove_handle(handle).is_none()));
        }
        assert_eq!((map.check(), map.len()), (Ok(()), known.len()));
        assert!(map.capacity() >= map.len());
        assert!(map.keys().all(|key| known.contains_key(key)) && map.keys().len() == known.len());
        let sum = map.values().fold(0u64, |sum, &value| sum.wrapping_add(value));
        assert_eq!(sum, known.values().fold(0u64, |sum, &(_, value)| sum.wrapping_add(value)));
        assert_eq!(map.iter_mut().len(), known.len());
        let all = map.into_iter();
        assert_eq!(all.len(), known.len());
        let all: HashMap<u64, u64> = all.collect();
        assert_eq!(all, known.into_iter().map(|(key, (_, value))| (key, value)).collect());
    }
}

#[test]
fn what_an_iterator_leaves_is_dropped() {
    let token = Rc::new(());
    let map: HandleMap<u32, Rc<()>> = (0..500).map(|key| (key, token.clone())).collect();
    assert_eq!(map.into_iter().take(100).count(), 100);
    assert_eq!(Rc::strong_count(&token), 1);
}

#[test]
fn a_panic_while_a_value_is_made_inserts_nothing() {
    let mut map: HandleMap<u32, u32> = HandleMap::new();
    map.insert(1, 1);
    let made = Cell::new(false);
    let make = || {
        made.set(true);
        panic!("not to be had")
    };
    assert!(catch_unwind(AssertUnwindSafe(|| map.get_or_insert_with(2, make).0)).is_err());
    assert_eq!((made.get(), map.len(), map.check()), (true, 1, Ok(())));
    assert_eq!(*map.get_or_insert_with(2, || 5).1, 5);
}

#[test]
fn room_that_cannot_be_had_is_an_error() {
    let mut map: HandleMap<u64, [u64; 16]> = (0..10).map(|key| (key, [key; 16])).collect();
    let chunks = map.stats().chunks;
    for additional in [1 << 33, usize::MAX] {
        assert!(map.try_reserve(additional).is_err());
    }
    // Of the first chunk, of the third, of the array of handles.
    for (bytes_max, additional) in [(1 << 10, 1000), (1 << 10, 300), (40_000, 100_000)] {
        let refused = refusing_above(bytes_max, || map.try_reserve(additional));
        assert!(refused.is_err() && map.check() == Ok(()));
    }
    map.try_reserve(1000).unwrap();
    assert!(map.capacity() >= 1010 && map.stats().chunks > chunks);
    let (chunks, moved) = (map.stats().chunks, map.stats().handles_moved);
    map.extend((1000..2000).map(|key| (key, [key; 16])));
    assert_eq!((map.stats().chunks, map.stats().handles_moved), (chunks, moved));
    assert!((0..10).all(|key| map[&key] == [key; 16]) && map.check() == Ok(()));
}

thread_local! {
    static NO_MORE_SEEDS: Cell<bool> = const { Cell::new(false) };
}

/// A hasher that cannot always be had.
struct Seed(Masked);

impl Default for Seed {
    fn default() -> Self {
        assert!(!NO_MORE_SEEDS.get(), "no more seeds");
        Self(Masked(u64::MAX))
    }
}

impl BuildHasher for Seed {
    type Hasher = <Masked as BuildHasher>::Hasher;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

/// A seed is drawn for the index when its last entry goes: then the value is gone as well.
#[test]
fn a_seed_that_panics_leaves_no_value_without_a_key() {
    type Removal = fn(&mut HandleMap<Rc<()>, Rc<()>, Seed>, Rc<()>, Handle);
    let removals: [Removal; 4] = [
        |map, key, _| drop(map.remove(&key)),
        |map, key, _| drop(map.remove_entry(&key)),
        |map, _, handle| drop(map.remove_handle(handle)),
        |map, _, _| map.clear(),
    ];
    for (number, remove) in removals.into_iter().enumerate() {
        let mut map: HandleMap<Rc<()>, Rc<()>, Seed> = HandleMap::default();
        let (key, value) = (Rc::new(()), Rc::new(()));
        let handle = map.insert(key.clone(), value.clone()).0;
        NO_MORE_SEEDS.set(true);
        let removed = catch_unwind(AssertUnwindSafe(|| remove(&mut map, key.clone(), handle)));
        NO_MORE_SEEDS.set(false);
        assert!(removed.is_err(), "{number}");
        assert_eq!((map.check(), map.len(), map.get_handle(handle)), (Ok(()), 0, None), "{number}");
        assert_eq!([Rc::strong_count(&key), Rc::strong_count(&value)], [1, 1], "{number}");
        assert!(map.insert(key, value).0 > handle, "{number}");
    }
}
