//! The C library's lock of the list of all streams, around a fork.
//!
//! glibc's `fork` takes it once the handlers of the program have run, and ours hold the locks of
//! the heap by then. But who flushes all streams holds it and waits for each stream's lock, and
//! who reads a line allocates under a stream's lock: three threads, each of which would wait for
//! the next. So it is taken before the locks of the heap. A thread may take it twice.
//!
//! It is taken behind those under which the loader is asked: who is called back by
//! `dl_iterate_phdr`, or by an opened library, holds a lock of the loader's and may open a stream.
//! A stream of the program's own making whose functions open libraries is the other case, and
//! rarer.
//!
//! # Invariants
//!
//! 1. Taken before a fork, it is given back once on either side.

use core::ffi::c_void;
use core::mem::transmute;

use super::names::bound;

/// Before any lock of the heap's is taken.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn before_fork() {
    call(bound!(weak "_IO_list_lock"));
}

/// In the parent, when all locks of the heap's are given back.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn after_fork_in_parent() {
    call(bound!(weak "_IO_list_unlock"));
}

/// In the child, likewise. glibc has made the lock anew there if the parent had several threads,
/// and has not if it had one; made anew it is free in either case, and nobody else is there.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn after_fork_in_child() {
    call(bound!(weak "_IO_list_resetlock"));
}

/// Calls one of the three, if the C library has it.
#[unsafe(link_section = ".spanalloc.rare")]
fn call(function: *const c_void) {
    if !function.is_null() {
        // SAFETY: each of them has this type.
        let function: extern "C" fn() = unsafe { transmute(function) };
        function();
    }
}
