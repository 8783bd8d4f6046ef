//! The functions that the program would have had without this library: for pointers
//! that it has not handed out, and for what is the C++ library's to do.
//!
//! Such pointers are rare and legal: an object opened with `RTLD_DEEPBIND` allocates
//! from the C library and hands its blocks to others. One that is not legal ends the
//! process, by the C library, as without this library.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use crate::sys::fatal::die;

/// A function of the objects behind this one, looked up once.
pub(super) struct Next {
    name: &'static CStr,
    place: AtomicPtr<c_void>,
}

static FREE: Next = Next::new(c"free");
static REALLOC: Next = Next::new(c"realloc");
static USABLE: Next = Next::new(c"malloc_usable_size");

impl Next {
    pub(super) const fn new(name: &'static CStr) -> Self {
        Self { name, place: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// One of the C library's, which has it.
    pub(super) fn get(&self) -> *mut c_void {
        match self.find() {
            Some(found) => found,
            None => die("the C library lacks a function that this library stands before"),
        }
    }

    /// None if no object behind this one has it.
    pub(super) fn find(&self) -> Option<*mut c_void> {
        let known = self.place.load(Relaxed);
        let found = if known.is_null() { find(self.name) } else { known };
        self.place.store(found, Relaxed);
        (!found.is_null()).then_some(found)
    }
}

/// `dlopen`'s type.
pub(super) type Open = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void;

/// Looks behind this object, then, for what a program has opened for itself, in the C++
/// library.
fn find(name: &CStr) -> *mut c_void {
    // SAFETY: a terminated name.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if !found.is_null() {
        return found;
    }
    // The C library's: the one of this library looks for what is looked for here before it opens.
    // SAFETY: a terminated name.
    let open = unsafe { libc::dlsym(libc::RTLD_NEXT, c"dlopen".as_ptr()) };
    if open.is_null() {
        return open;
    }
    // SAFETY: the C library's function of that name has this type.
    let open: Open = unsafe { transmute(open) };
    for library in [c"libstdc++.so.6", c"libc++.so.1"] {
        // SAFETY: a terminated name; nothing is loaded.
        let handle = unsafe { open(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        if !handle.is_null() {
            // SAFETY: the handle just got, and a terminated name.
            return unsafe { libc::dlsym(handle, name.as_ptr()) };
        }
    }
    core::ptr::null_mut()
}

/// # Safety
///
/// `free`'s contract, of the C library's.
#[cold]
pub(super) unsafe fn free(block: *mut c_void) {
    // SAFETY: the C library's function of that name has this type.
    let free: unsafe extern "C" fn(*mut c_void) = unsafe { transmute(FREE.get()) };
    // SAFETY: passed on.
    unsafe { free(block) }
}

/// # Safety
///
/// `realloc`'s contract, of the C library's.
#[cold]
pub(super) unsafe fn realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
    type Realloc = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
    // SAFETY: the C library's function of that name has this type.
    let realloc: Realloc = unsafe { transmute(REALLOC.get()) };
    // SAFETY: passed on.
    unsafe { realloc(block, bytes) }
}

/// # Safety
///
/// `malloc_usable_size`'s contract, of the C library's.
#[cold]
pub(super) unsafe fn usable(block: *mut c_void) -> usize {
    // SAFETY: the C library's function of that name has this type.
    let usable: unsafe extern "C" fn(*mut c_void) -> usize = unsafe { transmute(USABLE.get()) };
    // SAFETY: passed on.
    unsafe { usable(block) }
}
