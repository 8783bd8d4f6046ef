//! A chunk: address space for spans, the state of its slots, and whether it asks for huge pages.
//!
//! A heap that is dense (see [`pages`](super::pages)) asks for huge pages from its 16th MiB on (by
//! preload its 32nd, for memory counts for more there: git packs in 44 MiB instead of 47): one
//! of that size spends its time on address translation and page faults otherwise (a million
//! live blocks: a third less per replacement). A chunk that the scavenger takes pages from
//! gives huge pages up, or the kernel would fill the holes again behind our back.
//! Who would rather have the time than the memory sets `huge=early`: then every heap asks from its
//! first block on, or where that came before the variable was read, from its third MiB on.
//!
//! What is not asked for stays small, also where the system makes huge pages unasked (`always`
//! in `/sys/kernel/mm/transparent_hugepage/enabled`): the first block of a small process would
//! take 2 MiB, and what the scavenger gave back would be filled up again in the background.
//!
//! A chunk asks only for memory where nothing is resident. Where small pages are, asking
//! brings `khugepaged`, which copies them into huge ones, one after the other, under the lock
//! of the address space: whoever frees a block meanwhile may meet a page that is being
//! copied and wait, on a virtual machine 12 ms for each.
//!
//! # Invariants
//!
//! 1. `free`, `dirty` and `aged` are as [`pages`](super::pages) says.
//! 2. While `huge`, the kernel is asked for huge pages from slot `huge_from` to the end of what was
//!    mapped when it began to be; no slot there was dirty then.

use core::ops::ControlFlow;
use core::ptr::NonNull;

use super::bits::SlotSet;
use super::geometry::{HEADER_SLOTS, SLOT_BYTES};
use crate::sys::os::{Huge, Os};

/// Slots of the first chunk that never ask for huge pages.
const SMALL_SLOTS: usize = if cfg!(feature = "preload") { 512 } else { 256 };
/// Slots of a huge page.
pub(super) const HUGE_SLOTS: usize = (2 << 20) / SLOT_BYTES;

/// A place for a span, and in this order what speaks against it: slots of fresh memory, then
/// slots of the free run that it would be cut from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    fresh: usize,
    run: usize,
    pub(super) chunk: usize,
    pub(super) start: usize,
}

/// One chunk and the state of its slots.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) base: NonNull<u8>,
    /// Slots from the base on.
    pub(crate) mapped: usize,
    pub(crate) free: SlotSet,
    pub(crate) dirty: SlotSet,
    pub(super) aged: SlotSet,
    huge: bool,
    huge_from: usize,
    /// The first slot that may ask, once a slot was used.
    huge_least: usize,
}

impl Chunk {
    /// A chunk of `mapped` slots of fresh memory, those of its headers not free; the heap's
    /// first one, or not.
    pub(super) fn new(base: NonNull<u8>, mapped: usize, first: bool) -> Self {
        let mut free = SlotSet::EMPTY;
        free.insert(HEADER_SLOTS, mapped - HEADER_SLOTS);
        Self {
            base,
            mapped,
            free,
            dirty: SlotSet::EMPTY,
            aged: SlotSet::EMPTY,
            huge: false,
            huge_from: 0,
            // The headers are resident, in no set.
            huge_least: if first { SMALL_SLOTS } else { HUGE_SLOTS },
        }
    }

    /// The best place for `count` slots whose first is a multiple of `align`, where this is chunk
    /// number `index`. A single slot gets the first one: there are no better ones (see
    /// [`pages`](super::pages)). Where none fits, the length of the longest free run is the error.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(super) fn place(&self, index: usize, count: usize, align: usize) -> Result<Place, usize> {
        let (mut best, mut longest) = (None::<Place>, 0);
        let Self { free, dirty, .. } = self;
        free.each_run(|from, run| {
            longest = longest.max(run);
            // A power of two.
            let start = (from + align - 1) & !(align - 1);
            let is_no_better = |best: Place| best.fresh == 0 && best.run <= run;
            if start + count > from + run || best.is_some_and(is_no_better) {
                return ControlFlow::Continue(());
            }
            let fresh = count - dirty.count_in(start, count);
            let place = Place { fresh, run, chunk: index, start };
            let is_best = count == 1 || fresh == 0 && run == count;
            best = Some(best.map_or(place, |best| best.min(place)));
            if is_best { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        best.ok_or(longest)
    }

    /// Slot `slot` will be used: asks for huge pages from the one on that it lies in, if nothing
    /// is resident there.
    #[inline]
    pub(super) fn ask_for_huge(&mut self, os: &impl Os, slot: usize) {
        if !self.huge {
            let least = if os.huge() == Huge::Early { HUGE_SLOTS } else { self.huge_least };
            self.ask(os, (slot - slot % HUGE_SLOTS).max(least));
        }
    }

    /// As [`ask_for_huge`](Self::ask_for_huge), for a chunk in which nothing was used, headers
    /// included.
    pub(super) fn ask_for_huge_throughout(&mut self, os: &impl Os) {
        self.ask(os, 0);
    }

    /// Has the kernel make no huge pages of the slots from `from` on, which were just mapped.
    pub(super) fn begin_small(&self, os: &impl Os, from: usize) {
        // SAFETY: the slot lies in the chunk's mapped part.
        let start = unsafe { self.base.add(from * SLOT_BYTES) };
        os.prefer_huge(start, (self.mapped - from) * SLOT_BYTES, false);
    }

    #[cold]
    #[unsafe(link_section = ".spanalloc.text")]
    fn ask(&mut self, os: &impl Os, from: usize) {
        if from < self.mapped && self.dirty.next(from).is_none() {
            (self.huge, self.huge_from) = (true, from);
            self.advise(os);
        }
    }

    /// Has the kernel make no more huge pages of what is small. A free slot that shares one
    /// with a slot in use or used before is as resident as that: it is dirty from here on, and
    /// aged. Returns how many such slots there are.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(super) fn keep_small(&mut self, os: &impl Os) -> usize {
        if !self.huge {
            return 0;
        }
        self.huge = false;
        self.advise(os);
        let mut beside = self.dirty.widened();
        beside.remove(0, self.huge_from);
        beside.subtract(&self.dirty);
        beside = beside.and(&self.free);
        self.dirty.unite(&beside);
        self.aged.unite(&beside);
        beside.len()
    }

    fn advise(&self, os: &impl Os) {
        // The end may have been unmapped since.
        let slots = self.mapped.saturating_sub(self.huge_from);
        if slots > 0 {
            // SAFETY: the slot lies in the chunk's mapped part.
            let from = unsafe { self.base.add(self.huge_from * SLOT_BYTES) };
            os.prefer_huge(from, slots * SLOT_BYTES, self.huge);
        }
    }
}
