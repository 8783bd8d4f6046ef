//! Objects below 16 bytes, combined in blocks of 16.
//!
//! Go's allocator packs such objects one behind the other and lets the collector find out when a
//! block is dead. Here each object is given back by itself, so a block needs a count of the live
//! ones in it. The counts of a page's blocks lie at its start, where the address of an object leads
//! by two masks:
//!
//! ```text
//! page, 1024 bytes, aligned to 1024:
//! [count 0 … count 63][block 4][block 5] … [block 63]
//!  64 bytes            16 bytes each
//! ```
//!
//! # Invariants
//!
//! 1. A page's counts are initialized; `count[i]` objects of block `i` are live.
//! 2. A block is in one of three states: *current* (objects are added to it), *listed* (free, count
//!    zero, bears a link) or *left* (neither). A left block whose count falls to zero is listed.
//! 3. `offset` is where the current block's free bytes begin.
//! 4. With debug assertions, a page's blocks are poison until they are taken.

use super::chunk::{Chunks, check_poison, poison};
use super::reuse::{put_link, take_link};
use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

/// Bytes of a block; smaller objects are tiny.
pub(super) const BLOCK_BYTES: usize = 16;
const PAGE_BYTES: usize = 1024;
const BLOCKS_PER_PAGE: usize = PAGE_BYTES / BLOCK_BYTES;
/// Blocks whose place the counts take.
const COUNT_BLOCKS: usize = BLOCKS_PER_PAGE / BLOCK_BYTES;
const PAGE: Layout = match Layout::from_size_align(PAGE_BYTES, PAGE_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a page's size is a power of two"),
};

/// Blocks of 16 bytes that small objects share.
pub(super) struct Tiny {
    current: Cell<Option<NonNull<u8>>>,
    offset: Cell<usize>,
    listed: Cell<Option<NonNull<u8>>>,
    /// The newest page and the number of its first block not yet taken.
    page: Cell<Option<NonNull<u8>>>,
    next_block: Cell<usize>,
    objects: Cell<u64>,
    blocks: Cell<u64>,
    pages: Cell<usize>,
    live_bytes: Cell<usize>,
}

impl Tiny {
    pub(super) const fn new() -> Self {
        Self {
            current: Cell::new(None),
            offset: Cell::new(0),
            listed: Cell::new(None),
            page: Cell::new(None),
            next_block: Cell::new(0),
            objects: Cell::new(0),
            blocks: Cell::new(0),
            pages: Cell::new(0),
            live_bytes: Cell::new(0),
        }
    }

    /// Whether `layout` is that of a tiny object.
    #[inline]
    pub(super) const fn takes(layout: Layout) -> bool {
        layout.size() < BLOCK_BYTES && layout.size() > 0 && layout.align() <= BLOCK_BYTES
    }

    /// Objects placed and blocks taken for them: without combining, each
    /// object would have taken a block.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.objects.get(), self.blocks.get())
    }

    /// Bytes of pages that are in no live object.
    pub(super) fn padding_bytes(&self) -> usize {
        self.pages.get() * PAGE_BYTES - self.live_bytes.get()
    }

    /// A place for an object that [`takes`](Self::takes) accepts.
    #[inline]
    pub(super) fn alloc(&self, layout: Layout, chunks: &Chunks) -> NonNull<u8> {
        self.objects.set(self.objects.get() + 1);
        self.live_bytes.set(self.live_bytes.get() + layout.size());
        let at = self.offset.get().next_multiple_of(layout.align());
        let (block, at) = match self.current.get() {
            Some(block) if at + layout.size() <= BLOCK_BYTES => (block, at),
            _ => (self.next(chunks), 0),
        };
        self.offset.set(at + layout.size());
        // SAFETY: by invariant 1, and the block is in use.
        unsafe { *count(block).as_mut() += 1 };
        // SAFETY: `at + size ≤ BLOCK_BYTES`.
        unsafe { block.add(at) }
    }

    /// Takes an object of `bytes` bytes back.
    ///
    /// # Safety
    ///
    /// The object came from [`alloc`](Self::alloc) of this value, has not come back yet, and nobody
    /// uses it any more.
    #[inline]
    pub(super) unsafe fn free(&self, object: NonNull<u8>, bytes: usize) {
        self.live_bytes.set(self.live_bytes.get() - bytes);
        // SAFETY: by invariant 1, and masking stays in the object's page.
        let count = unsafe { count(object).as_mut() };
        *count -= 1;
        if *count > 0 {
            return;
        }
        let within = object.addr().get() % BLOCK_BYTES;
        // SAFETY: the start of the block the object is in.
        let block = unsafe { object.sub(within) };
        if self.current.get() == Some(block) {
            self.offset.set(0);
        } else {
            // SAFETY: by invariant 2 nothing in the block is live and nobody else refers to it.
            unsafe { put_link(block, BLOCK_BYTES, self.listed.get()) };
            self.listed.set(Some(block));
        }
    }

    /// Leaves the current block and makes another one current.
    #[inline(never)]
    fn next(&self, chunks: &Chunks) -> NonNull<u8> {
        // The block that is left is never empty: an empty current block has room.
        self.blocks.set(self.blocks.get() + 1);
        let block = self.listed_block().unwrap_or_else(|| self.fresh_block(chunks));
        self.current.set(Some(block));
        block
    }

    fn listed_block(&self) -> Option<NonNull<u8>> {
        let block = self.listed.get()?;
        // SAFETY: by invariant 2 the block is free and bears a link.
        self.listed.set(unsafe { take_link(block, BLOCK_BYTES) });
        Some(block)
    }

    fn fresh_block(&self, chunks: &Chunks) -> NonNull<u8> {
        let page = match self.page.get() {
            Some(page) if self.next_block.get() < BLOCKS_PER_PAGE => page,
            _ => self.fresh_page(chunks),
        };
        let number = self.next_block.replace(self.next_block.get() + 1);
        // SAFETY: `number < BLOCKS_PER_PAGE`.
        let block = unsafe { page.add(number * BLOCK_BYTES) };
        if cfg!(debug_assertions) {
            check_poison(block, BLOCK_BYTES);
        }
        block
    }

    #[cold]
    fn fresh_page(&self, chunks: &Chunks) -> NonNull<u8> {
        let page = chunks.alloc(PAGE);
        if cfg!(debug_assertions) {
            poison(page, PAGE_BYTES);
        }
        // SAFETY: the counts are the first bytes of the page, which is ours.
        unsafe { page.write_bytes(0, BLOCKS_PER_PAGE) };
        self.page.set(Some(page));
        self.pages.set(self.pages.get() + 1);
        self.next_block.set(COUNT_BLOCKS);
        page
    }
}

/// Where the count of the block with the byte `at` is.
#[inline]
fn count(at: NonNull<u8>) -> NonNull<u8> {
    let within = at.addr().get() % PAGE_BYTES;
    // SAFETY: pages are aligned to their size, so this is the start of the one with `at` in it.
    let page = unsafe { at.sub(within) };
    // SAFETY: the counts begin the page, one for each block.
    unsafe { page.add(within / BLOCK_BYTES) }
}
