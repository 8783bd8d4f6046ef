//! Which blocks the sampler gets when its interval changes or it is suppressed, and what a thread
//! that is observed leaves to the next one.

use super::Worker;
use crate::heap::Heap;
use crate::heap::class::ClassId;
use crate::heap::geometry::is_sampled;
use crate::heap::thread::Refill;
use crate::sys::fake::Fake;

const INTERVAL: u64 = 4096;

fn class(bytes: usize) -> ClassId {
    ClassId::of(Worker::layout(bytes, 8)).unwrap()
}

/// Whether the next block of `bytes` is sampled. It leaks.
fn next_is_sampled(worker: &Worker, bytes: usize) -> bool {
    is_sampled(worker.allocate(Worker::layout(bytes, 8)).unwrap().start.as_ptr())
}

/// Allocates blocks of `bytes` until a mark lies behind what was granted.
fn draw_a_mark(worker: &mut Worker, bytes: usize) {
    worker.interval = INTERVAL;
    let due = || worker.cache.owner().is_some_and(|owner| owner.bin(class(bytes)).due.get() != 0);
    while !due() {
        next_is_sampled(worker, bytes);
    }
}

#[test]
fn what_is_granted_while_the_sampler_is_suppressed_is_one_block() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let mut worker = Worker::new(&HEAP);
    assert!(HEAP.open_thread(&worker.cache));
    let granted = HEAP.allocate_slow(&worker.cache, class(64), None);
    assert!(matches!(granted, Refill::Block(_)));
    worker.interval = 1;
    assert!(next_is_sampled(&worker, 64));
}

#[test]
fn a_mark_that_was_drawn_before_the_sampler_was_switched_off_samples_nothing() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let mut worker = Worker::new(&HEAP);
    draw_a_mark(&mut worker, 64);
    worker.interval = 0;
    assert!(!(0..2000).any(|_| next_is_sampled(&worker, 64)));
}

/// Its weight is that of the new interval.
#[test]
fn a_mark_that_was_drawn_for_another_interval_samples_nothing() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let mut worker = Worker::new(&HEAP);
    draw_a_mark(&mut worker, 64);
    // The other class is the first to ask.
    worker.interval = 1 << 40;
    next_is_sampled(&worker, 128);
    assert!(!(0..2000).any(|_| next_is_sampled(&worker, 64)));
}

#[test]
fn a_mark_that_is_met_inside_the_profiler_is_dropped() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let mut worker = Worker::new(&HEAP);
    draw_a_mark(&mut worker, 64);
    while !worker.cache.pop(class(64)).is_null() {}
    let met = HEAP.allocate_slow(&worker.cache, class(64), None);
    assert!(matches!(met, Refill::Block(_)), "{met:?}");
}

/// What is in no heap of the chain is in no snapshot, and its marks were not seeded.
#[test]
fn a_large_block_of_a_thread_that_ended_may_be_the_first_that_the_late_heap_sees() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    assert!(HEAP.charge_late(1 << 20, 1));
    assert_eq!(HEAP.counts().thread_heaps, 1);
}

#[test]
fn a_thread_that_is_observed_from_now_on_drains_no_more() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, layout) = (Worker::new(&HEAP), Worker::layout(64, 8));
    let mut pieces: Vec<_> = (0..20_000).map(|_| worker.allocate(layout).unwrap()).collect();
    // Neighbours of what it frees are a span away: nothing of that is kept.
    pieces.sort_by_key(|piece| (piece.start.addr().get() % 65536, piece.start.addr()));
    pieces.drain(..15_000).for_each(|piece| worker.free(piece));
    assert!(worker.cache.is_draining(class(64)));
    worker.cache.owner().unwrap().observe(&worker.cache);
    assert!(!worker.cache.is_draining(class(64)));
    pieces.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}

#[test]
fn a_thread_that_takes_over_the_heap_of_an_observed_one_is_not_observed() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let [observed, next] = [(); 2].map(|()| Worker::new(&HEAP));
    next_is_sampled(&observed, 64);
    observed.cache.owner().unwrap().observe(&observed.cache);
    observed.close();
    next_is_sampled(&next, 64);
    assert_eq!(HEAP.counts().thread_heaps, 1);
    assert!(!next.cache.owner().unwrap().is_observed());
}
