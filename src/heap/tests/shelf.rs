//! Large blocks that a thread freed and keeps for its next ones.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Piece, Random, Worker};
use crate::heap::Heap;
use crate::heap::geometry::SLOT_BYTES;
use crate::sys::fake::Fake;

/// Of each thread that works beside others.
const ROUNDS: usize = if cfg!(miri) { 50 } else { 4_000 };

/// One of `slots` slots.
fn large(worker: &Worker, slots: usize) -> Option<Piece> {
    worker.allocate(Worker::layout(slots * SLOT_BYTES, 8))
}

/// A worker whose thread has a heap.
fn worker(heap: &'static Heap<Fake>) -> Worker {
    let worker = Worker::new(heap);
    worker.free(worker.allocate(Worker::layout(64, 8)).unwrap());
    worker
}

/// `count` of `slots` slots at once, then freed.
fn batch(worker: &Worker, count: usize, slots: usize) {
    let pieces: Vec<_> = (0..count).map(|_| large(worker, slots).unwrap()).collect();
    pieces.into_iter().for_each(|piece| worker.free(piece));
}

/// Allocations, frees and live bytes of all large blocks.
fn books(heap: &Heap<Fake>) -> (u64, u64, u64) {
    heap.counts().large.iter().fold((0, 0, 0), |(allocs, frees, bytes), row| {
        (allocs + row.allocs, frees + row.frees, bytes + row.live_bytes)
    })
}

#[test]
fn a_thread_gets_its_last_one_back_and_the_books_know() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = worker(&HEAP);
    let piece = large(&worker, 2).unwrap();
    let start = piece.start;
    worker.free(piece);
    assert_eq!(HEAP.counts().shelved_bytes, 2 * SLOT_BYTES);
    for round in 1..=100 {
        let piece = large(&worker, 2).unwrap();
        assert_eq!(piece.start, start);
        assert_eq!(books(&HEAP), (round + 1, round, 2 * SLOT_BYTES as u64));
        worker.free(piece);
    }
    HEAP.check();
    // What is aligned to more than a slot is not taken from there, and before fresh memory is used
    // what lies there goes back.
    let aligned = worker.allocate(Worker::layout(2 * SLOT_BYTES, 2 * SLOT_BYTES)).unwrap();
    assert_eq!(HEAP.counts().shelved_bytes, 0);
    worker.free(aligned);
    worker.close();
    assert_eq!((HEAP.counts().shelved_bytes, books(&HEAP).2), (0, 0));
    HEAP.check();
}

#[test]
fn books_are_right_where_others_free() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let (one, other) = (worker(&HEAP), worker(&HEAP));
    for round in 0..50 {
        let pieces: Vec<_> = (1..=20).map(|slots| large(&one, slots).unwrap()).collect();
        let live = (1..=20).sum::<usize>() * SLOT_BYTES;
        assert_eq!(books(&HEAP), (20 * (round + 1), 20 * round, live as u64));
        pieces.into_iter().for_each(|piece| other.free(piece));
        HEAP.check();
    }
    assert_eq!(books(&HEAP), (1000, 1000, 0));
    one.close();
    other.close();
    HEAP.release_free();
    assert_eq!(HEAP.counts().shelved_bytes, 0);
}

#[test]
fn a_thread_that_missed_some_takes_what_lies_behind_too() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = worker(&HEAP);
    let shelved = || HEAP.counts().shelved_bytes / SLOT_BYTES;
    let free_dirty = || HEAP.counts().pages.free_dirty;
    let mut pieces: Vec<_> = (0..9).map(|_| large(&worker, 3).unwrap()).collect();
    pieces.drain(..).for_each(|piece| worker.free(piece));
    assert_eq!((shelved(), free_dirty()), (4 * 3, 5 * 3), "the first five went back as one");
    for (there, spans) in [3, 2, 1, 0, 2, 1, 0, 1, 0].into_iter().enumerate() {
        pieces.push(large(&worker, 3).unwrap());
        assert_eq!(shelved(), spans * 3, "{there}: from the fifth on three at a time");
        HEAP.check();
    }
    assert_eq!(free_dirty(), 0, "and no memory is fresh");
    pieces.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
}

#[test]
fn a_tick_without_use_gives_it_back_also_of_a_sleeping_thread() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = worker(&HEAP);
    let pieces: Vec<_> = (0..3).map(|_| large(&worker, 4).unwrap()).collect();
    pieces.into_iter().for_each(|piece| worker.free(piece));
    let in_use = HEAP.slots_in_use();
    HEAP.scavenge_tick();
    assert_eq!(HEAP.counts().shelved_bytes, 12 * SLOT_BYTES, "it stays for a tick");
    let piece = large(&worker, 4).unwrap();
    HEAP.scavenge_tick();
    assert_eq!(HEAP.counts().shelved_bytes, 0);
    assert_eq!(HEAP.slots_in_use(), in_use - 8);
    worker.free(piece);
    HEAP.check();
    worker.close();
}

#[test]
fn what_lies_there_is_in_nobodys_way() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = worker(&HEAP);
    let mut pieces: Vec<_> = (0..4).map(|_| large(&worker, 4).unwrap()).collect();
    let start = pieces[0].start;
    let in_use = HEAP.slots_in_use();
    // The two behind the first.
    for _ in 0..2 {
        worker.free(pieces.remove(1));
    }
    assert_eq!(HEAP.counts().shelved_bytes, 8 * SLOT_BYTES);
    let mut grown = pieces.remove(0);
    assert!(worker.resize_large(&mut grown, 12 * SLOT_BYTES), "where it was");
    assert_eq!((grown.start, HEAP.counts().shelved_bytes), (start, 0));
    assert_eq!(HEAP.slots_in_use(), in_use);
    worker.free(pieces.remove(0));
    worker.free(large(&worker, 20).unwrap());
    assert_eq!(HEAP.counts().shelved_bytes, 0, "fresh slots were wanted");
    HEAP.check();
    worker.free(grown);
    worker.close();
}

