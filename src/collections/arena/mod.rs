//! Arenas: memory that is handed out in a straight line and taken back all at once.
//!
//! | type | values | end |
//! | --- | --- | --- |
//! | [`Arena::alloc`] and its kin | without drop glue, checked at compile time | with the arena, unseen |
//! | [`Arena::alloc_box`] | any | one by one; blocks are reused by size class |
//! | [`DropArena`] | any `'static` | dropped by the arena, youngest first |
//!
//! References into an arena borrow it, and [`Arena::reset`] needs it unborrowed: a use after reset
//! does not compile. What gets around the compiler through raw pointers is found in debug builds,
//! where unused memory is poisoned and checked when it is handed out again.
//!
//! [`CapacityEstimator`] says how large the next one should be.

// Invariants of this file:
//
// 1. A block handed out overlaps no other one that has not come back, and stays allocated until
//    `&mut self`.
// 2. Nothing in an arena refers to the thread it was made on; values are touched only through
//    borrows of the arena, so an arena that nobody borrows may move to another thread.
// 3. `blocks`, once set, points to an initialized `Blocks` in a block that is never handed out.

mod blocks;
mod boxed;
mod capacity;
mod chunk;
mod drops;
mod fallible;
mod reuse;
mod stats;
mod text;
mod tiny;

pub use super::quantile::{log_normal_quantile, poisson_quantile};
pub use boxed::ArenaBox;
pub use capacity::{CapacityEstimator, SizeModel};
pub use drops::DropArena;
pub use fallible::AllocError;
pub use stats::ArenaStats;

use blocks::Blocks;
use chunk::Chunks;
use std::alloc::Layout;
use std::cell::Cell;
use std::fmt;
use std::mem;
use std::ptr::NonNull;
use std::slice;
use std::str;

/// Why a type with drop glue is refused, and the way out.
const NEVER_DROPPED: &str = "the arena would never drop it: use `alloc_box`, or a `DropArena`";

/// A bump arena.
///
/// An allocation is a subtraction and a comparison. All bytes are accounted for all the same; see
/// [`stats`](Arena::stats). Chunks double in size. Where there is no memory for twice the size, a
/// chunk is as large as it must be; where there is none for that either, the process ends as it
/// does for a `Vec`, but for calls that begin with `try`.
///
/// ```
/// use spanalloc::arena::Arena;
///
/// #[derive(Debug)]
/// enum Tree<'a> {
///     Leaf(u32),
///     Node(&'a Tree<'a>, &'a Tree<'a>),
/// }
///
/// let mut arena = Arena::new();
/// let (left, right) = (arena.alloc(Tree::Leaf(1)), arena.alloc(Tree::Leaf(2)));
/// let tree = arena.alloc(Tree::Node(left, right));
/// assert_eq!(format!("{tree:?}"), "Node(Leaf(1), Leaf(2))");
/// assert_eq!(arena.stats().live_bytes, 3 * size_of::<Tree>());
/// arena.reset(); // all gone at once
/// assert_eq!(arena.stats().live_bytes, 0);
/// ```
///
/// A reference does not outlive a reset:
///
/// ```compile_fail
/// let mut arena = spanalloc::arena::Arena::new();
/// let number = arena.alloc(1);
/// arena.reset();
/// *number += 1;
/// ```
pub struct Arena {
    chunks: Chunks,
    blocks: Cell<Option<NonNull<Blocks>>>,
    resets: u64,
}

// SAFETY: by invariant 2.
unsafe impl Send for Arena {}

