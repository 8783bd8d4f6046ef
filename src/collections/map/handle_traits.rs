//! The iterators of the map with handles, and its standard traits.
//!
//! # Invariants
//!
//! 1. An iterator over a map meets each of its handles once: no two keys have the same.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;
use std::ops::Index;

use super::handle::HandleMap;
use super::iter::{IntoIter, Iter, Keys};
use super::slab::{Handle, Places, Slab};

/// Entries by reference: see [`HandleMap::iter`].
pub struct HandleIter<'a, K, V> {
    index: Iter<'a, K, Handle>,
    slab: &'a Slab<V>,
}

impl<'a, K, V> HandleIter<'a, K, V> {
    pub(super) fn new<S>(map: &'a HandleMap<K, V, S>) -> Self {
        Self { index: map.index.iter(), slab: &map.slab }
    }
}

impl<'a, K, V> Iterator for HandleIter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<(&'a K, &'a V)> {
        let (key, handle) = self.index.next()?;
        Some((key, self.slab.get(*handle)?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.index.size_hint()
    }
}

impl<K, V> ExactSizeIterator for HandleIter<'_, K, V> {}

impl<K, V> FusedIterator for HandleIter<'_, K, V> {}

impl<K, V> Clone for HandleIter<'_, K, V> {
    fn clone(&self) -> Self {
        Self { index: self.index.clone(), slab: self.slab }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for HandleIter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Entries with values to change: see [`HandleMap::iter_mut`].
pub struct HandleIterMut<'a, K, V> {
    index: Iter<'a, K, Handle>,
    places: Places<'a, V>,
}

impl<'a, K, V> Iterator for HandleIterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn next(&mut self) -> Option<(&'a K, &'a mut V)> {
        let (key, handle) = self.index.next()?;
        // SAFETY: the handle is one of the map's; by invariant 1 it has not been asked for.
        let value = unsafe { self.places.get(*handle) }?;
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.index.size_hint()
    }
}

impl<K, V> ExactSizeIterator for HandleIterMut<'_, K, V> {}

impl<K, V> FusedIterator for HandleIterMut<'_, K, V> {}

impl<K, V> fmt::Debug for HandleIterMut<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleIterMut").field("left", &self.len()).finish_non_exhaustive()
    }
}

/// Entries by value: see [`HandleMap::into_iter`](IntoIterator::into_iter).
pub struct HandleIntoIter<K, V> {
    index: IntoIter<K, Handle>,
    slab: Slab<V>,
}

impl<K, V> Iterator for HandleIntoIter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        let (key, handle) = self.index.next()?;
        Some((key, self.slab.vacate(handle)?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.index.size_hint()
    }
}

impl<K, V> ExactSizeIterator for HandleIntoIter<K, V> {}

impl<K, V> FusedIterator for HandleIntoIter<K, V> {}

impl<K, V> fmt::Debug for HandleIntoIter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleIntoIter").field("left", &self.len()).finish_non_exhaustive()
    }
}

impl<K, V, S> HandleMap<K, V, S> {
    /// All keys and values.
    pub fn iter(&self) -> HandleIter<'_, K, V> {
        HandleIter::new(self)
    }

    /// All keys and values, the values to change where they lie. Allocates a pointer
    /// per chunk.
    ///
    /// ```
    /// let mut map: spanalloc::map::HandleMap<_, _> = [("a", 1), ("b", 2)].into_iter().collect();
    /// let place = std::ptr::from_ref(&map["a"]);
    /// map.iter_mut().for_each(|(_, value)| *value *= 10);
    /// assert_eq!((map["a"], map["b"]), (10, 20));
    /// assert_eq!(std::ptr::from_ref(&map["a"]), place);
    /// ```
    pub fn iter_mut(&mut self) -> HandleIterMut<'_, K, V> {
        HandleIterMut { index: self.index.iter(), places: self.slab.places() }
    }

    /// All keys. Costs a pass over the index.
    ///
    /// ```
    /// let map: spanalloc::map::HandleMap<_, _> = [(1, 'a'), (2, 'b')].into_iter().collect();
    /// assert_eq!(map.keys().sum::<i32>(), 3);
    /// ```
    pub fn keys(&self) -> Keys<'_, K, Handle> {
        self.index.keys()
    }

    /// All values. Costs a pass over the index and a look at each value's slot.
    ///
    /// ```
    /// let map: spanalloc::map::HandleMap<_, _> = [(1, 'a'), (2, 'b')].into_iter().collect();
    /// assert_eq!(map.values().max(), Some(&'b'));
    /// ```
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// All values, to change where they lie. Costs a pass over the chunks, and allocates nothing.
    ///
    /// ```
    /// let mut map: spanalloc::map::HandleMap<_, _> = [(1, 10), (2, 20)].into_iter().collect();
    /// map.values_mut().for_each(|value| *value += 1);
    /// assert_eq!((map[&1], map[&2]), (11, 21));
    /// ```
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slab.values_mut()
    }
}

impl<K, V, S> IntoIterator for HandleMap<K, V, S> {
    type Item = (K, V);
    type IntoIter = HandleIntoIter<K, V>;

    fn into_iter(self) -> HandleIntoIter<K, V> {
        HandleIntoIter { index: self.index.into_iter(), slab: self.slab }
    }
}

impl<'a, K, V, S> IntoIterator for &'a mut HandleMap<K, V, S> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = HandleIterMut<'a, K, V>;

    fn into_iter(self) -> HandleIterMut<'a, K, V> {
        self.iter_mut()
    }
}

impl<'a, K, V, S> IntoIterator for &'a HandleMap<K, V, S> {
    type Item = (&'a K, &'a V);
    type IntoIter = HandleIter<'a, K, V>;

    fn into_iter(self) -> HandleIter<'a, K, V> {
        self.iter()
    }
}

impl<K: Clone, V: Clone, S: Clone> Clone for HandleMap<K, V, S> {
    /// Handles of the one are good for the other, until either removes the value.
    fn clone(&self) -> Self {
        Self { index: self.index.clone(), slab: self.slab.clone() }
    }
}

impl<K: Eq + Hash + Borrow<Q>, Q: ?Sized + Eq + Hash, V, S: BuildHasher> Index<&Q>
    for HandleMap<K, V, S>
{
    type Output = V;

    /// # Panics
    ///
    /// When the key is absent.
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("no entry found for key")
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Extend<(K, V)> for HandleMap<K, V, S> {
    /// Keys that are present keep their handles. Reserves buckets as
    /// [`Map`](super::Map) does; chunks come as they are needed.
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        let entries = entries.into_iter();
        let promised = entries.size_hint().0;
        self.index.reserve(if self.is_empty() { promised } else { promised.div_ceil(2) });
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Eq + Hash, V, S: BuildHasher + Default> FromIterator<(K, V)> for HandleMap<K, V, S> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        map.extend(entries);
        map
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for HandleMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
