//! Large blocks with a mapping of their own: where they lie, and what it costs when there is no
//! memory for them.

use std::sync::atomic::Ordering::Relaxed;

use super::{Piece, Worker};
use crate::heap::Heap;
use crate::sys::fake::Fake;

const MIB: usize = 1 << 20;
/// Less than a piece of memory for records.
const TOO_LITTLE: usize = 32 << 10;

fn budget(heap: &Heap<Fake>) -> usize {
    heap.os.budget_bytes.load(Relaxed)
}

/// Moved pages lie at a multiple of a page.
#[test]
fn a_mapping_of_a_larger_alignment_is_not_moved() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    let mut piece = worker.allocate(Worker::layout(20 * MIB, MIB)).unwrap();
    assert!(!worker.resize_large(&mut piece, 40 * MIB));
    assert!(!worker.resize_large(&mut piece, 17 * MIB));
    worker.free(piece);
    HEAP.check();
}

#[test]
fn a_small_block_of_a_very_large_alignment_is_a_mapping() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    let piece = worker.allocate(Worker::layout(100, 64 * MIB)).unwrap();
    assert!(piece.start.addr().get().is_multiple_of(64 * MIB));
    let counts = HEAP.counts();
    assert_eq!((counts.mappings, counts.pages.in_use), (1, 0));
    worker.free(piece);
    assert_eq!(HEAP.counts().mappings, 0);
    HEAP.check();
}

#[test]
fn a_mapping_without_room_for_its_record_goes_back() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(20 * MIB + TOO_LITTLE));
    let worker = Worker::new(&HEAP);
    assert!(worker.allocate(Worker::layout(20 * MIB, 8)).is_none());
    assert_eq!(budget(&HEAP), 20 * MIB + TOO_LITTLE);
    assert_eq!(HEAP.counts().mapped_large_bytes, 0);
    HEAP.check();
}

/// To lie at a multiple of a huge page it would take two MiB more.
#[test]
fn a_mapping_for_which_there_is_just_room_lies_anywhere() {
    const BUDGET: usize = 20 * MIB + (64 << 10);
    static HEAP: Heap<Fake> = Heap::new(Fake::new(BUDGET));
    let worker = Worker::new(&HEAP);
    let piece = worker.allocate(Worker::layout(20 * MIB, 8)).expect("huge pages are a wish");
    assert_eq!(budget(&HEAP), 0);
    worker.free(piece);
    HEAP.release_free();
    assert_eq!(budget(&HEAP), 20 * MIB, "all but the record");
    HEAP.check();
}

/// The least part of a chunk fits in, and no record of it.
#[test]
fn a_chunk_without_room_for_its_record_goes_back() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(MIB + TOO_LITTLE));
    let worker = Worker::new(&HEAP);
    for _ in 0..3 {
        assert!(worker.allocate(Worker::layout(100_000, 8)).is_none());
        assert_eq!(budget(&HEAP), MIB + TOO_LITTLE);
    }
    HEAP.check();
}

#[test]
fn chunks_that_were_cut_down_are_mapped_again_before_there_are_more() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(140 * MIB));
    let worker = Worker::new(&HEAP);
    let fill = || -> Vec<Piece> {
        // 125 MiB: more than a chunk and less than two.
        (0..120).map(|_| worker.allocate(Worker::layout(MIB, 8)).unwrap()).collect()
    };
    fill().into_iter().for_each(|piece| worker.free(piece));
    assert_eq!(HEAP.counts().pages.chunks, 2);
    let mapping = worker.allocate(Worker::layout(100 * MIB, 8)).expect("chunks are cut down");
    worker.free(mapping);
    let again = fill();
    assert_eq!(HEAP.counts().pages.chunks, 2);
    again.into_iter().for_each(|piece| worker.free(piece));
    HEAP.check();
}
