//! When a heap asks for huge pages. That nothing is resident there, the operating system checks.

use core::sync::atomic::Ordering::Relaxed;

use super::super::geometry::{HEADER_SLOTS, SLOT_BYTES};
use super::*;
use crate::sys::fake::resident_pages;
use crate::sys::os::page_bytes;

const BLOCK: usize = 8 * 1024;

fn fill(worker: &Worker, mib: usize) -> Vec<Piece> {
    let layout = Worker::layout(BLOCK, 8);
    (0..(mib << 20) / BLOCK).map(|_| worker.allocate(layout).unwrap()).collect()
}

fn asks(heap: &Heap<Fake>) -> usize {
    heap.os.huge_asks.load(Relaxed)
}

/// Resident bytes of all chunks, without those of the headers.
fn resident_bytes(heap: &Heap<Fake>) -> usize {
    let mut pages = 0;
    for page_heap in heap.space.lock().each() {
        for index in 0.. {
            let Some(chunk) = page_heap.chunk(index) else { break };
            let slots = chunk.mapped - HEADER_SLOTS;
            // SAFETY: within the chunk's mapped part.
            let first = unsafe { chunk.base.add(HEADER_SLOTS * SLOT_BYTES) };
            pages += resident_pages(first, slots * SLOT_BYTES);
        }
    }
    pages * page_bytes()
}

fn free_and_wait(heap: &Heap<Fake>, worker: &Worker, pieces: Vec<Piece>) {
    pieces.into_iter().for_each(|piece| worker.free(piece));
    for _ in 0..4 {
        heap.scavenge_tick();
    }
    heap.check();
}

/// The variable may be read after the first blocks: then what lies behind them is asked for.
#[test]
fn a_heap_that_is_to_have_huge_pages_early_asks_once_it_knows() {
    static HEAPS: [Heap<Fake>; 2] = [const { Heap::new(Fake::new(1 << 32)) }; 2];
    for (heap, knows_at_first) in HEAPS.iter().zip([true, false]) {
        heap.os.huge_early.store(knows_at_first, Relaxed);
        let worker = Worker::new(heap);
        let first = fill(&worker, 1);
        assert_eq!(asks(heap), usize::from(knows_at_first));
        heap.os.huge_early.store(true, Relaxed);
        let more = fill(&worker, 12);
        assert_eq!(asks(heap), 1, "all of the chunk, or of what is left of it");
        first.into_iter().chain(more).for_each(|piece| worker.free(piece));
        worker.close();
        heap.check();
    }
}

#[test]
fn a_dense_heap_asks_once_a_chunk_and_again_after_it_was_empty() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    let small = fill(&worker, 12);
    assert_eq!(asks(&HEAP), 0, "12 MiB are a small heap");
    for asked in [2, 4] {
        let burst = Worker::new(&HEAP);
        let pieces = fill(&burst, 88);
        assert_eq!(asks(&HEAP), asked, "two chunks");
        pieces.into_iter().for_each(|piece| burst.free(piece));
        burst.close();
        for _ in 0..4 {
            HEAP.scavenge_tick();
        }
        HEAP.check();
        assert_eq!(asks(&HEAP), asked);
        let over = resident_bytes(&HEAP).abs_diff(12 << 20);
        assert!(over < 1 << 20, "{over} bytes of huge pages that were used in part");
    }
    free_and_wait(&HEAP, &worker, small);
    worker.close();
    assert_eq!(HEAP.slots_in_use(), 0);
}

#[test]
fn a_heap_that_was_not_dense_asks_from_where_nothing_is_yet() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    // Six threads may hold 330 slots nearly empty: dense from 83 MiB on.
    let workers: Vec<Worker> = (0..6).map(|_| Worker::new(&HEAP)).collect();
    let each: Vec<_> = workers.iter().map(|worker| fill(worker, 12)).collect();
    assert_eq!(asks(&HEAP), 0);
    let rest = fill(&workers[0], 24);
    assert_eq!(asks(&HEAP), 1, "the second chunk, from its middle on");
    free_and_wait(&HEAP, &workers[0], rest);
    for (worker, pieces) in workers.iter().zip(each) {
        free_and_wait(&HEAP, worker, pieces);
        worker.close();
    }
    assert_eq!(HEAP.slots_in_use(), 0);
}

#[test]
fn a_chunk_with_a_block_at_its_end_keeps_its_small_pages() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    let mut pieces = fill(&worker, 62);
    let before = asks(&HEAP);
    pieces.sort_by_key(|piece| piece.start);
    let last = pieces.split_off(pieces.len() - 1);
    free_and_wait(&HEAP, &worker, pieces);
    let again = fill(&worker, 40);
    assert_eq!((before, asks(&HEAP)), (1, 1), "not between pages that are resident");
    free_and_wait(&HEAP, &worker, again);
    free_and_wait(&HEAP, &worker, last);
    worker.close();
}

fn small_asks(heap: &Heap<Fake>) -> usize {
    heap.os.small_asks.load(Relaxed)
}

/// The system may make them unasked.
#[test]
fn a_small_heap_is_to_have_no_huge_pages() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    let pieces = fill(&worker, 1);
    assert_eq!((small_asks(&HEAP), asks(&HEAP)), (1, 0));
    free_and_wait(&HEAP, &worker, pieces);
    worker.close();
}

/// Or the system would fill them up again.
#[test]
fn a_chunk_with_spans_that_are_thinned_is_to_have_no_huge_pages_from_then_on() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    HEAP.os.huge_early.store(true, Relaxed);
    let (worker, other, mut random) = (Worker::new(&HEAP), Worker::new(&HEAP), Random(1));
    let pieces = fill(&worker, 2);
    let (stay, go): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|_| random.below(6) == 0);
    go.into_iter().for_each(|piece| other.free(piece));
    HEAP.flush_outbox(other.cache.owner().unwrap());
    // Links the spans that others freed into, and gives no slots back.
    HEAP.reap(true);
    assert_eq!((small_asks(&HEAP), asks(&HEAP)), (0, 1));
    for _ in 0..2 {
        HEAP.thin(true);
        assert_eq!((small_asks(&HEAP), asks(&HEAP)), (1, 1), "once for a chunk");
    }
    free_and_wait(&HEAP, &worker, stay);
    [worker, other].iter().for_each(Worker::close);
    HEAP.check();
}
