//! A thread's heap: the spans it owns, and how they become lists of blocks.
//!
//! Terms: to *refill* is to hand a list of blocks to the cache; to *send home* is
//! to give blocks back to their spans; to *park* is to
//! put the current span aside when it has nothing to hand out; to *review* is to
//! look at a parked span again after frees; to *retire* is to give an empty one to
//! the page heap.
//!
//! A parked span is *full* until it has regained an eighth of its blocks, then
//! *partial*: linking it at the first free would make refills of one block each.
//! Partial spans are taken oldest first, which gives the others time to regain
//! more, or to empty.
//!
//! # Invariants
//!
//! 1. All words but the mailbox, the shelf's places and `next_*` are written by the thread whose
//!    cache has this heap as owner, or under invariant 4; for a shared heap, by the holder of
//!    its lock.
//! 2. A span whose `home` is this heap and that is not abandoned is either the
//!    current one of its class, or on the partial or the full list of its class.
//! 3. The current span has an endless countdown and asks for no messages; every
//!    other one fires, or is told of, when half of what is still in use was freed
//!    or it becomes worth linking. One of the two happens at the latest when its
//!    last block is freed, by whomever: of `n` blocks, one side frees `⌈n/2⌉`.
//! 4. Who looks at the current spans, the partial and full lists, at a span's place on them, or
//!    takes from the mailbox, the depot or a span holds the depot's lock; and `reaping` as well
//!    unless it is the thread itself. That is the scavenger, or who gives memory back at once:
//!    they end spans that are empty ([`reap`](super::reap)) and give pages of others back
//!    ([`thin`](super::thin)). What they do not write is what frees write.
//! 5. Thread heaps are never unmapped: a new thread takes over the heap of an
//!    ended one.

use core::cell::UnsafeCell;
use core::ptr;

use super::Heap;
use super::bin::{Bin, grant_max, list_max};
use super::cache::Cache;
use super::chain::{Block, Chain};
use super::class::{CLASSES, ClassId};
use super::depot::Depot;
use super::large_span::SpanCounts;
use super::list::SpanList;
use super::mailbox::Mailbox;
use super::outbox::Outbox;
use super::remote::NEVER;
use super::shelf::Shelf;
use super::span::{FAR, Hot, Kind, Place, Span};
use super::thin::NOT_VISITED;
use crate::base::marks::Marks;
use crate::base::own::{OwnPtr, OwnU8, OwnU64};
use crate::base::zeroed::Zeroed;
use crate::sys::lock::Lock;
use crate::sys::os::Os;

/// What a refill came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refill {
    /// This block; more may be on the list.
    Block(*mut Block),
    /// The sampler wants the block that is allocated now.
    Sample,
    /// The OS has no more.
    OutOfMemory,
}

/// A thread's heap, or one that threads share under a lock.
#[derive(Debug)]
pub(crate) struct ThreadHeap {
    bins: [Bin; CLASSES],
    pub(crate) mailbox: Mailbox<Hot>,
    pub(crate) outbox: Outbox,
    /// Its lock guards more than the magazines: invariant 4.
    pub(crate) depot: Lock<Depot>,
    pub(super) shelf: Shelf,
    /// What it keeps is worth a scavenger from so many bytes on. Written under the central lock
    /// when it gets a thread.
    pub(super) worthwhile_bytes: OwnU64,
    pub(super) span_counts: SpanCounts,
    marks: UnsafeCell<Marks>,
    /// Not 0: its blocks are sampled. Written once, under the central lock.
    pub(crate) for_samples: OwnU8,
    /// Not 0: a fork left its thread behind (see [`fork`](super::fork)).
    pub(super) left: OwnU8,
    /// While not 0 every allowance is used up at once (see
    /// [`observe`](Self::observe)).
    observed: OwnU8,
    /// The cache that pops from the lists, for snapshots; null without a thread.
    /// Written under the central lock.
    pub(crate) cache: OwnPtr<Cache>,
    /// The chain of all thread heaps. Written once, under the central lock.
    pub(crate) next_all: OwnPtr<ThreadHeap>,
    /// The chain of heaps without a thread. Written under the central lock.
    pub(crate) next_idle: OwnPtr<ThreadHeap>,
}

// SAFETY: by invariant 1 `marks` has one user; everything else is atomic.
unsafe impl Sync for ThreadHeap {}
// SAFETY: nothing in it belongs to the thread that made it.
unsafe impl Send for ThreadHeap {}
// SAFETY: null pointers, counts of zero, free locks: what `new` makes, see the test.
unsafe impl Zeroed for ThreadHeap {}

