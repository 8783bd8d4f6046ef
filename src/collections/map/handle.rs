//! A map whose values never move: an arena of slots, and a map from keys to handles.
//!
//! When a map grows, the entries in it move, and every pointer to one must be
//! rebound: [`GrowthStats::entries_moved`](super::GrowthStats) counts them. Here
//! only the handles move. A value stays in its slot, of a chunk that is never
//! reallocated, until it is removed; its handle finds it without hashing.
//!
//! # Invariants
//!
//! 1. `index` maps each key to the handle of an occupied slot, and each occupied
//!    slot has one key. As many slots are occupied as `index` has entries.
//! 2. No two keys have the same handle, not even when a call has panicked: a handle is
//!    filled as soon as its key is in.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

use super::api::Map;
use super::entry::Entry;
use super::slab::{Handle, Slab};

/// A map whose values keep their place in an arena, found by key or by handle.
///
/// ```
/// use spanalloc::map::HandleMap;
///
/// let mut map = HandleMap::new();
/// let first = map.insert("first", 1).0;
/// let place = std::ptr::from_ref(map.get_handle(first).unwrap());
/// for n in 0..1000 {
///     map.insert(format!("{n}").leak(), n);
/// }
/// assert_eq!(place, std::ptr::from_ref(map.get("first").unwrap()), "nothing moved");
/// map.remove("first");
/// assert_eq!(map.get_handle(first), None);
/// ```
pub struct HandleMap<K, V, S = RandomState> {
    pub(super) index: Map<K, Handle, S>,
    pub(super) slab: Slab<V>,
}

/// What a [`HandleMap`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandleStats {
    /// Entries.
    pub len: usize,
    /// Chunks allocated, each of [`HandleStats::chunk_bytes`].
    pub chunks: usize,
    /// Bytes of a chunk: of 256 values, or of the largest power of two of them that 64 KiB have
    /// room for, one at least.
    pub chunk_bytes: usize,
    /// Bytes of the map from keys to handles.
    pub index_bytes: usize,
    /// Handles that moved within that map as it grew: as many pointers would have
    /// had to be rebound if the values themselves lay there.
    pub handles_moved: u64,
    /// Inserts that took a slot of a removed value.
    pub slots_reused: u64,
}

impl<K, V> HandleMap<K, V> {
    /// An empty map. It allocates nothing until the first insert.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty map with room for `capacity` entries: chunks for their values, and
    /// buckets for their handles.
    ///
    /// ```
    /// let mut map = spanalloc::map::HandleMap::with_capacity(1000);
    /// let chunks = map.stats().chunks;
    /// map.extend((0..1000).map(|n| (n, n)));
    /// assert_eq!((map.stats().chunks, map.stats().handles_moved), (chunks, 0));
    /// ```
    ///
    /// # Panics
    ///
    /// When `capacity` is above 2³² slots.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        // The slab first: it has the lower bound.
        let slab = Slab::with_capacity(capacity);
        Self { index: Map::with_capacity(capacity), slab }
    }
}

impl<K, V, S: Default> Default for HandleMap<K, V, S> {
    fn default() -> Self {
        Self { index: Map::default(), slab: Slab::default() }
    }
}

impl<K, V, S> HandleMap<K, V, S> {
    /// An empty map that uses `hasher`.
    pub fn with_hasher(hasher: S) -> Self {
        Self::with_capacity_and_hasher(0, hasher)
    }

