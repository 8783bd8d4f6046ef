//! Blocks, spans and threads from their beginning to their end.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::sys::lock::Lock;

/// What was allocated and freed by whomever leaves nothing behind.
fn nothing_is_left(heap: &'static Heap<Fake>) {
    heap.check();
    assert_eq!(heap.slots_in_use(), 0);
    let counts = heap.counts();
    assert!(counts.classes.iter().all(|count| count.live == 0 && count.spans == 0));
    assert!(counts.large.iter().all(|count| count.live_blocks() == 0 && count.live_bytes == 0));
    assert_eq!(counts.mapped_large_bytes, 0);
}

#[test]
fn workers_that_free_each_others_blocks_leave_nothing_behind() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let mut random = Random(1);
    let mut workers: Vec<_> = (0..5).map(|_| Worker::new(&HEAP)).collect();
    let mut pieces = Vec::new();
    for round in 0..30_000 {
        let who = random.below(workers.len());
        match random.below(20) {
            0..10 => pieces.push(workers[who].allocate(random.layout()).unwrap()),
            19 if random.below(50) == 0 => {
                workers[who].close();
                workers[who] = Worker::new(&HEAP);
            }
            18 if random.below(50) == 0 => _ = HEAP.scavenge_tick(),
            _ if !pieces.is_empty() => {
                let piece = pieces.swap_remove(random.below(pieces.len()));
                workers[who].free(piece);
            }
            _ => {}
        }
        if round % 2000 == 0 {
            HEAP.check();
        }
    }
    pieces.into_iter().for_each(|piece| workers[random.below(5)].free(piece));
    HEAP.check();
    for worker in &workers {
        worker.close();
        HEAP.check();
    }
    nothing_is_left(&HEAP);
}

#[test]
fn a_thread_that_turns_to_other_sizes_does_not_keep_those_before() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    const KIB: usize = 1 << 10;
    let worker = Worker::new(&HEAP);
    let class = ClassId::of(Worker::layout(512, 8)).unwrap();
    let allocate = |kib: usize, bytes: usize| -> Vec<_> {
        let layout = Worker::layout(bytes, 8);
        (0..kib * KIB / bytes).map(|_| worker.allocate(layout).unwrap()).collect()
    };
    let kept_kib = || worker.cache.owner().unwrap().bin(class).kept.get() as usize * 512 / KIB;
    allocate(1024, 512).into_iter().for_each(|piece| worker.free(piece));
    let kept_before = kept_kib();
    assert!(kept_before > 750, "the depot has {kept_before} KiB");
    let mut others = allocate(700, 1024);
    assert_eq!(kept_kib(), kept_before, "it is early to give them up");
    others.append(&mut allocate(2400, 1024));
    assert_eq!(kept_kib(), 0);
    let lists = 2;
    assert!(HEAP.slots_in_use() <= 3100 * KIB / SLOT_BYTES + lists + 1);
    HEAP.check();
    others.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    nothing_is_left(&HEAP);
}

#[test]
fn threads_at_once_leave_nothing_behind() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    // Our own lock: a race checker sees through it.
    let pool = Lock::new(Vec::<Piece>::new());
    for round in 0..6 {
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    let (worker, mut random) = (Worker::new(&HEAP), Random(round * 4 + seed));
                    for _ in 0..4000 {
                        let piece = worker.allocate(random.layout()).unwrap();
                        let mut pool = pool.lock();
                        pool.push(piece);
                        let at = random.below(pool.len());
                        let piece =
                            if random.below(3) > 0 { Some(pool.swap_remove(at)) } else { None };
                        drop(pool);
                        piece.into_iter().for_each(|piece| worker.free(piece));
                    }
                    worker.close();
                });
            }
        });
        HEAP.check();
    }
    let worker = Worker::new(&HEAP);
    pool.lock().drain(..).for_each(|piece| worker.free(piece));
    worker.close();
    nothing_is_left(&HEAP);
}

#[test]
fn a_heap_is_handed_on_with_the_spans_of_its_thread() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let layout = Worker::layout(100, 8);
    let mut left = Vec::new();
    for _ in 0..200 {
        let worker = Worker::new(&HEAP);
        let mut pieces: Vec<_> = (0..100).map(|_| worker.allocate(layout).unwrap()).collect();
        left.push(pieces.pop().unwrap());
        pieces.into_iter().for_each(|piece| worker.free(piece));
        worker.close();
        HEAP.check();
    }
    let counts = HEAP.counts();
    // One heap, and one shared span: each thread adopted what the last one left.
    assert_eq!((counts.thread_heaps, HEAP.slots_in_use()), (1, 1));
    let worker = Worker::new(&HEAP);
    left.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    nothing_is_left(&HEAP);
}

