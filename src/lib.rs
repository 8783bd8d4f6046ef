//! A global allocator for Rust that is fast while its profiler is on.

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("spanalloc runs on Linux on x86-64 and aarch64 only");

#[cfg(not(loom))]
mod base;
#[cfg(all(feature = "collections", not(loom)))]
mod collections;
#[cfg(not(loom))]
mod global;
#[cfg(not(loom))]
mod heap;
#[cfg(all(feature = "profile", not(loom)))]
pub mod profile;
#[cfg(not(loom))]
pub mod report;
#[cfg(not(loom))]
mod sys;

/// Under `--cfg loom` the crate is its lock-free structures and their models.
#[cfg(loom)]
#[allow(dead_code, reason = "a model needs less than the heap")]
mod base {
    pub(crate) mod sync;
}
#[cfg(loom)]
#[allow(dead_code, reason = "a model needs less than the heap")]
mod heap {
    pub(crate) mod mailbox;
    #[cfg(test)]
    mod models;
    pub(crate) mod remote;
}

#[cfg(not(loom))]
pub use global::{SpanAlloc, dump, dump_at_exit, release_free_memory, stats};
#[cfg(not(loom))]
pub use report::Stats;

/// Runs bytes as a program for a heap with an oracle, for `fuzz/`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_heap(bytes: &[u8]) {
    heap::tests::bytes::run(bytes);
}
