//! Forks, counted: the system's number alone does not tell a process from one that it was forked
//! from. The first process of a namespace is number 1, and so may its parent be.
//!
//! # Invariants
//!
//! 1. The count is raised once in each child, by the allocator's own handler, before anything else
//!    runs there that asks. Where the allocator serves nothing it has no handler, and the number is
//!    all there is.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// In the child.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn raise() {
    FORKS.fetch_add(1, Relaxed);
}

/// Forks so far, from the first process to this one: without a system call.
#[cfg(feature = "profile")]
pub(crate) fn count() -> u32 {
    FORKS.load(Relaxed)
}

/// The process that has this number, and no other that it shares memory with or has a copy of;
/// never 0.
pub(crate) fn process(number: u32) -> u64 {
    u64::from(FORKS.load(Relaxed)) << 32 | u64::from(number)
}
