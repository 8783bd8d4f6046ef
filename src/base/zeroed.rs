//! Types for which bytes of zero are a value: fresh pages hold such values, and so
//! does the memory that a thread begins with.

use core::cell::Cell;

/// Marks types for which bytes of zero are a value.
///
/// # Safety
///
/// All-zero bytes are a valid value of the type.
pub(crate) unsafe trait Zeroed {}

// SAFETY: integers.
unsafe impl Zeroed for u32 {}
// SAFETY: integers.
unsafe impl Zeroed for u64 {}
// SAFETY: false.
unsafe impl Zeroed for bool {}
// SAFETY: a null pointer.
unsafe impl<T> Zeroed for *const T {}
// SAFETY: two such values.
unsafe impl<A: Zeroed, B: Zeroed> Zeroed for (A, B) {}
// SAFETY: laid out as the value it holds.
unsafe impl<T: Zeroed> Zeroed for Cell<T> {}
