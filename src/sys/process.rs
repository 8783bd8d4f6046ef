//! Which process this is, told apart from those that it was forked from.
//!
//! The system's number alone does not tell: the first process of a namespace is number 1, and so
//! may its parent be.
//!
//! # Invariants
//!
//! 1. `FORKS` is raised once in each child, by the allocator's own handler, before anything else
//!    runs there that asks. Where the allocator serves nothing it has no handler, and the number is
//!    all there is.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Forks from the first process to this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// In the child.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn forked() {
    FORKS.fetch_add(1, Relaxed);
}

/// Forks so far, from the first process to this one: without a system call.
#[cfg(feature = "profile")]
pub(crate) fn forks() -> u32 {
    FORKS.load(Relaxed)
}

/// This process, and no other that it shares memory with or has a copy of; never 0.
pub(crate) fn here() -> u64 {
    // SAFETY: takes no arguments.
    let number = unsafe { libc::getpid() };
    u64::from(FORKS.load(Relaxed)) << 32 | u64::from(number.unsigned_abs())
}
