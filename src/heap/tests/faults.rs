//! No memory: what fails loses nothing, and what is freed can be had again.

use core::sync::atomic::Ordering::Relaxed;

use super::*;

/// Allocates until there is no more, several times, and counts what was had.
fn fill_and_empty(heap: &'static Heap<Fake>, layouts: &[Layout]) -> Vec<usize> {
    let worker = Worker::new(heap);
    let mut had = Vec::new();
    for layout in layouts {
        let mut pieces = Vec::new();
        while let Some(piece) = worker.allocate(*layout) {
            pieces.push(piece);
        }
        heap.check();
        assert!(worker.allocate(*layout).is_none());
        had.push(pieces.len());
        pieces.into_iter().for_each(|piece| worker.free(piece));
        heap.check();
    }
    worker.close();
    heap.check();
    assert_eq!(heap.slots_in_use(), 0);
    had
}

#[test]
fn a_used_up_budget_is_null_and_comes_back() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(24 << 20));
    let layouts = [200, 5000, 30_000, 300_000, 200].map(|bytes| Worker::layout(bytes, 8));
    let had = fill_and_empty(&HEAP, &layouts);
    for (had, layout) in had.iter().zip(&layouts) {
        assert!(had * layout.size() > 8 << 20, "{had} of {layout:?}");
    }
    assert!(had[4] >= had[0], "the same again: {had:?}");
}

#[test]
fn free_address_space_of_chunks_makes_room_for_a_mapping_and_can_be_had_again() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(64 << 20));
    let layouts = [200, 50 << 20, 5000, 30 << 20, 200].map(|bytes| Worker::layout(bytes, 8));
    let had = fill_and_empty(&HEAP, &layouts);
    let mib = [had[0] * 200, had[2] * 5000, had[4] * 200].map(|bytes| bytes >> 20);
    assert!(mib.iter().all(|mib| *mib >= 32), "{mib:?} MiB");
    assert_eq!((had[1], had[3]), (1, 2), "{had:?}");
}

#[test]
fn a_chunk_whose_end_cannot_be_unmapped_stays_as_long_as_it_is() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(100 << 20));
    let layouts = [200, 90 << 20].map(|bytes| Worker::layout(bytes, 8));
    HEAP.os.deny_unmap.store(true, Relaxed);
    let had = fill_and_empty(&HEAP, &[layouts[0], layouts[1], layouts[0]]);
    assert!(had[1] == 0 && had[2] + 100 > had[0], "{had:?}");
}

/// As long as somebody else gives memory back, what he has given counts.
#[cfg(not(feature = "preload"))]
#[test]
fn what_came_back_is_had_though_somebody_goes_on_giving_back() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(96 << 20));
    let worker = Worker::new(&HEAP);
    let kept = worker.allocate(Worker::layout(30 << 20, 8)).unwrap();
    worker.free(kept);
    let _reaping = HEAP.reaping.lock();
    let layout = Worker::layout(1 << 20, 8);
    let pieces: Vec<_> = std::iter::from_fn(|| worker.allocate(layout)).collect();
    assert!(pieces.len() > 80, "{} MiB of 96", pieces.len());
    drop(_reaping);
    pieces.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
}

#[test]
fn without_a_byte_nothing_is_had_and_nothing_breaks() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(0));
    let worker = Worker::new(&HEAP);
    for bytes in [8, 10_000, 100_000, 20 << 20] {
        assert!(worker.allocate(Worker::layout(bytes, 8)).is_none());
    }
    HEAP.check();
    HEAP.os.budget_bytes.store(1 << 30, Relaxed);
    // The thread that could not even have a heap tries again.
    let piece = worker.allocate(Worker::layout(8, 8)).unwrap();
    assert_eq!(worker.cache.phase(), Phase::Live);
    worker.free(piece);
    worker.close();
    HEAP.check();
}

#[test]
fn without_a_choice_of_addresses_windows_are_found_all_the_same() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    HEAP.os.deny_map_at.store(true, Relaxed);
    let mut worker = Worker::new(&HEAP);
    let layout = Worker::layout(100_000, 64 << 10);
    let mut pieces: Vec<_> = (0..1200).map(|_| worker.allocate(layout).unwrap()).collect();
    worker.interval = 1;
    pieces.extend((0..100).map(|_| worker.allocate(Worker::layout(100, 8)).unwrap()));
    HEAP.check();
    assert!(HEAP.space.lock().counts().chunks >= 3);
    pieces.into_iter().for_each(|piece| worker.free(piece));
    HEAP.check();
}

