//! The switch between the real atomics and loom's.
//!
//! A lock-free structure takes its atomics from here, so that its model test
//! runs the very code that ships. Loom's types cannot live in mapped memory or
//! in a `static`; what needs either takes `core`'s directly. What one structure alone needs (a
//! mutex, atomic bytes) it switches itself.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

#[cfg(feature = "collections")]
mod cells;
#[cfg(feature = "collections")]
pub(crate) use cells::*;
