//! Thinning: pages inside spans that are in use go back to the OS where all blocks are free.
//!
//! One block in a hundred that stays in use after a burst keeps nearly every span of 64 KiB, but
//! only a page or two of each. So the scavenger takes the free blocks that cover whole pages off
//! the chains of a span that has gone unused for a tick, and gives these pages back. The blocks
//! are cut again when nothing else of the span is left ([`gather`](super::gather)).
//!
//! It does so while the owner frees into the span without a lock, and others do. Both only ever
//! put blocks in front, of a chain or of bundles, so what lies behind a head that was read stays as
//! it is, and nobody looks at it: who takes it holds the lock of the owner's heap. The head
//! itself stays, and its page with it. How many blocks are missing is noted beside the counts
//! that these threads write, which go on including them.
//!
//! Looked at are a class's current span, which ends if it is empty, and those on partial lists,
//! of which an eighth is free at least. What is on a thread's lists is in use as far as spans know.
//!
//! # Invariants
//!
//! 1. A span that is thinned is current in a thread heap or on its partial list, and the depot's
//!    lock is held, or it is on a central list and the central lock is held: until its pages have
//!    gone back.
//! 2. A page has a bit in `thinned` if it was given back and a block begins in it. All blocks that
//!    begin there are free and on no chain. A free block may reach into it from the page before;
//!    when that is used again a part of the page is resident and not counted.

use core::ptr::{self, NonNull};

use super::Heap;
use super::bin::Bin;
use super::bits::Bits;
use super::bundle::Bundles;
use super::chain::Block;
use super::class::ClassId;
use super::geometry::SLOT_BYTES;
use super::list::SpanList;
use super::span::Span;
use crate::sys::lock::Lock;
use crate::sys::os::{Os, page_bytes, pause};

/// The most blocks of a span.
const BLOCKS_MAX: usize = SLOT_BYTES / 8;
/// The least part of a span's pages that is given back: less is not worth it to break up a huge
/// page.
const LEAST_PART: usize = 8;

/// A set of a span's blocks, by number.
type BlockSet = Bits<{ BLOCKS_MAX / 64 }>;

/// The word of a span that was not visited yet: no span has so many blocks.
pub(crate) const NOT_VISITED: u32 = Visit::DONE - 1;

/// What the scavenger saw at its last visit, in a word: which visit it was, how many blocks of
/// the span were in use, and whether it was thinned since.
#[derive(Clone, Copy)]
struct Visit(u32);

impl Visit {
    const DONE: u32 = 1 << 15;

    fn new(pass: u16, in_use: u32, done: bool) -> Self {
        Self(u32::from(pass) << 16 | if done { Self::DONE } else { 0 } | in_use)
    }

    fn pass(self) -> u16 {
        (self.0 >> 16) as u16
    }

    fn in_use(self) -> u32 {
        self.0 & (Self::DONE - 1)
    }

    fn is_done(self) -> bool {
        self.0 & Self::DONE != 0
    }
}

const _: () = assert!(BLOCKS_MAX < NOT_VISITED as usize);

/// One call of [`Heap::thin`].
struct Round {
    pass: u16,
    all: bool,
    waiting: usize,
}

