//! Instrumented collections: ordinary clients of the allocator that count what they do.

pub mod arena;
pub mod observe;
pub mod pool;
mod quantile;
