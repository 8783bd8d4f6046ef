//! Floor 5: the global allocator. The one place where heap and profiler meet.

mod alloc;

pub use alloc::SpanAlloc;
