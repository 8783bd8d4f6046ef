//! The instrumented collections, through their public face.

#![cfg(feature = "collections")]

mod arena;
mod observe;
mod pool;
mod pool_fork;
mod pool_kinds;
mod pool_panics;
mod random;