#[test]
fn sampled_blocks_lie_apart_and_are_counted() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let mut worker = Worker::new(&HEAP);
    worker.interval = 1;
    let layout = Worker::layout(40, 8);
    let live = || HEAP.counts().classes[ClassId::of(layout).unwrap().index()].live;
    let pieces: Vec<_> = (0..3000).map(|_| worker.allocate(layout).unwrap()).collect();
    assert!(pieces.iter().all(|piece| is_sampled(piece.start.as_ptr())));
    HEAP.check();
    worker.interval = 0;
    let plain: Vec<_> = (0..3000).map(|_| worker.allocate(layout).unwrap()).collect();
    assert!(!plain.iter().any(|piece| is_sampled(piece.start.as_ptr())));
    assert_eq!(live(), 6000);
    pieces.into_iter().chain(plain).for_each(|piece| worker.free(piece));
    HEAP.check();
    assert_eq!(live(), 0);
}

/// Or all processes of one program would sample the same of their blocks.
#[test]
fn which_blocks_are_sampled_is_the_systems_chance() {
    static HEAPS: [Heap<Fake>; 3] = [const { Heap::new(Fake::new(1 << 32)) }; 3];
    HEAPS[2].os.calls.store(1000, Relaxed);
    let sampled = HEAPS.each_ref().map(|heap| {
        let mut worker = Worker::new(heap);
        worker.interval = 4096;
        let layout = Worker::layout(64, 8);
        let pieces: Vec<_> = (0..5000).map(|_| worker.allocate(layout).unwrap()).collect();
        let which = pieces.iter().map(|piece| is_sampled(piece.start.as_ptr())).collect::<Vec<_>>();
        pieces.into_iter().for_each(|piece| worker.free(piece));
        worker.close();
        which
    });
    assert!(sampled[0].iter().filter(|sampled| **sampled).count() > 20);
    assert!(sampled[0] == sampled[1], "by nothing else");
    assert!(sampled[0] != sampled[2]);
}

#[test]
fn lists_of_sampled_blocks_go_home_when_memory_is_given_back() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (mut worker, mut random) = (Worker::new(&HEAP), Random(4));
    worker.interval = 1;
    let pieces: Vec<_> = (0..3000).map(|_| worker.allocate(random.layout()).unwrap()).collect();
    pieces.into_iter().for_each(|piece| worker.free(piece));
    assert!(HEAP.counts().classes.iter().map(|count| count.listed).sum::<u64>() > 100);
    worker.close();
    HEAP.release_free();
    HEAP.check();
    assert_eq!(HEAP.counts().classes.iter().map(|count| count.listed).sum::<u64>(), 0);
    nothing_is_left(&HEAP);
}

#[test]
fn threads_without_a_heap_are_served() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, mut random) = (Worker::new(&HEAP), Random(5));
    let early: Vec<_> = (0..300).map(|_| worker.allocate(random.layout()).unwrap()).collect();
    worker.close();
    early.into_iter().for_each(|piece| worker.free(piece));
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
    let late: Vec<_> = (0..300).map(|_| worker.allocate(random.layout()).unwrap()).collect();
    late.into_iter().for_each(|piece| worker.free(piece));
    HEAP.check();
    assert!(HEAP.counts().classes.iter().all(|count| count.live == 0));
}

/// Its short way home is that of an owner, and the heap is another thread's by then.
#[test]
fn a_thread_that_drained_frees_after_its_end_as_one_without_a_heap() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, layout) = (Worker::new(&HEAP), Worker::layout(64, 8));
    let mut pieces: Vec<_> = (0..20_000).map(|_| worker.allocate(layout).unwrap()).collect();
    // Neighbours of what it frees are a span away: nothing of that is kept.
    pieces.sort_by_key(|piece| (piece.start.addr().get() % 65536, piece.start.addr()));
    pieces.drain(..15_000).for_each(|piece| worker.free(piece));
    assert!(worker.cache.is_draining(ClassId::of(layout).unwrap()));
    worker.close();
    let heir = Worker::new(&HEAP);
    let others: Vec<_> = (0..5000).map(|_| heir.allocate(layout).unwrap()).collect();
    assert_eq!(HEAP.counts().thread_heaps, 1, "it has the heap of the one before");
    pieces.into_iter().for_each(|piece| worker.free(piece));
    HEAP.check();
    others.into_iter().for_each(|piece| heir.free(piece));
    heir.close();
    nothing_is_left(&HEAP);
}

