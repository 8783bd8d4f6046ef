//! Memory for the heap's own records: bumped out of mapped pieces, never freed.
//!
//! Records are few and live as long as the heap, or are kept on free lists by
//! whoever uses them.

use core::ptr::NonNull;

use crate::base::zeroed::Zeroed;
use crate::sys::os::Os;

const PIECE_BYTES: usize = 64 * 1024;
/// Records share no pair of cache lines.
const ALIGN: usize = 128;

/// A bump allocator. Lives under a lock of the heap's.
#[derive(Debug)]
pub(crate) struct Meta {
    next: Option<NonNull<u8>>,
    left: usize,
    mapped: usize,
}

// SAFETY: the piece is reached only through the owner of `self`.
unsafe impl Send for Meta {}

impl Meta {
    pub(crate) const fn new() -> Self {
        Self { next: None, left: 0, mapped: 0 }
    }

    /// Bytes mapped for records so far.
    pub(crate) fn mapped(&self) -> usize {
        self.mapped
    }

    /// Moves `value` to memory that lasts as long as the heap.
    pub(crate) fn place<T>(&mut self, os: &impl Os, value: T) -> Option<NonNull<T>> {
        let place = self.room(os)?;
        // SAFETY: fresh memory, aligned for a `T` and of its size at least.
        unsafe { place.write(value) };
        Some(place)
    }

    /// As [`place`](Self::place), of the value that a `T` starts as. Nothing is written: the
    /// memory is touched where it is used, and the stack, of which a thread may have little,
    /// does not bear a `T`.
    pub(crate) fn place_zero<T: Zeroed>(&mut self, os: &impl Os) -> Option<NonNull<T>> {
        self.room(os)
    }

    /// Fresh memory for a `T`, which reads as zeroes.
    fn room<T>(&mut self, os: &impl Os) -> Option<NonNull<T>> {
        const { assert!(align_of::<T>() <= ALIGN) };
        let bytes = size_of::<T>().next_multiple_of(ALIGN);
        if bytes > self.left {
            let piece = PIECE_BYTES.max(bytes.next_multiple_of(PIECE_BYTES));
            self.next = Some(os.map(piece)?);
            self.left = piece;
            self.mapped += piece;
        }
        let place = self.next?;
        // SAFETY: `bytes ≤ left`, so the sum stays in the piece or at its end.
        self.next = Some(unsafe { place.add(bytes) });
        self.left -= bytes;
        Some(place.cast())
    }
}
