//! `impl GlobalAlloc`: the fast paths, and what happens when they do not suffice.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::ptr::{self, NonNull};

use once_cell::race::OnceBool;

use crate::heap::Heap;
use crate::heap::cache::{Cache, Phase};
use crate::heap::class::ClassId;
use crate::heap::geometry::is_sampled;
use crate::heap::span::Block;
use crate::heap::thread::Refill;
use crate::sys::os::Linux;
use crate::sys::thread::{ExitKey, at_fork};

static HEAP: Heap<Linux> = Heap::new(Linux, 0x5eed);
static EXIT: ExitKey = ExitKey::new();

thread_local! {
    // `const` and without a destructor: reading it never allocates or registers
    // anything, and it can be read until the thread is gone.
    static CACHE: Cache = const { Cache::new() };
}

/// The allocator.
#[derive(Debug, Default)]
pub struct SpanAlloc {
    interval: u64,
}

impl SpanAlloc {
    /// An allocator with sampling off.
    pub const fn new() -> Self {
        Self { interval: 0 }
    }

    /// Samples.
    pub const fn sample_every(self, bytes: u64) -> Self {
        Self { interval: bytes }
    }

    #[cold]
    #[inline(never)]
    fn allocate_slow(&self, class: ClassId) -> *mut u8 {
        CACHE.with(|cache| {
            if cache.phase() == Phase::New && !open_thread(cache) {
                return ptr::null_mut();
            }
            match HEAP.allocate_slow(cache, class, self.interval) {
                Refill::Block(block) => block.cast(),
                Refill::Sample => {
                    HEAP.allocate_sampled(class).map_or(ptr::null_mut(), |block| block.cast())
                }
                Refill::OutOfMemory => ptr::null_mut(),
            }
        })
    }

    #[cold]
    #[inline(never)]
    fn allocate_large(&self, layout: Layout) -> *mut u8 {
        HEAP.allocate_large(layout, false).map_or(ptr::null_mut(), |large| large.start.as_ptr())
    }

    #[cold]
    #[inline(never)]
    fn allocate_large_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(large) = HEAP.allocate_large(layout, false) else { return ptr::null_mut() };
        if !large.zeroed {
            // SAFETY: a fresh block of that size.
            unsafe { large.start.write_bytes(0, layout.size()) };
        }
        large.start.as_ptr()
    }

    /// Resizes a large block in place or by moving its pages; null if it cannot.
    #[cold]
    #[inline(never)]
    unsafe fn resize_large(&self, block: *mut u8, old: Layout, new: Layout) -> *mut u8 {
        let Some(start) = NonNull::new(block) else { return block };
        // SAFETY: passed on.
        unsafe { HEAP.resize_large(start, old, new) }.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline(never)]
    unsafe fn free_slow(&self, class: ClassId, block: *mut Block) {
        CACHE.with(|cache| {
            if cache.phase() == Phase::New {
                open_thread(cache);
            }
            // SAFETY: passed on.
            unsafe { HEAP.free_slow(cache, class, block) };
        });
        tend();
    }

    #[cold]
    #[inline(never)]
    unsafe fn free_sampled(&self, class: ClassId, block: *mut Block) {
        // SAFETY: passed on.
        unsafe { HEAP.free_sampled(class, block) };
    }

    #[cold]
    #[inline(never)]
    unsafe fn free_large(&self, start: *mut u8, layout: Layout) {
        if let Some(start) = NonNull::new(start) {
            // SAFETY: passed on.
            unsafe { HEAP.free_large(start, layout) };
            tend();
        }
    }
}

/// Starts the scavenger if there is something for it.
fn tend() {
    // SAFETY: a static is never dropped.
    unsafe { HEAP.tend() };
}

#[cold]
fn open_thread(cache: &Cache) -> bool {
    static READY: OnceBool = OnceBool::new();
    READY.get_or_init(|| {
        EXIT.create(thread_exit);
        at_fork(before_fork, after_fork, after_fork_in_child);
        true
    });
    let opened = HEAP.open_thread(cache);
    EXIT.arm(ptr::from_ref(cache).cast_mut().cast());
    opened
}

unsafe extern "C" fn thread_exit(_: *mut c_void) {
    CACHE.with(|cache| HEAP.close_thread(cache));
}

unsafe extern "C" fn before_fork() {
    HEAP.before_fork();
}

unsafe extern "C" fn after_fork() {
    HEAP.after_fork();
}

unsafe extern "C" fn after_fork_in_child() {
    HEAP.after_fork();
    CACHE.with(|cache| HEAP.forked(cache));
}

// SAFETY: blocks are at least of the layout's size, aligned, and not shared.
unsafe impl GlobalAlloc for SpanAlloc {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = ClassId::of(layout) else { return self.allocate_large(layout) };
        let block = CACHE.with(|cache| cache.pop(class));
        if block.is_null() { self.allocate_slow(class) } else { block.cast() }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if ClassId::of(layout).is_none() {
            return self.allocate_large_zeroed(layout);
        }
        // SAFETY: passed on.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: a fresh block of that size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: `realloc`'s contract: the new size is valid for the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_bytes, layout.align()) };
        match (ClassId::of(layout), ClassId::of(new_layout)) {
            (Some(old), Some(new)) if old == new => return block,
            (None, None) => {
                // SAFETY: passed on.
                let resized = unsafe { self.resize_large(block, layout, new_layout) };
                if !resized.is_null() {
                    return resized;
                }
            }
            _ => {}
        }
        // SAFETY: passed on.
        let moved = unsafe { self.alloc(new_layout) };
        if !moved.is_null() {
            // SAFETY: two live blocks of at least that size.
            unsafe { moved.copy_from_nonoverlapping(block, layout.size().min(new_bytes)) };
            // SAFETY: the contents have moved; the caller gave the block up.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = ClassId::of(layout) else {
            // SAFETY: passed on.
            return unsafe { self.free_large(block, layout) };
        };
        let block = block.cast();
        if is_sampled(block) {
            // SAFETY: passed on.
            return unsafe { self.free_sampled(class, block) };
        }
        // SAFETY: passed on.
        if !CACHE.with(|cache| unsafe { cache.push(class, block) }) {
            // SAFETY: passed on.
            unsafe { self.free_slow(class, block) };
        }
    }
}
