//! Frees of other threads' blocks, gathered by span.
//!
//! A compare-and-swap on another core's line per block is what makes remote frees
//! dear. Blocks freed one after another mostly come from few spans, so a thread
//! keeps a small table of batches, one per span, and pushes a batch as a whole when
//! it is large enough or its place is needed (the idea of snmalloc's and BatchIt's
//! remote caches, with spans in place of allocators).
//!
//! # Invariants
//!
//! 1. A batch's blocks are free blocks of its span, in [`bundle`](super::bundle)s. There is at
//!    least one while `span` is not null. So the span is not empty, and its header stays what it
//!    is.

use core::ptr;

use super::bundle::{Bundles, Parcel};
use super::chain::{Block, Run};
use super::class::ClassId;
use super::span::{Hot, Span};
use crate::base::own::{OwnPtr, OwnU32};

const BATCHES: usize = 128;
const BATCH_BYTES_MAX: usize = 4 * 1024;
const BATCH_BLOCKS_MAX: usize = 64;

/// Blocks of one span.
#[derive(Debug)]
pub(crate) struct Batch {
    span: OwnPtr<Hot>,
    bundles: Bundles,
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
                    bundles: Bundles::new(),
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
        // SAFETY: passed on; by invariant 1 the others are this span's.
        unsafe { batch.bundles.add(span, block) };
        batch.room.set(room - 1);
        true
    }

    /// Adds a run of blocks; `send` is called with each parcel that must go.
    ///
    /// # Safety
    ///
    /// The run is free, and the caller's.
    pub(crate) unsafe fn add(&self, run: &Run, mut send: impl FnMut(Span, Parcel)) {
        let batch = self.batch(run.span);
        if batch.span.get() != run.span.link() {
            batch.flush(&mut send);
            let limit = BATCH_BYTES_MAX / run.span.class().block_bytes();
            batch.room.set(limit.clamp(1, BATCH_BLOCKS_MAX) as u32);
            batch.span.set(run.span.link());
        }
        // SAFETY: passed on; by invariant 1 the others are this span's.
        unsafe { batch.bundles.add_run(run) };
        batch.room.set(batch.room.get().saturating_sub(run.blocks));
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
        let batch =
            |batch: &Batch| Some((Span::from_link(batch.span.get())?, batch.bundles.blocks()));
        self.0.iter().filter_map(batch)
    }

    /// Loses every batch, of a thread that is gone, maybe between two of its stores.
    pub(crate) fn lose(&self, mut count: impl FnMut(ClassId, u32)) {
        for batch in &self.0 {
            if let Some(span) = Span::from_link(batch.span.get()) {
                count(span.class(), batch.bundles.blocks());
                batch.span.set(ptr::null_mut());
                batch.bundles.forget();
            }
        }
    }

    /// Sends every batch.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn flush(&self, mut send: impl FnMut(Span, Parcel)) {
        for batch in &self.0 {
            batch.flush(&mut send);
        }
    }
}

impl Batch {
    #[unsafe(link_section = ".spanalloc.text")]
    fn flush(&self, send: &mut impl FnMut(Span, Parcel)) {
        if let Some(span) = Span::from_link(self.span.get()) {
            self.span.set(ptr::null_mut());
            send(span, self.bundles.take());
        }
    }
}
