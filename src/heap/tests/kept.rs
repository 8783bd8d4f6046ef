//! Large blocks whose mappings are kept when they are freed.

use std::sync::atomic::Ordering::Relaxed;

use super::{Piece, Worker};
use crate::heap::Heap;
use crate::sys::fake::{Fake, resident_pages};

const MIB: usize = 1 << 20;

fn of_mib(worker: &Worker, mib: usize) -> Option<Piece> {
    worker.allocate(Worker::layout(mib * MIB, 8))
}

#[test]
fn a_block_takes_the_place_of_the_one_before_and_no_more() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    let piece = of_mib(&worker, 24).unwrap();
    let (start, budget) = (piece.start, HEAP.os.budget_bytes.load(Relaxed));
    worker.free(piece);
    assert_eq!(HEAP.counts().kept_bytes, 24 * MIB);
    assert_eq!(HEAP.held_bytes() as usize / MIB, 24);
    let again = of_mib(&worker, 20).unwrap();
    assert_eq!((again.start, HEAP.counts().kept_bytes), (start, 0));
    assert_eq!(HEAP.counts().mapped_large_bytes, 20 << 20);
    assert_eq!(HEAP.os.budget_bytes.load(Relaxed), budget + 4 * MIB, "the rest went back");
    worker.free(again);
    HEAP.check();
}

#[test]
fn who_wants_zeroes_gets_them_from_a_used_mapping() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    worker.free(of_mib(&worker, 20).unwrap());
    let layout = Worker::layout(20 * MIB, 8);
    let large = HEAP.allocate_large(&worker.cache, layout, false, true).unwrap();
    assert!(large.zeroed);
    assert_eq!(resident_pages(large.start, 20 * MIB), 0);
    worker.free(Piece::new(large.start, layout, false));
    HEAP.os.deny_purge.store(true, Relaxed);
    let large = HEAP.allocate_large(&worker.cache, layout, false, true).unwrap();
    assert!(!large.zeroed, "it could not be purged");
    worker.free(Piece::new(large.start, layout, false));
}

#[test]
fn a_tick_without_use_gives_it_back_and_so_does_need() {
    // Enough for two, if nothing is kept.
    static HEAP: Heap<Fake> = Heap::new(Fake::new(60 << 20));
    let worker = Worker::new(&HEAP);
    worker.free(of_mib(&worker, 24).unwrap());
    assert_eq!(HEAP.scavenge_tick(), 24 * MIB / (64 << 10), "it stays for a tick");
    assert_eq!((HEAP.scavenge_tick(), HEAP.counts().kept_bytes), (0, 0));

    worker.free(of_mib(&worker, 24).unwrap());
    assert_eq!(HEAP.release_free(), 24 * MIB);
    assert_eq!(HEAP.counts().kept_bytes, 0);

    for mib in [17, 18] {
        worker.free(of_mib(&worker, mib).unwrap());
    }
    let all = of_mib(&worker, 50).expect("what was kept is given up");
    assert_eq!(HEAP.counts().kept_bytes, 0);
    worker.free(all);
    HEAP.check();
}

/// A program whose blocks grow does not keep what it will not use again.
#[test]
fn where_none_fits_the_oldest_goes() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    let kept = [17, 18].map(|mib| of_mib(&worker, mib).unwrap());
    kept.into_iter().for_each(|piece| worker.free(piece));
    let piece = of_mib(&worker, 40).unwrap();
    assert_eq!(HEAP.counts().kept_bytes, 18 * MIB);
    worker.free(piece);
    HEAP.check();
}

#[test]
fn all_that_is_kept_goes_before_there_is_no_memory_without_chunks() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(40 << 20));
    let worker = Worker::new(&HEAP);
    let kept = [17, 18].map(|mib| of_mib(&worker, mib).unwrap());
    kept.into_iter().for_each(|piece| worker.free(piece));
    let piece = of_mib(&worker, 30).expect("the oldest alone is not enough");
    assert_eq!(HEAP.counts().kept_bytes, 0);
    worker.free(piece);
    HEAP.check();
}
