//! Pages inside spans that are in use: given back, taken again, and nobody's block touched.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use crate::heap::geometry::SLOT_BYTES;
use crate::sys::fake;
use crate::sys::lock::Lock;
use crate::sys::os::{PAGE_BYTES_MIN, page_bytes};

/// Sizes with blocks that cross pages, that fill them, that are larger than them.
const SIZES: [usize; 9] = [8, 24, 64, 200, 320, 1152, 3000, 6000, 30_000];
const SPANS: usize = 12;

/// Blocks of `bytes` that fill about [`SPANS`] spans.
fn fill(worker: &Worker, bytes: usize) -> Vec<Piece> {
    let layout = Worker::layout(bytes, 8);
    let class = ClassId::of(layout).unwrap();
    let count = SPANS * class.capacity() as usize;
    (0..count).map(|_| worker.allocate(layout).unwrap()).collect()
}

/// Those that stay, one in `share`, and the others.
fn split(pieces: Vec<Piece>, share: usize, random: &mut Random) -> (Vec<Piece>, Vec<Piece>) {
    pieces.into_iter().partition(|_| random.below(share) == 0)
}

/// Resident pages of all slots in spans.
fn resident_pages(heap: &Heap<Fake>) -> usize {
    let mut pages = 0;
    heap.space.lock().each().into_iter().for_each(|page_heap| {
        page_heap.each_header(|span| {
            if span.kind() == Kind::Blocks {
                let bytes = span.hot().slots.get() as usize * SLOT_BYTES;
                pages += fake::resident_pages(NonNull::new(span.start()).unwrap(), bytes);
            }
        });
    });
    pages
}

/// Frees all but a few blocks in a way of its own, and looks at what stays resident.
fn thinned(heap: &'static Heap<Fake>, free: impl Fn(&Worker, Vec<Piece>), heads: usize) {
    let (mut random, mut telling) = (Random(7), 0);
    for bytes in SIZES {
        let worker = Worker::new(heap);
        let class = ClassId::of(Worker::layout(bytes, 8)).unwrap();
        let share = (class.capacity() as usize).max(6);
        let (stay, go) = split(fill(&worker, bytes), share, &mut random);
        free(&worker, go);
        // By the second tick magazines have gone home, by the fourth nothing has changed.
        (0..4).for_each(|_| tick(heap));
        heap.check();
        stay.iter().for_each(Piece::check);
        // A block lies in a page or two more than it fills; a span keeps its chains' heads; and
        // the worker's two lists may hold blocks anywhere.
        let block_pages = bytes.div_ceil(page_bytes()) + 1;
        let listed = heap.counts().classes[class.index()].listed as usize;
        let most = (stay.len() + listed + heads * (SPANS + 1)) * block_pages;
        let resident = resident_pages(heap);
        let full = SPANS * class.slots() * SLOT_BYTES / page_bytes();
        assert!(resident <= most, "{bytes} B: {resident} pages, {} blocks stay", stay.len());
        telling += usize::from(most < full / 2);
        // Everything can be had again, and once only: pieces check their bytes.
        worker.close();
        let worker = Worker::new(heap);
        let again = fill(&worker, bytes);
        heap.check();
        stay.into_iter().chain(again).for_each(|piece| worker.free(piece));
        worker.close();
        heap.check();
        assert_eq!(heap.slots_in_use(), 0, "{bytes} B");
        heap.release_free();
    }
    // In pages larger than 4 KiB there is mostly a block that stays.
    assert!(
        telling >= 2 || page_bytes() > PAGE_BYTES_MIN,
        "for {telling} sizes alone the bound says something"
    );
}

#[test]
fn what_the_owner_freed_between_blocks_in_use_goes_back() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    thinned(&HEAP, |worker, go| go.into_iter().for_each(|piece| worker.free(piece)), 2);
}

