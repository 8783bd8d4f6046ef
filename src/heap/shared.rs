//! Two heaps that threads share under a lock.
//!
//! * The **sampled** heap serves every block that the sampler chose. Its spans lie
//!   in address windows of their own ([`geometry`](super::geometry)), so one bit of
//!   the address sends a free the long way, where the profiler hears of it; all
//!   other spans never hold a sampled block (tcmalloc gives sampled blocks spans of
//!   their own, too).
//! * The **late** heap serves threads that have no heap of their own any more:
//!   those that allocate in a destructor after their heap was handed over.
//!
//! Both are ordinary thread heaps with a cache beside them instead of in
//! thread-local memory.

use super::Heap;
use super::cache::{Cache, Phase};
use super::chain::Block;
use super::class::ClassId;
use super::span::Kind;
use super::thread::{Refill, ThreadHeap};
use crate::sys::lock::Lock;
use crate::sys::os::Os;

/// A thread heap with its cache.
#[derive(Debug)]
pub(crate) struct Shared {
    cache: Cache,
    heap: ThreadHeap,
}

// SAFETY: reached under the lock only; frees and snapshots use its atomics.
unsafe impl Send for Shared {}

impl Shared {
    pub(crate) const fn new() -> Lock<Self> {
        Lock::new(Self { cache: Cache::new(), heap: ThreadHeap::new() })
    }

    /// Whether `thread_heap` is this one's.
    pub(crate) fn is(&self, thread_heap: &ThreadHeap) -> bool {
        core::ptr::eq(&self.heap, thread_heap)
    }

    #[unsafe(link_section = ".spanalloc.rare")]
    fn open<O: Os>(&self, heap: &Heap<O>, kind: Kind) {
        if self.cache.phase() == Phase::New {
            heap.open_shared(&self.cache, &self.heap, kind);
        }
    }

    fn allocate<O: Os>(
        &self,
        heap: &Heap<O>,
        kind: Kind,
        class: ClassId,
        interval: Option<u64>,
    ) -> Refill {
        self.open(heap, kind);
        let block = self.cache.pop(class);
        if !block.is_null() {
            return Refill::Block(block);
        }
        self.heap.allocate(heap, &self.cache, class, interval)
    }
}

impl<O: Os> Heap<O> {
    /// Allocates a block to be sampled.
    pub(crate) fn allocate_sampled(&self, class: ClassId) -> Option<*mut Block> {
        match self.sampled.lock().allocate(self, Kind::Sampled, class, Some(0)) {
            Refill::Block(block) => Some(block),
            Refill::Sample | Refill::OutOfMemory => None,
        }
    }

    /// Allocates for a thread without a heap; the `interval` is as for
    /// [`allocate_slow`](Heap::allocate_slow).
    pub(crate) fn allocate_late(&self, class: ClassId, interval: Option<u64>) -> Refill {
        self.late.lock().allocate(self, Kind::Blocks, class, interval)
    }

    /// Sends home what is on the lists of both.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(super) fn empty_shared_lists(&self) {
        for shared in [&self.sampled, &self.late] {
            let shared = shared.lock();
            shared.heap.empty_lists(self, &shared.cache);
        }
    }

    /// Whether the sampler wants a large block of `bytes` of a thread without a heap.
    pub(crate) fn charge_late(&self, bytes: usize, interval: u64) -> bool {
        let late = self.late.lock();
        late.open(self, Kind::Blocks);
        late.heap.charge(bytes, interval)
    }

    /// Counts a free by a thread without a heap, which went home at once.
    pub(crate) fn count_late_free(&self, class: ClassId) {
        let late = self.late.lock();
        // What is in no heap of the chain is in no snapshot.
        late.open(self, Kind::Blocks);
        late.heap.bin(class).count_free();
    }

    /// Frees a sampled block, of which the profiler has been told.
    ///
    /// # Safety
    ///
    /// `block` is an allocated, sampled block of `class` that nobody uses any more.
    pub(crate) unsafe fn free_sampled(&self, class: ClassId, block: *mut Block) {
        let sampled = self.sampled.lock();
        // SAFETY: the caller's contract; the lock makes this the owner.
        if !unsafe { sampled.cache.push(class, block) } {
            // SAFETY: as above.
            unsafe { sampled.heap.free(self, &sampled.cache, class, block) };
        }
    }
}