#[test]
fn a_tick_gives_pages_back_and_keeps_what_is_live() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    let layout = Worker::layout(200 << 10, 8);
    let mut pieces: Vec<_> = (0..100).map(|_| worker.allocate(layout).unwrap()).collect();
    let mut index = 0;
    let (freed, kept): (Vec<_>, Vec<_>) = pieces.drain(..).partition(|_| {
        index += 1;
        index % 2 == 0
    });
    freed.into_iter().for_each(|piece| worker.free(piece));
    assert_eq!(HEAP.scavenge_tick(), 200, "what was just freed stays for a tick");
    HEAP.check();
    assert_eq!(HEAP.scavenge_tick(), 0);
    HEAP.check();
    kept.iter().for_each(Piece::check);
    // Behind 2 slots of headers and 400 of blocks, 14 share the last huge page. By preload there
    // are none so early.
    let beside = if cfg!(feature = "preload") { 0 } else { 14 };
    assert_eq!(HEAP.space.lock().counts().scavenged_total, 200 + beside);
    // `allocate_large` finds them zeroed, as the heap says they are.
    let again = (0..50).map(|_| worker.allocate_large(layout, true).unwrap());
    let (again, zeroed): (Vec<_>, Vec<_>) = again.unzip();
    assert!(zeroed.into_iter().all(|zeroed| zeroed));
    kept.into_iter().chain(again).for_each(|piece| worker.free(piece));
    nothing_is_left(&HEAP);
}

/// By preload a free of the program's waits for a tick; else a thread has all the time.
#[test]
fn a_tick_in_a_free_gives_back_so_much_and_the_next_ones_the_rest() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    let layout = Worker::layout(200 << 10, 8);
    let pieces: Vec<_> = (0..1000).map(|_| worker.allocate(layout).unwrap()).collect();
    pieces.into_iter().for_each(|piece| worker.free(piece));
    HEAP.scavenge_tick();
    let free_dirty = || HEAP.space.lock().counts().free_dirty;
    let (mut left, mut ticks) = (free_dirty(), 0);
    while left > 0 {
        HEAP.scavenge_tick();
        let given = left - free_dirty();
        assert!(!cfg!(feature = "preload") || given <= 1024 + 128, "{given} slots at once");
        (left, ticks) = (left - given, ticks + 1);
    }
    let most = if cfg!(feature = "preload") { 6 } else { 1 };
    assert!(ticks > most / 2 && ticks <= most, "{ticks} ticks for 250 MiB");
    nothing_is_left(&HEAP);
}

#[test]
fn a_tick_leaves_pages_that_the_system_refuses_and_does_not_stay_for_them() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    let layout = Worker::layout(200 << 10, 8);
    let pieces: Vec<_> = (0..500).map(|_| worker.allocate(layout).unwrap()).collect();
    pieces.into_iter().for_each(|piece| worker.free(piece));
    HEAP.os.deny_purge.store(true, Relaxed);
    HEAP.scavenge_tick();
    for _ in 0..3 {
        let before = HEAP.os.purges.load(Relaxed);
        let left = HEAP.scavenge_tick();
        // By preload no thread stays for them, and a tick tries half of these.
        assert!(left == 0 || cfg!(feature = "preload"), "as if there were nothing to do: {left}");
        let tried = HEAP.os.purges.load(Relaxed) - before;
        assert!((1..256).contains(&tried), "{tried} calls for 2000 slots");
    }
    HEAP.check();
    HEAP.os.deny_purge.store(false, Relaxed);
    (0..3).for_each(|_| _ = HEAP.scavenge_tick());
    assert_eq!(HEAP.space.lock().counts().free_dirty, 0, "they go when they may");
    nothing_is_left(&HEAP);
}

#[test]
fn large_blocks_are_resized_where_they_are() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let (worker, mut random) = (Worker::new(&HEAP), Random(9));
    let mut pieces: Vec<_> =
        (0..20).map(|_| worker.allocate(Worker::layout(100 << 10, 8)).unwrap()).collect();
    let mut resized = 0;
    for round in 0..3000 {
        let at = random.below(pieces.len());
        let limit = if random.below(30) == 0 { 24 << 20 } else { 1 << 20 };
        let bytes = (40 << 10) + random.below(limit);
        resized += usize::from(worker.resize_large(&mut pieces[at], bytes));
        if round % 20 == 0 {
            HEAP.check();
        }
    }
    assert!(resized > 200, "{resized} of 3000");
    pieces.into_iter().for_each(|piece| worker.free(piece));
    nothing_is_left(&HEAP);
}
