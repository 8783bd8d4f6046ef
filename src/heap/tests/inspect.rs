//! What is at an address, and whether it is free: places where little tells one from the other.

use super::Worker;
use crate::heap::Heap;
use crate::heap::class::ClassId;
use crate::heap::geometry::SLOT_BYTES;
use crate::heap::inspect::{Used, What};
use crate::heap::span::{Kind, Place};
use crate::sys::fake::Fake;

fn what(worker: &Worker, address: usize) -> Option<What> {
    worker.heap.inspect(&worker.cache, address).map(|found| found.what)
}

fn used(worker: &Worker, address: usize) -> Used {
    match what(worker, address) {
        Some(What::Block(block)) => block.used,
        other => panic!("no block: {other:?}"),
    }
}

#[test]
fn slots_on_a_shelf_are_free_though_a_block_in_use_lies_before_them() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    // So that it has a heap, and that a shelf.
    worker.free(worker.allocate(Worker::layout(64, 8)).unwrap());
    let of_two = || worker.allocate(Worker::layout(2 * SLOT_BYTES, 8)).unwrap();
    let mut pieces = [(); 2].map(|()| of_two());
    pieces.sort_by_key(|piece| piece.start);
    let [before, behind] = pieces;
    let (first, second) = (before.start.addr().get(), behind.start.addr().get());
    assert_eq!(second, first + 2 * SLOT_BYTES, "they are no neighbours");
    worker.free(behind);
    assert!(HEAP.counts().shelved_bytes >= 2 * SLOT_BYTES);
    assert_eq!(what(&worker, second - 1), Some(What::Large { sampled: false }));
    for address in [second, second + SLOT_BYTES] {
        assert_eq!(what(&worker, address), Some(What::FreeSlot { dirty: true }));
    }
    worker.free(before);
    worker.close();
    HEAP.check();
}

#[test]
fn the_end_of_a_span_is_no_block() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    let layout = Worker::layout(3000, 8);
    let class = ClassId::of(layout).unwrap();
    let tail_bytes = SLOT_BYTES - class.capacity() as usize * class.block_bytes();
    let piece = worker.allocate(layout).unwrap();
    let end = piece.start.addr().get().next_multiple_of(SLOT_BYTES);
    let end = if end == piece.start.addr().get() { end + SLOT_BYTES } else { end };
    for address in [end - 1, end - tail_bytes] {
        let found = HEAP.inspect(&worker.cache, address).unwrap();
        assert_eq!((found.start, found.bytes), (end - tail_bytes, tail_bytes));
        assert_eq!(found.what, What::Tail);
    }
    assert!(matches!(what(&worker, end - tail_bytes - 1), Some(What::Block(_))));
    worker.free(piece);
}

#[test]
fn a_block_that_another_thread_freed_is_free() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let (worker, other) = (Worker::new(&HEAP), Worker::new(&HEAP));
    let pieces: Vec<_> = (0..40).map(|_| worker.allocate(Worker::layout(64, 8)).unwrap()).collect();
    let addresses: Vec<_> = pieces.iter().map(|piece| piece.start.addr().get()).collect();
    assert!(addresses.iter().all(|address| used(&worker, *address) == Used::Live));
    pieces.into_iter().for_each(|piece| other.free(piece));
    other.close();
    for address in addresses {
        assert_eq!(used(&worker, address), Used::Free);
    }
    worker.close();
    HEAP.check();
}

/// Between its adoption and the next refill.
#[test]
fn what_the_thread_before_left_in_an_adopted_span_is_free() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let [before, worker] = [(); 2].map(|()| Worker::new(&HEAP));
    let layout = Worker::layout(64, 8);
    let class = ClassId::of(layout).unwrap();
    let mut pieces: Vec<_> = (0..400).map(|_| before.allocate(layout).unwrap()).collect();
    let freed: Vec<_> = pieces
        .drain(..300)
        .map(|piece| {
            let address = piece.start.addr().get();
            before.free(piece);
            address
        })
        .collect();
    before.close();
    assert!(HEAP.open_thread(&worker.cache));
    let owner = worker.cache.owner().unwrap();
    let span = HEAP.adopt(class, Kind::Blocks, core::ptr::from_ref(owner).cast_mut()).unwrap();
    span.hot().place.set(Place::Current as u8);
    owner.bin(class).current.set(span.link());
    assert!(span.hot().spare_blocks.get() >= 300);
    assert!(freed.into_iter().all(|address| used(&worker, address) == Used::Free));
    let live = pieces[0].start.addr().get();
    assert_eq!(used(&worker, live), Used::Live);
    pieces.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}

#[test]
fn the_first_byte_behind_a_mapping_or_a_chunk_is_not_the_heaps() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(24 << 20));
    let worker = Worker::new(&HEAP);
    let mapping = worker.allocate(Worker::layout(20 << 20, 8)).unwrap();
    // For which a part of a chunk is left.
    let small = worker.allocate(Worker::layout(64, 8)).unwrap();
    let start = mapping.start.addr().get();
    assert_eq!(what(&worker, start + (20 << 20) - 1), Some(What::Mapping { sampled: false }));
    assert_eq!(what(&worker, start + (20 << 20)), None);
    assert_eq!(what(&worker, start - 1), None);

    let end = {
        let mut space = HEAP.space.lock();
        let [lower, _] = space.each();
        let chunk = lower.chunk(0).unwrap();
        assert!(chunk.mapped < 256, "all of it is mapped");
        chunk.base.addr().get() + chunk.mapped * SLOT_BYTES
    };
    assert!(matches!(what(&worker, end - 1), Some(What::FreeSlot { .. })));
    assert_eq!(what(&worker, end), None);
    [mapping, small].into_iter().for_each(|piece| worker.free(piece));
}
