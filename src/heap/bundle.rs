//! Free blocks of a span that one of them lists: how other threads' frees travel.
//!
//! A chain has a link in each of its blocks. Who frees what another thread allocated would write
//! each of these links into a line that is in no cache of its own, and who takes the chain would
//! wait for each line to know the next. In a bundle the first block lists the others, which nobody
//! touches until whoever takes the bundle links them all, by stores that do not wait for each
//! other. (jemalloc and tcmalloc keep such lists of addresses beside the blocks.)
//!
//! | 16-bit word of a bundle's first block | meaning |
//! | --- | --- |
//! | 0 | the next bundle of the span by its first block, 0 for none |
//! | from 1 to the block's end | the other blocks; 0 ends them early |
//!
//! A word names a block by its *short* address: its distance from the span's start in units of 8
//! bytes, plus one.
//!
//! # Invariants
//!
//! 1. The blocks of a bundle are free blocks of its span, each named once, and of whoever has the
//!    bundle.

use core::ptr;

use super::chain::{Block, Chain, Run};
use super::class::WIDE_SLOTS;
use super::geometry::SLOT_BYTES;
use super::span::Span;
use crate::base::own::{OwnPtr, OwnU32};

/// A word of a bundle.
type Short = u16;

const _: () = assert!(WIDE_SLOTS * SLOT_BYTES / 8 < Short::MAX as usize);

/// Bundles of one span while a thread makes them, each in front of those before.
#[derive(Debug)]
pub(crate) struct Bundles {
    /// The first blocks of the newest bundle and of the oldest one.
    head: OwnPtr<Block>,
    tail: OwnPtr<Block>,
    /// Where in `head` the next block is listed, and the end of that block.
    next: OwnPtr<Short>,
    end: OwnPtr<Short>,
    blocks: OwnU32,
}

impl Bundles {
    pub(crate) const fn new() -> Self {
        Self {
            head: OwnPtr::new(ptr::null_mut()),
            tail: OwnPtr::new(ptr::null_mut()),
            next: OwnPtr::new(ptr::null_mut()),
            end: OwnPtr::new(ptr::null_mut()),
            blocks: OwnU32::new(0),
        }
    }

    pub(crate) fn blocks(&self) -> u32 {
        self.blocks.get()
    }

    /// Adds a block.
    ///
    /// # Safety
    ///
    /// The block is `span`'s, as all those are that were added before, free, and the caller's.
    #[inline(always)]
    pub(crate) unsafe fn add(&self, span: Span, block: *mut Block) {
        let next = self.next.get();
        if next == self.end.get() {
            // SAFETY: passed on.
            unsafe { self.begin(span, block) };
        } else {
            // SAFETY: inside `head`, which is the caller's.
            unsafe { next.write(span.short_of(block)) };
            self.next.set(next.wrapping_add(1));
            self.blocks.add(1);
        }
    }

    /// Begins a bundle with `block`, which is added. Its predecessor ends as it is.
    ///
    /// # Safety
    ///
    /// As for [`add`](Self::add).
    #[inline(always)]
    pub(crate) unsafe fn begin(&self, span: Span, block: *mut Block) {
        let head = self.head.get();
        if head.is_null() {
            self.tail.set(block);
        }
        self.end_list();
        let words = block.cast::<Short>();
        // SAFETY: the block is the caller's, at least 8 bytes, aligned to 8.
        unsafe { words.write(if head.is_null() { 0 } else { span.short_of(head) }) };
        self.head.set(block);
        self.next.set(words.wrapping_add(1));
        self.end.set(words.wrapping_byte_add(span.class().block_bytes()));
        self.blocks.add(1);
    }

    /// Ends the list of the newest bundle, unless the block ends it.
    #[inline(always)]
    fn end_list(&self) {
        if self.next.get() != self.end.get() {
            // SAFETY: inside `head`, which is the caller's.
            unsafe { self.next.get().write(0) };
        }
    }

    /// Adds the blocks of a run.
    ///
    /// # Safety
    ///
    /// As for [`add`](Self::add), of each of them.
    #[inline]
    pub(crate) unsafe fn add_run(&self, run: &Run) {
        let mut block = run.first;
        for _ in 1..run.blocks {
            // SAFETY: a block of the run, linked.
            let next = unsafe { (*block).next };
            // SAFETY: passed on.
            unsafe { self.add(run.span, block) };
            block = next;
        }
        // What follows the last one is not read: its line may be in no cache of this thread's.
        // SAFETY: passed on.
        unsafe { self.add(run.span, block) };
    }

