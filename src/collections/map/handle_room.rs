//! Room in a map with handles: buckets for handles, and chunks for values.

use std::hash::{BuildHasher, Hash};

use super::handle::HandleMap;
use super::policy::ReserveError;

impl<K, V, S> HandleMap<K, V, S> {
    /// Entries the map holds before it next allocates: as many as there are slots for values and
    /// room for handles. 0 if there is no array or no chunk yet.
    ///
    /// ```
    /// use spanalloc::map::HandleMap;
    ///
    /// assert_eq!(HandleMap::<u32, u32>::new().capacity(), 0);
    /// assert!(HandleMap::<u32, u32>::with_capacity(100).capacity() >= 100);
    /// ```
    pub fn capacity(&self) -> usize {
        self.index.capacity().min(self.slab.slots())
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> HandleMap<K, V, S> {
    /// Makes room for `additional` more entries: chunks for their values, and buckets for their
    /// handles.
    ///
    /// # Panics
    ///
    /// When there would be more than 2³² slots.
    pub fn reserve(&mut self, additional: usize) {
        self.slab.reserve(self.index.len(), additional);
        self.index.reserve(additional);
    }

    /// As [`reserve`](Self::reserve), but what cannot be had is an error, and the entries stay
    /// where they are. Chunks that there was room for stay, too.
    ///
    /// # Errors
    ///
    /// When there would be more than 2³² slots, or the allocator has no memory for the chunks or
    /// for the array of handles.
    ///
    /// ```
    /// let mut map = spanalloc::map::HandleMap::new();
    /// map.insert(1, 'a');
    /// assert!(map.try_reserve(usize::MAX).is_err());
    /// assert!(map.try_reserve(1000).is_ok());
    /// assert!(map.capacity() > 1000 && map[&1] == 'a');
    /// ```
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), ReserveError> {
        let entries = self.len().saturating_add(additional);
        self.slab.try_reserve(self.len(), additional).ok_or(ReserveError { entries })?;
        self.index.try_reserve(additional)
    }
}
