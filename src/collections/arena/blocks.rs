//! Blocks that may come back one by one: which of the ways of reuse a layout takes.
//!
//! | layout | way |
//! | --- | --- |
//! | below 16 bytes, not empty | shares a block; see `tiny` |
//! | up to the largest class, aligned to 16 at most | a block of its class; see `reuse` |
//! | other | a block of its own, which only a reset takes back |

use super::chunk::{CHUNK_ALIGN, Chunks};
use super::reuse::{Class, FreeLists};
use super::stats::ArenaStats;
use super::tiny::Tiny;
use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

/// See the module's documentation.
pub(super) struct Blocks {
    free: FreeLists,
    tiny: Tiny,
    boxes: Cell<u64>,
    reused: Cell<u64>,
    /// What rounding up to classes has added to the blocks in use, the bytes of blocks without a
    /// class that came back, and the bytes of this struct.
    padding_bytes: Cell<usize>,
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            free: FreeLists::new(),
            tiny: Tiny::new(),
            boxes: Cell::new(0),
            reused: Cell::new(0),
            padding_bytes: Cell::new(size_of::<Self>()),
        }
    }

    /// A block that may come back by [`free`](Self::free).
    #[inline]
    pub(super) fn alloc(&self, layout: Layout, chunks: &Chunks) -> NonNull<u8> {
        self.boxes.set(self.boxes.get() + 1);
        if Tiny::takes(layout) {
            return self.tiny.alloc(layout, chunks);
        }
        let Some((class, block_layout)) = class(layout) else {
            return chunks.alloc(layout);
        };
        let padding = class.bytes() - layout.size();
        if padding > 0 {
            self.padding_bytes.set(self.padding_bytes.get() + padding);
        }
        let Some(block) = self.free.pop(class) else {
            return chunks.alloc(block_layout);
        };
        self.reused.set(self.reused.get() + 1);
        block
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
        let padding = self.padding_bytes.get();
        let Some((class, _)) = class(layout) else {
            return self.padding_bytes.set(padding + layout.size());
        };
        if class.bytes() > layout.size() {
            self.padding_bytes.set(padding - (class.bytes() - layout.size()));
        }
        // SAFETY: the caller's contract; the block was cut for the class.
        unsafe { self.free.push(class, block) };
    }

    /// The part of the arena's snapshot that is known here.
    pub(super) fn stats(&self) -> ArenaStats {
        let (tiny_objects, tiny_blocks) = self.tiny.counts();
        ArenaStats {
            boxes: self.boxes.get(),
            reused: self.reused.get(),
            padding_bytes: self.padding_bytes.get() + self.tiny.padding_bytes(),
            returned_bytes: self.free.free_bytes(),
            tiny_objects,
            tiny_blocks,
            ..ArenaStats::default()
        }
    }
}

/// The class of blocks for `layout`, with the layout of such a block; `None` where blocks are not
/// reused.
#[inline]
fn class(layout: Layout) -> Option<(Class, Layout)> {
    if layout.size() == 0 || layout.align() > CHUNK_ALIGN {
        return None;
    }
    let class = Class::of(layout.size())?;
    Layout::from_size_align(class.bytes(), CHUNK_ALIGN).ok().map(|block| (class, block))
}
