//! What the scavenger does for threads that are asleep.
//!
//! A thread that freed much and then waits keeps magazines in its depot and large blocks on its
//! shelf, and finds out only when it wakes which of its spans other threads have emptied. Under
//! the lock of its depot the scavenger does both: what was kept and not used for a whole tick
//! goes home, as blocks that another thread frees, and of the spans that the mailbox names those
//! that are empty are ended, and those that are worth it linked. Of a span it changes nothing else
//! but when others tell of it, since the owner frees into its spans without a lock.
//!
//! # Invariants
//!
//! 1. `reaping` is held meanwhile, as it is while spans are thinned and free slots purged. `fork`
//!    takes it, so that no thread that forks finds its own heap half changed in the child.

use super::Heap;
use super::bundle::Parcel;
use super::chain::Run;
use super::depot::{Depot, MAGAZINES};
#[cfg(not(feature = "preload"))]
use super::geometry::SLOT_BYTES;
use super::remote::NEVER;
use super::span::{Place, Span};
use super::thread::ThreadHeap;
use crate::sys::lock::Guard;
use crate::sys::os::{Os, pause};

/// Messages handled before others get the depot's lock.
const MESSAGES_MAX: u32 = 64;
/// Moments, of 100 µs, that an allocation for which there is no memory waits for `reaping`.
const TRIES_IN_NEED: u32 = 100;

impl<O: Os> Heap<O> {
    /// Has magazines and large blocks that were here at the last call go home, or `all`, and empty
    /// spans end. Returns the bytes that stay in depots and on shelves.
    pub(crate) fn reap(&self, all: bool) -> usize {
        let mut kept_bytes = 0;
        self.each_thread_heap(|thread_heap| {
            let _reaping = self.reaping.lock();
            kept_bytes += self.reap_one(thread_heap, all);
        });
        kept_bytes
    }

    /// The OS has no more: gives kept mappings back, and has everything in depots go home; who
    /// asked tries again. If somebody forks or gives memory back and goes on doing so, that is not
    /// waited for without end, for the caller may hold a lock that comes after `reaping`.
    #[cold]
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn reap_in_need(&self) {
        self.release_kept(true);
        self.collect_left();
        for _ in 0..TRIES_IN_NEED {
            if let Some(_reaping) = self.reaping.try_lock() {
                self.each_thread_heap(|thread_heap| {
                    self.reap_one(thread_heap, true);
                });
                return;
            }
            pause();
        }
    }

    /// Bytes in depots and on shelves.
    #[cfg(not(feature = "preload"))]
    pub(crate) fn put_aside_bytes(&self) -> usize {
        let mut bytes = 0;
        self.each_thread_heap(|thread_heap| {
            let _reaping = self.reaping.lock();
            let shelved_bytes = thread_heap.shelf.slots() * SLOT_BYTES;
            bytes += thread_heap.depot.lock().bytes() + shelved_bytes;
        });
        bytes
    }

    #[unsafe(link_section = ".spanalloc.rare")]
    pub(super) fn each_thread_heap(&self, mut visit: impl FnMut(&ThreadHeap)) {
        let first = self.central.lock().all.get();
        for thread_heap in self.heaps_from(first) {
            // Without a thread there is nothing in it.
            if !thread_heap.cache.read().is_null() {
                visit(thread_heap);
            }
        }
    }

    #[unsafe(link_section = ".spanalloc.rare")]
    pub(super) fn reap_one(&self, thread_heap: &ThreadHeap, all: bool) -> usize {
        // A thread that frees meanwhile fills its depot as fast as this empties it.
        let mut left = MAGAZINES;
        loop {
            let mut depot = thread_heap.depot.lock();
            // The thread may have ended meanwhile.
            if thread_heap.cache.read().is_null() {
                return 0;
            }
            let taken = if left > 0 { depot.take_aged(all) } else { None };
            left = left.saturating_sub(1);
            let Some((class, chain)) = taken else {
                depot.age();
                let depot = thread_heap.reap_mail(self, depot);
                return depot.bytes() + self.reap_shelf(thread_heap, all);
            };
            thread_heap.bin(class).kept.sub(chain.blocks);
            drop(depot);
            let send = |run: Run| {
                // SAFETY: what was in the depot is this thread's now.
                let parcel = unsafe { Parcel::of_run(&run) };
                self.send(run.span, parcel);
            };
            // SAFETY: by the depot's invariant 1.
            unsafe { chain.each_run(class, send) };
        }
    }
}

