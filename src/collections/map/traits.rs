//! The standard traits of the map.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::Index;

use super::api::Map;
use super::array::Array;
use super::bucket::{Bucket, Slot};
use super::policy::{Growth, Policy};
use super::table::{Old, Table};
use super::tops::LIVE_MIN;

impl<K, V, S: Default> Default for Map<K, V, S> {
    /// An empty map that draws a new hasher whenever it becomes empty again.
    fn default() -> Self {
        Self {
            table: Table::with_capacity(0, Policy::default()),
            hasher: S::default(),
            reseed: Some(|hasher| *hasher = S::default()),
        }
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for Map<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Clone, V: Clone, S: Clone> Clone for Map<K, V, S> {
    /// A map of the same shape, cell by cell, a growth under way included. Counters
    /// and records are copied too.
    fn clone(&self) -> Self {
        let hasher = self.hasher.clone();
        Self { table: self.table.clone(), hasher, reseed: self.reseed }
    }
}

impl<K: Clone, V: Clone> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(0, self.policy());
        // If a clone panics, dropping `copy` drops the cells filled so far: each is
        // counted as soon as it is live.
        if self.current.is_allocated() {
            copy.current = Array::new(self.current.log2());
        }
        copy_entries(&mut copy, &self.current, |copy| &mut copy.current);
        if let Some(old) = &self.old {
            let array = Array::new(old.array.log2());
            copy.old = Some(Old { array, evacuated_below: old.evacuated_below });
            copy_entries(&mut copy, &old.array, |copy| match &mut copy.old {
                Some(old) => &mut old.array,
                None => unreachable!("it was just set"),
            });
        }
        copy.counters = self.counters;
        copy.set_record(self.record().cloned().map(Box::new));
        copy
    }
}

/// Clones the chains of `from` into the empty array that `to` picks.
fn copy_entries<K: Clone, V: Clone>(
    table: &mut Table<K, V>,
    from: &Array<K, V>,
    to: impl Fn(&mut Table<K, V>) -> &mut Array<K, V>,
) {
    if !from.is_allocated() {
        return;
    }
    for index in 0..from.len() {
        let mut target = to(table).bucket(index);
        for (depth, source) in from.bucket(index).chain().enumerate() {
            if depth > 0 {
                target = to(table).add_overflow(target).0;
            }
            copy_cells(table, source, target);
        }
    }
}

fn copy_cells<K: Clone, V: Clone>(
    table: &mut Table<K, V>,
    source: Bucket<K, V>,
    target: Bucket<K, V>,
) {
    let tops = source.tops();
    let mut cells = Some(super::tops::Cell::FIRST);
    while let Some(cell) = cells {
        let top = tops.get(cell);
        let (from, to) = (Slot::new(source, cell), Slot::new(target, cell));
        if top >= LIVE_MIN {
            // SAFETY: the cell is live, and the source table is borrowed.
            let key = unsafe { from.key() }.clone();
            // SAFETY: as above.
            let value = unsafe { from.value() }.clone();
            // SAFETY: the target is empty and lies in an allocated array.
            unsafe { to.write(key, value) };
            table.count_one();
        }
        to.set_top(top);
        cells = cell.next();
    }
}

impl<K: Eq + Hash, V: PartialEq, S: BuildHasher> PartialEq for Map<K, V, S> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().all(|(key, value)| other.get(key).is_some_and(|got| *value == *got))
    }
}

impl<K: Eq + Hash, V: Eq, S: BuildHasher> Eq for Map<K, V, S> {}

impl<K: Eq + Hash + Borrow<Q>, Q: ?Sized + Eq + Hash, V, S: BuildHasher> Index<&Q>
    for Map<K, V, S>
{
    type Output = V;

    /// # Panics
    ///
    /// When the key is absent.
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("no entry found for key")
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Extend<(K, V)> for Map<K, V, S> {
    /// Reserves for what the iterator promises; half of it when the map already
    /// has entries, since keys may be present; nothing under [`Growth::Never`].
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        let entries = entries.into_iter();
        if self.policy().growth != Growth::Never {
            let promised = entries.size_hint().0;
            self.reserve(if self.is_empty() { promised } else { promised.div_ceil(2) });
        }
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<'a, K: Eq + Hash + Copy, V: Copy, S: BuildHasher> Extend<(&'a K, &'a V)> for Map<K, V, S> {
    fn extend<I: IntoIterator<Item = (&'a K, &'a V)>>(&mut self, entries: I) {
        self.extend(entries.into_iter().map(|(key, value)| (*key, *value)));
    }
}

impl<K: Eq + Hash, V, S: BuildHasher + Default> FromIterator<(K, V)> for Map<K, V, S> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        map.extend(entries);
        map
    }
}

impl<K: Eq + Hash, V, const N: usize> From<[(K, V); N]> for Map<K, V, RandomState> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}
