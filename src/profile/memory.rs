//! Growable tables in pages of their own: the profiler never allocates from the
//! heap it watches.
//!
//! There are many tables, since each shard of a bigger one has its own, and in a small
//! process most hold an entry or two. So a table begins small, and small ones share pages:
//! they are cut from a *sheet* by [`Scraps`], in powers of two, and what one has outgrown
//! the next one takes. From [`SCRAP_BYTES_MAX`] on a table is a mapping of its own.
//!
//! # Invariants
//!
//! 1. `start..start + capacity * size_of::<T>()` is memory that only this table owns: a
//!    scrap, or a whole mapping; with capacity 0 there is none. An empty table is all zero,
//!    so that the profiler's is, and takes no room in a program's file.
//! 2. `len <= capacity`, and the first `len` entries hold values.
//! 3. The bytes of all tables' memory together are [`bytes`], at most [`BYTES_MAX`].
//! 4. A scrap on a free list is nobody's; its first word links it to the next one.
//!
//! The lock of the scraps is taken while a table's owner holds its own, and is the last.

use core::mem::size_of;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::base::zeroed::Zeroed;
use crate::sys;
use crate::sys::lock::Lock;

/// Bound on the memory of all tables together. At the default interval a heap of
/// 500 GB stays below it.
pub(super) const BYTES_MAX: usize = 256 << 20;
/// The smallest table that has entries, and the smallest scrap.
const FIRST_BYTES: usize = 64;
/// Larger tables are mappings of their own.
const SCRAP_BYTES_MAX: usize = 4 << 10;
const SCRAP_SIZES: usize = (SCRAP_BYTES_MAX / FIRST_BYTES).ilog2() as usize + 1;
const SHEET_BYTES: usize = 64 << 10;

/// Bytes of all tables (invariant 3).
static BYTES: AtomicUsize = AtomicUsize::new(0);
static SCRAPS: Lock<Scraps> = Lock::new(Scraps::new());

pub(super) fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// A vector in pages of its own that reports failure to grow.
pub(super) struct Table<T: Zeroed + Copy> {
    start: Option<NonNull<T>>,
    len: usize,
    capacity: usize,
}

// SAFETY: the table owns its memory alone (invariant 1).
unsafe impl<T: Zeroed + Copy + Send> Send for Table<T> {}

impl<T: Zeroed + Copy> Table<T> {
    pub(super) const fn new() -> Self {
        Self { start: None, len: 0, capacity: 0 }
    }

    /// A table of `len` zeroed entries; `None` if there is no memory for it.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn zeroed(len: usize) -> Option<Self> {
        const { assert!(align_of::<T>() <= FIRST_BYTES) };
        let start = take(len.checked_mul(size_of::<T>())?)?;
        Some(Self { start: Some(start.cast()), len, capacity: len })
    }

    /// Appends a value; false, with nothing changed, if there is no memory.
    #[must_use]
    pub(super) fn push(&mut self, value: T) -> bool {
        if !self.reserve(1) {
            return false;
        }
        // SAFETY: `len < capacity` after the reservation (invariants 1 and 2).
        let place = unsafe { self.first().add(self.len) };
        // SAFETY: as above; the place is inside the mapping and aligned.
        unsafe { place.write(value) };
        self.len += 1;
        true
    }

    /// Appends values; false, with nothing changed, if there is no memory.
    #[must_use]
    pub(super) fn extend(&mut self, values: &[T]) -> bool {
        self.reserve(values.len()) && values.iter().all(|value| self.push(*value))
    }

    /// The first entry's place; dangling if there is none.
    fn first(&self) -> NonNull<T> {
        self.start.unwrap_or(NonNull::dangling())
    }

    #[unsafe(link_section = ".spanalloc.sample")]
    fn reserve(&mut self, more: usize) -> bool {
        let needed = self.len + more;
        if needed <= self.capacity {
            return true;
        }
        // As many as the memory has room for that it will get.
        let doubled = needed.max(2 * self.capacity).saturating_mul(size_of::<T>());
        let capacity = room(doubled) / size_of::<T>();
        let Some(mut larger) = Self::zeroed(capacity) else {
            return false;
        };
        larger[..self.len].copy_from_slice(self);
        larger.len = self.len;
        *self = larger;
        true
    }
}

impl<T: Zeroed + Copy> core::ops::Deref for Table<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: by invariants 1 and 2; dangling with length 0 is a slice too.
        unsafe { slice::from_raw_parts(self.first().as_ptr(), self.len) }
    }
}

impl<T: Zeroed + Copy> core::ops::DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.first().as_ptr(), self.len) }
    }
}

impl<T: Zeroed + Copy> Drop for Table<T> {
    fn drop(&mut self) {
        if self.capacity != 0 {
            // SAFETY: by invariant 1 the memory is ours and ends with us.
            unsafe { give(self.first().cast(), self.capacity * size_of::<T>()) };
        }
    }
}

/// What lies beneath small tables (invariant 4).
struct Scraps {
    /// What is left of the current sheet.
    next: Option<NonNull<u8>>,
    left: usize,
    /// By size, the free ones.
    free: [Option<NonNull<Scrap>>; SCRAP_SIZES],
}

/// A free scrap.
struct Scrap(Option<NonNull<Scrap>>);

// SAFETY: scraps are reached only through `self`, or by the table that has taken one.
unsafe impl Send for Scraps {}

