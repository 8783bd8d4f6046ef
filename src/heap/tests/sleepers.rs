//! What threads keep, and who takes it when they sleep.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use crate::sys::lock::Lock;

const BLOCKS: usize = 20_000;

fn kept(heap: &Heap<Fake>, class: ClassId) -> u64 {
    heap.counts().classes[class.index()].listed
}

fn fill(worker: &Worker, layout: Layout) -> Vec<Piece> {
    (0..BLOCKS).map(|_| worker.allocate(layout).unwrap()).collect()
}

#[test]
fn lists_freed_in_order_are_kept_and_allocated_again() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, layout) = (Worker::new(&HEAP), Worker::layout(64, 8));
    let class = ClassId::of(layout).unwrap();
    fill(&worker, layout).into_iter().for_each(|piece| worker.free(piece));
    HEAP.check();
    assert!(kept(&HEAP, class) as usize > BLOCKS - 300, "{} kept", kept(&HEAP, class));
    let refills = HEAP.counts().classes[class.index()].refills;
    let pieces = fill(&worker, layout);
    HEAP.check();
    assert!(HEAP.counts().classes[class.index()].refills <= refills + 1);
    pieces.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}

#[test]
fn lists_across_many_spans_go_home() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, layout) = (Worker::new(&HEAP), Worker::layout(64, 8));
    let mut pieces = fill(&worker, layout);
    // Every neighbour in the list is a span away.
    pieces.sort_by_key(|piece| (piece.start.addr().get() % 65536, piece.start.addr()));
    pieces.into_iter().for_each(|piece| worker.free(piece));
    HEAP.check();
    assert!(kept(&HEAP, ClassId::of(layout).unwrap()) <= 512);
    assert!(HEAP.slots_in_use() <= 2);
}

#[test]
fn a_thread_that_frees_five_for_one_drains_and_one_that_frees_one_for_one_does_not() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, layout) = (Worker::new(&HEAP), Worker::layout(64, 8));
    let class = ClassId::of(layout).unwrap();
    let mut pieces = fill(&worker, layout);
    let mut random = Random(3);
    for round in 0..4 * BLOCKS / 5 {
        let at = random.below(pieces.len());
        if round % 6 == 5 {
            pieces.push(worker.allocate(layout).unwrap());
        } else {
            worker.free(pieces.swap_remove(at));
        }
        // Four full lists until it does.
        assert!(round < 2000 || worker.cache.is_draining(class), "round {round}");
    }
    for round in 0..BLOCKS {
        let at = random.below(pieces.len());
        worker.free(pieces.swap_remove(at));
        pieces.push(worker.allocate(layout).unwrap());
        // When the last refill is used up it knows.
        assert!(round < 2000 || !worker.cache.is_draining(class), "round {round}");
    }
    pieces.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}

#[test]
fn what_a_sleeping_thread_kept_goes_home() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, layout) = (Worker::new(&HEAP), Worker::layout(64, 8));
    fill(&worker, layout).into_iter().for_each(|piece| worker.free(piece));
    let before = HEAP.slots_in_use();
    assert!(before > 18, "{before} slots");
    assert!(HEAP.scavenge_tick() > 16, "the scavenger stays for what is kept");
    assert_eq!(HEAP.slots_in_use(), before, "kept for a tick");
    HEAP.scavenge_tick();
    HEAP.check();
    // The two lists that only the thread may touch, and its current span.
    assert!(HEAP.slots_in_use() <= 3, "{} slots", HEAP.slots_in_use());
    let pieces = fill(&worker, layout);
    HEAP.check();
    pieces.into_iter().for_each(|piece| worker.free(piece));
    HEAP.release_free();
    HEAP.check();
    assert!(HEAP.slots_in_use() <= 3);
    worker.close();
    assert_eq!(HEAP.slots_in_use(), 0);
}

#[test]
fn spans_of_a_sleeping_thread_that_others_emptied_end() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (sleeper, layout) = (Worker::new(&HEAP), Worker::layout(64, 8));
    let pieces = fill(&sleeper, layout);
    let other = Worker::new(&HEAP);
    pieces.into_iter().for_each(|piece| other.free(piece));
    other.close();
    HEAP.check();
    let before = HEAP.slots_in_use();
    HEAP.scavenge_tick();
    HEAP.check();
    let after = HEAP.slots_in_use();
    assert!(before > 18 && after <= 2, "{before} slots, then {after}");
    let pieces = fill(&sleeper, layout);
    pieces.into_iter().for_each(|piece| sleeper.free(piece));
    sleeper.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}

/// A message that was read and left a span as it was is not the last one.
#[test]
fn spans_of_a_sleeping_thread_are_told_of_again_after_the_scavenger_looked() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (sleeper, layout) = (Worker::new(&HEAP), Worker::layout(64, 8));
    let mut pieces: Vec<_> = (0..4).flat_map(|_| fill(&sleeper, layout)).collect();
    pieces.sort_by_key(|piece| (piece.start.addr().get() / 64 % 8, piece.start.addr()));
    let rest = pieces.split_off(pieces.len() / 4);
    let other = Worker::new(&HEAP);
    pieces.into_iter().for_each(|piece| other.free(piece));
    other.close();
    assert!(HEAP.is_sparse(), "two of eight blocks of each span are a message");
    let before = HEAP.slots_in_use();
    (0..3).for_each(|_| tick(&HEAP));
    assert!(!HEAP.is_sparse() && HEAP.slots_in_use() == before, "nothing is left to do");

    let other = Worker::new(&HEAP);
    rest.into_iter().for_each(|piece| other.free(piece));
    other.close();
    assert!(HEAP.is_sparse(), "nobody wakes the scavenger for what is free now");
    HEAP.scavenge_tick();
    HEAP.check();
    let after = HEAP.slots_in_use();
    assert!(before > 70 && after <= 2, "{before} slots, then {after}");
    sleeper.close();
    HEAP.check();
    HEAP.release_free();
    assert_eq!(HEAP.slots_in_use(), 0);
}

