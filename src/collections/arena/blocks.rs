//! Blocks that may come back one by one: which of the ways of reuse a layout takes.
//!
//! | layout | way |
//! | --- | --- |
//! | below 16 bytes, not empty | shares a block; see `tiny` |
//! | up to the largest class, aligned to 16 at most | a block of its class; see `reuse` |
//! | other | a block of its own, which only a reset takes back |

use super::chunk::{CHUNK_ALIGN, Chunks};
use super::reuse::{Class, FreeLists};
use super::sizes::{Sizes, Sums};
use super::stats::ArenaStats;
use super::tiny::Tiny;
use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

/// See the module's documentation.
pub(super) struct Blocks {
    free: FreeLists,
    tiny: Tiny,
    sizes: Sizes,
    others: Others,
}

/// Counts of boxes of the sizes that `Sizes` leaves out.
struct Others {
    boxes: Cell<u64>,
    reused: Cell<u64>,
    /// What rounding up to classes has added to the blocks in use, the bytes of blocks without a
    /// class that came back, and the bytes of `Blocks`.
    padding_bytes: Cell<usize>,
    /// Modulo 2⁶⁴, as in [`Sums`].
    returned_bytes: Cell<usize>,
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            free: FreeLists::new(),
            tiny: Tiny::new(),
            sizes: Sizes::new(),
            others: Others {
                boxes: Cell::new(0),
                reused: Cell::new(0),
                padding_bytes: Cell::new(size_of::<Self>()),
                returned_bytes: Cell::new(0),
            },
        }
    }

    /// A block that may come back by [`free`](Self::free).
    #[inline]
    pub(super) fn alloc(&self, layout: Layout, chunks: &Chunks) -> NonNull<u8> {
        let reusable = class(layout);
        if let (Some((class, block)), Some(size)) = (reusable, self.sizes.of(layout.size())) {
            size.count_made();
            return self.free.pop(class).unwrap_or_else(|| {
                size.count_cut();
                chunks.alloc(block)
            });
        }
        let others = &self.others;
        others.boxes.set(others.boxes.get() + 1);
        if Tiny::takes(layout) {
            return self.tiny.alloc(layout, chunks);
        }
        let Some((class, block_layout)) = reusable else {
            return chunks.alloc(layout);
        };
        let padding = class.bytes() - layout.size();
        others.padding_bytes.set(others.padding_bytes.get() + padding);
        let Some(block) = self.free.pop(class) else {
            return chunks.alloc(block_layout);
        };
        others.reused.set(others.reused.get() + 1);
        others.returned_bytes.set(others.returned_bytes.get().wrapping_sub(class.bytes()));
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
        let others = &self.others;
        let Some((class, _)) = class(layout) else {
            let padding = others.padding_bytes.get() + layout.size();
            return others.padding_bytes.set(padding);
        };
        if let Some(size) = self.sizes.of(layout.size()) {
            size.count_ended();
        } else {
            let padding = class.bytes() - layout.size();
            others.padding_bytes.set(others.padding_bytes.get() - padding);
            others.returned_bytes.set(others.returned_bytes.get().wrapping_add(class.bytes()));
        }
        // SAFETY: the caller's contract; the block was cut for the class.
        unsafe { self.free.push(class, block) };
    }

    /// The part of the arena's snapshot that is known here.
    pub(super) fn stats(&self) -> ArenaStats {
        let (tiny_objects, tiny_blocks) = self.tiny.counts();
        let (Sums { boxes, reused, padding_bytes, returned_bytes }, others) =
            (self.sizes.sums(), &self.others);
        ArenaStats {
            boxes: boxes + others.boxes.get(),
            reused: reused + others.reused.get(),
            padding_bytes: padding_bytes + others.padding_bytes.get() + self.tiny.padding_bytes(),
            returned_bytes: returned_bytes.wrapping_add(others.returned_bytes.get()),
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
