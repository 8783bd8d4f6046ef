//! A map whose values never move: a slab of chunks, and a map from keys to handles.
//!
//! When a map grows, the entries in it move, and every pointer to one must be
//! rebound: [`GrowthStats::entries_moved`](super::GrowthStats) counts them. Here
//! only the handles move. A value stays in its slot, of a chunk that is never
//! reallocated, until it is removed; its handle finds it without hashing.
//!
//! A handle is an index and a *generation*: the slot's count of tenants. A handle to
//! a removed value finds nothing, even when the slot has a new tenant.
//!
//! # Invariants
//!
//! 1. `index` maps each key to the handle of an occupied slot, and each occupied
//!    slot has one key. `slots.len() == index.len()`.
//! 2. Vacant slots form a list from `vacant` on. A slot's generation grows when it
//!    becomes vacant; one whose generation cannot grow any more is never used again.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use super::api::Map;

/// Slots in a chunk.
const CHUNK_SLOTS: usize = 256;

/// Where a value of a [`HandleMap`] lies. Stays good until the value is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle {
    index: u32,
    generation: u32,
}

/// A map whose values keep their place, found by key or by handle.
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
    index: Map<K, Handle, S>,
    slab: Slab<V>,
}

/// What a [`HandleMap`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleStats {
    /// Entries.
    pub len: usize,
    /// Chunks allocated, each of [`HandleStats::chunk_bytes`].
    pub chunks: usize,
    /// Bytes of a chunk.
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
}

impl<K, V, S: Default> Default for HandleMap<K, V, S> {
    fn default() -> Self {
        Self { index: Map::default(), slab: Slab::default() }
    }
}

impl<K, V, S> HandleMap<K, V, S> {
    /// An empty map that uses `hasher`.
    pub fn with_hasher(hasher: S) -> Self {
        Self { index: Map::with_hasher(hasher), slab: Slab::default() }
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

    /// All keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.index.iter().filter_map(|(key, handle)| Some((key, self.slab.get(*handle)?)))
    }

    /// What the map counted. Costs a pass over the index.
    pub fn stats(&self) -> HandleStats {
        let index = self.index.stats();
        HandleStats {
            len: self.len(),
            chunks: self.slab.chunks.len(),
            chunk_bytes: CHUNK_SLOTS * size_of::<Slot<V>>(),
            index_bytes: index.bytes,
            handles_moved: index.growth.entries_moved,
            slots_reused: self.slab.reused,
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
        use super::entry::Entry;
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

    /// The handle of `key`.
    pub fn handle<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<Handle>
    where
        K: Borrow<Q>,
    {
        self.index.get(key).copied()
    }

    /// Removes `key` and returns its value. Its handle is good no more.
    pub fn remove<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (own_key, handle) = self.index.remove_entry(key)?;
        let value = self.slab.vacate(handle);
        drop(own_key);
        value
    }

    /// Verifies the invariants.
    ///
    /// # Errors
    ///
    /// A sentence that names the first violation.
    pub fn check(&self) -> Result<(), String> {
        self.index.check()?;
        let occupied = self.slab.chunks.iter().flat_map(|chunk| chunk.iter());
        let occupied = occupied.filter(|slot| matches!(slot.tenant, Tenant::Value(_))).count();
        if occupied != self.len() || self.iter().count() != self.len() {
            return Err(format!("{occupied} slots are occupied, but len is {}", self.len()));
        }
        Ok(())
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for HandleMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Values in chunks that stay where they are.
struct Slab<V> {
    chunks: Vec<Box<[Slot<V>]>>,
    vacant: Option<u32>,
    reused: u64,
}

struct Slot<V> {
    generation: u32,
    tenant: Tenant<V>,
}

enum Tenant<V> {
    Value(V),
    Vacant { next: Option<u32> },
}

impl<V> Default for Slab<V> {
    fn default() -> Self {
        Self { chunks: Vec::new(), vacant: None, reused: 0 }
    }
}

impl<V> Slab<V> {
    fn slot(&self, index: u32) -> Option<&Slot<V>> {
        self.chunks.get(index as usize / CHUNK_SLOTS)?.get(index as usize % CHUNK_SLOTS)
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<V>> {
        self.chunks.get_mut(index as usize / CHUNK_SLOTS)?.get_mut(index as usize % CHUNK_SLOTS)
    }

    fn get(&self, handle: Handle) -> Option<&V> {
        let slot = self.slot(handle.index)?;
        match &slot.tenant {
            Tenant::Value(value) if slot.generation == handle.generation => Some(value),
            _ => None,
        }
    }

    fn get_mut(&mut self, handle: Handle) -> Option<&mut V> {
        let slot = self.slot_mut(handle.index)?;
        match &mut slot.tenant {
            Tenant::Value(value) if slot.generation == handle.generation => Some(value),
            _ => None,
        }
    }

    /// The handle that the next value will have.
    fn next_handle(&mut self) -> Handle {
        if self.vacant.is_none() {
            self.add_chunk();
        }
        let index = self.vacant.expect("a chunk was added");
        let generation = self.slot(index).expect("a vacant slot exists").generation;
        Handle { index, generation }
    }

    fn add_chunk(&mut self) {
        let first = self.chunks.len() * CHUNK_SLOTS;
        let last = u32::try_from(first + CHUNK_SLOTS - 1).expect("HandleMap: no slots left");
        let slot = |index| Slot {
            generation: 0,
            tenant: Tenant::Vacant { next: (index < last).then(|| index + 1) },
        };
        self.chunks.push((first as u32..=last).map(slot).collect());
        self.vacant = Some(first as u32);
    }

    fn fill(&mut self, handle: Handle, value: V) {
        let slot = self.slot_mut(handle.index).expect("a vacant slot exists");
        let Tenant::Vacant { next } = std::mem::replace(&mut slot.tenant, Tenant::Value(value))
        else {
            unreachable!("the list holds vacant slots only")
        };
        self.reused += u64::from(handle.generation > 0);
        self.vacant = next;
    }

    fn vacate(&mut self, handle: Handle) -> Option<V> {
        let next = self.vacant;
        let slot = self.slot_mut(handle.index)?;
        let Tenant::Value(value) = std::mem::replace(&mut slot.tenant, Tenant::Vacant { next })
        else {
            return None;
        };
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.vacant = Some(handle.index);
        }
        Some(value)
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
    fn a_slot_with_the_last_generation_is_retired() {
        let mut slab = Slab::default();
        let first = slab.next_handle();
        slab.fill(first, 'a');
        slab.slot_mut(first.index).unwrap().generation = u32::MAX;
        let last = Handle { generation: u32::MAX, ..first };
        assert_eq!(slab.vacate(last), Some('a'));
        assert_ne!(slab.next_handle().index, first.index);
        assert_eq!(slab.get(last), None);
    }
}
