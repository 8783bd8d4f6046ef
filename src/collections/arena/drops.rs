//! An arena that drops what it holds.
//!
//! # Invariants
//!
//! 1. `last` heads a list of entries, youngest first. Each stands for a value that is alive, lies
//!    in the arena, and has no owner but the list.
//! 2. An entry leaves the list before its value's `Drop` is called, so a panic there drops nothing
//!    twice.

use super::{Arena, ArenaStats};
use crate::collections::rest::drop_rest;
use std::alloc::Layout;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// An [`Arena`] for values with drop glue: it drops them, the youngest first, when it is reset or
/// dropped itself.
///
/// Such a value costs three words more. Values must be `'static`, because nothing else would keep
/// what they borrow alive until then; values that borrow belong in an [`Arena`].
///
/// ```
/// use spanalloc::arena::DropArena;
///
/// let arena = DropArena::new();
/// let name: &mut String = arena.alloc(String::from("owned"));
/// name.push_str(" elsewhere");
/// assert_eq!(name, "owned elsewhere");
/// assert_eq!(arena.pending_drops(), 1);
/// ```
pub struct DropArena {
    arena: Arena,
    last: Cell<Link>,
    pending: Cell<usize>,
    /// Values may be of types that stay on their thread.
    on_this_thread: PhantomData<*const ()>,
}

type Link = Option<NonNull<Entry>>;

/// Lies in front of each value to be dropped.
struct Entry {
    value: NonNull<u8>,
    drop_value: unsafe fn(NonNull<u8>),
    previous: Link,
}

impl DropArena {
    /// An empty arena, which allocates nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        let (last, pending) = (Cell::new(None), Cell::new(0));
        Self { arena: Arena::new(), last, pending, on_this_thread: PhantomData }
    }

    /// Moves `value` into the arena.
    #[expect(clippy::mut_from_ref, reason = "each block is handed out once")]
    pub fn alloc<T: 'static>(&self, value: T) -> &mut T {
        if !std::mem::needs_drop::<T>() {
            let place = self.arena.alloc_layout(Layout::new::<T>()).cast::<T>();
            // SAFETY: a new block of `T`'s layout.
            unsafe { place.write(value) };
            // SAFETY: as above; the block is handed out once and lives until `&mut self`.
            return unsafe { &mut *place.as_ptr() };
        }
        let (layout, offset) = const { with_entry::<T>() };
        let block = self.arena.alloc_layout(layout);
        // SAFETY: the layout has room for the entry, then for the value at `offset`.
        let place = unsafe { block.add(offset) };
        // SAFETY: as above.
        unsafe { place.cast::<T>().write(value) };
        let entry = Entry { value: place, drop_value: drop_value::<T>, previous: self.last.get() };
        // SAFETY: as above.
        unsafe { block.cast::<Entry>().write(entry) };
        self.last.set(Some(block.cast()));
        self.pending.set(self.pending.get() + 1);
        // SAFETY: the value has just been written, is handed out once, and lives until `&mut self`.
        unsafe { place.cast::<T>().as_mut() }
    }

    /// Values that are dropped at the next reset.
    #[must_use]
    pub fn pending_drops(&self) -> usize {
        self.pending.get()
    }

    /// Drops all values and takes their memory back. The largest chunk is kept.
    ///
    /// If a value's `Drop` panics, the values older than it stay until the next reset.
    pub fn reset(&mut self) {
        while self.drop_last() {}
        self.arena.reset();
    }

    /// A snapshot of the memory; entries count as part of their values.
    #[must_use]
    pub fn stats(&self) -> ArenaStats {
        self.arena.stats()
    }

    /// Drops the youngest value; false when there is none.
    fn drop_last(&mut self) -> bool {
        let Some(entry) = self.last.get() else { return false };
        // SAFETY: by invariant 1.
        let Entry { value, drop_value, previous } = unsafe { entry.read() };
        self.last.set(previous);
        self.pending.set(self.pending.get() - 1);
        // SAFETY: by invariants 1 and 2; `&mut self` ended all references to the value.
        unsafe { drop_value(value) };
        true
    }
}

/// The layout of an entry with a `T` behind it, and where the `T` begins.
const fn with_entry<T>() -> (Layout, usize) {
    match Layout::new::<Entry>().extend(Layout::new::<T>()) {
        Ok((layout, offset)) => (layout.pad_to_align(), offset),
        Err(_) => panic!("the value is too large"),
    }
}

/// # Safety
///
/// `value` points to a `T` that is alive and that nobody uses again.
unsafe fn drop_value<T>(value: NonNull<u8>) {
    // SAFETY: the caller's contract.
    unsafe { ptr::drop_in_place(value.cast::<T>().as_ptr()) };
}

impl Default for DropArena {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for DropArena {
    fn drop(&mut self) {
        drop_rest(|| self.drop_last());
    }
}

impl fmt::Debug for DropArena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DropArena")
            .field("pending_drops", &self.pending_drops())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
