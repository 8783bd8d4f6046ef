//! Where no thread may be started.
//!
//! The loader lists its modules under a lock of its own. To begin a thread it takes another one,
//! and whoever opens a library takes both, that one first. So a thread for which the loader lists
//! its modules starts none: it would wait for ever beside one that opens a library.

use core::cell::Cell;

use super::per_thread::per_thread;

per_thread! {
    /// Whether the loader lists its modules for this thread.
    static LISTING: Cell<bool> = Cell::new(false), "spanalloc_listing";
}

/// Runs `list`, in which the loader lists its modules.
#[cfg(feature = "profile")]
pub(crate) fn without_starts<R>(list: impl FnOnce() -> R) -> R {
    LISTING.with(|listing| listing.set(true));
    let result = list();
    LISTING.with(|listing| listing.set(false));
    result
}

/// Whether this thread may start another.
#[cfg(not(feature = "preload"))]
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn may_start() -> bool {
    !LISTING.with(Cell::get)
}
