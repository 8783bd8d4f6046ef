//! A snapshot of every count, read while the heap goes on.
//!
//! Nothing is counted on the fast paths. What they did is the difference between
//! the allowances that the slow path granted and what is left of them (see
//! [`bin`](super::bin)). Every term is a word with one writer, so a snapshot races
//! with nothing. It is exact at a quiet point. Of a thread that is entering what it did
//! into its books at that moment, what it was last granted may be missing or counted twice: at
//! most 1,024 allocations of a class, or as many frees as its list holds.

use super::Heap;
use super::class::{CLASSES, ClassId};
use super::geometry::SLOT_BYTES;
use super::large::{LARGE_ROWS, LargeCount};
use super::pages::PageCounts;
use super::span::Kind;
use crate::sys::os::Os;

/// The counts of one size class.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct ClassCount {
    pub(crate) allocs: u64,
    pub(crate) frees: u64,
    pub(crate) live: u64,
    pub(crate) refills: u64,
    /// Blocks ever carved.
    pub(crate) first_uses: u64,
    pub(crate) remote_frees: u64,
    /// Waits for a lock.
    pub(crate) waits: u64,
    pub(crate) spans: u64,
    /// Blocks carved and not thinned out, so resident: live ones and free ones.
    pub(crate) carved: u64,
    /// Free blocks on threads' lists, those of threads that a fork left behind included.
    pub(crate) listed: u64,
}

/// All counts of a heap.
#[derive(Clone, Debug)]
pub(crate) struct HeapCounts {
    pub(crate) classes: [ClassCount; CLASSES],
    pub(crate) large: [LargeCount; LARGE_ROWS],
    pub(crate) mapped_large_bytes: u64,
    /// In mappings of freed blocks.
    pub(crate) kept_bytes: usize,
    /// On threads' shelves: in freed blocks, and slots taken ahead.
    pub(crate) shelved_bytes: usize,
    /// Large blocks with a mapping of their own.
    pub(crate) mappings: u64,
    pub(crate) pages: PageCounts,
    pub(crate) records_bytes: usize,
    pub(crate) thread_heaps: u64,
}

impl<O: Os> Heap<O> {
    /// Takes a snapshot. Cost: a look at every slot's header and every list.
    pub(crate) fn counts(&self) -> HeapCounts {
        let mut counts = HeapCounts {
            classes: [ClassCount::default(); CLASSES],
            large: [LargeCount::default(); LARGE_ROWS],
            mapped_large_bytes: 0,
            kept_bytes: 0,
            shelved_bytes: 0,
            mappings: 0,
            pages: PageCounts::default(),
            records_bytes: 0,
            thread_heaps: 0,
        };

        // The central lock keeps threads from ending: their caches stay mapped.
        let central = self.central.lock();
        for thread_heap in self.heaps_from(central.all.get()) {
            counts.thread_heaps += 1;
            counts.shelved_bytes += thread_heap.shelf.slots() * SLOT_BYTES;
            thread_heap.span_counts.add_to(&mut counts.large);
            // SAFETY: null, or the cache of a thread that cannot end now.
            let cache = unsafe { thread_heap.cache.get().as_ref() };
            for (class, count) in ClassId::all().zip(&mut counts.classes) {
                let bin = thread_heap.bin(class);
                let tally =
                    bin.tally(cache.map(|cache| (cache.list(class), cache.drain_of(class))));
                count.allocs += tally.allocs;
                count.frees += tally.frees;
                count.listed += tally.listed;
                count.refills += bin.refills.get();
                count.first_uses += bin.carved.get();
                count.remote_frees += bin.remote.get();
            }
        }
        let central_counts = central.remote.iter().zip(&central.lost);
        for (count, (remote, lost)) in counts.classes.iter_mut().zip(central_counts) {
            count.remote_frees += remote.get();
            count.listed += lost.get();
        }
        let mut space = self.space.lock();
        for pages in space.each() {
            pages.each_header(|span| {
                if !matches!(span.kind(), Kind::Blocks | Kind::Sampled) {
                    return;
                }
                if let Some(count) = counts.classes.get_mut(span.class().index()) {
                    count.spans += 1;
                    let carved = span.hot().carved.get();
                    count.carved += u64::from(carved.saturating_sub(span.thinned_out()));
                    count.remote_frees += u64::from(span.cold().remote.view().count());
                }
            });
        }
        counts.pages = space.counts();
        counts.records_bytes = space.records_bytes();
        drop(space);
        drop(central);

        for (class, count) in ClassId::all().zip(&mut counts.classes) {
            count.waits = self.waits.of(class);
            // A thread may be between two of its stores.
            count.frees = count.frees.min(count.allocs);
            count.live = count.allocs - count.frees;
        }
        let table = self.large.lock();
        for (count, row) in counts.large.iter_mut().zip(&table.rows) {
            count.allocs += row.allocs;
            count.frees += row.frees;
            count.allocated_bytes = count.allocated_bytes.wrapping_add(row.allocated_bytes);
            count.live_bytes = count.live_bytes.wrapping_add(row.live_bytes);
            count.settle();
        }
        counts.mapped_large_bytes = table.mapped_bytes;
        counts.mappings = table.mappings;
        counts.kept_bytes = table.kept.bytes();
        counts
    }
}
