//! **Not Go.** A table whose cells are claimed by compare-and-swap on the tophash.
//!
//! Go's map knows no atomics: it is not safe for concurrent use, and says so by
//! crashing. This table exists to measure what would happen if cells were claimed
//! by CAS: how often it fails when threads fight for a few hot cells, and what an
//! attempt costs. It is fixed in size and claims cells; it is not a map.
//!
//! A cell is *empty*, *busy* (claimed, its value not written yet) or *live* under a
//! tophash. `claim` takes it from empty to busy to live, `release` back to empty.
//!
//! # Invariants
//!
//! 1. Only the thread whose CAS took a cell from empty to busy writes its value, and
//!    it does so before the cell is live.
//! 2. A [`SlotId`] is handed out once per claim; only its holder releases the cell.
//!
//! # Ordering
//!
//! The store that makes a cell live is Release and publishes the value to the
//! Acquire load in `find`. The fence after the CAS to busy orders it before the
//! value's store, and pairs with the fence in `find`: a reader that sees a later
//! value also sees that the tophash has changed, and tries again.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use super::tops::{CELLS, top_of};

const EMPTY: u8 = super::tops::EMPTY_REST;
const BUSY: u8 = super::tops::EMPTY_ONE;

/// Not Go: a fixed table whose cells are claimed by CAS on their tophash.
///
/// ```
/// use spanalloc::map::CasTable;
///
/// let table = CasTable::new(4);
/// let claim = table.claim(0xab00_0000_0000_0003, 7);
/// let slot = claim.slot.expect("the table is empty");
/// assert_eq!(table.find(0xab00_0000_0000_0003), Some(7));
/// assert_eq!((table.release(slot), claim.failures), (7, 0));
/// ```
#[derive(Debug)]
pub struct CasTable {
    /// No other table has it.
    number: u64,
    buckets: Box<[CasBucket]>,
}

/// A bucket on cache lines of its own, as unfriendly to its eight cells as Go's
/// layout is.
#[derive(Debug)]
#[repr(align(128))]
struct CasBucket {
    tops: [AtomicU8; CELLS],
    values: [AtomicU64; CELLS],
}

/// A claimed cell.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SlotId {
    table: u64,
    bucket: usize,
    cell: usize,
}

/// What came of an attempt to claim a cell.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// The cell, or `None` if the bucket is full.
    pub slot: Option<SlotId>,
    /// Compare-and-swaps made.
    pub attempts: u32,
    /// Those that failed because another thread was faster.
    pub failures: u32,
}

