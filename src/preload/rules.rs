//! What glibc makes of sizes and alignments, and of `errno`.
//!
//! Slow paths are `extern "C"`, which says that they do not unwind: the entries then
//! end by jumping there.

use core::ffi::{c_int, c_void};
use core::ptr::{self, NonNull};

use super::exit::inside;
use super::next;
use crate::global::by_pointer::{self, Foreign};

/// Sizes that no block can have: pointers into it could not be subtracted.
const BYTES_MAX: usize = isize::MAX as usize;

/// The product, unless it overflows; what no block can have is refused by who allocates.
#[inline(always)]
pub(super) fn array(count: usize, bytes: usize) -> Option<usize> {
    count.checked_mul(bytes)
}

/// A block where this thread's list has none to give; null with `errno` set.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) extern "C" fn allocate(bytes: usize) -> *mut c_void {
    if bytes > BYTES_MAX {
        return no_memory();
    }
    or_enomem(inside(|| by_pointer::allocate(bytes)))
}

/// A block of zeroes where this thread's list has none to give; null with `errno` set.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) extern "C" fn allocate_zeroed(bytes: usize) -> *mut c_void {
    if bytes > BYTES_MAX {
        return no_memory();
    }
    or_enomem(inside(|| by_pointer::allocate_zeroed(bytes)))
}

/// A block at a multiple of the next power of two; null with `errno` set.
#[unsafe(link_section = ".spanalloc.text")]
pub(super) fn allocate_aligned(bytes: usize, align: usize) -> *mut c_void {
    let Some(align) = align.max(1).checked_next_power_of_two() else {
        set_errno(libc::EINVAL);
        return ptr::null_mut();
    };
    or_enomem(inside(|| by_pointer::allocate_aligned(bytes, align)))
}

/// What `posix_memalign` answers: `Ok` or an error's number.
pub(super) fn allocate_posix(bytes: usize, align: usize) -> Result<*mut c_void, c_int> {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*const ()>()) {
        return Err(libc::EINVAL);
    }
    let block = or_enomem(inside(|| by_pointer::allocate_aligned(bytes, align)));
    if block.is_null() { Err(libc::ENOMEM) } else { Ok(block) }
}

/// Frees what this thread's list has no room for.
///
/// # Safety
///
/// `free`'s contract.
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) unsafe extern "C" fn free(block: *mut c_void) {
    let Some(start) = NonNull::new(block.cast::<u8>()) else { return };
    // SAFETY: passed on.
    if inside(|| unsafe { by_pointer::free(start) }) == Err(Foreign) {
        // SAFETY: passed on.
        unsafe { next::free(block) };
    }
}

/// `realloc`, null with `errno` set and the block as it was where there is no memory.
///
/// # Safety
///
/// `realloc`'s contract.
#[unsafe(link_section = ".spanalloc.text")]
pub(super) unsafe extern "C" fn resize(block: *mut c_void, bytes: usize) -> *mut c_void {
    let Some(start) = NonNull::new(block.cast::<u8>()) else { return super::own::malloc(bytes) };
    if bytes == 0 {
        // SAFETY: passed on. That this frees is glibc's rule.
        unsafe { super::own::free(block) };
        return ptr::null_mut();
    }
    if bytes > BYTES_MAX {
        return no_memory();
    }
    // SAFETY: passed on.
    match inside(|| unsafe { by_pointer::resize(start, bytes) }) {
        Ok(resized) => or_enomem(resized),
        // SAFETY: passed on.
        Err(Foreign) => unsafe { next::realloc(block, bytes) },
    }
}

/// Null, with `errno` set.
#[cold]
pub(super) fn no_memory() -> *mut c_void {
    set_errno(libc::ENOMEM);
    ptr::null_mut()
}

#[inline(always)]
fn or_enomem(block: *mut u8) -> *mut c_void {
    if block.is_null() { no_memory() } else { block.cast() }
}

fn set_errno(errno: c_int) {
    // SAFETY: asks for nothing.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: this thread's own, there while it runs.
    unsafe { *place = errno };
}
