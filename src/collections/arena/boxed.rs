//! Values in an arena that are dropped, and their blocks reused, one by one.
//!
//! # Invariants
//!
//! 1. A box's `value` points to an initialized value in a block that `blocks`, the arena's,
//!    handed out for `T`'s layout. The box alone refers to it, and gives the block back once.

use super::Arena;
use super::blocks::Blocks;
use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

/// A value that owns its block of an [`Arena`]; see [`Arena::alloc_box`].
///
/// Dropping the box drops the value and gives the block back to the arena, which hands it out again
/// for a value of the same size class.
pub struct ArenaBox<'a, T> {
    value: NonNull<T>,
    blocks: &'a Blocks,
    owned: PhantomData<T>,
}

impl<'a, T> ArenaBox<'a, T> {
    #[inline]
    pub(super) fn new(arena: &'a Arena, value: T) -> Self {
        let blocks = arena.blocks();
        let place = blocks.alloc(Layout::new::<T>(), &arena.chunks).cast::<T>();
        // SAFETY: the block is new and has `T`'s layout.
        unsafe { place.write(value) };
        Self { value: place, blocks, owned: PhantomData }
    }

    /// Takes the value out and gives the block back.
    #[must_use]
    pub fn into_inner(this: Self) -> T {
        let this = ManuallyDrop::new(this);
        let _block = Block { at: this.value, blocks: this.blocks };
        // SAFETY: by invariant 1; nobody reads the value in the block again.
        unsafe { this.value.read() }
    }

    /// Turns the box into a reference that lives as long as the arena is borrowed. The value is
    /// never dropped; its block comes back with the whole arena.
    #[must_use]
    pub fn leak(this: Self) -> &'a mut T {
        let mut value = ManuallyDrop::new(this).value;
        // SAFETY: by invariant 1, and the box is gone without giving the block back.
        unsafe { value.as_mut() }
    }
}

impl<T> Drop for ArenaBox<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Gives the block back also when the value's `Drop` panics.
        let _block = Block { at: self.value, blocks: self.blocks };
        // SAFETY: by invariant 1; this is the end of the box.
        unsafe { ptr::drop_in_place(self.value.as_ptr()) };
    }
}

/// A block on its way back.
struct Block<'a, T> {
    at: NonNull<T>,
    blocks: &'a Blocks,
}

impl<T> Drop for Block<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by invariant 1 of the box that made this.
        unsafe { self.blocks.free(self.at.cast(), Layout::new::<T>()) };
    }
}

impl<T> Deref for ArenaBox<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: by invariant 1.
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for ArenaBox<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: by invariant 1.
        unsafe { self.value.as_mut() }
    }
}

impl<T: fmt::Debug> fmt::Debug for ArenaBox<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
