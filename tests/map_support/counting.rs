//! How many allocations a piece of work makes, and what it does when large ones are
//! refused: a counting allocator for test binaries that install it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

/// Counts this thread's allocations, and refuses those above a limit.
pub(crate) struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    /// The largest allocation that is served.
    static BYTES_MAX: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn refuses(layout: Layout) -> bool {
    layout.size() > BYTES_MAX.get()
}

fn count(bytes: usize) {
    let (calls, total) = ALLOCATIONS.get();
    ALLOCATIONS.set((calls + 1, total + bytes as u64));
}

// SAFETY: all work is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses(layout) {
            return ptr::null_mut();
        }
        count(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refuses(layout) {
            return ptr::null_mut();
        }
        count(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The allocations `work` makes, in number and in bytes.
pub(crate) fn allocations<R>(work: impl FnOnce() -> R) -> (u64, u64, R) {
    let before = ALLOCATIONS.get();
    let result = work();
    let after = ALLOCATIONS.get();
    (after.0 - before.0, after.1 - before.1, result)
}

/// Does `work` while allocations of this thread above `bytes_max` are refused.
pub(crate) fn refusing_above<R>(bytes_max: usize, work: impl FnOnce() -> R) -> R {
    struct Until(usize);

    impl Drop for Until {
        fn drop(&mut self) {
            BYTES_MAX.set(self.0);
        }
    }

    let _until = Until(BYTES_MAX.replace(bytes_max));
    work()
}
