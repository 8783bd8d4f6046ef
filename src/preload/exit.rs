//! The end of a process that runs no exit handlers: children that a fork made, of Python's
//! `multiprocessing` or a server, mostly end so, and their reports would be lost.
//!
//! `_exit` may be called where nothing else may: in a signal handler that interrupted
//! anything, and by what `vfork` made, whose memory is its parent's. So the reports are
//! written only by the process that is to write them, which the child of `vfork` is not,
//! and only if this thread was not interrupted inside the allocator ([`inside`]).

use core::cell::Cell;
use core::ffi::c_int;
use core::sync::atomic::{Ordering::SeqCst, compiler_fence};

use crate::sys::per_thread::per_thread;

per_thread! {
    /// How many slow paths of the allocator this thread is in.
    static INSIDE: Cell<u32> = Cell::new(0), "spanalloc_inside";
}

/// Runs a slow path.
#[inline(always)]
pub(super) fn inside<R>(work: impl FnOnce() -> R) -> R {
    enter();
    let result = work();
    leave();
    result
}

/// A slow path begins.
#[inline(always)]
pub(crate) fn enter() {
    INSIDE.with(|inside| inside.set(inside.get() + 1));
    // A signal handler on this thread must see it before any lock.
    compiler_fence(SeqCst);
}

/// A slow path ends.
#[inline(always)]
pub(crate) fn leave() {
    compiler_fence(SeqCst);
    INSIDE.with(|inside| inside.set(inside.get() - 1));
}

/// Whether the slow path that this thread is in began in a signal handler that interrupted
/// another one.
pub(crate) fn interrupts() -> bool {
    INSIDE.with(Cell::get) > 1
}

/// Whether this thread is in a slow path, and so what runs now in a signal handler.
pub(crate) fn is_inside() -> bool {
    INSIDE.with(Cell::get) > 0
}

#[unsafe(no_mangle)]
extern "C" fn _exit(status: c_int) -> ! {
    if !is_inside() {
        crate::global::at_bare_exit();
    }
    loop {
        // SAFETY: ends the process.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn _Exit(status: c_int) -> ! {
    _exit(status)
}