#[test]
fn what_another_thread_freed_goes_back() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    thinned(
        &HEAP,
        |_, go| {
            let other = Worker::new(&HEAP);
            go.into_iter().for_each(|piece| other.free(piece));
            other.close();
        },
        2,
    );
}

#[test]
fn what_an_ended_thread_left_goes_back() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    thinned(
        &HEAP,
        |worker, go| {
            go.into_iter().for_each(|piece| worker.free(piece));
            worker.close();
        },
        1,
    );
}

#[test]
fn half_by_the_owner_and_half_by_another_goes_back() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    thinned(
        &HEAP,
        |worker, go| {
            let other = Worker::new(&HEAP);
            for (at, piece) in go.into_iter().enumerate() {
                if at % 2 == 0 { worker.free(piece) } else { other.free(piece) }
            }
            other.close();
        },
        2,
    );
}

#[test]
fn a_span_in_use_between_two_ticks_stays_whole() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, mut random) = (Worker::new(&HEAP), Random(1));
    let (stay, go) = split(fill(&worker, 64), 300, &mut random);
    go.into_iter().for_each(|piece| worker.free(piece));
    let before = resident_pages(&HEAP);
    tick(&HEAP);
    assert_eq!(resident_pages(&HEAP), before, "seen once");
    // Magazines go home by the second tick, which changes spans once more.
    (0..3).for_each(|_| tick(&HEAP));
    let after = resident_pages(&HEAP);
    assert!(after < before, "{before} pages, then {after}");
    tick(&HEAP);
    assert_eq!(resident_pages(&HEAP), after, "nothing has changed");
    stay.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
}

#[test]
fn each_of_several_bursts_goes_back() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, mut random) = (Worker::new(&HEAP), Random(1));
    let (stay, mut go) = split(fill(&worker, 64), 300, &mut random);
    let full = resident_pages(&HEAP);
    for burst in 0..4 {
        let count = go.len();
        go.into_iter().for_each(|piece| worker.free(piece));
        (0..4).for_each(|_| tick(&HEAP));
        HEAP.check();
        let left = resident_pages(&HEAP);
        assert!(left < full * 2 / 3, "burst {burst}: {left} of {full} pages");
        go = (0..count).map(|_| worker.allocate(Worker::layout(64, 8)).unwrap()).collect();
        HEAP.check();
    }
    stay.into_iter().chain(go).for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}

#[test]
fn refused_purges_change_nothing() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, mut random) = (Worker::new(&HEAP), Random(1));
    let (stay, go) = split(fill(&worker, 64), 300, &mut random);
    go.into_iter().for_each(|piece| worker.free(piece));
    HEAP.os.deny_purge.store(true, Relaxed);
    let held = HEAP.held_bytes();
    assert_eq!(HEAP.release_free(), 0);
    HEAP.check();
    assert_eq!(HEAP.held_bytes(), held);
    HEAP.os.deny_purge.store(false, Relaxed);
    stay.into_iter().chain(fill(&worker, 64)).for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}

#[test]
fn held_bytes_follow_what_goes_back_and_comes_again() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, mut random) = (Worker::new(&HEAP), Random(1));
    let (stay, go) = split(fill(&worker, 64), 300, &mut random);
    go.into_iter().for_each(|piece| worker.free(piece));
    let (held, resident) = (HEAP.held_bytes(), resident_pages(&HEAP));
    let given_back = HEAP.release_free() as u64;
    assert_eq!(HEAP.held_bytes(), held - given_back);
    assert_eq!((resident - resident_pages(&HEAP)) * page_bytes(), given_back as usize);
    let again = fill(&worker, 64);
    stay.into_iter().chain(again).for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.release_free();
    let records = HEAP.space.lock().records_bytes() as u64;
    assert_eq!(HEAP.held_bytes(), records, "nothing is in use");
}