#[test]
fn need_takes_it_from_other_threads() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let (one, other) = (worker(&HEAP), worker(&HEAP));
    let pieces: Vec<_> = (0..4).map(|_| large(&one, 4).unwrap()).collect();
    HEAP.os.budget_bytes.store(0, Relaxed);
    // All that the chunk has still.
    let rest: Vec<_> = core::iter::from_fn(|| large(&one, 1)).collect();
    pieces.into_iter().for_each(|piece| one.free(piece));
    assert_eq!(HEAP.counts().shelved_bytes, 16 * SLOT_BYTES);
    let piece = large(&other, 3).expect("what was kept is given up");
    assert_eq!(HEAP.counts().shelved_bytes, 0);
    other.free(piece);
    rest.into_iter().for_each(|piece| one.free(piece));
    HEAP.check();
}

#[test]
fn a_forked_child_gets_back_what_other_threads_had() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let (worker, other) = (worker(&HEAP), worker(&HEAP));
    let pieces: Vec<_> = (0..3).map(|_| large(&other, 5).unwrap()).collect();
    pieces.into_iter().for_each(|piece| other.free(piece));
    assert_eq!(HEAP.counts().shelved_bytes, 15 * SLOT_BYTES);
    HEAP.before_fork(&worker.cache);
    HEAP.after_fork(&worker.cache);
    HEAP.forked(&worker.cache);
    HEAP.release_free();
    assert_eq!(HEAP.counts().shelved_bytes, 0);
    HEAP.check();
}

#[test]
fn whoever_empties_shelves_beside_their_threads_loses_and_doubles_nothing() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    static DONE: AtomicUsize = AtomicUsize::new(0);
    const THREADS: usize = 3;
    std::thread::scope(|scope| {
        for seed in 0..THREADS as u64 {
            scope.spawn(move || {
                let (worker, mut random) = (worker(&HEAP), Random(seed));
                let mut pieces = Vec::new();
                for _ in 0..ROUNDS {
                    if pieces.len() < 30 && random.below(2) == 0 {
                        let most = if random.below(20) == 0 { 70 } else { 6 };
                        pieces.push(large(&worker, 1 + random.below(most)).unwrap());
                    } else if !pieces.is_empty() {
                        let at = random.below(pieces.len());
                        if random.below(8) == 0 {
                            let bytes = (1 + random.below(12)) * SLOT_BYTES;
                            worker.resize_large(&mut pieces[at], bytes);
                        } else {
                            worker.free(pieces.swap_remove(at));
                        }
                    }
                }
                pieces.into_iter().for_each(|piece| worker.free(piece));
                worker.close();
                DONE.fetch_add(1, Relaxed);
            });
        }
        scope.spawn(|| {
            for round in 0.. {
                match round % 4 {
                    0 => HEAP.reap_in_need(),
                    1 => _ = HEAP.release_free(),
                    _ => _ = HEAP.scavenge_tick(),
                }
                if DONE.load(Relaxed) == THREADS {
                    break;
                }
                std::thread::yield_now();
            }
        });
    });
    HEAP.check();
    let (allocs, frees, live_bytes) = books(&HEAP);
    assert_eq!((allocs - frees, live_bytes), (0, 0));
    HEAP.release_free();
    HEAP.check();
}

#[test]
fn a_thread_that_uses_little_keeps_little_for_long() {
    static HEAPS: [Heap<Fake>; 2] = [const { Heap::new(Fake::new(1 << 30)) }; 2];
    // What it did before: filled the shelf once; missed what it had sent back, and got more room.
    for (heap, [batches, count, slots]) in HEAPS.iter().zip([[1, 16, 1], [6, 30, 4]]) {
        let worker = worker(heap);
        (0..batches).for_each(|_| batch(&worker, count, slots));
        assert!(heap.counts().shelved_bytes >= 1 << 20);
        for _ in 0..8 {
            heap.scavenge_tick();
            batch(&worker, 1, 1);
        }
        let shelved_bytes = heap.counts().shelved_bytes;
        assert!(shelved_bytes <= 2 * SLOT_BYTES, "{shelved_bytes} after eight ticks");
        worker.close();
    }
}

#[test]
fn a_block_grows_into_what_lies_behind_it_on_the_shelf() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = worker(&HEAP);
    let [mut first, second, third] = [(); 3].map(|()| large(&worker, 3).unwrap());
    worker.free(second);
    worker.free(third);
    let start = first.start;
    for (slots, shelved) in [(4, 5), (8, 1), (9, 0)] {
        worker.resize_large(&mut first, slots * SLOT_BYTES);
        assert_eq!((first.start, HEAP.counts().shelved_bytes), (start, shelved * SLOT_BYTES));
        HEAP.check();
    }
    worker.free(first);
    worker.close();
    HEAP.check();
}

#[test]
fn a_new_thread_begins_with_little_room_whoever_had_its_heap_before() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let one = worker(&HEAP);
    (0..6).for_each(|_| batch(&one, 30, 4));
    assert!(HEAP.counts().shelved_bytes > 2 << 20, "it missed what it had sent back");
    one.close();
    let next = worker(&HEAP);
    batch(&next, 30, 4);
    assert_eq!(HEAP.counts().thread_heaps, 1, "the same heap");
    assert!(HEAP.counts().shelved_bytes <= 1 << 20, "{}", HEAP.counts().shelved_bytes);
    next.close();
}
