//! The entries' work, for all names that lead to it. Not by way of those names: in this library,
//! too, the loader binds them to the program's functions, where it brings its own, and those may
//! come back here by another name.

use core::ffi::c_void;

use super::rules;
use crate::global::by_pointer;
use crate::sys::os::page_bytes;

#[inline(always)]
pub(super) fn malloc(bytes: usize) -> *mut c_void {
    let block = by_pointer::pop(bytes);
    if block.is_null() { rules::allocate(bytes) } else { block.cast() }
}

/// # Safety
///
/// C's contract, here and below.
#[inline(always)]
pub(super) unsafe fn free(block: *mut c_void) {
    // SAFETY: the caller's contract.
    if !unsafe { by_pointer::push(block.cast()) } {
        // SAFETY: as above.
        unsafe { rules::free(block) };
    }
}

#[inline(always)]
pub(super) fn calloc(count: usize, bytes: usize) -> *mut c_void {
    let Some(bytes) = rules::array(count, bytes) else { return rules::no_memory() };
    let block = by_pointer::pop(bytes);
    if block.is_null() {
        return rules::allocate_zeroed(bytes);
    }
    // SAFETY: a fresh block of that size.
    unsafe { block.write_bytes(0, bytes) };
    block.cast()
}

/// # Safety
///
/// C's contract.
#[inline(always)]
pub(super) unsafe fn realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: the caller's contract.
    if unsafe { by_pointer::stays(block.cast(), bytes) } {
        return block;
    }
    // SAFETY: the caller's contract.
    unsafe { rules::resize(block, bytes) }
}

pub(super) fn valloc(bytes: usize) -> *mut c_void {
    rules::allocate_aligned(bytes, page_bytes())
}

pub(super) fn pvalloc(bytes: usize) -> *mut c_void {
    match bytes.checked_next_multiple_of(page_bytes()) {
        Some(bytes) => rules::allocate_aligned(bytes, page_bytes()),
        None => rules::no_memory(),
    }
}