#[test]
fn refused_purges_leave_pages_dirty() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    let layout = Worker::layout(1 << 20, 8);
    worker.free(worker.allocate(layout).unwrap());
    HEAP.os.deny_purge.store(true, Relaxed);
    assert_eq!(HEAP.release_free(), 0);
    HEAP.check();
    assert_eq!(HEAP.space.lock().counts().free_dirty, 16);
    let (piece, zeroed) = worker.allocate_large(layout, true).unwrap();
    assert!(!zeroed, "the old contents are there");
    worker.free(piece);
    HEAP.os.deny_purge.store(false, Relaxed);
    assert_eq!(HEAP.release_free(), 1 << 20);
    HEAP.check();
}

/// A program that goes on without memory asks often.
#[test]
fn an_allocation_in_vain_is_a_few_calls() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(3 << 20));
    let worker = Worker::new(&HEAP);
    let layout = Worker::layout(4000, 8);
    let pieces: Vec<_> = std::iter::from_fn(|| worker.allocate(layout)).collect();
    assert!(pieces.len() > 100, "{} blocks", pieces.len());
    let before = HEAP.os.calls.load(Relaxed);
    assert!(worker.allocate(layout).is_none());
    let calls = HEAP.os.calls.load(Relaxed) - before;
    assert!(calls < 64, "{calls} calls");
    pieces.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
}

#[test]
fn any_call_may_be_refused() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(100 << 20));
    let mut random = Random(77);
    let mut workers: Vec<_> = (0..4).map(|_| Worker::new(&HEAP)).collect();
    let mut pieces = Vec::new();
    let (mut had, mut refused, mut remapped) = (0, 0, 0);
    for round in 0..40_000 {
        if round % 1000 == 0 {
            HEAP.os.refuse_every.store([1, 2, 3, 7, 0][random.below(5)], Relaxed);
            HEAP.check();
        }
        let who = random.below(workers.len());
        // Now rather filling, now rather emptying.
        let fill = if round / 5000 % 2 == 0 { 12 } else { 6 };
        match random.below(20) {
            what if what < fill => {
                let layout = match random.below(200) {
                    0 => Worker::layout((16 << 20) + 1 + random.below(4 << 20), 8),
                    _ => random.layout(),
                };
                let piece = match ClassId::of(layout).is_none() && random.below(2) == 0 {
                    true => workers[who].allocate_large(layout, true).map(|(piece, _)| piece),
                    false => workers[who].allocate(layout),
                };
                let count = if piece.is_some() { &mut had } else { &mut refused };
                *count += 1;
                pieces.extend(piece);
            }
            19 if random.below(100) == 0 => {
                workers[who].close();
                workers[who] = Worker::new(&HEAP);
                workers[who].interval = random.below(2) as u64 * 2000;
            }
            18 if random.below(50) == 0 => _ = HEAP.scavenge_tick(),
            17 if !pieces.is_empty() => {
                // A mapping, if there is one: they are few.
                let mapping =
                    |piece: &Piece| ClassId::of(piece.layout).is_none() && is_mapping(piece.layout);
                let at = pieces.iter().position(mapping).filter(|_| random.below(4) == 0);
                let at = at.unwrap_or_else(|| random.below(pieces.len()));
                let piece: &mut Piece = &mut pieces[at];
                if ClassId::of(piece.layout).is_none() && piece.layout.align() == 8 {
                    let least = if mapping(piece) { (16 << 20) + 1 } else { 40 << 10 };
                    let moves = mapping(piece);
                    let resized = workers[who].resize_large(piece, least + random.below(1 << 20));
                    remapped += u32::from(resized && moves);
                }
            }
            _ if !pieces.is_empty() => {
                let piece = pieces.swap_remove(random.below(pieces.len()));
                workers[who].free(piece);
            }
            _ => {}
        }
    }
    assert!(had > 1000 && refused > 20, "{had} had, {refused} refused");
    assert!(remapped > 10, "{remapped} remapped");
    pieces.into_iter().for_each(|piece| workers[0].free(piece));
    workers.iter().for_each(Worker::close);
    HEAP.check();
    let counts = HEAP.counts();
    assert!(counts.classes.iter().all(|count| count.live == 0));
    assert!(counts.large.iter().all(|count| count.live_blocks() == 0));
    assert_eq!(counts.mapped_large_bytes, 0);
}

#[test]
fn a_page_that_the_program_locked_keeps_its_slot_alone() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    let piece = worker.allocate(Worker::layout(1 << 20, 8)).unwrap();
    // SAFETY: a page of the block's.
    let page = unsafe { piece.start.add(300 << 10) }.as_ptr().cast_const().cast();
    // SAFETY: as above.
    assert_eq!(unsafe { libc::mlock(page, 4096) }, 0);
    worker.free(piece);
    assert_eq!(HEAP.release_free(), 15 << 16);
    HEAP.check();
    // SAFETY: locked above.
    unsafe { libc::munlock(page, 4096) };
    assert_eq!(HEAP.release_free(), 1 << 16);
    HEAP.check();
}
