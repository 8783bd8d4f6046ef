//! The entries and arrays taken out of a table: what `into_iter`, `drain`, `clear`
//! and `Drop` work on.
//!
//! # Invariants
//!
//! 1. The walk covers these two arrays, and exactly the entries it has not yielded
//!    are still owned here. Dropping drops them, each once, even when the drop of
//!    one of them panics; then the memory is freed.

use super::array::Array;
use super::policy::Policy;
use super::table::{Old, Table};
use super::walk::Walk;
use crate::collections::rest::drop_rest;

/// All that a table held.
pub(super) struct Remains<K, V> {
    pub(super) walk: Walk<K, V>,
    current: Array<K, V>,
    old: Option<Old<K, V>>,
}

impl<K, V> Remains<K, V> {
    /// `walk` covers the two arrays, and nobody else takes entries from them.
    pub(super) fn new(walk: Walk<K, V>, current: Array<K, V>, old: Option<Old<K, V>>) -> Self {
        Self { walk, current, old }
    }

    /// Nothing: what an empty table leaves.
    pub(super) fn nothing() -> Self {
        Table::with_capacity(0, Policy::default()).detach()
    }

    /// Entries that are still here.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.walk.left()
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<(K, V)> {
        let slot = self.walk.next()?;
        // SAFETY: by invariant 1.
        Some(unsafe { slot.take() })
    }

    /// Drops what is still here. If a drop panics, the rest is dropped nevertheless.
    pub(super) fn drop_entries(&mut self) {
        let indirect = super::bucket::Shape::<K, V>::INDIRECT_BLOCKS > 0;
        if std::mem::needs_drop::<(K, V)>() || indirect {
            drop_rest(|| self.next().map(drop).is_some());
        } else {
            self.walk.finish();
        }
    }

    /// Drops what is still here and returns the newer array.
    pub(super) fn into_array(mut self) -> Array<K, V> {
        self.drop_entries();
        self.old = None;
        std::mem::replace(&mut self.current, Array::unallocated())
    }
}

impl<K, V> Drop for Remains<K, V> {
    fn drop(&mut self) {
        self.drop_entries();
    }
}
