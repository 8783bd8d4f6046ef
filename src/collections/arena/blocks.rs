//! Blocks that may come back one by one: which of the ways of reuse a layout takes.
//!
//! | layout | way |
//! | --- | --- |
//! | below 16 bytes, not empty | shares a block; see `tiny` |
//! | up to the largest class, aligned to 16 at most | a block of its class; see `reuse` |
//! | other | a block of its own, which only a reset takes back |

use super::chunk::Chunks;
use super::reuse::{Class, FreeLists};
use super::stats::ArenaStats;
use super::tiny::Tiny;
use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

/// An arena's blocks that may come back.
pub(super) struct Blocks {
    free: FreeLists,
    tiny: Tiny,
    /// Boxes made in new blocks, and those without a block of a class of their own.
    boxes: Cell<u64>,
    /// What rounding up to classes has added to the blocks in use, the bytes of blocks without a
    /// class that came back, and the bytes of `Blocks`.
    padding_bytes: Cell<usize>,
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            free: FreeLists::new(),
            tiny: Tiny::new(),
            boxes: Cell::new(0),
            padding_bytes: Cell::new(size_of::<Self>()),
        }
    }

    /// A block that may come back by [`free`](Self::free).
    #[inline]
    pub(super) fn alloc(&self, layout: Layout, chunks: &Chunks) -> NonNull<u8> {
        let class = class(layout);
        if let Some(class) = class {
            self.pad(class.bytes() - layout.size());
            if let Some(block) = self.free.pop(class) {
                return block;
            }
        }
        self.boxes.set(self.boxes.get() + 1);
        if Tiny::takes(layout) {
            return self.tiny.alloc(layout, chunks);
        }
        chunks.alloc(class.map_or(layout, Class::layout))
    }

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// The block came from [`alloc`](Self::alloc) with the same layout, has not come back yet, and
    /// nobody uses it any more.
    #[inline]
    pub(super) unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        if Tiny::takes(layout) {
            // SAFETY: the caller's contract; `alloc` took the same branch.
            return unsafe { self.tiny.free(block, layout.size()) };
        }
        let Some(class) = class(layout) else {
            return self.pad(layout.size());
        };
        self.pad((class.bytes() - layout.size()).wrapping_neg());
        // SAFETY: the caller's contract; the block was cut for the class.
        unsafe { self.free.push(class, block) };
    }

    /// Adds `bytes`, modulo 2⁶⁴, to the padding. Of most boxes they are zero at compile time.
    #[inline(always)]
    fn pad(&self, bytes: usize) {
        if bytes != 0 {
            self.padding_bytes.set(self.padding_bytes.get().wrapping_add(bytes));
        }
    }

    /// The part of the arena's snapshot that is known here.
    pub(super) fn stats(&self) -> ArenaStats {
        let (tiny_objects, tiny_blocks) = self.tiny.counts();
        let (reused, returned_bytes) = self.free.sums();
        ArenaStats {
            boxes: self.boxes.get() + reused,
            reused,
            padding_bytes: self.padding_bytes.get() + self.tiny.padding_bytes(),
            returned_bytes,
            tiny_objects,
            tiny_blocks,
            ..ArenaStats::default()
        }
    }
}

/// The class of blocks for `layout`; `None` where they are shared or not reused.
#[inline]
fn class(layout: Layout) -> Option<Class> {
    if layout.size() == 0 || Tiny::takes(layout) { None } else { Class::of(layout) }
}
