//! Which process this is, told apart from those that it was forked from.

use crate::base::forks;

/// This process, and no other that it shares memory with or has a copy of; never 0.
pub(crate) fn here() -> u64 {
    // SAFETY: takes no arguments.
    let number = unsafe { libc::getpid() };
    forks::process(number.unsigned_abs())
}
