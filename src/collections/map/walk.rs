//! A walk over the live cells of a table: the raw form of every iterator.
//!
//! As in Go, a walk starts at a random bucket and, within each bucket, at a random
//! cell, so that no program comes to depend on an order. While the map grows, the
//! current array is walked first, then the chains of the old one that are not
//! evacuated yet; every entry lies in exactly one of the two.
//!
//! # Invariants
//!
//! 1. `left()` is the number of live cells not yet yielded: those in `live` and
//!    `beyond` of them in later buckets. It is exact as long as nobody but the walk's
//!    owner changes the table, and a walk with nothing left touches no bucket.
//! 2. A slot that is yielded is live, and is yielded once. The walk itself reads
//!    tops and links only, never an entry.
//! 3. The owner holds the table, or a borrow of it, for as long as the walk, and
//!    carries the entries' types: it is `Send` and `Sync` only as they permit.

use std::iter;

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
    beyond: usize,
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
            beyond: table.len(),
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
        self.beyond + self.live.count()
    }

    /// The bucket at which the chain of the last slot starts.
    pub(super) fn home(&self) -> Bucket<K, V> {
        self.home
    }

    /// Yields nothing from here on.
    pub(super) fn finish(&mut self) {
        self.beyond = 0;
        self.live = Cells::NONE;
    }

    /// Steps to the next bucket that may hold a live cell.
    #[inline(never)]
    fn advance(&mut self) {
        let bucket = match self.following() {
            Some(bucket) => bucket,
            None => {
                let home = self.next_home();
                self.home = home;
                home
            }
        };
        let live = bucket.tops().live().rotated_back(self.offset);
        self.bucket = bucket;
        self.live = live;
        self.beyond -= live.count();
    }

    fn following(&self) -> Option<Bucket<K, V>> {
        if self.started() { follower(self.bucket) } else { None }
    }

    /// Whether `bucket` has been entered; until then it is any bucket.
    fn started(&self) -> bool {
        self.side.left < self.side.mains.len()
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
        loop {
            if let Some(cell) = self.live.next() {
                return Some(Slot::new(self.bucket, cell.rotated(self.offset)));
            }
            if self.beyond == 0 {
                return None;
            }
            self.advance();
        }
    }

    /// The same in loops, which keep in registers what `next` keeps in memory.
    #[inline]
    fn fold<B, F: FnMut(B, Slot<K, V>) -> B>(mut self, first: B, mut f: F) -> B {
        if self.left() == 0 {
            return first;
        }
        let offset = self.offset;
        let mut chain = |first: B, from: Bucket<K, V>, live: Cells| {
            let (mut folded, mut bucket, mut live) = (first, from, live);
            loop {
                for cell in live {
                    folded = f(folded, Slot::new(bucket, cell.rotated(offset)));
                }
                let Some(next) = follower(bucket) else { return folded };
                bucket = next;
                live = next.tops().live().rotated_back(offset);
            }
        };
        let mut folded = if self.started() { chain(first, self.bucket, self.live) } else { first };
        let old = self.old.take();
        for side in iter::once(self.side).chain(old) {
            for index in 0..side.left {
                // SAFETY: by invariant 3.
                let home = unsafe { side.mains.get(side.next.wrapping_add(index)) };
                let tops = home.tops();
                if !tops.evacuated() {
                    folded = chain(folded, home, tops.live().rotated_back(offset));
                }
            }
        }
        folded
    }
}

/// The next bucket of the chain that may hold a live cell.
#[inline]
fn follower<K, V>(bucket: Bucket<K, V>) -> Option<Bucket<K, V>> {
    if bucket.tops().ends() { None } else { bucket.overflow() }
}