impl Arena {
    /// An empty arena, which allocates nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunks: Chunks::new(), blocks: Cell::new(None), resets: 0 }
    }

    /// An arena whose first chunk has at least `bytes` bytes.
    ///
    /// # Panics
    ///
    /// When `bytes` is more than an allocation can have.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let arena = Self::new();
        if bytes > 0 {
            arena.chunks.reserve(bytes);
        }
        arena
    }

    /// Moves `value` into the arena. It is never dropped, so a type with drop glue is refused, when
    /// the call is compiled to code: by `cargo build`, not by `cargo check`.
    ///
    /// ```compile_fail
    /// let arena = spanalloc::arena::Arena::new();
    /// arena.alloc(String::new()); // use alloc_box, or a DropArena
    /// ```
    #[inline(always)]
    pub fn alloc<T>(&self, value: T) -> &mut T {
        // Also here: an error in what this calls does not name this function's caller.
        const { assert!(!mem::needs_drop::<T>(), "{}", NEVER_DROPPED) };
        self.alloc_with(|| value)
    }

    /// Calls `make` and lets it write its result straight into the arena. Types are refused as by
    /// [`alloc`](Self::alloc).
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "each block is handed out once")]
    pub fn alloc_with<T>(&self, make: impl FnOnce() -> T) -> &mut T {
        const { assert!(!mem::needs_drop::<T>(), "{}", NEVER_DROPPED) };
        let place = self.alloc_layout(Layout::new::<T>()).cast::<T>();
        // SAFETY: by invariant 1 the place is ours; it has `T`'s layout.
        unsafe { place.write(make()) };
        // SAFETY: the value has just been written, and the borrow of `self` keeps the place.
        unsafe { &mut *place.as_ptr() }
    }

    /// Copies `values` into the arena.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "each block is handed out once")]
    pub fn alloc_slice_copy<T: Copy>(&self, values: &[T]) -> &mut [T] {
        let place = self.alloc_layout(Layout::for_value(values)).cast::<T>();
        let source = NonNull::from(values).cast::<T>();
        // SAFETY: by invariant 1 the place is ours and apart from `values`, whose layout it has.
        unsafe { place.copy_from_nonoverlapping(source, values.len()) };
        // SAFETY: the values have just been written, and the borrow of `self` keeps the place.
        unsafe { slice::from_raw_parts_mut(place.as_ptr(), values.len()) }
    }

    /// Fills a slice of `len` values with what `make` returns for each index. Types are refused as
    /// by [`alloc`](Self::alloc).
    ///
    /// # Panics
    ///
    /// When a slice of `len` values does not fit the address space.
    #[expect(clippy::mut_from_ref, reason = "each block is handed out once")]
    pub fn alloc_slice_fill_with<T>(&self, len: usize, make: impl FnMut(usize) -> T) -> &mut [T] {
        const { assert!(!mem::needs_drop::<T>(), "{}", NEVER_DROPPED) };
        let place = self.alloc_layout(array_layout::<T>(len)).cast::<T>();
        for (index, value) in (0..len).map(make).enumerate() {
            // SAFETY: `index < len`.
            let slot = unsafe { place.add(index) };
            // SAFETY: by invariant 1 the slot is ours.
            unsafe { slot.write(value) };
        }
        // SAFETY: all values have been written, and the borrow of `self` keeps the place.
        unsafe { slice::from_raw_parts_mut(place.as_ptr(), len) }
    }

    /// Fills a slice with what `values` yields: as many as it promises, or fewer if no more come.
    /// Types are refused as by [`alloc`](Self::alloc).
    ///
    /// # Panics
    ///
    /// When a slice of so many values does not fit the address space.
    ///
    /// ```
    /// let arena = spanalloc::arena::Arena::new();
    /// let squares = arena.alloc_slice_fill_iter([1, 2, 3].iter().map(|n| n * n));
    /// assert_eq!(squares, [1, 4, 9]);
    /// ```
    #[expect(clippy::mut_from_ref, reason = "each block is handed out once")]
    pub fn alloc_slice_fill_iter<T, I>(&self, values: I) -> &mut [T]
    where
        I: IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    {
        const { assert!(!mem::needs_drop::<T>(), "{}", NEVER_DROPPED) };
        let values = values.into_iter();
        let len = values.len();
        let place = self.alloc_layout(array_layout::<T>(len)).cast::<T>();
        let mut written = 0;
        for value in values.take(len) {
            // SAFETY: `written < len`.
            let slot = unsafe { place.add(written) };
            // SAFETY: by invariant 1 the slot is ours.
            unsafe { slot.write(value) };
            written += 1;
        }
        // SAFETY: so many have been written, and the borrow of `self` keeps the place.
        unsafe { slice::from_raw_parts_mut(place.as_ptr(), written) }
    }

    /// Copies `text` into the arena.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "each block is handed out once")]
    pub fn alloc_str(&self, text: &str) -> &mut str {
        let bytes = self.alloc_slice_copy(text.as_bytes());
        // SAFETY: a copy of UTF-8.
        unsafe { str::from_utf8_unchecked_mut(bytes) }
    }

    /// An uninitialized block for `layout`, valid as long as the arena is neither reset nor
    /// dropped.
    #[inline(always)]
    pub fn alloc_layout(&self, layout: Layout) -> NonNull<u8> {
        self.chunks.alloc(layout)
    }

    /// Moves `value` into a box, which drops it and gives its block back for reuse when it goes.
    ///
    /// Blocks are of size classes: multiples of 8 bytes from 16 to 128, then four per doubling to
    /// 32 KiB. Objects below 16 bytes share blocks. What is larger than the classes, or aligned to
    /// more than 16, is not reused one by one.
    ///
    /// ```
    /// use spanalloc::arena::Arena;
    ///
    /// let arena = Arena::new();
    /// for number in 0..1000 {
    ///     let text = arena.alloc_box(format!("{number}"));
    ///     assert_eq!(text.parse(), Ok(number));
    /// }
    /// assert_eq!(arena.stats().reused, 999);
    /// ```
    #[inline]
    pub fn alloc_box<T>(&self, value: T) -> ArenaBox<'_, T> {
        ArenaBox::new(self, value)
    }

    /// Takes all memory back and keeps the largest chunk. Costs one deallocation for each other
    /// chunk.
    pub fn reset(&mut self) {
        self.blocks.set(None);
        self.chunks.reset();
        self.resets += 1;
    }

    /// A snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> ArenaStats {
        let chunks = &self.chunks;
        // SAFETY: by invariant 3.
        let blocks = self.blocks.get().map(|blocks| unsafe { blocks.as_ref() });
        let mut stats = blocks.map_or_else(ArenaStats::default, Blocks::stats);
        stats.chunks = chunks.count();
        stats.chunk_bytes = chunks.chunk_bytes();
        stats.padding_bytes += chunks.padding_bytes();
        stats.tail_bytes = chunks.tail_bytes();
        stats.room_bytes = chunks.room();
        stats.live_bytes = stats.chunk_bytes - stats.waste_bytes() - stats.room_bytes;
        stats.resets = self.resets;
        stats
    }

    /// The state of boxes, made in the arena itself when the first box is.
    #[inline]
    fn blocks(&self) -> &Blocks {
        let blocks = self.blocks.get().unwrap_or_else(|| self.make_blocks());
        // SAFETY: by invariant 3.
        unsafe { blocks.as_ref() }
    }

    #[cold]
    fn make_blocks(&self) -> NonNull<Blocks> {
        let blocks = self.chunks.alloc(Layout::new::<Blocks>()).cast::<Blocks>();
        // SAFETY: a new block of this layout.
        unsafe { blocks.write(Blocks::new()) };
        self.blocks.set(Some(blocks));
        blocks
    }
}

fn array_layout<T>(len: usize) -> Layout {
    Layout::array::<T>(len).unwrap_or_else(|_| {
        panic!("a slice of {len} values of {} bytes does not fit", size_of::<T>())
    })
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