    /// As [`with_hasher`](Self::with_hasher), with room for `capacity` entries.
    ///
    /// # Panics
    ///
    /// As [`with_capacity`](HandleMap::with_capacity).
    pub fn with_capacity_and_hasher(capacity: usize, hasher: S) -> Self {
        let slab = Slab::with_capacity(capacity);
        Self { index: Map::with_capacity_and_hasher(capacity, hasher), slab }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The value at `handle`, unless it was removed.
    pub fn get_handle(&self, handle: Handle) -> Option<&V> {
        self.slab.get(handle)
    }

    /// The value at `handle`, to change, unless it was removed.
    pub fn get_handle_mut(&mut self, handle: Handle) -> Option<&mut V> {
        self.slab.get_mut(handle)
    }

    /// Removes the entry at `handle`, unless it was removed. Nothing but the key tells where in the
    /// index the handle lies, so this costs a pass over the index until it is found. Where that is
    /// too much, keep the key beside the handle and [`remove`](Self::remove) it, at the cost of a
    /// lookup. A stale handle costs nothing.
    ///
    /// ```
    /// let mut map = spanalloc::map::HandleMap::new();
    /// let handle = map.insert("a", 1).0;
    /// assert_eq!(map.remove_handle(handle), Some(("a", 1)));
    /// assert_eq!(map.remove_handle(handle), None);
    /// ```
    pub fn remove_handle(&mut self, handle: Handle) -> Option<(K, V)> {
        let Self { index, slab } = self;
        slab.get(handle)?;
        // The end of the search may draw a seed, which may panic: by then, both are gone.
        let mut found = index.extract_if(|_, other| *other == handle);
        let (key, _) = found.next()?;
        let value = slab.vacate(handle);
        drop(found);
        value.map(|value| (key, value))
    }

    /// Removes all entries. Their handles become stale; chunks and buckets stay,
    /// for the next entries. If a drop panics, entries not yet looked at stay.
    ///
    /// ```
    /// let mut map = spanalloc::map::HandleMap::new();
    /// let handle = map.insert("a", 1).0;
    /// map.clear();
    /// assert_eq!((map.len(), map.get_handle(handle)), (0, None));
    /// map.insert("b", 2);
    /// assert_eq!(map.get_handle(handle), None, "a new tenant has a new handle");
    /// ```
    pub fn clear(&mut self) {
        self.retain(|_, _| false);
    }

    /// Keeps the entries for which `keep` returns true, with their handles, and removes
    /// the others.
    ///
    /// ```
    /// let mut map: spanalloc::map::HandleMap<u32, u32> = (0..10).map(|n| (n, n * n)).collect();
    /// let (two, three) = (map.handle(&2).unwrap(), map.handle(&3).unwrap());
    /// map.retain(|key, _| key % 2 == 0);
    /// assert_eq!((map.get_handle(two), map.get_handle(three)), (Some(&4), None));
    /// ```
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let Self { index, slab } = self;
        // A value is dropped when its key is gone: if that panics, both are.
        let mut doomed = None;
        index.retain(|key, handle| {
            drop(doomed.take());
            let kept = slab.get_mut(*handle).is_some_and(|value| keep(key, value));
            if !kept {
                doomed = slab.vacate(*handle);
            }
            kept
        });
    }

    /// What the map counted. Costs a pass over the index.
    pub fn stats(&self) -> HandleStats {
        let index = self.index.stats();
        HandleStats {
            len: self.len(),
            chunks: self.slab.chunks(),
            chunk_bytes: Slab::<V>::CHUNK_BYTES,
            index_bytes: index.bytes,
            handles_moved: index.growth.entries_moved,
            slots_reused: self.slab.reused(),
        }
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> HandleMap<K, V, S> {
    /// Inserts an entry; returns its handle and the value the key had before. A key
    /// that is present keeps its handle.
    ///
    /// # Panics
    ///
    /// When 2³² slots are in use.
    pub fn insert(&mut self, key: K, value: V) -> (Handle, Option<V>) {
        match self.index.entry(key) {
            Entry::Occupied(entry) => {
                let handle = *entry.get();
                let slot = self.slab.get_mut(handle);
                (handle, slot.map(|slot| std::mem::replace(slot, value)))
            }
            Entry::Vacant(entry) => {
                let handle = self.slab.next_handle();
                entry.insert(handle);
                self.slab.fill(handle, value);
                (handle, None)
            }
        }
    }

    /// The handle and the value of `key`, to change; of what `make` returns if it is absent. Costs
    /// a lookup, and of a new key what an insert costs. If `make` panics, the key is absent.
    ///
    /// # Panics
    ///
    /// As [`insert`](Self::insert).
    ///
    /// ```
    /// let mut map = spanalloc::map::HandleMap::new();
    /// let (handle, count) = map.get_or_insert_with("a", || 0);
    /// *count += 1;
    /// assert_eq!(map.get_or_insert_with("a", || unreachable!()), (handle, &mut 1));
    /// ```
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> (Handle, &mut V) {
        let Self { index, slab } = self;
        let handle = match index.entry(key) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let (value, handle) = (make(), slab.next_handle());
                entry.insert(handle);
                slab.fill(handle, value);
                handle
            }
        };
        (handle, slab.get_mut(handle).expect("by invariant 1 the slot is occupied"))
    }

