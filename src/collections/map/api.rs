//! The map itself: the table, a hasher, and an API in the shape of
//! `std::collections::HashMap`.
//!
//! # Invariants
//!
//! 1. `hasher` is only replaced while the map is empty.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

use super::array::Array;
use super::bucket::Slot;
use super::policy::{Policy, ReserveError};
use super::table::{AtHome, Table};

/// A hash map that works as Go's did until 1.23 and counts what it does.
///
/// Entries lie in buckets of eight, keys beside keys and values beside values, or each value
/// beside its key where that pads nothing.
/// A full bucket is continued by overflow buckets. The map doubles above 6.5
/// entries per bucket and moves its entries bit by bit, some chains per insert or
/// remove, so that no single insert has to move them all. See the [module's
/// documentation](super) for the algorithm, [`Map::stats`] for the counts and
/// [`Policy`] for the knobs.
///
/// Bounds, panics and semantics are those of `std::collections::HashMap`: an
/// insert of a key that is present keeps the old key; a `Hash` or `Eq` that
/// misbehaves makes entries hard to find but never breaks the map; a panic in
/// `Hash`, `Eq`, `Clone` or `Drop` leaves it valid. One bound is stricter: keys and values may
/// borrow only what lives longer than the map, and not what is dropped together with it, because
/// the map's `Drop` counts as a use of theirs.
///
/// ```
/// use spanalloc::map::Map;
///
/// let mut visits = Map::new();
/// for page in ["/", "/about", "/"] {
///     *visits.entry(page).or_insert(0) += 1;
/// }
/// assert_eq!(visits["/"], 2);
/// assert_eq!(visits.stats().inserts.total(), 2);
/// ```
pub struct Map<K, V, S = RandomState> {
    pub(super) table: Table<K, V>,
    pub(super) hasher: S,
    pub(super) reseed: Option<fn(&mut S)>,
}

impl<K, V> Map<K, V, RandomState> {
    /// An empty map. It allocates nothing until the first insert.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty map with buckets for `capacity` entries. Up to eight entries take
    /// one bucket, which is allocated by the first insert.
    ///
    /// # Panics
    ///
    /// When the array would be larger than `isize::MAX` bytes.
    ///
    /// ```
    /// use spanalloc::map::Map;
    ///
    /// let map: Map<u32, u32> = Map::with_capacity(100);
    /// assert!(map.capacity() >= 100);
    /// assert_eq!(map.stats().buckets, 16);
    /// ```
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { table: Table::with_capacity(capacity, Policy::default()), ..Self::default() }
    }

    /// As [`with_capacity`](Self::with_capacity), but an array that cannot be had is an error. With
    /// another hasher, [`with_hasher`](Self::with_hasher) and [`try_reserve`](Self::try_reserve) do
    /// the same.
    ///
    /// # Errors
    ///
    /// When the array would be larger than `isize::MAX` bytes, or the allocator has no memory for
    /// it.
    ///
    /// ```
    /// use spanalloc::map::Map;
    ///
    /// assert!(Map::<u32, u32>::try_with_capacity(usize::MAX).is_err());
    /// let map: Map<u32, u32> = Map::try_with_capacity(100)?;
    /// assert!(map.capacity() >= 100);
    /// # Ok::<(), spanalloc::map::ReserveError>(())
    /// ```
    pub fn try_with_capacity(capacity: usize) -> Result<Self, ReserveError> {
        let table = Table::try_with_capacity(capacity, Policy::default());
        let table = table.ok_or(ReserveError { entries: capacity })?;
        Ok(Self { table, ..Self::default() })
    }
}

impl<K, V, S> Map<K, V, S> {
    /// An empty map that uses `hasher`, and keeps it: unlike a map made by `new`
    /// or `default` it is not reseeded when it becomes empty.
    ///
    /// ```
    /// use std::hash::{BuildHasherDefault, DefaultHasher};
    ///
    /// let hasher = BuildHasherDefault::<DefaultHasher>::default();
    /// let mut map = spanalloc::map::Map::with_hasher(hasher);
    /// assert_eq!(map.insert("a", 1), None);
    /// ```
    pub fn with_hasher(hasher: S) -> Self {
        Self::with_capacity_and_hasher(0, hasher)
    }

    /// As [`with_hasher`](Self::with_hasher), with buckets for `capacity` entries.
    pub fn with_capacity_and_hasher(capacity: usize, hasher: S) -> Self {
        let table = Table::with_capacity(capacity, Policy::default());
        Self { table, hasher, reseed: None }
    }

