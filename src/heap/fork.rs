//! What a fork does to a heap.
//!
//! The child has one thread, and the memory of all. The others are gone in the middle of what
//! they did, so before a fork every lock is taken, those of depots, too: what lies under a lock
//! is whole in the child. What a thread writes without one is cut off after some store of its
//! program's, with all stores before it (invariant 2), so that of a span's local chain the links
//! are right and the count may lack the last run; a chain that others push on carries its count.
//!
//! The spans of the threads that are gone would stay theirs for ever. They are *left behind*
//! until the child needs a span, or frees enough of one: most children go on to `exec` and are to
//! pay nothing. Then they become nobody's, as when a thread ends, and the child's threads adopt
//! them. The lists of the caches and the batches of the outboxes are not recovered: their fast
//! paths order nothing, so those blocks stay in use and count as listed. Each thread may also lose
//! what it had in hand: a message about to be delivered, a list or magazine on its way home, a
//! large block on its way to or from a shelf, with the slots taken behind it. The span concerned,
//! one at most of each kind for a thread, is then never ended.
//!
//! # Invariants
//!
//! 1. Between `before_fork` and `after_fork` the forking thread holds all locks: of depots those
//!    of all heaps, but for its own, which no other thread takes while `reaping` is held. `held` is
//!    the first heap of the chain then: none is enrolled without the central lock.
//! 2. `fork` shows the child a prefix of each thread's stores. Pages are shared until written to,
//!    and a thread that writes to a page which was protected already waits until the fork is done:
//!    so it stores nothing more that the child could see.
//! 3. A heap that is `left` has no thread and is in no chain of idle ones. The mark is set by the
//!    one thread of a child, and taken off under the central lock by who collects the heap.

use core::{mem, ptr};

use super::Heap;
use super::bundle::Parcel;
use super::cache::Cache;
use super::central::Central;
use super::chain::Run;
use super::class::ClassId;
use super::depot::Depot;
use super::span::{FAR, Kind, Span};
use super::thread::ThreadHeap;
use crate::sys::lock::Guard;
use crate::sys::os::Os;

