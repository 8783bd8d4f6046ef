//! The thread cache: per size class the list of blocks to pop.
//!
//! This is what lives in thread-local memory, and the whole of the fast paths:
//! [`pop`](Cache::pop) and [`push`](Cache::push). Everything else is in the
//! thread's [`ThreadHeap`], in memory of the heap's.
//!
//! A list only shrinks: what is freed goes to its span and comes back by refill.
//! So the slow path, which knows how many blocks it handed out, knows all the
//! counts, and cuts a list short where the sampler wants a block; the fast paths
//! count nothing and test for nothing.
//!
//! # Invariants
//!
//! 1. A list's blocks are free, belong to spans of its class, are counted out in
//!    them, and end with null.
//! 2. `owner` is the thread's heap, or [`NOBODY`] before the first slow path and
//!    after thread exit; no span's owner is `NOBODY`.

use core::ptr;

use super::class::{CLASSES, ClassId};
use super::span::{Block, Span};
use super::thread::ThreadHeap;
use crate::base::own::{OwnPtr, OwnU8};

/// An owner that no span has.
pub(crate) const NOBODY: *mut ThreadHeap = ptr::without_provenance_mut(1);

/// Whether a thread has a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Nothing was allocated yet.
    New = 0,
    /// The owner is set.
    Live = 1,
    /// The thread is ending and has handed its heap over.
    Dead = 2,
}

/// What a thread reaches without a call.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Cache {
    owner: OwnPtr<ThreadHeap>,
    lists: [OwnPtr<Block>; CLASSES],
    phase: OwnU8,
}

/// What is left to do after a block was pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushed {
    /// Nothing.
    Done,
    /// The span's countdown has run out; see to it.
    Due,
    /// Nothing was done: the span is not this thread's.
    Foreign,
}

impl Cache {
    pub(crate) const fn new() -> Self {
        Self {
            owner: OwnPtr::new(NOBODY),
            lists: [const { OwnPtr::new(ptr::null_mut()) }; CLASSES],
            phase: OwnU8::new(Phase::New as u8),
        }
    }

    /// Takes a block of `class`; null when the list is empty.
    #[inline(always)]
    pub(crate) fn pop(&self, class: ClassId) -> *mut Block {
        let list = self.list(class);
        let block = list.get();
        if !block.is_null() {
            // SAFETY: by invariant 1 a block on the list is free and linked.
            list.set(unsafe { (*block).next });
        }
        block
    }

    /// Gives `block` back to `span` if that is this thread's.
    ///
    /// # Safety
    ///
    /// `block` is an allocated block of `span` that nobody uses any more.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, span: Span, block: *mut Block) -> Pushed {
        let hot = span.hot();
        if hot.owner.get() != self.owner.get() {
            return Pushed::Foreign;
        }
        // SAFETY: the block is the caller's and at least 8 bytes, aligned to 8.
        unsafe { (*block).next = hot.local.get() };
        hot.local.set(block);
        let left = hot.countdown.get().wrapping_sub(1);
        hot.countdown.set(left);
        if left == 0 { Pushed::Due } else { Pushed::Done }
    }

    #[inline(always)]
    pub(crate) fn list(&self, class: ClassId) -> &OwnPtr<Block> {
        // SAFETY: a class is below CLASSES.
        unsafe { self.lists.get_unchecked(class.index()) }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.get() {
            0 => Phase::New,
            1 => Phase::Live,
            _ => Phase::Dead,
        }
    }

    /// The thread's heap, once it has one.
    #[inline]
    pub(crate) fn owner(&self) -> Option<&ThreadHeap> {
        match self.phase() {
            // SAFETY: thread heaps live as long as the heap.
            Phase::Live => unsafe { self.owner.get().as_ref() },
            _ => None,
        }
    }

    pub(crate) fn attach(&self, owner: *mut ThreadHeap) {
        self.owner.set(owner);
        self.phase.set(Phase::Live as u8);
    }

    /// The lists are empty from here on, and stay so.
    pub(crate) fn detach(&self, phase: Phase) {
        self.owner.set(NOBODY);
        self.phase.set(phase as u8);
    }
}
