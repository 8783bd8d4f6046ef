//! A thread's frees that its lists have no room for: what is kept, what goes home.
//!
//! A full list becomes the bin's previous one; what that held goes into the depot, or
//! home to its spans. A thread that only frees *drains* (see [`bin`](super::bin)). Blocks
//! of spans that other threads own wait in the outbox.

use core::ptr;

use super::Heap;
use super::bin::{FLUSHES_MAX, list_max, long};
use super::cache::Cache;
use super::chain::{Block, Chain, Run};
use super::class::ClassId;
use super::depot::{self, Depot};
use super::span::Span;
use super::thread::ThreadHeap;
use crate::sys::lock::Guard;
use crate::sys::os::Os;

/// Magazines that one refill sends home: bounds how long it takes.
const SENT_MAX: usize = 8;

impl ThreadHeap {
    /// Frees a block of `class`, the cache's allowance for which is used up.
    ///
    /// # Safety
    ///
    /// As for [`Cache::push`].
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) unsafe fn free<O: Os>(
        &self,
        heap: &Heap<O>,
        cache: &Cache,
        class: ClassId,
        block: *mut Block,
    ) {
        let (bin, list) = (self.bin(class), cache.list(class));
        let length = bin.settle(list, cache.drain_of(class));
        // A thread that only frees comes to no refill.
        if self.mailbox.has_mail() {
            let _held = self.depot.lock();
            self.read_mail(heap);
        }
        if !cache.is_draining(class) {
            self.make_room(heap, cache, class, length);
            // SAFETY: passed on.
            if unsafe { cache.push(class, block) } {
                return;
            }
        }
        bin.count_free();
        self.send_home(heap, class, Chain { head: block, blocks: 1 });
    }

    /// Makes room on the list of `class`, which has `length` blocks, unless the bin
    /// starts to drain.
    fn make_room<O: Os>(&self, heap: &Heap<O>, cache: &Cache, class: ClassId, length: u32) {
        let (bin, list, max) = (self.bin(class), cache.list(class), list_max(class));
        if bin.flushes() < FLUSHES_MAX {
            if length <= max / 2 {
                bin.make_room(list, self.allowance(max - length));
                return;
            }
            let mut full = bin.take_previous();
            if full.blocks == 0 {
                if length <= long(class) {
                    bin.set_previous(bin.unload(list));
                    bin.make_room(list, self.allowance(max));
                    return;
                }
                // Loaded and filled again and again, it would grow without end.
                full = bin.unload(list);
            }
            if full.blocks > long(class) || !self.keep(heap, class, full) {
                if !self.is_observed() {
                    bin.count_flush();
                }
                self.send_home(heap, class, full);
            }
            if bin.flushes() < FLUSHES_MAX {
                bin.set_previous(bin.unload(list));
                bin.make_room(list, self.allowance(max));
                return;
            }
        }
        // This thread only frees now: nothing is kept for its next allocation.
        let loaded = bin.unload(list);
        self.send_home(heap, class, loaded);
        cache.start_draining(class);
    }

    /// Puts a full list into the depot, if that is worth it and there is room.
    fn keep<O: Os>(&self, heap: &Heap<O>, class: ClassId, chain: Chain) -> bool {
        // SAFETY: by the cache's invariant 1, blocks of spans of this class.
        let span = unsafe { Span::of_class(class, chain.head) };
        let own = ptr::eq(span.hot().owner.get(), self);
        // SAFETY: the chain's blocks are linked.
        if !own || !class.is_narrow() || !unsafe { depot::is_together(chain) } {
            return false;
        }
        let mut depot = self.depot.lock();
        let kept = depot.put(class, chain);
        if kept {
            self.bin(class).kept.add(chain.blocks);
            heap.note_kept_by(self, depot.bytes());
        }
        kept
    }

    /// Before a span of `bytes` is taken: as many bytes of aged magazines go home, [`SENT_MAX`] of
    /// them at most. Lets go of the depot's lock meanwhile.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn send_home_for_a_span<'a, O: Os>(
        &'a self,
        heap: &Heap<O>,
        mut depot: Guard<'a, Depot>,
        bytes: usize,
    ) -> Guard<'a, Depot> {
        let mut left = bytes;
        for _ in 0..SENT_MAX {
            if left == 0 {
                break;
            }
            let Some((class, chain)) = depot.take_aged(false) else { break };
            left = left.saturating_sub(chain.blocks as usize * class.block_bytes());
            self.bin(class).kept.sub(chain.blocks);
            drop(depot);
            self.send_home(heap, class, chain);
            depot = self.depot.lock();
        }
        depot.count_taken(bytes);
        depot
    }

    /// Sends every block on the lists and in the depot home.
    pub(crate) fn empty_lists<O: Os>(&self, heap: &Heap<O>, cache: &Cache) {
        for class in ClassId::all() {
            let (bin, list) = (self.bin(class), cache.list(class));
            if bin.is_idle(cache.drain_of(class)) {
                continue;
            }
            bin.settle(list, cache.drain_of(class));
            let loaded = bin.unload(list);
            self.send_home(heap, class, loaded);
            self.send_home(heap, class, bin.take_previous());
            bin.make_room(list, 0);
            // Nobody but this thread puts anything there.
            while bin.kept.get() > 0 {
                let mut depot = self.depot.lock();
                let chain = depot.take(class);
                if chain.blocks == 0 {
                    break;
                }
                bin.kept.sub(chain.blocks);
                drop(depot);
                self.send_home(heap, class, chain);
            }
        }
    }

    /// Gives free blocks of `class` back to their spans, a run of blocks of the
    /// same span at a time.
    #[unsafe(link_section = ".spanalloc.text")]
    fn send_home<O: Os>(&self, heap: &Heap<O>, class: ClassId, chain: Chain) {
        // SAFETY: by the cache's invariant 1 the blocks are of this class and linked.
        unsafe { chain.each_run(class, |run| self.give(heap, &run)) };
    }

    /// Gives one run back. Out of line, for a closure has no section.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    fn give<O: Os>(&self, heap: &Heap<O>, run: &Run) {
        if !ptr::eq(run.span.hot().owner.get(), self) {
            // SAFETY: a run of free blocks.
            unsafe { self.outbox.add(run, |span, parcel| heap.send(span, parcel)) };
            return;
        }
        // SAFETY: a run of free blocks of a span that this thread owns.
        if unsafe { run.span.push_local(run.first, run.last, run.blocks) } {
            let _held = self.depot.lock();
            // Unless that emptied the span and the scavenger has ended it already.
            if ptr::eq(run.span.hot().owner.get(), self) {
                self.review(heap, run.span, false);
            }
        }
    }
}
