//! The heap's counts as the public snapshot.

use super::sampling::quietly;
use super::slow::HEAP;
use crate::heap::class::ClassId;
use crate::heap::counts::HeapCounts;
use crate::heap::geometry::SLOT_BYTES;
use crate::report::{ClassStats, Memory, Stats};
use crate::sys::os::resident_bytes;

/// Takes a snapshot of every counter.
///
/// Exact at a quiet point, and of the calling thread. While other threads allocate, what one of
/// them did last may be missing or counted twice, at most 1,024 allocations of a class, so that a
/// figure may even fall behind that of an earlier snapshot; `allocs - frees` is `live_blocks`
/// always. A `realloc` that changes the bytes of the block, as rounded up to its size class, to
/// 64 KiB or to pages, counts as a free and an allocation wherever the contents end up; one that
/// does not counts as nothing.
///
/// Cost: some tens of microseconds and as many for each 64 MiB of heap, since it looks at the
/// header of every 64 KiB, and at the books of every thread; it holds the locks meanwhile that
/// a thread takes to fetch a span, and reads one file of `/proc`. The fast paths do not notice.
///
/// # Examples
///
/// ```
/// let stats = spanalloc::stats();
/// let total = stats.total();
/// assert_eq!(total.allocs - total.frees, total.live_blocks);
/// println!("{stats}");
/// ```
pub fn stats() -> Stats {
    quietly(snapshot)
}

fn snapshot() -> Stats {
    let counts = HEAP.counts();
    #[allow(unused_mut, reason = "changed with the profiler")]
    let mut stats =
        Stats { classes: classes(&counts), large: large(&counts), memory: memory(&counts) };
    #[cfg(feature = "profile")]
    {
        stats.set_requested(&crate::profile::sizes());
        stats.memory.profiler = crate::profile::memory_bytes() as u64;
    }
    stats
}

fn classes(counts: &HeapCounts) -> Vec<ClassStats> {
    let row = |(class, count): (ClassId, &crate::heap::counts::ClassCount)| ClassStats {
        block_bytes: class.block_bytes() as u64,
        span_bytes: (class.slots() * SLOT_BYTES) as u64,
        blocks_per_span: class.capacity().into(),
        allocs: count.allocs,
        frees: count.frees,
        live_blocks: count.live,
        allocated_bytes: count.allocs.saturating_mul(class.block_bytes() as u64),
        live_bytes: count.live * class.block_bytes() as u64,
        refills: count.refills,
        first_uses: count.first_uses,
        spans: count.spans,
        remote_frees: count.remote_frees,
        lock_waits: count.waits,
        requested: None,
    };
    ClassId::all().zip(&counts.classes).map(row).collect()
}

fn large(counts: &HeapCounts) -> Vec<ClassStats> {
    let row = |(doublings, count): (usize, &crate::heap::large::LargeCount)| {
        let bytes = (SLOT_BYTES as u64) << doublings;
        ClassStats {
            block_bytes: bytes,
            span_bytes: bytes,
            blocks_per_span: 1,
            allocs: count.allocs,
            frees: count.frees,
            live_blocks: count.live_blocks(),
            allocated_bytes: count.allocated_bytes,
            live_bytes: count.live_bytes,
            refills: count.allocs,
            first_uses: count.allocs,
            spans: count.live_blocks(),
            remote_frees: 0,
            lock_waits: 0,
            requested: None,
        }
    };
    counts.large.iter().enumerate().map(row).filter(|row| row.allocs > 0).collect()
}

/// Where the memory is. Free blocks that were never handed out since their span
/// was taken are not resident, unless the span's slots were used before.
fn memory(counts: &HeapCounts) -> Memory {
    let (mut live, mut cached, mut spare) = (0, 0, 0);
    for (class, count) in ClassId::all().zip(&counts.classes) {
        let bytes = class.block_bytes() as u64;
        live += count.live * bytes;
        cached += count.listed * bytes;
        spare += count.carved.saturating_sub(count.live + count.listed) * bytes;
    }
    let large: u64 = counts.large.iter().map(|row| row.live_bytes).sum();
    Memory {
        // No process has none: see there.
        resident: resident_bytes().unwrap_or(0),
        live: live + large,
        cached,
        spare,
        free_pages: (counts.pages.free_dirty * SLOT_BYTES
            + counts.kept_bytes
            + counts.shelved_bytes) as u64,
        metadata: counts.records_bytes as u64,
        profiler: 0,
    }
}