impl ThreadHeap {
    pub(crate) const fn new() -> Self {
        Self {
            bins: [const { Bin::new() }; CLASSES],
            mailbox: Mailbox::new(),
            outbox: Outbox::new(),
            depot: Lock::new(Depot::new()),
            shelf: Shelf::new(),
            worthwhile_bytes: OwnU64::new(0),
            span_counts: SpanCounts::new(),
            marks: UnsafeCell::new(Marks::new()),
            for_samples: OwnU8::new(0),
            left: OwnU8::new(0),
            observed: OwnU8::new(0),
            cache: OwnPtr::new(ptr::null_mut()),
            next_all: OwnPtr::new(ptr::null_mut()),
            next_idle: OwnPtr::new(ptr::null_mut()),
        }
    }

    #[inline]
    pub(crate) fn bin(&self, class: ClassId) -> &Bin {
        // SAFETY: a class is below CLASSES.
        unsafe { self.bins.get_unchecked(class.index()) }
    }

    /// What its spans are for.
    pub(crate) fn kind(&self) -> Kind {
        if self.for_samples.get() == 0 { Kind::Blocks } else { Kind::Sampled }
    }

    /// Has every allocation and every free of this thread take the slow path from here on.
    pub(crate) fn observe(&self, cache: &Cache) {
        self.observed.set(1);
        self.revoke(cache);
    }

    /// Ends what [`observe`](Self::observe) began.
    pub(crate) fn unobserve(&self, cache: &Cache) {
        self.observed.set(0);
        self.revoke(cache);
    }

    /// Takes back what was granted, and ends draining, which is a short way, too: each class asks
    /// the slow path next.
    pub(crate) fn revoke(&self, cache: &Cache) {
        for class in ClassId::all() {
            let (bin, list) = (self.bin(class), cache.list(class));
            bin.settle(list, cache.drain_of(class));
            bin.stop(list);
            cache.stop_draining(class);
        }
    }

    /// A thread that begins is unobserved.
    pub(super) fn begin_unobserved(&self) {
        self.observed.set(0);
    }

    #[inline]
    pub(super) fn is_observed(&self) -> bool {
        self.observed.get() != 0
    }

    /// The allowance for a pop or push that follows at once, where `most` would be
    /// given to an unobserved thread.
    #[inline]
    pub(super) fn allowance(&self, most: u32) -> u32 {
        if self.is_observed() { 1 } else { most }
    }

    /// The address by which spans name this heap.
    fn address(&self) -> *mut Self {
        ptr::from_ref(self).cast_mut()
    }

    /// Whether the sampler's next mark falls within the next `bytes`.
    pub(crate) fn charge(&self, bytes: usize, interval: u64) -> bool {
        self.charge_blocks(bytes as u64, 1, interval).is_some()
    }

    /// As [`Marks::charge`], which is by a new interval from now on: marks that lie behind other
    /// classes' allowances were drawn for the old one, and would count by the new one's weight.
    #[unsafe(link_section = ".spanalloc.text")]
    fn charge_blocks(&self, block_bytes: u64, blocks: u64, interval: u64) -> Option<u64> {
        if !self.marks().are_for(interval) {
            ClassId::all().for_each(|class| self.bin(class).due.set(0));
        }
        self.marks().charge(block_bytes, blocks, interval)
    }

    /// Starts the sampler's random numbers afresh.
    pub(crate) fn seed(&self, seed: u64) {
        self.marks().seed(seed);
    }

    #[allow(clippy::mut_from_ref, reason = "invariant 1: one user, and no call keeps it")]
    fn marks(&self) -> &mut Marks {
        // SAFETY: by invariant 1; the reference does not outlive one statement.
        unsafe { &mut *self.marks.get() }
    }

