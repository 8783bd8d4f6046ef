//! Where a span comes to lie: see [`pages`](crate::heap::pages).

use super::{Piece, Random, Worker};
use crate::heap::Heap;
use crate::heap::geometry::SLOT_BYTES;
use crate::sys::fake::Fake;

/// Blocks of so many slots each, and their addresses.
fn row(worker: &Worker, slots: &[usize]) -> Vec<Option<Piece>> {
    slots.iter().map(|&count| Some(of_slots(worker, count))).collect()
}

fn of_slots(worker: &Worker, count: usize) -> Piece {
    worker.allocate(Worker::layout(count * SLOT_BYTES, 8)).unwrap()
}

/// Frees the block at `at` of a row; where it was.
fn free(worker: &Worker, row: &mut [Option<Piece>], at: usize) -> usize {
    let piece = row[at].take().unwrap();
    let address = piece.start.addr().get();
    worker.free(piece);
    address
}

#[test]
fn what_is_resident_comes_before_what_is_low() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    let mut blocks = row(&worker, &[4, 1, 4, 1, 4, 1]);
    let clean = free(&worker, &mut blocks, 0);
    HEAP.scavenge_tick();
    HEAP.scavenge_tick();
    let dirty = free(&worker, &mut blocks, 2);
    let first = of_slots(&worker, 4);
    assert_eq!(first.start.addr().get(), dirty);
    let second = of_slots(&worker, 4);
    assert_eq!(second.start.addr().get(), clean);
    HEAP.check();
}

#[test]
fn of_resident_places_the_lowest_is_taken() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    let mut blocks = row(&worker, &[2, 1, 8, 1, 3, 1]);
    free(&worker, &mut blocks, 0);
    let wide = free(&worker, &mut blocks, 2);
    let tight = free(&worker, &mut blocks, 4);
    let taken = [3, 3, 3].map(|count| of_slots(&worker, count).start.addr().get());
    assert_eq!(taken, [wide, wide + 3 * SLOT_BYTES, tight]);
    HEAP.check();
}

#[test]
fn of_fresh_places_the_tightest_is_taken_and_of_these_the_lowest() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    let mut blocks = row(&worker, &[8, 1, 3, 1, 3, 1]);
    let [wide, tight, same] = [0, 2, 4].map(|at| free(&worker, &mut blocks, at));
    HEAP.scavenge_tick();
    HEAP.scavenge_tick();
    let taken = [3, 3, 3].map(|count| of_slots(&worker, count).start.addr().get());
    assert_eq!(taken, [tight, same, wide]);
    HEAP.check();
}

#[test]
fn a_place_that_is_resident_in_part_comes_before_a_fresh_one_in_an_earlier_chunk() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    // A chunk has room for three of these, and 252 slots; the fourth is in the second chunk.
    let mut blocks = row(&worker, &[256, 256, 256, 256]);
    let first_chunk = blocks[0].as_ref().unwrap().start.addr().get();
    let second_chunk = free(&worker, &mut blocks, 3);
    assert!(second_chunk.abs_diff(first_chunk) >= 3 * 256 * SLOT_BYTES);
    let again = of_slots(&worker, 200);
    assert_eq!(again.start.addr().get(), second_chunk);
    HEAP.check();
}

/// Of one slot or several, of any alignment, and where resident places lie beside.
#[test]
fn aligned_blocks_take_resident_places_that_are_aligned() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, mut random) = (Worker::new(&HEAP), Random(5));
    let mut live: Vec<Piece> = Vec::new();
    for round in 0..4000 {
        let align = SLOT_BYTES << random.below(6);
        let bytes = 33 * 1024 + random.below(5 * SLOT_BYTES);
        let piece = worker.allocate(Worker::layout(bytes, align)).unwrap();
        assert!(piece.start.addr().get().is_multiple_of(align), "{bytes} at {align}");
        live.push(piece);
        if live.len() > 40 {
            worker.free(live.swap_remove(random.below(40)));
        }
        if round % 1000 == 999 {
            HEAP.check();
        }
    }
    let in_use: usize = live.iter().map(|piece| piece.layout.size().div_ceil(SLOT_BYTES)).sum();
    let dirty = HEAP.space.lock().counts().free_dirty;
    assert!(dirty < 4 * in_use, "{dirty} slots are resident beside {in_use}");
    live.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}