/// Others left less of each span than the owner's own countdown, which therefore never fires.
#[test]
fn spans_of_which_the_owner_frees_the_last_blocks_end() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (sleeper, layout) = (Worker::new(&HEAP), Worker::layout(64, 8));
    let mut pieces: Vec<_> = (0..4).flat_map(|_| fill(&sleeper, layout)).collect();
    pieces.sort_by_key(|piece| (piece.start.addr().get() / 64 % 16, piece.start.addr()));
    let rest = pieces.split_off(pieces.len() * 15 / 16);
    let other = Worker::new(&HEAP);
    pieces.into_iter().for_each(|piece| other.free(piece));
    other.close();
    let before = HEAP.slots_in_use();
    (0..3).for_each(|_| tick(&HEAP));
    assert_eq!(HEAP.slots_in_use(), before, "a sixteenth of each is in use");
    rest.into_iter().for_each(|piece| sleeper.free(piece));
    sleeper.cache.owner().unwrap().empty_lists(&HEAP, &sleeper.cache);
    tick(&HEAP);
    HEAP.check();
    let after = HEAP.slots_in_use();
    assert!(before > 70 && after <= 2, "{before} slots, then {after}");
    sleeper.close();
}

/// Of most spans of a cache that expires the last eighth is freed after the scavenger has read that
/// the others are.
#[test]
fn spans_of_which_the_scavenger_kept_the_message_are_told_of_again() {
    static HEAPS: [Heap<Fake>; 2] = [const { Heap::new(Fake::new(1 << 32)) }; 2];
    for (heap, owner_frees) in HEAPS.iter().zip([false, true]) {
        let (sleeper, layout) = (Worker::new(heap), Worker::layout(64, 8));
        let mut pieces: Vec<_> = (0..4).flat_map(|_| fill(&sleeper, layout)).collect();
        pieces.sort_by_key(|piece| (piece.start.addr().get() / 64 % 16, piece.start.addr()));
        let rest = pieces.split_off(pieces.len() * 15 / 16);
        let other = Worker::new(heap);
        pieces.into_iter().for_each(|piece| other.free(piece));
        let before = heap.slots_in_use();
        (0..3).for_each(|_| tick(heap));
        assert!(!heap.is_sparse() && heap.slots_in_use() == before, "nothing is left to do");

        let last = if owner_frees { &sleeper } else { &other };
        rest.into_iter().for_each(|piece| last.free(piece));
        last.cache.owner().unwrap().empty_lists(heap, &last.cache);
        heap.flush_outbox(other.cache.owner().unwrap());
        if !owner_frees {
            assert!(heap.is_sparse(), "nobody wakes the scavenger for what is free now");
            heap.scavenge_tick();
        }
        heap.check();
        let after = heap.slots_in_use();
        assert!(before > 70 && after <= 3, "{before} slots, then {after}");
        [sleeper, other].iter().for_each(Worker::close);
        heap.check();
        heap.release_free();
        assert_eq!(heap.slots_in_use(), 0);
    }
}

#[test]
fn what_is_kept_is_given_up_when_memory_runs_out() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(4 << 20));
    let (sleeper, worker) = (Worker::new(&HEAP), Worker::new(&HEAP));
    fill(&sleeper, Worker::layout(64, 8)).into_iter().for_each(|piece| sleeper.free(piece));
    let mut pieces = Vec::new();
    while let Some(piece) = worker.allocate(Worker::layout(4000, 8)) {
        pieces.push(piece);
    }
    // Of 48 mapped slots all but those of headers and the sleeper's lists.
    assert!(pieces.len() > 40 * 16, "{} blocks", pieces.len());
    HEAP.check();
    pieces.into_iter().for_each(|piece| worker.free(piece));
    [worker, sleeper].iter().for_each(Worker::close);
    assert_eq!(HEAP.slots_in_use(), 0);
}

#[test]
fn the_scavenger_works_beside_threads_that_free() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (pool, done) = (Lock::new(Vec::<Vec<Piece>>::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3_u64)
            .map(|seed| {
                let pool = &pool;
                scope.spawn(move || {
                    let (worker, mut random) = (Worker::new(&HEAP), Random(seed));
                    for _ in 0..60 {
                        let layout = Worker::layout([24, 64, 200, 3000][random.below(4)], 8);
                        let count = 1 + random.below(3000);
                        let mut pieces: Vec<_> =
                            (0..count).map(|_| worker.allocate(layout).unwrap()).collect();
                        if random.below(3) == 0 {
                            let mut pool = pool.lock();
                            pool.push(pieces);
                            let at = random.below(pool.len());
                            pieces = pool.swap_remove(at);
                        } else if random.below(3) == 0 {
                            pieces.reverse();
                        }
                        pieces.into_iter().for_each(|piece| worker.free(piece));
                    }
                    worker.close();
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Relaxed) {
                HEAP.scavenge_tick();
                std::thread::yield_now();
            }
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        done.store(true, Relaxed);
    });
    let worker = Worker::new(&HEAP);
    pool.lock().drain(..).flatten().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}
