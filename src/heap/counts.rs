//! A snapshot of every count, read while the heap goes on.
//!
//! Nothing is counted on the fast paths. What they did follows from what the slow
//! paths know and from what is still on the lists:
//!
//! ```text
//! allocs = handed out − still on the lists
//! live   = Σ over spans (out − freed − remote) − on the lists − in outboxes
//! frees  = allocs − live
//! ```
//!
//! Every term is a word with one writer, so a snapshot races with nothing. It is
//! exact at a quiet point; while other threads allocate, each figure is one that
//! was true moments ago.
//!
//! A list of another thread is walked through memory that its owner is about to
//! hand to the program, so each step is checked: a link must be a block of the
//! class's spans, and a walk ends after as many blocks as a span has.

use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use super::Heap;
use super::cache::Cache;
use super::class::{CLASSES, ClassId, WIDE_SLOTS};
use super::large::{LARGE_ROWS, LargeCount};
use super::pages::PageCounts;
use super::span::{Block, Kind, Span};
use super::thread::ThreadHeap;
use crate::sys::os::Os;

/// The counts of one size class.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct ClassCount {
    pub(crate) allocs: u64,
    pub(crate) frees: u64,
    pub(crate) live: u64,
    pub(crate) refills: u64,
    pub(crate) remote_frees: u64,
    pub(crate) spans: u64,
    /// Blocks carved, so resident: live ones and free ones.
    pub(crate) carved: u64,
    /// Free blocks on threads' lists.
    pub(crate) listed: u64,
}

/// All counts of a heap.
#[derive(Clone, Debug)]
pub(crate) struct HeapCounts {
    pub(crate) classes: [ClassCount; CLASSES],
    pub(crate) large: [LargeCount; LARGE_ROWS],
    pub(crate) mapped_large_bytes: u64,
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
            pages: PageCounts::default(),
            records_bytes: 0,
            thread_heaps: 0,
        };
        let mut in_outboxes = [0u64; CLASSES];
        let mut in_use = [0u64; CLASSES];

        // The central lock keeps threads from ending: their caches stay mapped.
        let central = self.central.lock();
        let mut next = central.all.get();
        // SAFETY: thread heaps live as long as the heap.
        while let Some(thread_heap) = unsafe { next.as_ref() } {
            counts.thread_heaps += 1;
            thread_heap.outbox.each(|span, blocks| {
                if let Some(waiting) = in_outboxes.get_mut(span.class().index()) {
                    *waiting += u64::from(blocks);
                }
            });
            for (class, count) in ClassId::all().zip(&mut counts.classes) {
                let listed = listed_blocks(thread_heap, class);
                let bin = thread_heap.bin(class);
                count.listed += listed;
                count.allocs += bin.handed.get().saturating_sub(listed);
                count.refills += bin.refills.get();
                count.remote_frees += bin.remote.get();
            }
            next = thread_heap.next_all.get();
        }
        let mut space = self.space.lock();
        space.pages.each_header(|span| {
            if !matches!(span.kind(), Kind::Blocks | Kind::Sampled) {
                return;
            }
            let (hot, class) = (span.hot(), span.class());
            let remote = u64::from(span.cold().remote.view().count());
            let out = u64::from(hot.out.get());
            let index = class.index();
            if let (Some(count), Some(used)) =
                (counts.classes.get_mut(index), in_use.get_mut(index))
            {
                count.spans += 1;
                count.carved += u64::from(hot.carved.get());
                count.remote_frees += remote;
                *used += out.saturating_sub(u64::from(span.freed()) + remote);
            }
        });
        counts.pages = space.pages.counts();
        counts.records_bytes = space.meta.mapped();
        drop(space);
        drop(central);

        for ((count, used), waiting) in counts.classes.iter_mut().zip(in_use).zip(in_outboxes) {
            count.live = used.saturating_sub(count.listed + waiting);
            count.frees = count.allocs.saturating_sub(count.live);
        }
        let table = self.large.lock();
        counts.large = table.rows;
        counts.mapped_large_bytes = table.mapped_bytes;
        counts
    }
}

/// How many blocks are on a heap's list of `class`.
pub(super) fn listed_blocks(thread_heap: &ThreadHeap, class: ClassId) -> u64 {
    // SAFETY: a cache that is set is that of a thread which cannot end now.
    let Some(cache) = (unsafe { thread_heap.cache.get().as_ref() }) else { return 0 };
    walk(cache, class)
}

fn walk(cache: &Cache, class: ClassId) -> u64 {
    let first = cache.list(class).get();
    if first.is_null() {
        return 0;
    }
    // SAFETY: a list's blocks belong to spans of its class.
    let span = unsafe {
        if class.slots() == WIDE_SLOTS {
            Span::of::<WIDE_SLOTS>(first.cast())
        } else {
            Span::of::<1>(first.cast())
        }
    };
    let (start, bytes) = (span.start().addr(), class.block_bytes());
    let (mut block, mut blocks) = (first, 0);
    while blocks < u64::from(class.capacity()) {
        let offset = block.addr().wrapping_sub(start);
        let is_block = offset.is_multiple_of(bytes) && offset / bytes < class.capacity() as usize;
        if !is_block {
            break;
        }
        blocks += 1;
        // SAFETY: a block of a mapped span, aligned; read atomically because its
        // owner may be handing it to the program at this moment.
        block = unsafe { AtomicPtr::from_ptr((&raw mut (*block).next).cast::<*mut Block>()) }
            .load(Relaxed);
    }
    blocks
}
