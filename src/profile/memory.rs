//! Growable tables in pages of their own: the profiler never allocates from the
//! heap it watches.
//!
//! Invariants
//! 1. `start..start + capacity * size_of::<T>()` is one mapping that only this
//!    table owns; with capacity 0 there is none.
//! 2. `len <= capacity`, and the first `len` entries hold values.
//! 3. The bytes of all mappings together are [`bytes`], at most [`BYTES_MAX`].

use core::mem::size_of;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::base::zeroed::Zeroed;
use crate::sys;

/// Bound on the memory of all tables together. At the default interval a heap of
/// 500 GB stays below it.
pub(super) const BYTES_MAX: usize = 256 << 20;
const FIRST_MAPPING_BYTES: usize = 16 << 10;

/// Bytes mapped by all tables (invariant 3).
static BYTES: AtomicUsize = AtomicUsize::new(0);

pub(super) fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// A vector in pages of its own that reports failure to grow.
pub(super) struct Table<T: Zeroed + Copy> {
    start: NonNull<T>,
    len: usize,
    capacity: usize,
}

// SAFETY: the table owns its memory alone (invariant 1).
unsafe impl<T: Zeroed + Copy + Send> Send for Table<T> {}

impl<T: Zeroed + Copy> Table<T> {
    pub(super) const fn new() -> Self {
        Self { start: NonNull::dangling(), len: 0, capacity: 0 }
    }

    /// A table of `len` zeroed entries; `None` if there is no memory for it.
    pub(super) fn zeroed(len: usize) -> Option<Self> {
        let bytes = len.checked_mul(size_of::<T>())?;
        let before = BYTES.fetch_add(bytes, Ordering::Relaxed);
        let granted = before.saturating_add(bytes) <= BYTES_MAX;
        let Some(start) = granted.then(|| sys::map(bytes)).flatten() else {
            BYTES.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        };
        Some(Self { start: start.cast(), len, capacity: len })
    }

    /// Appends a value; false, with nothing changed, if there is no memory.
    #[must_use]
    pub(super) fn push(&mut self, value: T) -> bool {
        if !self.reserve(1) {
            return false;
        }
        // SAFETY: `len < capacity` after the reservation (invariants 1 and 2).
        let place = unsafe { self.start.add(self.len) };
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

    fn reserve(&mut self, more: usize) -> bool {
        let needed = self.len + more;
        if needed <= self.capacity {
            return true;
        }
        let first = FIRST_MAPPING_BYTES / size_of::<T>();
        let Some(mut larger) = Self::zeroed(needed.next_power_of_two().max(first)) else {
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
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroed + Copy> core::ops::DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroed + Copy> Drop for Table<T> {
    fn drop(&mut self) {
        if self.capacity != 0 {
            let bytes = self.capacity * size_of::<T>();
            // SAFETY: by invariant 1 the mapping is ours and ends with us.
            unsafe { sys::unmap(self.start.cast(), bytes) };
            BYTES.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn refuses_more_than_its_bound() {
        assert!(Table::<u64>::zeroed(BYTES_MAX).is_none());
        assert!(Table::<u64>::zeroed(usize::MAX).is_none());
    }
}
