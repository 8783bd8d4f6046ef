//! A fork: of what threads had, what does the child get back? The other workers are not used
//! after it, as the threads of the parent are not there.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread;

use super::*;

const BLOCKS: usize = 20_000;

fn fork(heap: &'static Heap<Fake>, worker: &Worker) {
    heap.before_fork(&worker.cache);
    heap.after_fork(&worker.cache);
    heap.forked(&worker.cache);
    heap.check();
}

fn fill(worker: &Worker, layout: Layout) -> Vec<Piece> {
    (0..BLOCKS).map(|_| worker.allocate(layout).unwrap()).collect()
}

fn listed(heap: &Heap<Fake>) -> u64 {
    heap.counts().classes.iter().map(|count| count.listed).sum()
}

#[test]
fn a_child_gets_back_what_it_frees_of_other_threads() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, other) = (Worker::new(&HEAP), Worker::new(&HEAP));
    let mut random = Random(7);
    let mut pieces = fill(&other, Worker::layout(64, 8));
    pieces.extend((0..2_000).map(|_| other.allocate(random.layout()).unwrap()));
    let own = worker.allocate(Worker::layout(64, 8)).unwrap();
    let before = HEAP.slots_in_use();
    fork(&HEAP, &worker);
    pieces.into_iter().for_each(|piece| worker.free(piece));
    worker.free(own);
    HEAP.check();
    HEAP.release_free();
    HEAP.check();
    // What the other had on its lists, a span or two of each class that it used.
    let left = HEAP.slots_in_use();
    assert!(left < before / 2 && left < 3 * super::super::class::CLASSES, "{left} of {before}");
    // Its heap is there for the next thread.
    let heaps = HEAP.counts().thread_heaps;
    let next = Worker::new(&HEAP);
    fill(&next, Worker::layout(64, 8)).into_iter().for_each(|piece| next.free(piece));
    assert_eq!(HEAP.counts().thread_heaps, heaps);
    next.close();
    worker.close();
    HEAP.check();
}

#[test]
fn magazines_and_spans_of_a_thread_that_is_gone_are_used_again() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, other) = (Worker::new(&HEAP), Worker::new(&HEAP));
    let layout = Worker::layout(64, 8);
    // Kept in its depot.
    fill(&other, layout).into_iter().for_each(|piece| other.free(piece));
    let before = (HEAP.slots_in_use(), listed(&HEAP));
    assert!(before.1 as usize > BLOCKS - 300);
    worker.free(worker.allocate(layout).unwrap());
    fork(&HEAP, &worker);
    let pieces = fill(&worker, layout);
    HEAP.check();
    assert!(HEAP.slots_in_use() <= before.0 + 2, "{} of {before:?}", HEAP.slots_in_use());
    pieces.into_iter().for_each(|piece| worker.free(piece));
    HEAP.release_free();
    HEAP.check();
    assert!(listed(&HEAP) <= 1024, "{} listed", listed(&HEAP));
}

#[test]
fn a_run_that_was_linked_and_not_counted_is_free() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, other) = (Worker::new(&HEAP), Worker::new(&HEAP));
    let layout = Worker::layout(64, 8);
    let mut pieces = fill(&other, layout);
    // Neighbours of what it frees are a span away: nothing of that is kept.
    pieces.sort_by_key(|piece| (piece.start.addr().get() % 65536, piece.start.addr()));
    pieces.drain(..BLOCKS / 3).for_each(|piece| other.free(piece));
    let mut torn = 0;
    HEAP.space.lock().each().into_iter().for_each(|pages| {
        pages.each_header(|span| {
            if span.kind() == Kind::Blocks && span.freed() > 1 {
                // The store that had not come to it.
                span.hot().countdown.add(1);
                torn += 1;
            }
        });
    });
    assert!(torn > 3, "{torn} spans");
    HEAP.before_fork(&worker.cache);
    HEAP.after_fork(&worker.cache);
    HEAP.forked(&worker.cache);
    pieces.into_iter().for_each(|piece| worker.free(piece));
    HEAP.release_free();
    HEAP.check();
    assert_eq!(HEAP.counts().classes.iter().map(|count| count.live).sum::<u64>(), 0);
}

