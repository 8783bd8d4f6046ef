//! The instrumented collections, through their public face.

#![cfg(feature = "collections")]

mod arena;
mod arena_memory;
mod handles;
#[path = "../map_support/mod.rs"]
mod map_support;
mod maps;
mod observe;
mod pool;
mod pool_ends;
mod pool_fork;
mod pool_kinds;
mod pool_panics;
mod random;
mod trend;

/// For the tests of what is allocated, and of what happens when it is not.
#[global_allocator]
static ALLOCATOR: map_support::counting::Counting = map_support::counting::Counting;