impl<O: Os> Heap<O> {
    /// Takes every lock, in order, before `fork`. `cache` belongs to this thread.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn before_fork(&self, cache: &Cache) {
        // Who holds the lock of another thread's depot holds this one, too.
        self.reaping.acquire();
        self.sampled.acquire();
        self.late.acquire();
        let mut held = ptr::null_mut();
        loop {
            // The lock of a depot comes before the central one, under which new heaps are enrolled.
            let central = self.central.lock();
            let all = central.all.get();
            if ptr::eq(all, held) {
                mem::forget(central);
                break;
            }
            drop(central);
            self.others(cache, all, held, |thread_heap| thread_heap.depot.acquire());
            held = all;
        }
        self.held.set(held);
        self.large.acquire();
        self.space.acquire();
    }

    /// Releases every lock, in the parent or the child.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn after_fork(&self, cache: &Cache) {
        self.space.release();
        self.large.release();
        self.central.release();
        self.others(cache, self.held.get(), ptr::null_mut(), |thread_heap| {
            thread_heap.depot.release();
        });
        self.late.release();
        self.sampled.release();
        self.reaping.release();
    }

    /// The heaps from `next` on and before `end` in the chain, but for that of `cache`.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn others(
        &self,
        cache: &Cache,
        first: *mut ThreadHeap,
        end: *mut ThreadHeap,
        mut visit: impl FnMut(&ThreadHeap),
    ) {
        for thread_heap in self.heaps_from(first).take_while(|heap| !ptr::eq(*heap, end)) {
            // Its own thread may have been interrupted while it held it, by a signal whose
            // handler forks.
            if !cache.owner().is_some_and(|own| ptr::eq(own, thread_heap)) {
                visit(thread_heap);
            }
        }
    }

    /// Between [`before_fork`](Self::before_fork) and [`after_fork`](Self::after_fork): the place
    /// in the chain of a heap whose depot's lock is free, but for that of `cache`.
    #[cfg(test)]
    pub(super) fn first_open_depot(&self, cache: &Cache) -> Option<usize> {
        // SAFETY: this thread holds the lock.
        let all = unsafe { self.central.peek() }.all.get();
        let (mut place, mut open) = (0, None);
        self.others(cache, all, ptr::null_mut(), |thread_heap| {
            if open.is_none() && thread_heap.depot.try_lock().is_some() {
                open = Some(place);
            }
            place += 1;
        });
        open
    }

    /// In the child, after [`after_fork`](Self::after_fork): no thread but that of `cache` is
    /// left. The books of the others are settled; their caches, whose memory may be reused, are
    /// not looked at again.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn forked(&self, cache: &Cache) {
        self.scavenger.forked();
        let late = self.late.lock();
        let mut central = self.central.lock();
        central.set_open(cache.owner().is_some().into());
        for thread_heap in self.heaps_from(central.all.get()) {
            let of_a_thread = thread_heap.kind() == Kind::Blocks && !late.is(thread_heap);
            let had = thread_heap.cache.get();
            if of_a_thread && !had.is_null() && !ptr::eq(had, cache) {
                thread_heap.forget_cache();
                thread_heap.left.set(1);
                self.left.add(1);
            }
        }
    }

    /// Has the spans of threads that a fork left behind be nobody's, and new threads have their
    /// heaps. Cost where there are none: a load.
    #[inline]
    pub(super) fn collect_left(&self) {
        if self.left.get() != 0 {
            self.collect_all_left();
        }
    }

    #[cold]
    #[unsafe(link_section = ".spanalloc.rare")]
    fn collect_all_left(&self) {
        while let Some((thread_heap, mut depot)) = self.disown_left() {
            while let Some((class, chain)) = depot.take_aged(true) {
                thread_heap.bin(class).kept.sub(chain.blocks);
                let send = |run: Run| {
                    // SAFETY: what was in the depot is this thread's now.
                    let parcel = unsafe { Parcel::of_run(&run) };
                    let tell = self.post(run.span, parcel);
                    self.tell(run.span, tell);
                };
                // SAFETY: by the depot's invariant 1; its lock was not held when it was left.
                unsafe { chain.each_run(class, send) };
            }
            drop(depot);
            self.empty_shelf(thread_heap);
            let central = self.central.lock();
            thread_heap.lose_lists(&central);
            central.put_idle(thread_heap);
        }
    }

    /// Disowns the spans of one heap that was left, with its depot; none if there is none, or
    /// another thread forks just now: the next one that comes here finds them.
    fn disown_left(&self) -> Option<(&ThreadHeap, Guard<'_, Depot>)> {
        let central = self.central.lock();
        for thread_heap in self.heaps_from(central.all.get()) {
            // Not waited for: who forks holds it, waits for the lock held here, and maybe for that
            // of the depot of who is here.
            if thread_heap.left.get() != 0
                && let Some(depot) = thread_heap.depot.try_lock()
            {
                thread_heap.left.set(0);
                self.left.sub(1);
                self.disown(&central, thread_heap, Span::spare_linked);
                return Some((thread_heap, depot));
            }
        }
        None
    }
}

impl ThreadHeap {
    /// The thread is gone without handing over: enters what it did into the books.
    fn forget_cache(&self) {
        // SAFETY: null, or the cache of a thread whose memory is still there.
        if let Some(cache) = unsafe { self.cache.get().as_ref() } {
            for class in ClassId::all() {
                self.bin(class).forget(cache.list(class), cache.drain_of(class));
            }
        }
        self.cache.set(ptr::null_mut());
    }

    /// Makes the heap what a thread's is that has ended. What is on its lists and in its outbox
    /// is counted as listed from here on.
    fn lose_lists(&self, central: &Central) {
        for class in ClassId::all() {
            central.count_lost(class, self.bin(class).lose_lists());
        }
        self.outbox.lose(|class, blocks| central.count_lost(class, blocks));
    }
}

impl Span {
    /// As [`spare_freed`](Self::spare_freed), of a span whose owner is gone between two stores:
    /// counts the local chain anew.
    fn spare_linked(self) {
        let (mut linked, mut next) = (0, self.hot().local.read());
        while !next.is_null() && linked < self.class().capacity() {
            self.checked_number_of(next);
            linked += 1;
            // SAFETY: a free block of the span, linked.
            next = unsafe { (*next).next };
        }
        self.arm(linked + self.hot().thinned_local.get(), FAR);
        self.spare_freed();
    }
}
