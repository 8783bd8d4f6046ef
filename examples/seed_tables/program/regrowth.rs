//! The global allocator of both programs: one that counts reallocations on the way.
//!
//! Neither the system's allocator counts them nor ours, to whose profile they are allocations.
//!
//! # Invariants
//!
//! 1. Allocating and freeing cost what they cost without it; a reallocation costs one addition to
//!    a word of the thread's more.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

thread_local! {
    static REALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// An allocator whose reallocations are counted.
pub(crate) struct Regrowth<A>(pub(crate) A);

/// Reallocations of this thread so far.
pub(crate) fn reallocations() -> u64 {
    REALLOCATIONS.get()
}

// SAFETY: all work is the inner allocator's; counting allocates nothing.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Regrowth<A> {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { self.0.alloc(layout) }
    }

    #[inline(always)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { self.0.dealloc(block, layout) }
    }

    #[inline(always)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        REALLOCATIONS.set(REALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract.
        unsafe { self.0.realloc(block, layout, bytes) }
    }
}
