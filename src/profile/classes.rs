//! Sums and lifetimes by block size, from which requested sizes and waste are
//! estimated.
//!
//! One row per block size; sizes above [`EXACT_BYTES_MAX`] share eight rows per
//! doubling. Rows are claimed in their order and never given back, so that those in use
//! lie side by side: scattered by their hash each would take a page of its own.
//!
//! # Invariants
//!
//! 1. A row's `block_bytes` goes from 0 to a value once. The row's number, plus one, is
//!    found in `places` by linear probing from the hash of that value.
//! 2. Rows from `claimed` on are free. One below may be in no place: two threads claimed a
//!    row for the same place at once.

use core::sync::atomic::{
    AtomicU16,
    Ordering::{Acquire, Relaxed, Release},
};

use super::lifetimes::Lifetimes;
use super::sums::Sums;
use crate::base::random::GOLDEN;
use crate::sys::lock::Lock;

const ROWS: usize = 1024;
/// Block sizes up to this have a row of their own.
const EXACT_BYTES_MAX: u64 = 32 << 10;

/// The rows, in this order since most are never touched.
#[repr(C)]
pub(super) struct Classes {
    claimed: AtomicU16,
    places: [AtomicU16; ROWS],
    rows: [Lock<Row>; ROWS],
}

/// What was sampled of one block size.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// The block size, or the largest that shares the row; 0 if free.
    pub(super) block_bytes: u64,
    pub(super) alloc: Sums,
    pub(super) live: Sums,
    pub(super) lifetimes: Lifetimes,
    /// Of which samples are taken: see [`recorder`](super::recorder).
    generation: u32,
}

impl Row {
    pub(super) const FREE: Self = Self {
        block_bytes: 0,
        alloc: Sums::ZERO,
        live: Sums::ZERO,
        lifetimes: Lifetimes::NONE,
        generation: 0,
    };

    fn change(&mut self, generation: u32, change: impl FnOnce(&mut Self)) {
        if self.generation == generation {
            change(self);
        }
    }
}

impl Classes {
    pub(super) const fn new() -> Self {
        Self {
            claimed: AtomicU16::new(0),
            places: [const { AtomicU16::new(0) }; ROWS],
            rows: [const { Lock::new(Row::FREE) }; ROWS],
        }
    }

    /// Changes the row of `block_bytes`. Block sizes without end would at last
    /// find every row taken; the change then goes to the row of their hash.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn update(&self, block_bytes: u64, generation: u32, change: impl FnOnce(&mut Row)) {
        let key = row_bytes(block_bytes);
        let home = (key.wrapping_mul(GOLDEN) >> 54) as usize;
        for probe in 0..ROWS {
            let place = &self.places[(home + probe) % ROWS];
            let Some(at) = row_at(place).or_else(|| self.claim(place, key)) else { break };
            let mut row = self.rows[at].lock();
            if row.block_bytes == key {
                return row.change(generation, change);
            }
        }
        self.rows[home].lock().change(generation, change);
    }

    /// Gives `place` a row for the size `key`, unless another thread gives it one first;
    /// what it has then. `None` if no row is left.
    #[unsafe(link_section = ".spanalloc.sample")]
    fn claim(&self, place: &AtomicU16, key: u64) -> Option<usize> {
        let next = |claimed| (usize::from(claimed) < ROWS).then(|| claimed + 1);
        let at = self.claimed.fetch_update(Relaxed, Relaxed, next).ok()?;
        self.rows[usize::from(at)].lock().block_bytes = key;
        // Release: who finds the row here must take its lock after this thread did, or would see it
        // without its size and claim another one.
        let _theirs = place.compare_exchange(0, at + 1, Release, Relaxed);
        row_at(place)
    }

    /// Calls `visit` with each row that has samples, in no order.
    pub(super) fn for_each(&self, mut visit: impl FnMut(Row)) {
        for row in &self.rows {
            let row = *row.lock();
            if row.alloc.samples != 0 {
                visit(row);
            }
        }
    }

    /// Forgets the sums; rows keep their sizes.
    pub(super) fn reset(&self, generation: u32) {
        for row in &self.rows {
            let mut row = row.lock();
            *row = Row { block_bytes: row.block_bytes, generation, ..Row::FREE };
        }
    }

    pub(super) fn locks(&self) -> impl Iterator<Item = &Lock<impl Sized>> {
        self.rows.iter()
    }
}

/// The row whose number is at `place`.
fn row_at(place: &AtomicU16) -> Option<usize> {
    usize::from(place.load(Acquire)).checked_sub(1)
}

/// The largest block size that shares a row with `block_bytes`.
fn row_bytes(block_bytes: u64) -> u64 {
    let block_bytes = block_bytes.max(1);
    if block_bytes <= EXACT_BYTES_MAX {
        return block_bytes;
    }
    let step = 1 << ((block_bytes - 1).ilog2() - 3);
    block_bytes.checked_next_multiple_of(step).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::sums::Weight;

    #[test]
    fn rows_are_exact_below_and_eighths_above() {
        assert_eq!(row_bytes(0), 1);
        assert_eq!(row_bytes(24), 24);
        assert_eq!(row_bytes(32 << 10), 32 << 10);
        assert_eq!(row_bytes((32 << 10) + 1), 36 << 10);
        assert_eq!(row_bytes(36 << 10), 36 << 10);
        assert_eq!(row_bytes(1 << 20), 1 << 20);
        assert_eq!(row_bytes((1 << 20) + 1), 9 << 17);
        assert_eq!(row_bytes(u64::MAX), u64::MAX);
    }

    #[test]
    fn each_size_finds_its_row_again() {
        let classes = Classes::new();
        let sizes = || (1..=100_usize).map(|n| n * 8).chain((16..40).map(|n| 1 << n));
        for size in sizes().chain(sizes()) {
            let sums = Sums::of(Weight::new(size, 1), size as u64 - 1, size as u64);
            classes.update(size as u64, 0, |row| row.alloc.add(&sums));
        }
        let mut seen = 0;
        classes.for_each(|row| {
            seen += 1;
            assert_eq!(row.alloc.objects(), 2);
            assert_eq!(row.alloc.requested_bytes(), 2 * (row.block_bytes - 1));
        });
        assert_eq!(seen, sizes().count());
    }
}