    /// The value of `key`.
    pub fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.slab.get(self.handle(key)?)
    }

    /// The value of `key`, to change.
    pub fn get_mut<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let handle = self.handle(key)?;
        self.slab.get_mut(handle)
    }

    /// Whether `key` is present.
    pub fn contains_key<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.index.contains_key(key)
    }

    /// The handle of `key`.
    pub fn handle<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<Handle>
    where
        K: Borrow<Q>,
    {
        self.index.get(key).copied()
    }

    /// Removes `key` and returns its value. Its handle becomes stale.
    pub fn remove<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (own_key, value) = self.remove_entry(key)?;
        drop(own_key);
        Some(value)
    }

    /// As [`remove`](Self::remove), with the map's own key.
    ///
    /// ```
    /// let mut map = spanalloc::map::HandleMap::new();
    /// map.insert(String::from("a"), 1);
    /// assert_eq!(map.remove_entry("a"), Some((String::from("a"), 1)));
    /// ```
    pub fn remove_entry<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let (own_key, handle) = self.index.extract_and_keep_seed(key)?;
        let value = self.slab.vacate(handle);
        // Not before both are gone: it may panic.
        self.index.reseed_if_emptied(true);
        value.map(|value| (own_key, value))
    }

    /// Verifies the invariants.
    ///
    /// # Errors
    ///
    /// A sentence that names the first violation.
    pub fn check(&self) -> Result<(), String> {
        self.index.check()?;
        let occupied = self.slab.occupied();
        if occupied != self.len() || self.iter().count() != self.len() {
            return Err(format!("{occupied} slots are occupied, but len is {}", self.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_and_handles_age() {
        let mut map = HandleMap::new();
        let handles: Vec<Handle> = (0..1000u32).map(|key| map.insert(key, key * 3).0).collect();
        let place =
            |map: &HandleMap<u32, u32>, handle| map.get_handle(handle).map(std::ptr::from_ref);
        let places: Vec<_> = handles.iter().map(|&handle| place(&map, handle)).collect();
        for key in 1000..50_000 {
            map.insert(key, 0);
        }
        assert!(map.stats().handles_moved > 10_000);
        for (key, handle) in (0u32..).zip(&handles) {
            assert_eq!(place(&map, *handle), places[key as usize], "a value moved");
            assert_eq!(map.handle(&key), Some(*handle));
        }
        for key in (0..1000).step_by(2) {
            assert_eq!(map.remove(&key), Some(key * 3));
        }
        for key in 100_000..100_500 {
            map.insert(key, 7);
        }
        assert_eq!(map.stats().slots_reused, 500);
        for (key, handle) in (0u32..).zip(handles) {
            let expected = (key % 2 == 1).then_some(key * 3);
            assert_eq!(map.get_handle(handle).copied(), expected, "a removed value was found");
        }
        assert_eq!(map.check(), Ok(()));
    }

    #[test]
    fn a_present_key_keeps_its_handle() {
        let mut map = HandleMap::new();
        let (handle, none) = map.insert("key", 1);
        assert_eq!((map.insert("key", 2), none), ((handle, Some(1)), None));
        *map.get_mut("key").unwrap() += 1;
        *map.get_handle_mut(handle).unwrap() += 1;
        assert_eq!(format!("{map:?}"), "{\"key\": 4}");
    }

    #[test]
    fn capacity_is_there_at_once_and_used_in_order() {
        for (capacity, chunks) in [(0, 0), (1, 1), (256, 1), (257, 2), (1000, 4)] {
            let mut map = HandleMap::with_capacity(capacity);
            assert_eq!(map.stats().chunks, chunks);
            let handles: Vec<Handle> = (0..capacity).map(|n| map.insert(n, n).0).collect();
            assert_eq!(map.stats().chunks, chunks);
            assert!(handles.is_sorted(), "{handles:?}");
            map.insert(capacity, capacity);
            assert_eq!(map.stats().chunks, capacity / 256 + 1);
            assert_eq!(map.check(), Ok(()));
        }
    }

    #[test]
    fn a_capacity_beyond_all_slots_is_refused() {
        for call in [
            || drop(HandleMap::<u8, u8>::with_capacity(1 << 50)),
            || drop(HandleMap::<u8, u8, _>::with_capacity_and_hasher(1 << 50, RandomState::new())),
        ] {
            let message = std::panic::catch_unwind(call).unwrap_err();
            let message = message.downcast::<String>().unwrap();
            assert!(message.contains("no slots left"), "{message}");
        }
    }

    #[test]
    fn room_that_was_made_is_used_before_more_is() {
        let mut map: HandleMap<u32, u32> = (0..300).map(|n| (n, n)).collect();
        map.retain(|key, _| key % 3 == 0);
        map.reserve(1000);
        // 100 of 512 slots are in use: 588 more need three chunks.
        assert_eq!(map.stats().chunks, 5);
        let moved = map.stats().handles_moved;
        map.extend((1000..2000).map(|n| (n, n)));
        assert_eq!((map.stats().chunks, map.stats().handles_moved), (5, moved));
        assert!(map.stats().slots_reused > 0);
        map.reserve(0);
        assert_eq!((map.stats().chunks, map.check()), (5, Ok(())));
        assert!(map.contains_key(&3) && !map.contains_key(&4));
    }

    #[test]
    fn a_clone_has_the_same_handles_and_its_own_values() {
        let mut map: HandleMap<u32, String> = (0..600).map(|n| (n, n.to_string())).collect();
        map.remove(&5);
        let handle = map.handle(&7).unwrap();
        let mut copy = map.clone();
        copy.get_handle_mut(handle).unwrap().push('!');
        assert_eq!((map[&7].as_str(), copy[&7].as_str()), ("7", "7!"));
        assert_eq!(map.insert(5, String::new()).0, copy.insert(5, String::new()).0);
        assert_eq!((copy.check(), copy.len()), (Ok(()), 600));
    }

    #[test]
    fn entries_are_iterated_over_by_reference() {
        let map: HandleMap<u32, u32> = (0..600).map(|n| (n, n * n)).collect();
        let mut sum = 0;
        for (key, value) in &map {
            assert_eq!(key * key, *value);
            sum += key;
        }
        assert_eq!(sum, 599 * 300);
        let mut iter = map.iter();
        iter.next();
        assert_eq!((iter.len(), iter.clone().count()), (599, 599));
    }

    #[test]
    fn what_a_clear_leaves_is_reused_under_new_handles() {
        let mut map: HandleMap<u32, String> = (0..600).map(|n| (n, n.to_string())).collect();
        let handles: Vec<Handle> = (0..600).map(|n| map.handle(&n).unwrap()).collect();
        map.clear();
        assert_eq!((map.check(), map.iter_mut().count()), (Ok(()), 0));
        map.extend((0..600).map(|n| (n, String::from("new"))));
        assert_eq!((map.stats().chunks, map.stats().slots_reused), (3, 600));
        assert!(handles.iter().all(|&handle| map.get_handle(handle).is_none()));
        assert_eq!(map.check(), Ok(()));
    }

    #[test]
    fn a_panic_while_retaining_leaves_the_map_sound() {
        struct Bomb(bool);
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(!self.0 || std::thread::panicking(), "went off");
            }
        }
        for armed in 0..20 {
            let mut map: HandleMap<u32, Bomb> = (0..20).map(|n| (n, Bomb(n == armed))).collect();
            let clear = std::panic::AssertUnwindSafe(|| map.clear());
            assert!(std::panic::catch_unwind(clear).is_err());
            assert_eq!((map.check(), map.get(&armed).is_none()), (Ok(()), true));
            map.clear();
            assert!(map.is_empty());
            map.insert(armed, Bomb(false));
            let retain = std::panic::AssertUnwindSafe(|| map.retain(|_, _| panic!("no answer")));
            assert!(std::panic::catch_unwind(retain).is_err());
            assert_eq!((map.check(), map.len()), (Ok(()), 1));
        }
    }
}
