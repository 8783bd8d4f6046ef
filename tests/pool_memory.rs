//! What a pool keeps while more threads get values than there are cores, so that some of them are
//! always preempted in the middle of a get.
#![cfg(feature = "collections")]

use spanalloc::pool::{PRIVATE_MAX, Pool};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

/// Counts the bytes that are allocated.
struct Live(AtomicUsize);

#[global_allocator]
static LIVE: Live = Live(AtomicUsize::new(0));

// SAFETY: all work is the system allocator's.
unsafe impl GlobalAlloc for Live {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(layout.size(), SeqCst);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.0.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(block, layout) }
    }
}

/// One thread puts bursts, which several others use up. A thread that is stopped in a get holds up
/// what is drained meanwhile, but not for ever, so now and then little is kept.
#[test]
fn drained_rings_do_not_pile_up() {
    const BURST: usize = 20_000;
    const BURSTS: usize = 40;
    /// Of the rings that one burst drains; more than half of that, to be careful.
    const RING_BYTES: usize = BURST * 16 / 2;
    let pool: Pool<u64> = Pool::new(|| 0);
    let stop = AtomicBool::new(false);
    let getters = 4 * thread::available_parallelism().map_or(2, usize::from);
    let kept: Vec<_> = thread::scope(|scope| {
        for _ in 0..getters {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    drop(pool.try_take());
                }
            });
        }
        let kept = (0..BURSTS).map(|_| {
            (0..BURST as u64).for_each(|value| pool.put(Box::new(value)));
            // The others, at most, are private ones of this thread.
            while pool.stats().held() > PRIVATE_MAX as u64 {
                thread::yield_now();
            }
            LIVE.0.load(SeqCst)
        });
        let kept = kept.collect();
        stop.store(true, SeqCst);
        kept
    });
    let least = kept[BURSTS / 2..].iter().min().unwrap();
    assert!(*least < BURSTS / 2 * RING_BYTES / 2, "bytes after each burst: {kept:?}");
}