impl<O: Os> Heap<O> {
    /// Thins the spans that nothing was freed into since the last call, or `all`. Returns how
    /// many of the others wait for the next one. One thread at a time does so.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn thin(&self, all: bool) -> usize {
        while !self.scavenger.begin_thinning() {
            if !all {
                return 0;
            }
            pause();
        }
        let mut round = Round { pass: self.scavenger.next_pass(), all, waiting: 0 };
        self.each_thread_heap(|thread_heap| {
            for class in ClassId::all() {
                let bin = thread_heap.bin(class);
                if !bin.current.get().is_null() {
                    self.under(&thread_heap.depot, |_| self.thin_current(bin, &mut round));
                }
                while !bin.partial.is_empty()
                    && self.under(&thread_heap.depot, |_| {
                        // The thread may have ended meanwhile.
                        !thread_heap.cache.get().is_null()
                            && self.thin_next(&bin.partial, &mut round)
                    })
                {}
            }
        });
        for class in ClassId::all() {
            while self
                .under(&self.central, |central| self.thin_next(central.list(class), &mut round))
            {
            }
        }
        self.scavenger.end_thinning();
        round.waiting
    }

    /// Does one step under `lock`, then lets those have it who wait for it: otherwise whoever
    /// released it takes it again before they have woken up.
    fn under<T, R>(&self, lock: &Lock<T>, step: impl FnOnce(&T) -> R) -> R {
        let reaping = self.reaping.lock();
        let held = lock.lock();
        let result = step(&held);
        let waited_for = lock.is_waited_for();
        drop(held);
        drop(reaping);
        if waited_for {
            pause();
        }
        result
    }

    /// Visits the first span of a partial list and puts it at its end; `false` when it was
    /// visited already, and so all. The list's lock is held.
    fn thin_next(&self, list: &SpanList, round: &mut Round) -> bool {
        let Some(span) = list.first() else { return false };
        if Visit(span.cold().visit.get()).pass() == round.pass {
            return false;
        }
        list.remove(span);
        list.append(span);
        // SAFETY: by invariant 1.
        round.waiting += usize::from(!unsafe { self.visit(span, round) });
        true
    }

    /// Ends the current span of a bin if it is empty, else visits it. The depot's lock is held.
    fn thin_current(&self, bin: &Bin, round: &mut Round) {
        let Some(span) = Span::from_link(bin.current.get()) else { return };
        let was_empty = Visit(span.cold().visit.get()).in_use() == 0;
        let is_empty = span.in_use() == 0;
        // Looked at after that: the push that emptied it may have a message to deliver.
        let remote = span.cold().remote.view();
        if (round.all || was_empty) && is_empty && !remote.posted() {
            // Nobody has a block of it that could still be freed.
            bin.remote.add(remote.count().into());
            bin.current.set(ptr::null_mut());
            self.retire(span);
            return;
        }
        // SAFETY: by invariant 1.
        round.waiting += usize::from(!unsafe { self.visit(span, round) });
    }

    /// Thins a span that is as it was at the last visit, or in any case if `all`; whether that
    /// was so.
    ///
    /// # Safety
    ///
    /// Invariant 1.
    #[unsafe(link_section = ".spanalloc.rare")]
    unsafe fn visit(&self, span: Span, round: &Round) -> bool {
        let (before, in_use) = (Visit(span.cold().visit.get()), span.in_use());
        let quiet = before.in_use() == in_use;
        let due = round.all || quiet;
        if due && !(quiet && before.is_done()) {
            // SAFETY: passed on.
            unsafe { self.thin_span(span) };
        }
        span.cold().visit.set(Visit::new(round.pass, in_use, due).0);
        due
    }

    /// Gives the pages of `span` back that only free blocks lie in.
    ///
    /// # Safety
    ///
    /// Invariant 1.
    #[unsafe(link_section = ".spanalloc.rare")]
    unsafe fn thin_span(&self, span: Span) {
        let (hot, cold) = (span.hot(), span.cold());
        // Nobody else puts blocks in front of the spare ones, so their head may go, too.
        let spare = Part::of_chain(span, hot.spare.get(), true);
        let local = Part::of_chain(span, hot.local.read(), false);
        let remote = Part::of_bundles(span, cold.remote.view().head());
        let mut free = BlockSet::EMPTY;
        [&spare, &local, &remote].iter().for_each(|part| free.unite(&part.blocks));
        let pages = Pages::of(span, free);
        let pages_least = hot.slots.get() as usize * SLOT_BYTES / page_bytes() / LEAST_PART;
        if (pages.all.count_ones() as usize) < pages_least.max(1) {
            return;
        }
        self.space.lock().of(span).keep_small(&self.os, span);
        let gone = self.purge_pages(span, pages.all) & pages.with_starts;
        hot.thinned.set(hot.thinned.get() | gone);
        let (head, withdrawn) = spare.link_rest(span);
        hot.spare.set(head);
        hot.spare_blocks.sub(withdrawn);
        let (_, withdrawn) = local.link_rest(span);
        hot.thinned_local.add(withdrawn);
        cold.thinned_remote.add(remote.bundle_rest(span));
        self.note_thinned(gone.count_ones());
    }

    /// Gives pages of `span` back that free blocks alone lie in; those that went.
    fn purge_pages(&self, span: Span, pages: u64) -> u64 {
        let (mut left, mut gone) = (pages, 0);
        while left != 0 {
            let first = left.trailing_zeros();
            let count = (left >> first).trailing_ones();
            let run = u64::MAX >> (64 - count) << first;
            left &= !run;
            let start = span.start().wrapping_add(first as usize * page_bytes());
            let Some(start) = NonNull::new(start) else { break };
            // SAFETY: free blocks, whose links are known and written anew; nobody takes them
            // before the lock of invariant 1 is released.
            if unsafe { self.os.purge(start, count as usize * page_bytes()) } {
                gone |= run;
            }
        }
        gone
    }
}

/// Blocks of a chain, or of bundles, that may be thinned out.
struct Part {
    /// The first one; it may go itself only if the `whole` may.
    head: *mut Block,
    whole: bool,
    blocks: BlockSet,
}

