//! A walk over the live cells of a table: the raw form of every iterator.
//!
//! As in Go, a walk starts at a random bucket and, within each bucket, at a random
//! cell, so that no program comes to depend on an order. While the map grows, the
//! current array is walked first, then the chains of the old one that are not
//! evacuated yet; every entry lies in exactly one of the two.
//!
//! # Invariants
//!
//! 1. `left` is the number of live cells not yet yielded. It is exact as long as
//!    nobody but the walk's owner changes the table, and a walk with `left == 0`
//!    touches no bucket.
//! 2. A slot that is yielded is live, and is yielded once. The walk itself reads
//!    tops and links only, never an entry.
//! 3. The owner holds the table, or a borrow of it, for as long as the walk, and
//!    carries the entries' types: it is `Send` and `Sync` only as they permit.

use super::array::Mains;
use super::bucket::{Bucket, Slot};
use super::random::next_random;
use super::table::Table;
use super::tops::Cells;

/// One array as a walk sees it.
struct Side<K, V> {
    mains: Mains<K, V>,
    next: usize,
    left: usize,
}

/// The live cells of a table, in no particular order.
pub(super) struct Walk<K, V> {
    left: usize,
    live: Cells,
    offset: u8,
    home: Bucket<K, V>,
    bucket: Bucket<K, V>,
    side: Side<K, V>,
    old: Option<Side<K, V>>,
}

// SAFETY: by invariants 2 and 3.
unsafe impl<K, V> Send for Walk<K, V> {}
// SAFETY: as above; a shared walk is not advanced.
unsafe impl<K, V> Sync for Walk<K, V> {}

impl<K, V> Clone for Side<K, V> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<K, V> Clone for Walk<K, V> {
    fn clone(&self) -> Self {
        Self { side: self.side.clone(), old: self.old.clone(), ..*self }
    }
}

impl<K, V> Walk<K, V> {
    /// All entries of `table`, from a random place on.
    pub(super) fn new(table: &Table<K, V>) -> Self {
        let random = next_random();
        let side = |array: &super::array::Array<K, V>| Side {
            mains: array.mains(),
            next: random as usize,
            left: array.len(),
        };
        Self {
            left: table.len(),
            live: Cells::NONE,
            offset: (random >> 61) as u8,
            home: table.current().bucket(0),
            bucket: table.current().bucket(0),
            side: side(table.current()),
            old: table.old().map(|old| side(&old.array)),
        }
    }

    /// Entries not yet yielded.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The bucket at which the chain of the last slot starts.
    pub(super) fn home(&self) -> Bucket<K, V> {
        self.home
    }

    /// Yields nothing from here on.
    pub(super) fn finish(&mut self) {
        self.left = 0;
    }

    /// Steps to the next bucket that may hold a live cell.
    fn advance(&mut self) {
        self.bucket = match self.following() {
            Some(bucket) => bucket,
            None => {
                self.home = self.next_home();
                self.home
            }
        };
        self.live = self.bucket.tops().live().rotated_back(self.offset);
    }

    fn following(&self) -> Option<Bucket<K, V>> {
        let started = self.side.left < self.side.mains.len();
        if !started || self.bucket.tops().ends() { None } else { self.bucket.overflow() }
    }

    fn next_home(&mut self) -> Bucket<K, V> {
        loop {
            if self.side.left == 0 {
                self.side = self.old.take().expect("entries are left, so buckets are");
            }
            // SAFETY: by invariant 3.
            let home = unsafe { self.side.mains.get(self.side.next) };
            self.side.next = self.side.next.wrapping_add(1);
            self.side.left -= 1;
            if !home.tops().evacuated() {
                return home;
            }
        }
    }
}

impl<K, V> Iterator for Walk<K, V> {
    type Item = Slot<K, V>;

    #[inline]
    fn next(&mut self) -> Option<Slot<K, V>> {
        if self.left == 0 {
            return None;
        }
        loop {
            if let Some(cell) = self.live.next() {
                self.left -= 1;
                return Some(Slot::new(self.bucket, cell.rotated(self.offset)));
            }
            self.advance();
        }
    }
}