    /// The bundles, complete; there is a block in them. From then on there is none.
    #[inline]
    pub(crate) fn take(&self) -> Parcel {
        self.end_list();
        let parcel =
            Parcel { head: self.head.get(), tail: self.tail.get(), blocks: self.blocks.get() };
        self.forget();
        parcel
    }

    /// Loses the blocks.
    #[inline]
    pub(crate) fn forget(&self) {
        self.head.set(ptr::null_mut());
        self.next.set(ptr::null_mut());
        self.end.set(ptr::null_mut());
        self.blocks.set(0);
    }
}

/// Complete bundles of one span, linked from the first block of the newest to that of the oldest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel {
    pub(crate) head: *mut Block,
    tail: *mut Block,
    pub(crate) blocks: u32,
}

impl Parcel {
    /// A block on its own.
    ///
    /// # Safety
    ///
    /// It is `span`'s, free, and the caller's.
    pub(crate) unsafe fn of_block(span: Span, block: *mut Block) -> Self {
        let bundles = Bundles::new();
        // SAFETY: passed on.
        unsafe { bundles.add(span, block) };
        bundles.take()
    }

    /// The blocks of a run.
    ///
    /// # Safety
    ///
    /// They are the caller's.
    #[inline]
    pub(crate) unsafe fn of_run(run: &Run) -> Self {
        let bundles = Bundles::new();
        // SAFETY: passed on.
        unsafe { bundles.add_run(run) };
        bundles.take()
    }

    /// Puts the bundles in front of those that begin at `head`.
    ///
    /// # Safety
    ///
    /// They are the caller's.
    #[inline(always)]
    pub(crate) unsafe fn link(&self, head: u32) {
        // SAFETY: a bundle's first word; passed on.
        unsafe { self.tail.cast::<Short>().write(head as Short) };
    }
}

impl Span {
    /// The short address of `block`, a block of this span.
    #[inline(always)]
    pub(crate) fn short_of(self, block: *mut Block) -> Short {
        ((block.addr() - self.start().addr()) / 8 + 1) as Short
    }

    /// The block at a short address, null for 0.
    #[inline]
    pub(crate) fn block_at(self, short: u32) -> *mut Block {
        match short {
            0 => ptr::null_mut(),
            _ => self.start().wrapping_add((short as usize - 1) * 8).cast(),
        }
    }

    /// Calls `visit` with each block of the bundles from `head` on, the first one of a bundle after
    /// the others: what they hold may be written over from then on. Dies if they name what is
    /// outside of this span, or for ever.
    ///
    /// # Safety
    ///
    /// The bundles are the caller's, or it holds the lock without which nobody takes them and does
    /// not write to them.
    #[inline]
    pub(crate) unsafe fn each_bundled(self, head: u32, mut visit: impl FnMut(*mut Block)) {
        let class = self.class();
        let words = class.block_bytes() / size_of::<Short>();
        let carved = self.hot().carved.get();
        // Short addresses of blocks are from 1 to this.
        let most = carved as usize * class.block_bytes() / 8;
        let (mut next, mut bundles) = (head as Short, 0);
        while next != 0 {
            bundles += 1;
            if next as usize > most || bundles > carved {
                self.die_of_a_write();
            }
            let first = self.block_at(next.into());
            let list = first.cast::<Short>();
            // SAFETY: the first block of a bundle, which lies in the span.
            next = unsafe { list.read() };
            for word in 1..words {
                // SAFETY: inside that block.
                let short = unsafe { list.wrapping_add(word).read() };
                let offset = (short as usize).wrapping_sub(1);
                if offset >= most {
                    if short != 0 {
                        self.die_of_a_write();
                    }
                    break;
                }
                visit(self.start().wrapping_add(offset * 8).cast());
            }
            visit(first);
        }
    }

    /// Makes a chain of the bundles from `head` on.
    ///
    /// # Safety
    ///
    /// They are the caller's.
    #[inline]
    pub(crate) unsafe fn unpack(self, head: u32) -> Chain {
        let mut chain = Chain::EMPTY;
        let link = |block: *mut Block| {
            // SAFETY: a free block, whose words were read.
            unsafe { (*block).next = chain.head };
            chain = Chain { head: block, blocks: chain.blocks + 1 };
        };
        // SAFETY: passed on.
        unsafe { self.each_bundled(head, link) };
        chain
    }
}
