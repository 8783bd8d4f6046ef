//! Where the heap's kinds of blocks begin and end. The heap serves by these limits, and
//! collections tell by them what serves them.
//!
//! # Invariants
//!
//! 1. `SMALL_BYTES_MAX < SPAN_BYTES_MAX`.

/// The largest size that a size class serves; above it blocks are large.
pub(crate) const SMALL_BYTES_MAX: usize = 32 << 10;
/// The largest size, and the largest alignment, of a block in a span; above it a block
/// has its own mapping.
pub(crate) const SPAN_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(SMALL_BYTES_MAX < SPAN_BYTES_MAX);
