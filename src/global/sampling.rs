//! What the allocator tells the profiler; nothing at all without the feature.

#[cfg(feature = "profile")]
mod hooks {
    use crate::global::config;
    use crate::profile;

    /// Called once, before anything is allocated: `interval` is what the program
    /// asked for in code; the environment wins.
    pub(in crate::global) fn init(interval: u64) {
        profile::init(config::sample_bytes().unwrap_or(interval));
    }

    /// The interval to sample with here and now, 0 for not at all; `None` if sampling is on,
    /// but suppressed on this thread for a while.
    #[inline]
    pub(in crate::global) fn interval() -> Option<u64> {
        match profile::interval() {
            0 => Some(0),
            _ if profile::suppressed() => None,
            interval => Some(interval),
        }
    }

    /// Bytes of the profiler's tables.
    pub(in crate::global) fn profiler_bytes() -> u64 {
        profile::memory_bytes() as u64
    }

    pub(in crate::global) use profile::{
        after_fork_child, after_fork_parent, before_fork, begin_thread, is_live, on_alloc, on_free,
        on_resize, put_back, quietly, take, taken_is_free,
    };
}

#[cfg(not(feature = "profile"))]
mod hooks {
    pub(in crate::global) fn init(_: u64) {}
    pub(in crate::global) fn begin_thread() {}

    #[inline]
    pub(in crate::global) fn interval() -> Option<u64> {
        Some(0)
    }

    pub(in crate::global) fn quietly<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    pub(in crate::global) fn profiler_bytes() -> u64 {
        0
    }

    pub(in crate::global) fn on_alloc(_: usize, _: usize, _: usize, _: u64) {}
    pub(in crate::global) fn on_free(_: usize) {}
    pub(in crate::global) fn take(_: usize) -> Option<()> {
        None
    }
    pub(in crate::global) fn put_back(_: usize, (): ()) {}
    pub(in crate::global) fn taken_is_free((): ()) {}
    pub(in crate::global) fn is_live(_: usize) -> bool {
        false
    }
    pub(in crate::global) fn on_resize(_: usize, _: usize) {}
    pub(in crate::global) fn before_fork(between: impl FnOnce()) {
        between();
    }
    pub(in crate::global) fn after_fork_parent() {}
    pub(in crate::global) fn after_fork_child() {}
}

pub(super) use hooks::*;
