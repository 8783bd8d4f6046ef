//! The names by which a program that replaces a part of `malloc` and its relatives calls glibc's
//! own. Such a program gives all blocks to `__libc_free`, also those of the relatives that it
//! leaves out, which are ours.

use core::ffi::c_void;

use super::{own, rules};

#[unsafe(no_mangle)]
#[unsafe(link_section = ".spanalloc.text")]
extern "C" fn __libc_malloc(bytes: usize) -> *mut c_void {
    own::malloc(bytes)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".spanalloc.text")]
unsafe extern "C" fn __libc_free(block: *mut c_void) {
    // SAFETY: passed on.
    unsafe { own::free(block) }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".spanalloc.text")]
extern "C" fn __libc_calloc(count: usize, bytes: usize) -> *mut c_void {
    own::calloc(count, bytes)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".spanalloc.text")]
unsafe extern "C" fn __libc_realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: passed on.
    unsafe { own::realloc(block, bytes) }
}

#[unsafe(no_mangle)]
extern "C" fn __libc_memalign(align: usize, bytes: usize) -> *mut c_void {
    rules::allocate_aligned(bytes, align)
}

#[unsafe(no_mangle)]
extern "C" fn __libc_valloc(bytes: usize) -> *mut c_void {
    own::valloc(bytes)
}

#[unsafe(no_mangle)]
extern "C" fn __libc_pvalloc(bytes: usize) -> *mut c_void {
    own::pvalloc(bytes)
}
