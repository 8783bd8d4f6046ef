//! What an arena does where memory may be refused.

use super::{Arena, NEVER_DROPPED};
use std::alloc::Layout;
use std::error::Error;
use std::fmt;
use std::mem;
use std::ptr::NonNull;

/// There was no memory for a block or a chunk; the arena is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError {
    bytes: usize,
}

impl AllocError {
    /// The bytes that were asked for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no memory for {} bytes in an arena", self.bytes)
    }
}

impl Error for AllocError {}

impl Arena {
    /// As [`with_capacity`](Arena::with_capacity), but a chunk that cannot be had is an error.
    ///
    /// # Errors
    ///
    /// When `bytes` is more than an allocation can have, or the allocator has no memory for them.
    ///
    /// ```
    /// use spanalloc::arena::Arena;
    ///
    /// assert!(Arena::try_with_capacity(usize::MAX).is_err());
    /// assert!(Arena::try_with_capacity(1 << 20)?.stats().room_bytes >= 1 << 20);
    /// # Ok::<(), spanalloc::arena::AllocError>(())
    /// ```
    pub fn try_with_capacity(bytes: usize) -> Result<Self, AllocError> {
        let arena = Self::new();
        if bytes == 0 || arena.chunks.try_reserve(bytes) {
            Ok(arena)
        } else {
            Err(AllocError { bytes })
        }
    }

    /// As [`alloc`](Arena::alloc), which says what types are refused, but memory that cannot be had
    /// is an error; `value` is gone then.
    ///
    /// # Errors
    ///
    /// When a new chunk is needed and the allocator has no memory for it.
    ///
    /// ```
    /// let arena = spanalloc::arena::Arena::new();
    /// *arena.try_alloc(1)? += 1;
    /// # Ok::<(), spanalloc::arena::AllocError>(())
    /// ```
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "each block is handed out once")]
    pub fn try_alloc<T>(&self, value: T) -> Result<&mut T, AllocError> {
        const { assert!(!mem::needs_drop::<T>(), "{}", NEVER_DROPPED) };
        let place = self.try_alloc_layout(Layout::new::<T>())?.cast::<T>();
        // SAFETY: by invariant 1 of the arena the place is ours; it has `T`'s layout.
        unsafe { place.write(value) };
        // SAFETY: the value has just been written, and the borrow of `self` keeps the place.
        Ok(unsafe { &mut *place.as_ptr() })
    }

    /// As [`alloc_layout`](Arena::alloc_layout), but memory that cannot be had is an error.
    ///
    /// # Errors
    ///
    /// When a new chunk is needed and the allocator has no memory for it, or it would be larger
    /// than an allocation can be.
    ///
    /// ```
    /// use spanalloc::arena::Arena;
    /// use std::alloc::Layout;
    ///
    /// let arena = Arena::new();
    /// let all_there_is = Layout::array::<u8>(isize::MAX as usize).unwrap();
    /// assert!(arena.try_alloc_layout(all_there_is).is_err());
    /// assert!(arena.try_alloc_layout(Layout::new::<u64>()).is_ok());
    /// ```
    #[inline]
    pub fn try_alloc_layout(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.chunks.try_alloc(layout).ok_or(AllocError { bytes: layout.size() })
    }
}
