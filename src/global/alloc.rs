//! `impl GlobalAlloc`: the fast paths. What they leave is in [`slow`].

use core::alloc::{GlobalAlloc, Layout};

use super::sampling;
use super::slow;
use crate::heap::chain::Block;
use crate::heap::class::ClassId;
use crate::heap::geometry::is_sampled;

/// The global allocator.
///
/// A `static` of this type with `#[global_allocator]` is all that a program needs;
/// exact counts per size class are always on, sampling is off until it is asked
/// for: by [`sample_every`](Self::sample_every), by the environment variable `SPANALLOC`, which
/// wins over that, or by [`profile::start`](crate::profile::start) while the program runs.
///
/// Cost on x86-64, whether sampling is on or off: 10 instructions to allocate and 11
/// to free when the layout is a constant, 17 for either when the size is known only at
/// run time (`tests/golden.rs` counts them), with link-time optimization. Without it a pair takes
/// some 3 more where the `static` is in the program's own crate, and some 50 more where it is in a
/// library that the program links. (What `README.md` counts includes the loop around the pair.)
///
/// # Examples
///
/// ```
/// use spanalloc::SpanAlloc;
///
/// #[global_allocator]
/// static GLOBAL: SpanAlloc = SpanAlloc::new();
///
/// let before = spanalloc::stats().total().allocs;
/// let block = Box::new(1);
/// assert!(spanalloc::stats().total().allocs > before);
/// drop(block);
/// ```
#[derive(Debug, Default)]
pub struct SpanAlloc {
    pub(super) interval: u64,
}

impl SpanAlloc {
    /// An allocator that counts exactly and does not sample until asked.
    #[must_use]
    pub const fn new() -> Self {
        Self { interval: 0 }
    }

    /// The same with sampling from the first allocation on: on average one sample
    /// every `bytes` bytes allocated. 0 is off, 1 samples every allocation. A
    /// sampled allocation costs half a microsecond to one with its stack, all others nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use spanalloc::SpanAlloc;
    ///
    /// #[global_allocator]
    /// static GLOBAL: SpanAlloc = SpanAlloc::new().sample_every(512 * 1024);
    /// # fn main() {}
    /// ```
    #[cfg(feature = "profile")]
    #[must_use]
    pub const fn sample_every(self, bytes: u64) -> Self {
        Self { interval: bytes }
    }
}

// SAFETY: a block is the caller's alone from `alloc` to `dealloc` (the invariants
// of the heap), of its class's size, which is at least the layout's, and aligned by
// invariant 3 of `heap::class`. Nothing here unwinds.
unsafe impl GlobalAlloc for SpanAlloc {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match ClassId::narrow(layout) {
            Some(class) => self.allocate_narrow(class, layout.size()),
            None => slow::allocate_wide(self, layout),
        }
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match ClassId::narrow(layout) {
            // SAFETY: the caller's contract.
            Some(class) => unsafe { free_narrow(class, block.cast()) },
            // SAFETY: the caller's contract.
            None => unsafe { slow::free_wide(block, layout) },
        }
    }

    #[inline(always)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { self.allocate_zeroed(layout) }
    }

    #[inline(always)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { self.resize(block, layout, new_bytes) }
    }
}

/// Out of line, and with the rest of what an allocation runs: what the compiler makes of
/// the trait's functions lies somewhere in the program.
impl SpanAlloc {
    /// # Safety
    ///
    /// As for `GlobalAlloc::alloc_zeroed`.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    unsafe fn allocate_zeroed(&self, layout: Layout) -> *mut u8 {
        if ClassId::of(layout).is_none() {
            return slow::allocate_large(self, layout, true);
        }
        // SAFETY: passed on.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: a fresh block of that size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    /// # Safety
    ///
    /// As for `GlobalAlloc::realloc`.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    unsafe fn resize(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: `realloc`'s contract: the new size is valid for the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_bytes, layout.align()) };
        let (Some(old), Some(new)) = (ClassId::narrow(layout), ClassId::narrow(new_layout)) else {
            // SAFETY: passed on.
            return unsafe { self.resize_wide(block, layout, new_layout) };
        };
        if old == new {
            if is_sampled(block) {
                sampling::on_resize(block.addr(), new_bytes);
            }
            return block;
        }
        let moved = self.allocate_narrow(new, new_bytes);
        if !moved.is_null() {
            // SAFETY: two live blocks of at least that size.
            unsafe { moved.copy_from_nonoverlapping(block, layout.size().min(new_bytes)) };
            // SAFETY: the contents have moved; the caller gave the block up.
            unsafe { free_narrow(old, block.cast()) };
        }
        moved
    }

    /// Resizes where the old layout or the new one takes the long way.
    ///
    /// # Safety
    ///
    /// As for `GlobalAlloc::realloc`.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    unsafe fn resize_wide(&self, block: *mut u8, old: Layout, new: Layout) -> *mut u8 {
        match (ClassId::of(old), ClassId::of(new)) {
            (Some(old), Some(class)) if old == class => {
                if is_sampled(block) {
                    sampling::on_resize(block.addr(), new.size());
                }
                return block;
            }
            (None, None) => {
                // SAFETY: passed on.
                let resized = unsafe { slow::resize_large(self, block, old, new) };
                if !resized.is_null() {
                    return resized;
                }
            }
            _ => {}
        }
        // SAFETY: passed on.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: two live blocks of at least that size.
            unsafe { moved.copy_from_nonoverlapping(block, old.size().min(new.size())) };
            // SAFETY: the contents have moved; the caller gave the block up.
            unsafe { self.dealloc(block, old) };
        }
        moved
    }

    /// A block of a class whose spans are one slot; null when there is no memory.
    #[inline(always)]
    fn allocate_narrow(&self, class: ClassId, bytes: usize) -> *mut u8 {
        let block = slow::cache().pop(class);
        if block.is_null() { slow::allocate(self, class, bytes) } else { block.cast() }
    }
}

/// # Safety
///
/// The block was allocated for `class`, whose spans are one slot, and is not used any more.
#[inline(always)]
unsafe fn free_narrow(class: ClassId, block: *mut Block) {
    if is_sampled(block) {
        // SAFETY: the caller's contract.
        return unsafe { slow::free_sampled(class, block) };
    }
    // SAFETY: the caller's contract; the block is not sampled.
    if !unsafe { slow::cache().push(class, block) } {
        // SAFETY: as above.
        unsafe { slow::free::<1>(class, block) };
    }
}