impl Scraps {
    const fn new() -> Self {
        Self { next: None, left: 0, free: [None; SCRAP_SIZES] }
    }

    /// `bytes` of zeroed memory, a power of two.
    fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let free = &mut self.free[scrap_size(bytes)];
        if let Some(scrap) = *free {
            // SAFETY: by invariant 4 nobody's, and linked.
            *free = unsafe { scrap.read() }.0;
            // SAFETY: as above, and of so many bytes.
            unsafe { scrap.cast::<u8>().write_bytes(0, bytes) };
            return Some(scrap.cast());
        }
        if bytes > self.left {
            // The rest of the sheet, which is less than a scrap, stays unused and untouched.
            self.next = Some(sys::map(SHEET_BYTES)?);
            self.left = SHEET_BYTES;
        }
        let scrap = self.next?;
        // SAFETY: `bytes ≤ left`, so the sum stays in the sheet or at its end.
        self.next = Some(unsafe { scrap.add(bytes) });
        self.left -= bytes;
        Some(scrap)
    }

    /// # Safety
    ///
    /// The memory is what `take` returned for as many bytes, and nobody's any more.
    unsafe fn give(&mut self, start: NonNull<u8>, bytes: usize) {
        let (scrap, free) = (start.cast::<Scrap>(), &mut self.free[scrap_size(bytes)]);
        // SAFETY: the caller's contract; aligned like all scraps.
        unsafe { scrap.write(Scrap(*free)) };
        *free = Some(scrap);
    }
}

/// The number of a scrap's size.
fn scrap_size(bytes: usize) -> usize {
    (bytes / FIRST_BYTES).ilog2() as usize
}

/// Bytes of the memory that a table of `bytes` gets.
fn room(bytes: usize) -> usize {
    bytes.checked_next_power_of_two().map_or(bytes, |room| room.max(FIRST_BYTES))
}

/// Zeroed memory for a table of `bytes`; `None` if there is none, or it may have no more.
#[unsafe(link_section = ".spanalloc.sample")]
fn take(bytes: usize) -> Option<NonNull<u8>> {
    let room = room(bytes);
    let before = BYTES.fetch_add(room, Ordering::Relaxed);
    let granted = before.saturating_add(room) <= BYTES_MAX;
    let start = granted.then(|| match room {
        ..=SCRAP_BYTES_MAX => SCRAPS.lock().take(room),
        _ => sys::map(room),
    });
    let start = start.flatten();
    if start.is_none() {
        BYTES.fetch_sub(room, Ordering::Relaxed);
    }
    start
}

/// # Safety
///
/// The memory is what [`take`] returned for `bytes`, and nobody's any more.
#[unsafe(link_section = ".spanalloc.sample")]
unsafe fn give(start: NonNull<u8>, bytes: usize) {
    let room = room(bytes);
    if room <= SCRAP_BYTES_MAX {
        let mut scraps = SCRAPS.lock();
        // SAFETY: passed on.
        unsafe { scraps.give(start, room) };
    } else {
        // SAFETY: passed on; it was a mapping of so many bytes.
        unsafe { sys::unmap(start, room) };
    }
    BYTES.fetch_sub(room, Ordering::Relaxed);
}

/// The lock of what small tables share.
pub(super) fn locks() -> impl Iterator<Item = &'static Lock<impl Sized>> {
    core::iter::once(&SCRAPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::alone::alone;

    #[test]
    fn grows_keeping_its_values() {
        let mut table = Table::<u64>::new();
        for value in 0..100_000 {
            assert!(table.push(value));
        }
        assert!(table.extend(&[7, 8, 9]));
        assert_eq!(table.len(), 100_003);
        assert!(table.iter().take(100_000).enumerate().all(|(at, value)| at as u64 == *value));
        assert_eq!(table[100_000..], [7, 8, 9]);
    }

    #[test]
    fn small_tables_are_zeroed_and_share_pages() {
        let full = |value: u64, len| {
            let mut table = Table::<u64>::zeroed(len).unwrap();
            assert!(table.iter().all(|entry| *entry == 0), "{len}");
            table.fill(value);
            table
        };
        for round in 1..4_u64 {
            let tables: Vec<_> =
                (0..200).map(|at| full(round << 32 | at, 1 << (at % 10))).collect();
            for (table, at) in tables.iter().zip(0..) {
                assert!(table.iter().all(|entry| *entry == round << 32 | at));
            }
        }
    }

    #[test]
    fn all_up_to_the_bound_is_granted_and_comes_back() {
        if !alone("profile::memory::tests::all_up_to_the_bound_is_granted_and_comes_back") {
            return;
        }
        let before = bytes();
        let mut tables = Vec::new();
        for words in (3..=25).rev().map(|doublings| 1 << doublings) {
            tables.extend(std::iter::from_fn(|| Table::<u64>::zeroed(words)));
        }
        assert_eq!(bytes(), BYTES_MAX, "to the last table");
        let mut table = Table::<u64>::new();
        assert!(!table.push(7) && table.is_empty());
        assert_eq!(bytes(), BYTES_MAX, "what is refused does not count");
        tables.clear();
        assert_eq!(bytes(), before);
        assert!(table.push(7));
    }

    #[test]
    fn refuses_more_than_its_bound() {
        assert!(Table::<u64>::zeroed(BYTES_MAX).is_none());
        assert!(Table::<u64>::zeroed(usize::MAX).is_none());
    }
}
