//! A global allocator for Rust that is fast while its profiler is on.

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("spanalloc runs on Linux on x86-64 and aarch64 only");

mod base;
#[cfg(feature = "collections")]
mod collections;
mod global;
mod heap;
#[cfg(feature = "profile")]
pub mod profile;
pub mod report;
mod sys;

#[doc(hidden)]
pub use global::{__assertion_failed, __meter};
pub use global::{
    Meter, SpanAlloc, Usage, dump, dump_at_exit, measure, release_free_memory, stats,
};
pub use report::Stats;
