//! The place of one key in a map, looked up once: `Map::entry`.
//!
//! # Invariants
//!
//! 1. An occupied entry's slot is live, and lies in the chain of `hash` of the
//!    current array. The map is borrowed, so it stays so.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use super::api::Map;
use super::bucket::Slot;
use super::table::Vacancy;

/// A key's place in a map: see [`Map::entry`].
pub enum Entry<'a, K, V, S> {
    /// The key is present.
    Occupied(OccupiedEntry<'a, K, V, S>),
    /// The key is absent.
    Vacant(VacantEntry<'a, K, V, S>),
}

/// The place of a key that is present.
pub struct OccupiedEntry<'a, K, V, S> {
    map: &'a mut Map<K, V, S>,
    hash: u64,
    slot: Slot<K, V>,
}

/// The place of a key that is absent.
pub struct VacantEntry<'a, K, V, S> {
    map: &'a mut Map<K, V, S>,
    hash: u64,
    vacancy: Vacancy<K, V>,
    key: K,
}

// SAFETY: an entry is a mutable borrow of the map and, if vacant, a key.
unsafe impl<K: Send, V: Send, S: Send> Send for OccupiedEntry<'_, K, V, S> {}
// SAFETY: a shared entry gives shared access to one key and value.
unsafe impl<K: Sync, V: Sync, S: Sync> Sync for OccupiedEntry<'_, K, V, S> {}
// SAFETY: as for an occupied one.
unsafe impl<K: Send, V: Send, S: Send> Send for VacantEntry<'_, K, V, S> {}
// SAFETY: as for an occupied one.
unsafe impl<K: Sync, V: Sync, S: Sync> Sync for VacantEntry<'_, K, V, S> {}

impl<K: Eq + Hash, V, S: BuildHasher> Map<K, V, S> {
    /// The place of `key`, to look at, change, fill or empty. Does the share of a
    /// growth that an insert would.
    ///
    /// ```
    /// let mut letters = spanalloc::map::Map::new();
    /// for letter in "a short text".chars() {
    ///     letters.entry(letter).and_modify(|count| *count += 1).or_insert(1);
    /// }
    /// assert_eq!(letters[&'t'], 3);
    /// ```
    #[inline]
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V, S> {
        let Self { table, hasher, .. } = self;
        let hash = hasher.hash_one(&key);
        table.current().home(hash).prefetch_start();
        table.grow_work_if_growing(hash, &|key: &K| hasher.hash_one(key));
        match table.seek(hash, |other| *other == key) {
            Ok(slot) => Entry::Occupied(OccupiedEntry { map: self, hash, slot }),
            Err(vacancy) => Entry::Vacant(VacantEntry { map: self, hash, vacancy, key }),
        }
    }
}

impl<'a, K: Eq + Hash, V, S: BuildHasher> Entry<'a, K, V, S> {
    /// The value, after inserting `value` if there was none.
    #[inline]
    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    /// The value, after inserting what `value` returns if there was none.
    #[inline]
    pub fn or_insert_with(self, value: impl FnOnce() -> V) -> &'a mut V {
        self.or_insert_with_key(|_| value())
    }

    /// The value, after inserting what `value` makes of the key if there was none.
    #[inline]
    pub fn or_insert_with_key(self, value: impl FnOnce(&K) -> V) -> &'a mut V {
        match self {
            Self::Occupied(entry) => entry.into_mut(),
            Self::Vacant(entry) => {
                let value = value(&entry.key);
                entry.insert(value)
            }
        }
    }

    /// The value, after inserting the default if there was none.
    #[inline]
    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }

    /// Calls `change` with the value if there is one.
    #[inline]
    #[must_use]
    pub fn and_modify(mut self, change: impl FnOnce(&mut V)) -> Self {
        if let Self::Occupied(entry) = &mut self {
            change(entry.get_mut());
        }
        self
    }

    /// Sets the value, whether there was one or not.
    #[inline]
    pub fn insert_entry(self, value: V) -> OccupiedEntry<'a, K, V, S> {
        match self {
            Self::Occupied(mut entry) => {
                entry.insert(value);
                entry
            }
            Self::Vacant(entry) => entry.insert_entry(value),
        }
    }
}

impl<K, V, S> Entry<'_, K, V, S> {
    /// The key: the map's own if it is present, otherwise the one given.
    pub fn key(&self) -> &K {
        match self {
            Self::Occupied(entry) => entry.key(),
            Self::Vacant(entry) => entry.key(),
        }
    }
}

impl<'a, K, V, S> OccupiedEntry<'a, K, V, S> {
    /// The map's own key.
    #[must_use]
    pub fn key(&self) -> &K {
        // SAFETY: by invariant 1.
        unsafe { self.slot.key() }
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> &V {
        // SAFETY: by invariant 1.
        unsafe { self.slot.value() }
    }

    /// The value, to change.
    pub fn get_mut(&mut self) -> &mut V {
        // SAFETY: by invariant 1; the map is mutably borrowed.
        unsafe { self.slot.value_mut() }
    }

    /// The value, for as long as the map is borrowed.
    pub fn into_mut(self) -> &'a mut V {
        // SAFETY: by invariant 1; the map is mutably borrowed for 'a.
        unsafe { self.slot.value_mut() }
    }

    /// Replaces the value and returns the old one.
    pub fn insert(&mut self, value: V) -> V {
        self.map.table.counters.updates += 1;
        std::mem::replace(self.get_mut(), value)
    }

    /// Removes the entry and returns its value.
    pub fn remove(self) -> V {
        let (key, value) = self.remove_entry();
        drop(key);
        value
    }

    /// Removes the entry and returns it.
    pub fn remove_entry(self) -> (K, V) {
        let table = &mut self.map.table;
        let home = table.current().home(self.hash);
        let entry = table.erase(home, self.slot);
        self.map.reseed_if_emptied(true);
        entry
    }
}

impl<'a, K: Eq + Hash, V, S: BuildHasher> VacantEntry<'a, K, V, S> {
    /// Inserts `value` and returns it in its place.
    #[inline]
    pub fn insert(self, value: V) -> &'a mut V {
        self.insert_entry(value).into_mut()
    }

    /// Inserts `value` and returns the entry.
    #[inline]
    pub fn insert_entry(self, value: V) -> OccupiedEntry<'a, K, V, S> {
        let Self { map, hash, vacancy, key } = self;
        let Map { table, hasher, .. } = &mut *map;
        let hash_of = |key: &K| hasher.hash_one(key);
        let slot = table.insert_absent(hash, vacancy, key, value, &hash_of);
        OccupiedEntry { map, hash, slot }
    }
}

impl<K, V, S> VacantEntry<'_, K, V, S> {
    /// The key that was given.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Gives the key back.
    pub fn into_key(self) -> K {
        self.key
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for Entry<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied(entry) => entry.fmt(f),
            Self::Vacant(entry) => entry.fmt(f),
        }
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for OccupiedEntry<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("OccupiedEntry");
        out.field("key", self.key()).field("value", self.get()).finish_non_exhaustive()
    }
}

impl<K: fmt::Debug, V, S> fmt::Debug for VacantEntry<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VacantEntry").field(self.key()).finish()
    }
}
