//! The thread cache: per size class a list of free blocks, last in, first out.
//!
//! This is what lives in thread-local memory, and the whole of the fast paths:
//! [`pop`](Cache::pop) and [`push`](Cache::push). Everything else is in the
//! thread's [`ThreadHeap`], in memory of the heap's.
//!
//! Each list comes with two allowances. `left` is how many blocks may be popped,
//! `room` how many may be pushed, before the slow path must be asked. So the slow
//! path, which grants the allowances and finds out how much of them was used,
//! knows every count exactly, bounds the list, and has the fast path stop just
//! before the block that the sampler wants. The fast paths count nothing else.
//!
//! A block freed is the next one allocated: its line is in the cache, and neither
//! end looks at a span's header. What this must not lead to is blocks that stray
//! from their spans for good, so lists are short, and what does not fit goes home.
//!
//! # Invariants
//!
//! 1. A list's blocks are free, belong to spans of its class, are counted out in
//!    them, and are linked through their first words, ended by null.
//! 2. Before the first slow path and after thread exit all allowances are 0.

use core::ptr;

use super::chain::Block;
use super::class::{CLASSES, ClassId, STRIDE};
#[cfg(feature = "preload")]
use super::classmap::Entry;
use super::span::Span;
use super::thread::ThreadHeap;
use crate::base::own::{OwnPtr, OwnU8, OwnU32};
use crate::base::zeroed::Zeroed;

/// Whether a thread has a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Nothing was allocated or freed yet.
    New = 0,
    /// The owner is set.
    Live = 1,
    /// The thread is ending and has handed its heap over.
    Dead = 2,
}

/// The list of one class with its allowances: four to a cache line, and one address
/// serves all three.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct List {
    pub(crate) head: OwnPtr<Block>,
    /// Pops.
    pub(crate) left: OwnU32,
    /// Pushes.
    pub(crate) room: OwnU32,
}

impl List {
    const fn new() -> Self {
        Self { head: OwnPtr::new(ptr::null_mut()), left: OwnU32::new(0), room: OwnU32::new(0) }
    }
}

/// What a thread that only frees looks at.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Drain {
    /// The thread's heap while its bin of the class drains, else null, which is no
    /// span's owner ([`NOBODY`](super::span::NOBODY)).
    owner: OwnPtr<ThreadHeap>,
    /// Frees while draining that are not in the bin's books yet.
    pub(crate) frees: OwnU32,
}

impl Drain {
    const fn new() -> Self {
        Self { owner: OwnPtr::new(ptr::null_mut()), frees: OwnU32::new(0) }
    }
}

const _: () = assert!(size_of::<List>() == STRIDE && size_of::<Drain>() == STRIDE);

/// What a thread reaches without a call.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Cache {
    /// The list of what has no class: no block is on it, and both allowances stay 0.
    #[cfg(feature = "preload")]
    none: List,
    lists: [List; CLASSES],
    drains: [Drain; CLASSES],
    owner: OwnPtr<ThreadHeap>,
    phase: OwnU8,
    /// Frees before the first allocation.
    #[cfg(feature = "preload")]
    early_frees: OwnU32,
}

/// More than glibc frees at the end of a thread: it keeps 40 MiB of stacks, which are 16 KiB at
/// least, and for each that it drops frees a table and a block per library with thread-local
/// storage of its own.
#[cfg(feature = "preload")]
const EARLY_FREES_MAX: u32 = 1 << 16;

// SAFETY: null pointers, integers, and `Phase::New`.
unsafe impl Zeroed for Cache {}

impl Cache {
    pub(crate) const fn new() -> Self {
        Self {
            #[cfg(feature = "preload")]
            none: List::new(),
            lists: [const { List::new() }; CLASSES],
            drains: [const { Drain::new() }; CLASSES],
            owner: OwnPtr::new(ptr::null_mut()),
            phase: OwnU8::new(Phase::New as u8),
            #[cfg(feature = "preload")]
            early_frees: OwnU32::new(0),
        }
    }

    /// Counts a free of a thread without a heap; whether there were very many.
    #[cfg(feature = "preload")]
    pub(crate) fn has_freed_much(&self) -> bool {
        self.early_frees.add(1);
        self.early_frees.get() > EARLY_FREES_MAX
    }

    /// Takes a block of `class`; null when there is none or the allowance is used up.
    #[inline(always)]
    pub(crate) fn pop(&self, class: ClassId) -> *mut Block {
        let list = self.list(class);
        let (block, left) = (list.head.get(), list.left.get().wrapping_sub(1));
        if block.is_null() || is_negative(left) {
            return ptr::null_mut();
        }
        list.left.set(left);
        // SAFETY: by invariant 1 a block on the list is free and linked.
        list.head.set(unsafe { (*block).next });
        block
    }

