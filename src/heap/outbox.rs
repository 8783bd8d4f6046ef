//! Frees of other threads' blocks, gathered by span.
//!
//! A compare-and-swap on another core's line per block is what makes remote frees
//! dear. Blocks freed one after another mostly come from few spans, so a thread
//! keeps a small table of chains, one per span, and pushes a chain as a whole when
//! it is long enough or its place is needed (the idea of snmalloc's and BatchIt's
//! remote caches, with spans in place of allocators).
//!
//! # Invariants
//!
//! 1. A batch's blocks are free blocks of its span, linked from `head` to `tail`,
//!    `blocks` of them. While there is one, the span is not empty, so its header
//!    stays what it is.

use core::ptr;

use super::chain::Block;
use super::class::ClassId;
use super::span::{Hot, Span};
use crate::base::own::{OwnPtr, OwnU32};

const BATCHES: usize = 64;
const BATCH_BYTES_MAX: usize = 4 * 1024;
const BATCH_BLOCKS_MAX: usize = 64;

/// A chain of one span's blocks.
#[derive(Debug)]
pub(crate) struct Batch {
    span: OwnPtr<Hot>,
    head: OwnPtr<Block>,
    tail: OwnPtr<Block>,
    blocks: OwnU32,
    /// Blocks that may still come before the batch is sent.
    room: OwnU32,
}

/// A thread's table of batches.
#[derive(Debug)]
pub(crate) struct Outbox([Batch; BATCHES]);

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self(
            [const {
                Batch {
                    span: OwnPtr::new(ptr::null_mut()),
                    head: OwnPtr::new(ptr::null_mut()),
                    tail: OwnPtr::new(ptr::null_mut()),
                    blocks: OwnU32::new(0),
                    room: OwnU32::new(0),
                }
            }; BATCHES],
        )
    }

    /// Adds a block of `span` if its batch is open and stays open; `false`, and
    /// nothing done, otherwise.
    ///
    /// # Safety
    ///
    /// The block is `span`'s, free, and the caller's.
    #[inline(always)]
    pub(crate) unsafe fn try_add(&self, span: Span, block: *mut Block) -> bool {
        let batch = self.batch(span);
        let room = batch.room.get();
        if batch.span.get() != span.link() || room <= 1 {
            return false;
        }
        // SAFETY: the block is the caller's to link.
        unsafe { (*block).next = batch.head.get() };
        batch.head.set(block);
        batch.blocks.add(1);
        batch.room.set(room - 1);
        true
    }

    /// Adds a run of blocks of `span`, linked from `first` to `last`; `send` is
    /// called with each chain that must go.
    pub(crate) fn add(
        &self,
        span: Span,
        first: *mut Block,
        last: *mut Block,
        blocks: u32,
        mut send: impl FnMut(Span, *mut Block, *mut Block, u32),
    ) {
        let batch = self.batch(span);
        if batch.span.get() != span.link() {
            batch.flush(&mut send);
            let limit = BATCH_BYTES_MAX / span.class().block_bytes();
            batch.room.set(limit.clamp(1, BATCH_BLOCKS_MAX) as u32);
            batch.span.set(span.link());
            batch.tail.set(last);
        }
        // SAFETY: the run is free and this thread's to link.
        unsafe { (*last).next = batch.head.get() };
        batch.head.set(first);
        batch.blocks.add(blocks);
        batch.room.set(batch.room.get().saturating_sub(blocks));
        if batch.room.get() == 0 {
            batch.flush(&mut send);
        }
    }

    /// The place of `span`'s batch: by its header, neighbours in different ones.
    #[inline(always)]
    fn batch(&self, span: Span) -> &Batch {
        // SAFETY: the index is below BATCHES.
        unsafe { self.0.get_unchecked((span.link().addr() >> 6) % BATCHES) }
    }

    /// The spans with how many of their blocks wait here.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Span, u32)> {
        let batch = |batch: &Batch| Some((Span::from_link(batch.span.get())?, batch.blocks.get()));
        self.0.iter().filter_map(batch)
    }

    /// Drops every chain, of a thread that is gone, maybe between two of its stores.
    pub(crate) fn lose(&self, mut count: impl FnMut(ClassId, u32)) {
        for batch in &self.0 {
            if let Some(span) = Span::from_link(batch.span.get()) {
                count(span.class(), batch.blocks.get());
                batch.span.set(ptr::null_mut());
                batch.head.set(ptr::null_mut());
                batch.blocks.set(0);
            }
        }
    }

    /// Sends every chain.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn flush(&self, mut send: impl FnMut(Span, *mut Block, *mut Block, u32)) {
        for batch in &self.0 {
            batch.flush(&mut send);
        }
    }
}

impl Batch {
    #[unsafe(link_section = ".spanalloc.text")]
    fn flush(&self, send: &mut impl FnMut(Span, *mut Block, *mut Block, u32)) {
        if let Some(span) = Span::from_link(self.span.get()) {
            let (head, tail, blocks) = (self.head.get(), self.tail.get(), self.blocks.get());
            self.span.set(ptr::null_mut());
            self.head.set(ptr::null_mut());
            self.blocks.set(0);
            send(span, head, tail, blocks);
        }
    }
}