impl ThreadHeap {
    /// Ends the empty spans that the mailbox names, links others, and asks to be told again of
    /// them. Lets go of the depot's lock now and then: there may be as many messages as spans.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn reap_mail<'a, O: Os>(
        &'a self,
        heap: &Heap<O>,
        mut depot: Guard<'a, Depot>,
    ) -> Guard<'a, Depot> {
        if !self.mailbox.has_mail() {
            return depot;
        }
        let mut handled = 0;
        self.mailbox.drain(|item| {
            let Some(span) = Span::from_link(item) else { return };
            handled += 1;
            if handled % MESSAGES_MAX == 0 {
                depot.let_others();
            }
            // The thread may have ended meanwhile.
            if !self.owns(span) {
                heap.deliver(span);
            } else if span.place() == Place::Current {
                // Its owner looks at it without being told.
                span.cold().remote.acknowledge(NEVER);
            } else {
                self.reap_posted(heap, span);
            }
        });
        depot
    }

    /// As [`review`](Self::review), of a parked span whose message this handles, but the countdown
    /// is left as it is, for the owner counts it down without a lock. By invariant 3 of
    /// [`thread`](super::thread) the last free at the latest is told of: of `in_use` blocks the
    /// owner's side fires at the `left`th, the other side at the `in_use + 1 − left`th, or when
    /// half of them were freed. Where fewer are in use than `left` the owner's side would not fire:
    /// then the message stays, for the owner, who reads it before it refills a list or finds one
    /// full (a class that drains does neither), and the scavenger is told again when others have
    /// freed half of them.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn reap_posted<O: Os>(&self, heap: &Heap<O>, span: Span) {
        let remote = &span.cold().remote;
        let mut mail = true;
        loop {
            // Before what is in use: what is freed in between makes the sum too small, and then the
            // other side is told too early.
            let elsewhere = remote.view().count();
            let left = span.hot().countdown.read() + 1;
            let in_use = span.in_use();
            if in_use == 0 {
                if remote.is_settled(mail) {
                    self.list_of(self.bin(span.class()), span).remove(span);
                    heap.count_remote(span.class(), remote.view().count());
                    heap.retire(span);
                }
                return;
            }
            self.list_if_worthwhile(span);
            if left > in_use {
                let again = elsewhere + in_use.div_ceil(2);
                let before = remote.keep_posted(again);
                if before.posted() && !mail {
                    // Who sends that message delivers it.
                    return;
                }
                mail = true;
                if before.count() >= again {
                    continue;
                }
                // SAFETY: the span's header stays valid while it is posted.
                if unsafe { self.mailbox.push(span.link()) }.is_err() {
                    crate::sys::fatal::die("a thread's mailbox was closed without its lock");
                }
                return;
            }
            let step = (in_use + 1 - left).min(in_use.div_ceil(2));
            if remote.ask(elsewhere + step, mail) {
                return;
            }
            mail = false;
        }
    }
}

#[cfg(any(test, fuzzing))]
impl ThreadHeap {
    /// Dies if the depot and the bins disagree, or a magazine has fewer blocks than it
    /// says. The heap's thread does nothing meanwhile.
    pub(crate) fn check_depot(&self) {
        use super::chain::Block;
        use super::class::ClassId;

        let depot = self.depot.lock();
        let mut bytes = 0;
        for class in ClassId::all() {
            let mut blocks = 0;
            for chain in depot.each(class) {
                blocks += chain.blocks;
                let mut block: *mut Block = chain.head;
                for _ in 0..chain.blocks {
                    assert!(!block.is_null(), "a magazine is shorter than it says");
                    // SAFETY: a free block of a magazine is linked.
                    block = unsafe { (*block).next };
                }
            }
            assert_eq!(blocks, self.bin(class).kept.get());
            bytes += blocks as usize * class.block_bytes();
        }
        assert_eq!(bytes, depot.bytes());
    }
}