    /// Allocates a block of `class`, the cache's allowance for which is used up.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn allocate<O: Os>(
        &self,
        heap: &Heap<O>,
        cache: &Cache,
        class: ClassId,
        interval: Option<u64>,
    ) -> Refill {
        let (bin, list) = (self.bin(class), cache.list(class));
        let length = bin.settle(list, cache.drain_of(class));
        if bin.due.get() != 0 && list.left.get() == 0 {
            bin.due.set(0);
            // A mark drawn for another interval, or met inside the profiler, is
            // dropped with what was left of its gap: nothing remembers it.
            if interval.is_some_and(|interval| self.marks().in_force(interval)) {
                return Refill::Sample;
            }
        }
        if length == 0 {
            let chain = self.next_list(heap, cache, class);
            if chain.blocks == 0 {
                return Refill::OutOfMemory;
            }
            bin.load(list, chain);
            // None for an observed thread: its next free would go unseen.
            let has_room = !self.is_observed() && !cache.is_draining(class);
            bin.make_room(list, if has_room { list_max(class) } else { 0 });
        }
        if list.left.get() == 0 {
            let Some(interval) = interval else {
                // This block alone: what follows may be the program's again.
                bin.grant(list, 1);
                return Refill::Block(cache.pop(class));
            };
            let granted = self.allowance(grant_max(class));
            match self.charge_blocks(class.block_bytes() as u64, granted.into(), interval) {
                None => bin.grant(list, granted),
                Some(0) => return Refill::Sample,
                Some(before) => {
                    bin.grant(list, before as u32);
                    bin.due.set(1);
                }
            }
        }
        Refill::Block(cache.pop(class))
    }

    /// Takes a list of blocks from wherever there is one: the bin's previous one, a
    /// magazine, the spans. None when the OS has no more.
    #[unsafe(link_section = ".spanalloc.text")]
    fn next_list<O: Os>(&self, heap: &Heap<O>, cache: &Cache, class: ClassId) -> Chain {
        let bin = self.bin(class);
        let previous = bin.take_previous();
        if previous.blocks > 0 {
            return previous;
        }
        let mostly_frees = bin.mark_refill();
        if !(mostly_frees && cache.is_draining(class)) {
            bin.forget_flushes();
            cache.stop_draining(class);
        }
        let chain = self.refill(heap, bin, class);
        // The lock is not held: what is in depots, this one's included, goes home.
        if chain.blocks == 0 {
            heap.reap_in_need();
            return self.refill(heap, bin, class);
        }
        chain
    }

    /// Takes a magazine, or a chain of blocks from the spans; none when the OS has no more.
    #[unsafe(link_section = ".spanalloc.text")]
    fn refill<O: Os>(&self, heap: &Heap<O>, bin: &Bin, class: ClassId) -> Chain {
        let mut depot = self.depot.lock();
        if bin.kept.get() > 0 {
            let chain = depot.take(class);
            if chain.blocks > 0 {
                bin.kept.sub(chain.blocks);
                return chain;
            }
        }
        bin.refills.add(1);
        if self.mailbox.has_mail() {
            self.read_mail(heap);
        }
        loop {
            if let Some(span) = Span::from_link(bin.current.get()) {
                let (carved, thinned) = (span.hot().carved.get(), span.hot().thinned.get());
                if let Some(gathered) = span.gather() {
                    span.cold().visit.set(NOT_VISITED);
                    bin.remote.add(gathered.remote.into());
                    bin.carved.add((span.hot().carved.get() - carved).into());
                    if thinned != span.hot().thinned.get() {
                        heap.note_no_longer_thinned(1);
                    }
                    return gathered.chain;
                }
                self.park(heap, bin, span);
            }
            let span = match self.span_at_hand(heap, bin, class) {
                Some(span) => span,
                None => {
                    depot = self.send_home_for_a_span(heap, depot, class.span_bytes());
                    let Some(slots) = heap.take_span(self.kind(), class) else {
                        return Chain::EMPTY;
                    };
                    slots.span.begin(class, self.kind(), self.address());
                    slots.span
                }
            };
            span.hot().place.set(Place::Current as u8);
            bin.current.set(span.link());
        }
    }

    /// A span that has blocks to hand out: one of this heap's, or one that nobody owns. The
    /// depot's lock is held.
    #[unsafe(link_section = ".spanalloc.text")]
    fn span_at_hand<O: Os>(&self, heap: &Heap<O>, bin: &Bin, class: ClassId) -> Option<Span> {
        heap.collect_left();
        let Some(span) = bin.partial.pop() else {
            return heap.adopt(class, self.kind(), self.address());
        };
        span.arm(span.freed(), FAR);
        span.cold().remote.set_notify(NEVER);
        Some(span)
    }

    /// Puts the current span, which has nothing to hand out, aside.
    fn park<O: Os>(&self, heap: &Heap<O>, bin: &Bin, span: Span) {
        bin.current.set(ptr::null_mut());
        span.hot().place.set(Place::Full as u8);
        bin.full.append(span);
        self.review(heap, span, false);
    }

    /// Whether this heap owns `span`, of which its mailbox has a message; one to a thread that had
    /// this heap before may come late, of a span that another thread owns by now. The depot's lock
    /// is held, so that the answer stays true.
    pub(super) fn owns(&self, span: Span) -> bool {
        let cold = span.cold();
        cold.remote.is_owned_where(|| ptr::eq(cold.home.get(), self))
    }

    /// Handles the messages of other threads. The depot's lock is held.
    pub(crate) fn read_mail<O: Os>(&self, heap: &Heap<O>) {
        self.mailbox.drain(|item| {
            let Some(span) = Span::from_link(item) else { return };
            if self.owns(span) {
                self.review(heap, span, true);
            } else {
                // Sent to the thread that had this heap before.
                heap.deliver(span);
            }
        });
    }

    /// Looks at a span after frees: links it when it is worth it, retires it when
    /// it is empty, and sets when to look again (invariant 3). `mail` says that
    /// this handles the span's message. The depot's lock is held.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn review<O: Os>(&self, heap: &Heap<O>, span: Span, mail: bool) {
        let remote = &span.cold().remote;
        if span.place() == Place::Current {
            span.arm(span.freed(), FAR);
            if mail {
                remote.acknowledge(NEVER);
            }
            return;
        }
        let bin = self.bin(span.class());
        let mut mail = mail;
        loop {
            // Before what is in use: what is pushed in between has us told too early, not too late.
            let elsewhere = remote.view().count();
            let (in_use, freed) = (span.in_use(), span.freed());
            if in_use == 0 {
                if !remote.is_settled(mail) {
                    span.arm(freed, FAR);
                    return;
                }
                bin.remote.add(remote.view().count().into());
                self.list_of(bin, span).remove(span);
                heap.retire(span);
                return;
            }
            let regained = freed + elsewhere;
            self.list_if_worthwhile(span);
            if span.place() == Place::Partial && regained >= span.class().capacity() / 2 {
                heap.note_sparse();
            }
            let step = match span.place() {
                Place::Partial => in_use.div_ceil(2),
                _ => span.worthwhile() - regained,
            };
            span.arm(freed, step);
            if remote.ask(elsewhere + step, mail) {
                return;
            }
            mail = false;
        }
    }

    /// Moves a full span that has regained enough to the partial list. The depot's lock is
    /// held.
    pub(super) fn list_if_worthwhile(&self, span: Span) {
        let regained = span.freed() + span.cold().remote.view().count();
        if span.place() == Place::Full && regained >= span.worthwhile() {
            let bin = self.bin(span.class());
            bin.full.remove(span);
            bin.partial.append(span);
            span.hot().place.set(Place::Partial as u8);
        }
    }

    pub(crate) fn list_of<'a>(&self, bin: &'a Bin, span: Span) -> &'a SpanList {
        if span.place() == Place::Partial { &bin.partial } else { &bin.full }
    }

    /// Hands every span to `receive`. The caller holds the depot's lock and the central one.
    pub(crate) fn hand_over(&self, mut receive: impl FnMut(Span)) {
        for bin in &self.bins {
            if let Some(span) = Span::from_link(bin.current.get()) {
                bin.current.set(ptr::null_mut());
                receive(span);
            }
            while let Some(span) = bin.partial.pop().or_else(|| bin.full.pop()) {
                receive(span);
            }
        }
    }
}

#[cfg(any(test, fuzzing))]
impl Span {
    /// Dies if a parked span may become empty and nobody be told of it (invariant 3): of what is
    /// in use the owner's side fires at one number of frees, the other side at another one.
    /// Nobody else uses the span meanwhile.
    pub(crate) fn check_told(self) {
        let view = self.cold().remote.view();
        if view.posted() || !matches!(self.place(), Place::Partial | Place::Full) {
            return;
        }
        let fires = u64::from(self.hot().countdown.get()) + 1;
        let told = u64::from(view.notify() - view.count());
        let in_use = u64::from(self.in_use());
        assert!(fires + told <= in_use + 1, "invariant 3: {fires} and {told} of {in_use}");
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_heap_starts_as_zeroes() {
        static FRESH: ThreadHeap = ThreadHeap::new();
        let bytes = ptr::from_ref(&FRESH).cast::<u8>();
        for at in 0..size_of::<ThreadHeap>() {
            // SAFETY: within the static, whose padding the linker has filled.
            let byte = unsafe { bytes.wrapping_add(at).read_volatile() };
            assert_eq!(byte, 0, "byte {at}");
        }
    }
}
