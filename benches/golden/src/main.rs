//! The four fast paths, each as a function with a name of its own. What
//! `tests/golden.rs` reads in their assembly is what a program inlines.

use std::alloc::{GlobalAlloc, Layout};

use std::hint::black_box;

use spanalloc::SpanAlloc;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const LAYOUT: Layout = Layout::new::<[u64; 8]>();

/// Allocates 64 bytes, the layout a constant.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn golden_alloc_constant() -> *mut u8 {
    // SAFETY: the size is not zero.
    unsafe { GLOBAL.alloc(LAYOUT) }
}

/// Frees 64 bytes, the layout a constant.
///
/// # Safety
///
/// `block` came from `golden_alloc_constant` and is not used any more.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe fn golden_free_constant(block: *mut u8) {
    // SAFETY: the caller's contract.
    unsafe { GLOBAL.dealloc(block, LAYOUT) }
}

/// Allocates `bytes` bytes, at least one, aligned to 8.
///
/// # Safety
///
/// `bytes` is a valid size of a layout and not zero.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe fn golden_alloc_runtime(bytes: usize) -> *mut u8 {
    // SAFETY: the caller's contract.
    unsafe { GLOBAL.alloc(Layout::from_size_align_unchecked(bytes, 8)) }
}

/// Frees `bytes` bytes.
///
/// # Safety
///
/// `block` came from `golden_alloc_runtime` with `bytes` and is not used any more.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe fn golden_free_runtime(block: *mut u8, bytes: usize) {
    // SAFETY: the caller's contract.
    unsafe { GLOBAL.dealloc(block, Layout::from_size_align_unchecked(bytes, 8)) }
}

fn main() {
    let block = golden_alloc_constant();
    // SAFETY: allocated just now.
    unsafe { golden_free_constant(black_box(block)) };
    let bytes = black_box(64);
    // SAFETY: a valid size.
    let block = unsafe { golden_alloc_runtime(bytes) };
    // SAFETY: allocated just now.
    unsafe { golden_free_runtime(black_box(block), bytes) };
}
