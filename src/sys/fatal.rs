//! The last line of a process that cannot go on.
//!
//! For misuse that has corrupted, or would corrupt, the heap: unwinding out of an allocator would
//! run more of it. Nothing here allocates or formats, and an error of the line itself is ignored:
//! there is nowhere to report it.

use super::stderr::Line;

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
    line.write();
    // SAFETY: `abort` has no preconditions.
    unsafe { libc::abort() }
}