    /// The same map, growing by `policy` from here on.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.set_policy(policy);
        self
    }

    /// Changes when and how the map grows from here on. A growth under way goes on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.table.set_policy(policy);
    }

    /// When and how the map grows.
    pub fn policy(&self) -> Policy {
        self.table.policy()
    }

    /// The map's hasher.
    pub fn hasher(&self) -> &S {
        &self.hasher
    }

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries the map holds before it next doubles; 0 if it has no array yet.
    pub fn capacity(&self) -> usize {
        let current = self.table.current();
        if current.is_allocated() {
            self.policy().entries_max(current.log2()).max(self.len())
        } else {
            0
        }
    }

    /// Drops all entries. Keeps the array, as Go does: see
    /// [`shrink_to_fit`](Self::shrink_to_fit). Costs a pass over the array; of a map that
    /// has nothing to drop and no overflow buckets, nothing.
    ///
    /// If the drop of an entry panics, the others are dropped nevertheless.
    pub fn clear(&mut self) {
        let had_entries = !self.is_empty();
        self.table.clear();
        self.reseed_if_emptied(had_entries);
    }

    /// Keeps the entries for which `keep` returns true and drops the others.
    ///
    /// ```
    /// let mut map: spanalloc::map::Map<u32, u32> = (0..10).map(|n| (n, n * n)).collect();
    /// map.retain(|key, _| key % 2 == 0);
    /// assert_eq!(map.len(), 5);
    /// ```
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let mut doomed = self.extract_if(|key, value| !keep(key, value));
        while let Some(entry) = doomed.next() {
            doomed.map.table.counters.dropped += 1;
            drop(entry);
        }
    }

    /// Draws a new hash seed, as Go does when a map loses its last entry, if the
    /// map knows how. `had_entries` tells whether there were any before.
    #[inline]
    pub(super) fn reseed_if_emptied(&mut self, had_entries: bool) {
        if self.is_empty() && had_entries {
            self.draw_seed();
        }
    }

    #[cold]
    fn draw_seed(&mut self) {
        if let Some(reseed) = self.reseed {
            reseed(&mut self.hasher);
            self.table.counters.reseeds += 1;
            self.table.note(super::record::Event::Reseeded);
        }
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Map<K, V, S> {
    #[inline]
    pub(super) fn find<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<Slot<K, V>>
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |other| other.borrow() == key)
    }

    /// The value of `key`.
    #[inline]
    pub fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        // SAFETY: `find` returns live slots; the map stays borrowed.
        self.find(key).map(|slot| unsafe { slot.value() })
    }

    /// The value of `key`, to change in place. Nothing moves, even while the map
    /// grows.
    ///
    /// ```
    /// let mut map = spanalloc::map::Map::from([("a", [0; 4])]);
    /// map.get_mut("a").unwrap()[2] = 7;
    /// assert_eq!(map["a"], [0, 0, 7, 0]);
    /// ```
    #[inline]
    pub fn get_mut<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // SAFETY: `find` returns live slots; the map stays mutably borrowed.
        self.find(key).map(|slot| unsafe { slot.value_mut() })
    }

    /// The values of several keys, to change in place; `None` for a key that is absent. Costs a
    /// look-up for each key, and compares each two of the places found.
    ///
    /// # Panics
    ///
    /// When two of the keys are equal and present.
    ///
    /// ```
    /// let mut stock = spanalloc::map::Map::from([("here", 5), ("there", 0)]);
    /// if let [Some(from), Some(to)] = stock.get_disjoint_mut(["here", "there"]) {
    ///     *from -= 2;
    ///     *to += 2;
    /// }
    /// assert_eq!((stock["here"], stock["there"]), (3, 2));
    /// ```
    pub fn get_disjoint_mut<Q: ?Sized + Eq + Hash, const N: usize>(
        &mut self,
        keys: [&Q; N],
    ) -> [Option<&mut V>; N]
    where
        K: Borrow<Q>,
    {
        let slots = keys.map(|key| self.find(key));
        for (index, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.is_some()) {
            assert!(
                !slots[..index].contains(slot),
                "two of the keys of get_disjoint_mut are equal"
            );
        }
        // SAFETY: `find` returns live slots, all different; the map stays mutably borrowed.
        slots.map(|slot| slot.map(|slot| unsafe { slot.value_mut() }))
    }

    /// The map's own key that equals `key`, and its value.
    #[inline]
    pub fn get_key_value<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(key)?;
        // SAFETY: `find` returns live slots; the map stays borrowed.
        let own_key = unsafe { slot.key() };
        // SAFETY: as above.
        Some((own_key, unsafe { slot.value() }))
    }

    /// Whether `key` is present.
    #[inline]
    pub fn contains_key<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_some()
    }

    /// Inserts an entry and returns the value the key had before, if any.
    ///
    /// A new entry takes the first empty cell of its chain. While the map grows,
    /// the call moves up to seventeen chains first; the one that starts a growth allocates the
    /// new array.
    ///
    /// ```
    /// let mut map = spanalloc::map::Map::new();
    /// assert_eq!(map.insert(37, "a"), None);
    /// assert_eq!(map.insert(37, "b"), Some("a"));
    /// ```
    #[inline]
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.hasher.hash_one(&key);
        match self.table.seek_at_home(hash, |other| *other == key) {
            AtHome::Found(slot) => {
                // Before the old value is taken: if this panics, nothing is lost.
                drop(key);
                self.table.counters.updates += 1;
                // SAFETY: the slot is live; the map is mutably borrowed.
                Some(std::mem::replace(unsafe { slot.value_mut() }, value))
            }
            AtHome::Absent(slot) => {
                self.table.place_at(hash, slot, key, value);
                None
            }
            AtHome::Unknown => self.insert_anywhere(hash, key, value),
        }
    }

    /// Inserts where more is to be done or looked at than the home bucket.
    #[cold]
    #[inline(never)]
    fn insert_anywhere(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        let Self { table, hasher, .. } = self;
        let hash_of = |key: &K| hasher.hash_one(key);
        table.grow_work_if_growing(hash, &hash_of);
        match table.seek(hash, |other| *other == key) {
            Ok(slot) => {
                drop(key);
                table.counters.updates += 1;
                // SAFETY: `seek` returns live slots; the map is mutably borrowed.
                Some(std::mem::replace(unsafe { slot.value_mut() }, value))
            }
            Err(vacancy) => {
                table.insert_absent(hash, vacancy, key, value, &hash_of);
                None
            }
        }
    }

    /// Removes `key` and returns its value. The cell is free at once, and taken by
    /// the next new key whose chain it lies in first. Memory is never given back:
    /// see [`shrink_to_fit`](Self::shrink_to_fit).
    #[inline]
    pub fn remove<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (own_key, value) = self.extract(key)?;
        // Not left to the end of the call: a panic would then leak the value.
        drop(own_key);
        Some(value)
    }

    /// As [`remove`](Self::remove), with the map's own key.
    #[inline]
    pub fn remove_entry<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.extract(key)
    }

    #[inline(always)]
    fn extract<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let entry = self.extract_and_keep_seed(key)?;
        self.reseed_if_emptied(true);
        Some(entry)
    }

    /// As `extract`, but a map that loses its last entry keeps its seed until the caller has it
    /// draw another.
    #[inline(always)]
    pub(super) fn extract_and_keep_seed<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        if self.is_empty() {
            return None;
        }
        let Self { table, hasher, .. } = self;
        let hash = hasher.hash_one(key);
        table.grow_work_if_growing(hash, &|key: &K| hasher.hash_one(key));
        let slot = table.seek(hash, |other| other.borrow() == key).ok()?;
        Some(table.erase(table.current().home(hash), slot))
    }

    /// Makes room for `additional` more entries, at once. Does nothing if they fit.
    ///
    /// # Panics
    ///
    /// When the array would be larger than `isize::MAX` bytes.
    pub fn reserve(&mut self, additional: usize) {
        let entries = self.len().saturating_add(additional);
        let log2 = self.policy().log2_for(entries);
        if additional > 0 && entries > self.capacity() {
            self.resize(log2);
        }
    }

    /// As [`reserve`](Self::reserve), but an array that cannot be had is an error, and the map is
    /// what it was. Only overflow buckets beyond those that come with an array, few if any, are
    /// allocated as everywhere.
    ///
    /// # Errors
    ///
    /// When the array would be larger than `isize::MAX` bytes, or the allocator has no memory for
    /// it.
    ///
    /// ```
    /// let mut map = spanalloc::map::Map::from([(1, 'a')]);
    /// assert!(map.try_reserve(usize::MAX).is_err());
    /// assert!(map.try_reserve(1000).is_ok());
    /// assert!(map.capacity() > 1000 && map[&1] == 'a');
    /// ```
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), ReserveError> {
        let entries = self.len().saturating_add(additional);
        if additional > 0 && entries > self.capacity() {
            let log2 = self.policy().log2_if_any(entries);
            let array = log2.and_then(Array::new_if_possible).ok_or(ReserveError { entries })?;
            self.resize_into(array);
        }
        Ok(())
    }

    /// Moves the entries into the smallest array that holds them, at once, and ends
    /// a growth under way. Go has nothing like it: its maps never shrink.
    ///
    /// ```
    /// let mut map: spanalloc::map::Map<u32, u32> = (0..10_000).map(|n| (n, n)).collect();
    /// map.retain(|key, _| *key < 10);
    /// let before = map.stats().bytes;
    /// map.shrink_to_fit();
    /// assert!(map.stats().bytes < before / 100);
    /// ```
    pub fn shrink_to_fit(&mut self) {
        self.shrink_to(0);
    }

    /// As [`shrink_to_fit`](Self::shrink_to_fit), keeping room for `capacity`
    /// entries, if there is so much: it never makes room. What an empty map has goes
    /// only when `capacity` is 0.
    pub fn shrink_to(&mut self, capacity: usize) {
        let Some(log2) = self.policy().log2_if_any(self.len().max(capacity)) else { return };
        let current = self.table.current();
        if self.is_empty() && capacity == 0 {
            self.table.release();
        } else if log2 < current.log2()
            || log2 == current.log2() && (self.table.old.is_some() || current.overflow_heap() > 0)
        {
            self.resize(log2);
        }
    }

    fn resize(&mut self, log2: u8) {
        self.resize_into(Array::new(log2));
    }

    fn resize_into(&mut self, array: Array<K, V>) {
        let Self { table, hasher, .. } = self;
        table.resize(array, &|key: &K| hasher.hash_one(key));
    }
}
