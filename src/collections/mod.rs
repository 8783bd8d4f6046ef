//! Floor 3: instrumented collections, ordinary clients of the allocator that count
//! what they do.

pub mod arena;
pub mod map;
pub mod observe;
pub mod pool;
mod quantile;
mod rest;
