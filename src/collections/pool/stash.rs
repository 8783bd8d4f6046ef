//! A few values of one thread, last in, first out, without a locked instruction.
//!
//! # Invariants
//!
//! 1. A stash is used by one thread at a time; whoever hands it on orders the two.
//! 2. The first `len` places hold values, the others none.

use crate::collections::rest::drop_rest;
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::compiler_fence;

/// The most values that a thread keeps to itself in one pool. Others cannot steal these.
///
/// A request, a parser or a query holds a handful of buffers at a time; what goes beyond is put on
/// a ring, where the other threads find it, half of these at a time.
pub const PRIVATE_MAX: usize = 16;

/// The most values that move between a stash and a ring by one locked instruction.
///
/// Half of a stash: after such a move there is room for about as many puts as there are gets to be
/// had.
pub(super) const BATCH: usize = PRIVATE_MAX / 2;

/// A few values of one thread.
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

    /// Takes the oldest values, the oldest first, of a stash that has as many.
    pub(super) fn take_oldest(&self) -> [T; BATCH] {
        let left = self.len.get() - BATCH;
        let (from, to) = (&self.places[BATCH..][..left], &self.places[..left]);
        // In the child of a fork that comes meanwhile, they are lost; none is there twice.
        self.len.set(0);
        compiler_fence(SeqCst);
        let first = self.places.as_ptr().cast::<[T; BATCH]>();
        // SAFETY: by invariant 1 nobody else touches the places, by 2 these held values. They are
        // written over below, or no longer counted.
        let values = unsafe { first.read() };
        for (from, to) in from.iter().zip(to) {
            // SAFETY: as above.
            let value = unsafe { from.get().read() };
            // SAFETY: as above; what the place held is in `values` or further down.
            unsafe { to.get().write(value) };
        }
        compiler_fence(SeqCst);
        self.len.set(left);
        values
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
    fn the_oldest_go_first_and_the_others_close_up() {
        let stash = Stash::new();
        for value in 0..PRIVATE_MAX - 1 {
            assert!(stash.push(Box::new(value)).is_ok());
        }
        assert_eq!(stash.take_oldest(), std::array::from_fn(Box::new));
        assert!(stash.push(Box::new(99)).is_ok());
        let left = (BATCH..PRIVATE_MAX - 1).chain([99]);
        assert_eq!(stash.take_all(), Vec::from_iter(left.map(Box::new)));
    }

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
