//! Floor 5: the global allocator and the public face. The one place where heap and
//! profiler meet.

mod alloc;
mod assert;
#[cfg(feature = "preload")]
pub(crate) mod by_pointer;
mod config;
mod dump;
mod dump_at_exit;
#[cfg(feature = "profile")]
mod formats;
mod measure;
mod prefix;
mod sampling;
mod slow;
#[cfg(feature = "tracing")]
mod span_layer;
mod stats;

pub use alloc::SpanAlloc;
#[doc(hidden)]
pub use assert::{__assertion_failed, __meter};
pub use dump::dump;
#[cfg(feature = "preload")]
pub(crate) use dump_at_exit::at_bare_exit;
pub use dump_at_exit::dump_at_exit;
pub use measure::{Meter, Usage, measure};
#[cfg(feature = "tracing")]
pub use span_layer::SpanLayer;
pub use stats::stats;

/// Gives all free pages back to the OS now, instead of within a second or two.
/// Returns the bytes given back. Cost: a system call per run of free pages; other
/// threads go on meanwhile.
///
/// # Examples
///
/// ```
/// drop(vec![1u8; 8 << 20]);
/// println!("{} bytes given back", spanalloc::release_free_memory());
/// ```
pub fn release_free_memory() -> usize {
    slow::HEAP.release_free()
}
