//! Floor 5: the global allocator and the public face. The one place where heap and
//! profiler meet.

mod alloc;
mod assert;
#[cfg(feature = "preload")]
pub(crate) mod by_pointer;
mod config;
mod dump;
mod dump_at_exit;
mod dump_live;
mod files;
#[cfg(feature = "profile")]
mod formats;
mod inspect;
mod limit;
mod measure;
mod prefix;
mod sampling;
mod slow;
#[cfg(feature = "collections")]
mod snapshots;
#[cfg(feature = "tracing")]
mod span_layer;
mod start;
mod stats;

pub use alloc::SpanAlloc;
#[doc(hidden)]
pub use assert::{__assertion_failed, __meter};
pub use dump::dump;
#[cfg(feature = "preload")]
pub(crate) use dump_at_exit::at_bare_exit;
pub use dump_at_exit::dump_at_exit;
pub use inspect::{BlockState, Inspection, Place, inspect};
pub use limit::{
    Pressure, PressureListener, decay, held_bytes, on_pressure, set_decay, set_soft_limit,
    soft_limit,
};
pub use measure::{Meter, Usage, measure};
#[cfg(feature = "collections")]
pub use snapshots::{ClassGrowth, Snapshot, Snapshots, Snapshotter};
#[cfg(feature = "tracing")]
pub use span_layer::SpanLayer;
pub use stats::stats;

/// Gives all free pages back to the OS now, instead of after a while: see [`set_decay`]. Also
/// those inside spans of which other blocks are in use, and what the calling thread keeps on its
/// lists; not what other threads keep there.
/// Returns the bytes given back. Cost: a system call per run of free pages, and a look at
/// each free block of a span that is partly in use; other threads go on meanwhile.
///
/// # Examples
///
/// ```
/// drop(vec![1u8; 8 << 20]);
/// println!("{} bytes given back", spanalloc::release_free_memory());
/// ```
pub fn release_free_memory() -> usize {
    slow::empty_lists();
    slow::HEAP.release_free()
}

/// Turns on or off a line on standard error for each time that free pages went back to the
/// OS: `spanalloc: scavenged: held 630784 KiB, then 52224 KiB; live 1030 KiB`. *Held* is
/// what the allocator has of the OS, in use, free or for its records, but not for the profiler's
/// tables; *live* what is in use.
/// Cost: a snapshot of the counts for each line, on the thread that gave memory back: the
/// scavenger's, that of a soft limit, or the caller of [`release_free_memory`].
///
/// So does the environment variable with `SPANALLOC=trace=scavenge`. The idea is Go's
/// `GODEBUG=scavtrace=1`.
///
/// # Examples
///
/// ```
/// spanalloc::trace_scavenging(true);
/// drop(vec![1u8; 8 << 20]);
/// spanalloc::release_free_memory();
/// spanalloc::trace_scavenging(false);
/// ```
pub fn trace_scavenging(on: bool) {
    slow::HEAP.trace_scavenging(on);
}
