//! The last line of a process that cannot go on.
//!
//! For misuse that has corrupted, or would corrupt, the heap: unwinding out of an allocator would
//! run more of it. Nothing here allocates or formats, and an error of the line itself is ignored:
//! there is nowhere to report it.
//!
//! # Invariants
//!
//! 1. A thread that dies may hold locks of the heap, and never releases them. So a handler of
//!    `SIGABRT` that forks, as a reporter of crashes does, is not to wait for them: the fork
//!    handlers ask [`is_dying_here`], and leave such a fork alone. Its child may `exec` or end.

use core::cell::Cell;

use super::per_thread::per_thread;
use super::stderr::Line;

per_thread! {
    /// Per thread, for several may die at once.
    static DYING: Cell<bool> = Cell::new(false), "spanalloc_dying";
}

/// Whether this thread is at its end, or the one that this process was forked from.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn is_dying_here() -> bool {
    DYING.with(Cell::get)
}

/// Says why in one line and aborts.
#[cold]
#[inline(never)]
pub(crate) fn die(message: &str) -> ! {
    abort(Line::new().text(message))
}

/// As [`die`], of what is at an address, which ends the line.
#[cold]
#[inline(never)]
pub(crate) fn die_at(address: usize, message: &str) -> ! {
    abort(Line::new().text(message).text(": at ").address(address))
}

fn abort(line: Line) -> ! {
    // First: the line may bring a signal, whose handler forks.
    DYING.with(|dying| dying.set(true));
    line.write();
    // SAFETY: `abort` has no preconditions.
    unsafe { libc::abort() }
}