impl Part {
    /// The blocks of the chain that begins with `head`.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn of_chain(span: Span, head: *mut Block, whole: bool) -> Self {
        let mut part = Self { head, whole, blocks: BlockSet::EMPTY };
        let mut next = head;
        for _ in 0..span.class().capacity() {
            if next.is_null() {
                break;
            }
            part.insert(span, next);
            // SAFETY: a free block of a chain, linked; below a head that was read nobody
            // changes links.
            next = unsafe { (*next).next };
        }
        part
    }

    /// The blocks of the bundles that begin at `head`.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn of_bundles(span: Span, head: u32) -> Self {
        let mut part = Self { head: span.block_at(head), whole: false, blocks: BlockSet::EMPTY };
        // SAFETY: below a head that was read nobody writes to bundles.
        unsafe { span.each_bundled(head, |block| part.insert(span, block)) };
        part
    }

    fn insert(&mut self, span: Span, block: *mut Block) {
        if self.whole || block != self.head {
            self.blocks.insert(span.checked_number_of(block) as usize, 1);
        }
    }

    /// Links what does not begin in thinned pages, behind the head if that stays, in order of
    /// address; the head of that chain, and how many blocks went.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn link_rest(self, span: Span) -> (*mut Block, u32) {
        let (mut head, mut last) = (self.head, self.head);
        if self.whole {
            (head, last) = (ptr::null_mut(), ptr::null_mut());
        }
        let gone = self.each_left(span, |block| {
            if last.is_null() {
                head = block;
            } else {
                // SAFETY: as in `of_chain`.
                unsafe { (*last).next = block };
            }
            last = block;
        });
        if !last.is_null() {
            // SAFETY: as above.
            unsafe { (*last).next = ptr::null_mut() };
        }
        (head, gone)
    }

    /// Lists what does not begin in thinned pages in bundles anew, of which the head begins the
    /// newest, as before; how many blocks went.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn bundle_rest(self, span: Span) -> u32 {
        if self.head.is_null() {
            return 0;
        }
        let bundles = Bundles::new();
        let gone = self.each_left(span, |block| {
            // SAFETY: as in `of_bundles`.
            unsafe { bundles.add(span, block) };
        });
        // SAFETY: as above.
        unsafe { bundles.begin(span, self.head) };
        bundles.take();
        gone
    }

    /// Calls `visit` with each block that does not begin in a thinned page; how many do.
    fn each_left(&self, span: Span, mut visit: impl FnMut(*mut Block)) -> u32 {
        let mut gone = 0;
        self.blocks.each(|index| {
            let index = index as u32;
            if span.is_thinned_out(index) {
                gone += 1;
            } else {
                visit(span.block(index));
            }
        });
        gone
    }
}

/// Pages of a span, a bit each.
struct Pages {
    /// To be given back.
    all: u64,
    /// Those of them in which a block begins.
    with_starts: u64,
}

impl Pages {
    /// The pages that no other block reaches into but `free` ones, those thinned out, and those
    /// never used.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn of(span: Span, mut free: BlockSet) -> Self {
        let hot = span.hot();
        let (bytes, page) = (span.class().block_bytes(), page_bytes());
        let (carved, thinned) = (hot.carved.get(), hot.thinned.get());
        if thinned != 0 {
            (0..carved)
                .filter(|index| span.is_thinned_out(*index))
                .for_each(|index| free.insert(index as usize, 1));
        }
        let mut pages = Self { all: 0, with_starts: 0 };
        let used = carved as usize * bytes;
        for (number, start) in (0..used).step_by(page).enumerate() {
            let end = start + page;
            let mut blocks = start / bytes..end.min(used).div_ceil(bytes);
            if thinned >> number & 1 == 0 && blocks.all(|index| free.has(index)) {
                pages.all |= 1 << number;
                if start.div_ceil(bytes) * bytes < end.min(used) {
                    pages.with_starts |= 1 << number;
                }
            }
        }
        pages
    }
}

impl Span {
    /// The block of number `index`.
    fn block(self, index: u32) -> *mut Block {
        self.start().wrapping_add(index as usize * self.class().block_bytes()).cast()
    }

    /// The number of a block of this span.
    pub(crate) fn number_of(self, block: *mut Block) -> u32 {
        ((block.addr() - self.start().addr()) / self.class().block_bytes()) as u32
    }

    /// As [`number_of`](Self::number_of), for what a free block's first word says: dies if that is
    /// no block of this span.
    pub(super) fn checked_number_of(self, block: *mut Block) -> u32 {
        let offset = block.addr().wrapping_sub(self.start().addr());
        let carved = self.hot().carved.get() as usize;
        let bytes = self.class().block_bytes();
        if offset >= carved * bytes || !offset.is_multiple_of(bytes) {
            self.die_of_a_write();
        }
        (offset / bytes) as u32
    }

    /// Dies of what a free block says.
    #[cold]
    pub(super) fn die_of_a_write(self) -> ! {
        crate::sys::fatal::die_at(
            self.start().addr(),
            "a block was written to after it had been freed, in the span",
        );
    }

    /// How many blocks begin in thinned pages: their first words are not resident. For
    /// snapshots, from any thread.
    pub(crate) fn thinned_out(self) -> u32 {
        let (hot, bytes, page) = (self.hot(), self.class().block_bytes(), page_bytes());
        let (carved, mut left) = (hot.carved.get() as usize, hot.thinned.get());
        let mut blocks = 0;
        while left != 0 {
            let start = left.trailing_zeros() as usize * page;
            let behind = (start + page).div_ceil(bytes).min(carved);
            blocks += behind.saturating_sub(start.div_ceil(bytes)) as u32;
            left &= left - 1;
        }
        blocks
    }

    /// Whether the block of number `index`, which is below `carved`, is thinned out.
    pub(crate) fn is_thinned_out(self, index: u32) -> bool {
        let offset = index as usize * self.class().block_bytes();
        let page = offset >> page_bytes().trailing_zeros();
        self.hot().thinned.get() >> page & 1 == 1
    }
}