#[test]
fn a_span_that_was_thinned_is_handed_on_with_what_is_missing() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, other, mut random) = (Worker::new(&HEAP), Worker::new(&HEAP), Random(7));
    let mut pieces = fill(&other, Worker::layout(64, 8));
    // Neighbours of what it frees are a span away: all goes home.
    pieces.sort_by_key(|piece| (piece.start.addr().get() % 65536, piece.start.addr()));
    let (stay, go): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|_| random.below(300) == 0);
    go.into_iter().for_each(|piece| other.free(piece));
    (0..4).for_each(|_| tick(&HEAP));
    let mut missing = 0;
    HEAP.space.lock().each().into_iter().for_each(|pages| {
        pages.each_header(|span| {
            if span.kind() == Kind::Blocks {
                missing += span.hot().thinned_local.get();
            }
        });
    });
    assert!(missing > 1000, "{missing} blocks of the owner's were thinned out");
    fork(&HEAP, &worker);
    HEAP.collect_left();
    HEAP.check();
    stay.into_iter().for_each(|piece| worker.free(piece));
    fill(&worker, Worker::layout(64, 8)).into_iter().for_each(|piece| worker.free(piece));
    HEAP.release_free();
    HEAP.check();
}

/// Theirs have no thread before a fork either, and are in use after it.
#[test]
fn the_heaps_that_threads_share_stay_where_they_are() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let layout = Worker::layout(64, 8);
    let [mut worker, ended] = [(); 2].map(|()| Worker::new(&HEAP));
    worker.interval = 1;
    let sampled = worker.allocate(layout).unwrap();
    ended.free(ended.allocate(layout).unwrap());
    ended.close();
    let late = ended.allocate(layout).unwrap();
    worker.interval = 0;
    fork(&HEAP, &worker);
    HEAP.collect_left();
    let children: Vec<_> = (0..4).map(|_| Worker::new(&HEAP)).collect();
    for child in &children {
        let piece = child.allocate(layout).unwrap();
        assert!(!is_sampled(piece.start.as_ptr()));
        let owner = child.cache.owner().unwrap();
        assert!(!HEAP.sampled.lock().is(owner) && !HEAP.late.lock().is(owner));
        child.free(piece);
    }
    [sampled, late].into_iter().for_each(|piece| worker.free(piece));
    children.iter().for_each(Worker::close);
    HEAP.check();
}

#[test]
fn threads_that_have_a_heap_are_counted_to_their_end_or_a_fork() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let workers: Vec<_> = (0..3).map(|_| Worker::new(&HEAP)).collect();
    let layout = Worker::layout(64, 8);
    workers.iter().for_each(|worker| worker.free(worker.allocate(layout).unwrap()));
    assert_eq!(HEAP.threads_open(), 3);
    workers[0].close();
    assert_eq!(HEAP.threads_open(), 2);
    fork(&HEAP, &workers[1]);
    assert_eq!(HEAP.threads_open(), 1);
    workers[1].close();
    assert_eq!(HEAP.threads_open(), 0);
    let late = Worker::new(&HEAP);
    fork(&HEAP, &late);
    assert_eq!(HEAP.threads_open(), 0, "the child's thread has none yet");
}

#[test]
fn what_a_thread_that_is_gone_kept_makes_room_when_memory_runs_out() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(6 << 20));
    let (worker, other) = (Worker::new(&HEAP), Worker::new(&HEAP));
    let (small, large) = (Worker::layout(64, 8), Worker::layout(100_000, 8));
    worker.free(worker.allocate(small).unwrap());
    let blocks = fill(&other, small);
    let mut pieces: Vec<_> = std::iter::from_fn(|| other.allocate(large)).collect();
    // Kept in its depot.
    blocks.into_iter().for_each(|piece| other.free(piece));
    assert!(listed(&HEAP) as usize > BLOCKS - 300, "{} listed", listed(&HEAP));
    fork(&HEAP, &worker);
    HEAP.os.budget_bytes.store(0, Relaxed);
    let more: Vec<_> = std::iter::from_fn(|| worker.allocate(large)).collect();
    assert!(more.len() > 5, "{} blocks", more.len());
    pieces.extend(more);
    pieces.into_iter().for_each(|piece| worker.free(piece));
    HEAP.check();
}

