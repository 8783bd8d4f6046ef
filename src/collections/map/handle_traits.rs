//! The standard traits of the map with handles, and its iterator.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;
use std::ops::Index;

use super::handle::HandleMap;
use super::iter::Iter;
use super::slab::{Handle, Slab};

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