impl CasTable {
    /// A table of `buckets` empty buckets.
    ///
    /// # Panics
    ///
    /// When `buckets` is not a power of two.
    #[must_use]
    pub fn new(buckets: usize) -> Self {
        assert!(buckets.is_power_of_two(), "{buckets} buckets are no power of two");
        let bucket = |_| CasBucket {
            tops: std::array::from_fn(|_| AtomicU8::new(EMPTY)),
            values: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        /// Only numbers tables: loom need not know it.
        static TABLES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = TABLES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self { number, buckets: (0..buckets).map(bucket).collect() }
    }

    /// Claims the first empty cell of the bucket of `hash` and puts `value` there.
    pub fn claim(&self, hash: u64, value: u64) -> Claim {
        let index = hash as usize & (self.buckets.len() - 1);
        let bucket = &self.buckets[index];
        let (mut attempts, mut failures) = (0, 0);
        for cell in 0..CELLS {
            let top = &bucket.tops[cell];
            if top.load(Ordering::Relaxed) != EMPTY {
                continue;
            }
            attempts += 1;
            if top.compare_exchange(EMPTY, BUSY, Ordering::Acquire, Ordering::Relaxed).is_err() {
                failures += 1;
                continue;
            }
            fence(Ordering::Release);
            bucket.values[cell].store(value, Ordering::Relaxed);
            top.store(top_of(hash), Ordering::Release);
            let slot = SlotId { table: self.number, bucket: index, cell };
            return Claim { slot: Some(slot), attempts, failures };
        }
        Claim { slot: None, attempts, failures }
    }

    /// Empties a claimed cell and returns its value.
    ///
    /// # Panics
    ///
    /// When the slot is not of this table.
    pub fn release(&self, slot: SlotId) -> u64 {
        assert!(slot.table == self.number, "the slot is one of another table");
        let bucket = &self.buckets[slot.bucket];
        let value = bucket.values[slot.cell].load(Ordering::Relaxed);
        // Publishes the load above to the next claim's Acquire: it comes first.
        bucket.tops[slot.cell].store(EMPTY, Ordering::Release);
        value
    }

    /// A value claimed under the bucket and tophash of `hash`.
    pub fn find(&self, hash: u64) -> Option<u64> {
        let bucket = &self.buckets[hash as usize & (self.buckets.len() - 1)];
        (0..CELLS).find_map(|cell| {
            let top = &bucket.tops[cell];
            while top.load(Ordering::Acquire) == top_of(hash) {
                let value = bucket.values[cell].load(Ordering::Relaxed);
                fence(Ordering::Acquire);
                if top.load(Ordering::Relaxed) == top_of(hash) {
                    return Some(value);
                }
            }
            None
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_eight_cells() {
        let table = CasTable::new(1);
        let claims: Vec<Claim> = (0..9).map(|n| table.claim(n << 56, n)).collect();
        assert!(claims[..8].iter().all(|claim| claim.slot.is_some() && claim.attempts == 1));
        assert_eq!(claims[8], Claim { slot: None, attempts: 0, failures: 0 });
        for (n, claim) in (0..8).zip(claims) {
            assert_eq!(table.release(claim.slot.unwrap()), n);
        }
        assert_eq!(table.find(0), None);
    }

    #[test]
    fn another_tables_slot_is_refused() {
        let (one, other) = (CasTable::new(1), CasTable::new(1));
        one.claim(7, 1);
        let foreign = other.claim(7, 2).slot.unwrap();
        let released = std::panic::AssertUnwindSafe(|| one.release(foreign));
        assert!(std::panic::catch_unwind(released).is_err());
        assert_eq!((one.find(7), other.find(7)), (Some(1), Some(2)));
    }

    #[test]
    fn no_cell_is_claimed_twice() {
        let table = CasTable::new(1);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let table = &table;
                scope.spawn(move || {
                    for n in 0..20_000 {
                        let value = thread << 32 | n;
                        if let Some(slot) = table.claim(thread << 56, value).slot {
                            assert_eq!(table.release(slot), value);
                        }
                    }
                });
            }
        });
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn cells_have_one_owner() {
        loom::model(|| {
            let table = Arc::new(CasTable::new(1));
            let threads: Vec<_> = (1..3u64)
                .map(|n| {
                    let table = Arc::clone(&table);
                    thread::spawn(move || {
                        let slot = table.claim(n << 60, n).slot.expect("eight cells, two threads");
                        assert_eq!(table.release(slot), n);
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!((table.find(1 << 60), table.find(2 << 60)), (None, None));
        });
    }

    #[test]
    fn a_reader_never_sees_another_tophash_value() {
        loom::model(|| {
            let table = Arc::new(CasTable::new(1));
            let writer = {
                let table = Arc::clone(&table);
                thread::spawn(move || {
                    let slot = table.claim(1 << 60, 1).slot.expect("the table is empty");
                    table.release(slot);
                    table.claim(2 << 60, 2).slot.expect("the table is empty");
                })
            };
            let reader = {
                let table = Arc::clone(&table);
                thread::spawn(move || assert!(matches!(table.find(1 << 60), None | Some(1))))
            };
            reader.join().unwrap();
            writer.join().unwrap();
            assert_eq!(table.find(2 << 60), Some(2));
        });
    }
}