    /// Keeps `block` for the next allocation of `class`; `false`, and nothing done,
    /// when the allowance is used up.
    ///
    /// # Safety
    ///
    /// `block` is an allocated block of a span of `class`, not sampled, and nobody
    /// uses it any more.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, class: ClassId, block: *mut Block) -> bool {
        // SAFETY: passed on.
        unsafe { Self::push_on(self.list(class), block) }
    }

    /// As [`push`](Self::push), for a block of which no more is known than the list it
    /// goes to.
    ///
    /// # Safety
    ///
    /// `entry` is that of `block`; if that has a class, as for [`push`](Self::push).
    #[cfg(feature = "preload")]
    #[inline(always)]
    pub(crate) unsafe fn push_by(&self, entry: Entry, block: *mut Block) -> bool {
        let list = ptr::from_ref(self).wrapping_byte_add(entry.offset()).cast::<List>();
        // SAFETY: the list of a class, or the one in front of them.
        let list = unsafe { &*list };
        // SAFETY: by the contract, or nothing is done: that list has no room.
        unsafe { Self::push_on(list, block) }
    }

    /// # Safety
    ///
    /// As for [`push`](Self::push), onto the list of the block's class.
    #[inline(always)]
    unsafe fn push_on(list: &List, block: *mut Block) -> bool {
        let room = list.room.get().wrapping_sub(1);
        if is_negative(room) {
            return false;
        }
        list.room.set(room);
        // SAFETY: the block is the caller's, at least 8 bytes, aligned to 8.
        unsafe { (*block).next = list.head.get() };
        list.head.set(block);
        true
    }

    /// The short way home, for a thread that only frees: while the bin of `class`
    /// drains, to its own span or to an open batch of another's. `false`, and
    /// nothing done, for everything else.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push); spans of `class` have `SLOTS` slots.
    #[inline(always)]
    pub(crate) unsafe fn drain<const SLOTS: usize>(
        &self,
        class: ClassId,
        block: *mut Block,
    ) -> bool {
        // SAFETY: by the contract a block of such a span.
        let span = unsafe { Span::of::<SLOTS>(block.cast()) };
        let drain = self.drain_of(class);
        let owner = drain.owner.get();
        let done = if span.hot().owner.get() == owner {
            // SAFETY: a free block of a span that this thread owns.
            unsafe { span.push_block(block) }
        } else if !owner.is_null() {
            // SAFETY: the owner lives as long as the heap.
            let owner = unsafe { &*owner };
            // SAFETY: the block is a free one of that span.
            unsafe { owner.outbox.try_add(span, block) }
        } else {
            false
        };
        if done {
            drain.frees.add(1);
        }
        done
    }

    pub(crate) fn start_draining(&self, class: ClassId) {
        self.drain_of(class).owner.set(self.owner.get());
    }

    pub(crate) fn stop_draining(&self, class: ClassId) {
        self.drain_of(class).owner.set(ptr::null_mut());
    }

    pub(crate) fn is_draining(&self, class: ClassId) -> bool {
        !self.drain_of(class).owner.get().is_null()
    }

    #[inline(always)]
    pub(crate) fn list(&self, class: ClassId) -> &List {
        // SAFETY: a class is below CLASSES, and its offset that many elements.
        unsafe { &*self.lists.as_ptr().wrapping_byte_add(class.offset()) }
    }

    #[inline(always)]
    pub(crate) fn drain_of(&self, class: ClassId) -> &Drain {
        // SAFETY: a class is below CLASSES, and its offset that many elements.
        unsafe { &*self.drains.as_ptr().wrapping_byte_add(class.offset()) }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.get() {
            0 => Phase::New,
            1 => Phase::Live,
            _ => Phase::Dead,
        }
    }

    /// The thread's heap, while it has one.
    #[inline]
    pub(crate) fn owner(&self) -> Option<&ThreadHeap> {
        // SAFETY: null or a thread heap, and these live as long as the heap.
        unsafe { self.owner.get().as_ref() }
    }

    pub(crate) fn attach(&self, owner: *mut ThreadHeap) {
        self.owner.set(owner);
        self.phase.set(Phase::Live as u8);
    }

    /// The thread ends. Its lists are empty and its allowances 0, and stay so.
    pub(crate) fn detach(&self) {
        ClassId::all().for_each(|class| self.stop_draining(class));
        self.owner.set(ptr::null_mut());
        self.phase.set(Phase::Dead as u8);
    }
}

/// Whether an allowance was 0 before 1 was taken off. Allowances are far below
/// 2^31; asking for the sign lets the subtraction answer.
#[inline(always)]
fn is_negative(allowance: u32) -> bool {
    (allowance as i32) < 0
}

#[cfg(feature = "preload")]
const _: () = assert!(core::mem::offset_of!(Cache, none) == 0);
#[cfg(feature = "preload")]
const _: () = assert!(core::mem::offset_of!(Cache, lists) == STRIDE);