#[test]
fn what_was_thinned_in_a_span_that_ends_is_in_use_no_less() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, mut random) = (Worker::new(&HEAP), Random(1));
    let (stay, go) = split(fill(&worker, 64), 300, &mut random);
    go.into_iter().for_each(|piece| worker.free(piece));
    let held = HEAP.held_bytes();
    HEAP.release_free();
    assert!(HEAP.held_bytes() + (100 << 10) < held, "little went back");
    // Nothing is cut again before the spans end.
    stay.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.release_free();
    let piece = worker.allocate(Worker::layout(1 << 20, 8)).unwrap();
    let records = HEAP.space.lock().records_bytes() as u64;
    assert_eq!(HEAP.held_bytes(), records + (1 << 20));
    worker.free(piece);
    HEAP.check();
}

#[test]
fn what_was_freed_since_a_span_was_thinned_goes_back_at_once() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    // A block of each span stays, so that none ends.
    let is_first = |piece: &Piece| piece.start.addr().get().is_multiple_of(SLOT_BYTES);
    let (stay, rest): (Vec<_>, Vec<_>) = fill(&worker, 64).into_iter().partition(is_first);
    let (later, now) = split(rest, 30, &mut Random(1));
    let free = |pieces: Vec<Piece>| {
        let other = Worker::new(&HEAP);
        pieces.into_iter().for_each(|piece| other.free(piece));
        other.close();
    };
    free(now);
    (0..4).for_each(|_| tick(&HEAP));
    free(later);
    let before = resident_pages(&HEAP);
    HEAP.release_free();
    let after = resident_pages(&HEAP);
    assert!(after + SPANS <= before, "{before} pages, then {after}");
    stay.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
}

#[test]
fn an_empty_current_span_ends() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, other) = (Worker::new(&HEAP), Worker::new(&HEAP));
    let piece = worker.allocate(Worker::layout(6000, 8)).unwrap();
    // What was carved and not used goes home with the thread's lists only.
    let mut carved = vec![piece];
    while HEAP.counts().classes[ClassId::of(carved[0].layout).unwrap().index()].listed > 0 {
        carved.push(worker.allocate(Worker::layout(6000, 8)).unwrap());
    }
    carved.into_iter().for_each(|piece| other.free(piece));
    other.close();
    assert_eq!(HEAP.slots_in_use(), 1);
    (0..2).for_each(|_| tick(&HEAP));
    assert_eq!(HEAP.slots_in_use(), 0);
    HEAP.check();
    let piece = worker.allocate(Worker::layout(6000, 8)).unwrap();
    worker.free(piece);
    worker.close();
    assert_eq!(HEAP.slots_in_use(), 0);
    HEAP.check();
}

#[test]
fn spans_are_thinned_while_threads_allocate_and_free() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (pool, done) = (Lock::new(Vec::<Piece>::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3_u64)
            .map(|seed| {
                let pool = &pool;
                scope.spawn(move || {
                    let (mut worker, mut random) = (Worker::new(&HEAP), Random(seed));
                    for round in 0..60 {
                        let layout = Worker::layout(SIZES[random.below(SIZES.len())], 8);
                        let count = 1 + random.below((1 << 20) / layout.size()).min(3000);
                        let pieces = (0..count).map(|_| worker.allocate(layout).unwrap());
                        let (stay, go) = split(pieces.collect(), 40, &mut random);
                        go.into_iter().for_each(|piece| worker.free(piece));
                        let mut pool = pool.lock();
                        pool.extend(stay);
                        let from = pool.len() / 2;
                        let taken = pool.split_off(from);
                        drop(pool);
                        taken.into_iter().for_each(|piece| worker.free(piece));
                        if round % 20 == 19 {
                            worker.close();
                            worker = Worker::new(&HEAP);
                        }
                    }
                    worker.close();
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Relaxed) {
                HEAP.thin(true);
                HEAP.scavenge_tick();
            }
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        done.store(true, Relaxed);
    });
    let worker = Worker::new(&HEAP);
    pool.lock().drain(..).for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}