#[test]
fn what_a_thread_had_on_its_way_is_lost_and_counted() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let workers: Vec<_> = (0..3).map(|_| Worker::new(&HEAP)).collect();
    let layout = Worker::layout(1000, 8);
    let mut pieces = fill(&workers[1], layout);
    // In the outbox of another that is gone, too.
    pieces.drain(..30).for_each(|piece| workers[2].free(piece));
    fork(&HEAP, &workers[0]);
    HEAP.collect_left();
    HEAP.check();
    let lost = listed(&HEAP);
    assert!(lost > 0);
    pieces.into_iter().for_each(|piece| workers[0].free(piece));
    workers[0].close();
    HEAP.check();
    assert_eq!(listed(&HEAP), lost);
}

/// Of one whose lock another thread has at the fork, the child would wait for it for ever at its
/// own.
#[test]
fn the_depot_of_a_thread_that_begins_while_locks_are_taken_is_held_too() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let [worker, busy, late] = [(); 3].map(|()| Worker::new(&HEAP));
    let layout = Worker::layout(64, 8);
    for worker in [&worker, &busy] {
        worker.free(worker.allocate(layout).unwrap());
    }
    let (held, is_held) = mpsc::channel();
    let open = thread::scope(|scope| {
        let other = scope.spawn(move || {
            let depot = &busy.cache.owner().unwrap().depot;
            let guard = depot.lock();
            held.send(()).unwrap();
            while !depot.is_waited_for() {
                thread::yield_now();
            }
            late.free(late.allocate(layout).unwrap());
            drop(guard);
            (busy, late)
        });
        is_held.recv().unwrap();
        HEAP.before_fork(&worker.cache);
        let open = HEAP.first_open_depot(&worker.cache);
        HEAP.after_fork(&worker.cache);
        let _others = other.join();
        HEAP.check();
        open
    });
    assert_eq!(open, None, "the place of a heap whose depot is free");
}

#[test]
fn who_forks_holds_every_lock() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    worker.free(worker.allocate(Worker::layout(64, 8)).unwrap());
    let held = || {
        [
            ("reaping", HEAP.reaping.try_lock().is_none()),
            ("sampled", HEAP.sampled.try_lock().is_none()),
            ("late", HEAP.late.try_lock().is_none()),
            ("central", HEAP.central.try_lock().is_none()),
            ("large", HEAP.large.try_lock().is_none()),
            ("space", HEAP.space.try_lock().is_none()),
        ]
    };
    HEAP.before_fork(&worker.cache);
    let meanwhile = held();
    HEAP.after_fork(&worker.cache);
    assert!(meanwhile.iter().all(|(_, held)| *held), "{meanwhile:?}");
    let after = held();
    assert!(!after.iter().any(|(_, held)| *held), "{after:?}");
}

/// That thread is not there, and would be waited for.
#[test]
fn a_child_thins_where_a_thread_of_its_parents_did() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    worker.free(worker.allocate(Worker::layout(64, 8)).unwrap());
    assert!(HEAP.scavenger.begin_thinning());
    fork(&HEAP, &worker);
    assert!(HEAP.scavenger.begin_thinning());
    HEAP.scavenger.end_thinning();
    HEAP.release_free();
    HEAP.check();
}

#[test]
fn a_fork_of_a_fork_goes_on_with_what_was_left() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let mut worker = Worker::new(&HEAP);
    let layout = Worker::layout(256, 8);
    let (mut inherited, mut slots_most) = (Vec::new(), 0);
    for generation in 0..20 {
        let next = Worker::new(&HEAP);
        inherited.into_iter().for_each(|piece| worker.free(piece));
        inherited = fill(&worker, layout);
        if generation == 4 {
            slots_most = HEAP.slots_in_use();
        }
        next.free(next.allocate(layout).unwrap());
        fork(&HEAP, &next);
        worker = next;
    }
    let slots = HEAP.slots_in_use();
    assert!(
        slots < slots_most + slots_most / 4,
        "{slots} slots after twenty, {slots_most} after five"
    );
    assert!(HEAP.counts().thread_heaps <= 4);
}
