//! A few values of one thread, last in, first out, without a locked instruction.
//!
//! # Invariants
//!
//! 1. A stash is used by one thread at a time; whoever hands it on orders the two.
//! 2. The first `len` places hold values, the others none.

use crate::collections::rest::drop_rest;
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;

/// The most values that a thread keeps to itself in one pool. Others cannot steal these.
///
/// A request, a parser or a query holds a handful of buffers at a time; what goes beyond is put on
/// a ring at the cost of a locked instruction, where the other threads find it.
pub const PRIVATE_MAX: usize = 16;

/// See the module's documentation.
pub(super) struct Stash<T> {
    len: Cell<usize>,
    places: [UnsafeCell<MaybeUninit<T>>; PRIVATE_MAX],
}

impl<T> Stash<T> {
    pub(super) fn new() -> Self {
        let places = [const { UnsafeCell::new(MaybeUninit::uninit()) }; PRIVATE_MAX];
        Self { len: Cell::new(0), places }
    }

    /// Keeps `value`, or hands it back when the stash is full.
    #[inline]
    pub(super) fn push(&self, value: T) -> Result<(), T> {
        let len = self.len.get();
        let Some(place) = self.places.get(len) else { return Err(value) };
        // SAFETY: by invariant 1 nobody else touches the place; by 2 it holds nothing.
        unsafe { place.get().write(MaybeUninit::new(value)) };
        self.len.set(len + 1);
        Ok(())
    }

    /// Takes the youngest value.
    #[inline]
    pub(super) fn pop(&self) -> Option<T> {
        let len = self.len.get().checked_sub(1)?;
        let place = self.places.get(len)?;
        self.len.set(len);
        // SAFETY: by invariant 1 nobody else touches the place.
        let value = unsafe { place.get().read() };
        // SAFETY: by invariant 2 it held a value, which is now no longer counted.
        Some(unsafe { value.assume_init() })
    }

    /// Takes all values, the oldest first.
    pub(super) fn take_all(&self) -> Vec<T> {
        let mut values: Vec<T> = std::iter::from_fn(|| self.pop()).collect();
        values.reverse();
        values
    }
}

impl<T> Drop for Stash<T> {
    fn drop(&mut self) {
        drop_rest(|| self.pop().is_some());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_stash_is_a_bounded_stack_that_drops_what_is_left() {
        let witness = Rc::new(());
        let stash = Stash::new();
        for value in 0..PRIVATE_MAX {
            assert!(stash.push((value, witness.clone())).is_ok());
        }
        assert!(stash.push((PRIVATE_MAX, witness.clone())).is_err());
        assert_eq!(stash.pop().map(|(value, _)| value), Some(PRIVATE_MAX - 1));
        let values: Vec<_> = stash.take_all().into_iter().map(|(value, _)| value).collect();
        assert_eq!(values, Vec::from_iter(0..PRIVATE_MAX - 1));
        assert!(stash.pop().is_none() && stash.push((0, witness.clone())).is_ok());
        drop(stash);
        assert_eq!(Rc::strong_count(&witness), 1);
    }
}
