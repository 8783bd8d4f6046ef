//! The pools against what they promise: order of sources, epochs, exact counters, reset and drop,
//! threads that end, and panics in foreign code.

use crate::random::Random;
use spanalloc::pool::{
    AnyPool, BitmapPool, Epochs, Keep, Pool, PoolStats, Prefault, Reset, SlicePool, resident_above,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

/// Counts its live instances; keeps what its user wrote unless reset.
#[derive(Debug)]
struct Counted {
    live: Arc<AtomicUsize>,
    dirty: bool,
}

impl Counted {
    fn new(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, SeqCst);
        Self { live: live.clone(), dirty: false }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.fetch_sub(1, SeqCst);
    }
}

impl Reset for Counted {
    fn reset(&mut self) {
        self.dirty = false;
    }
}

fn on_another_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn check(stats: PoolStats, held: u64) {
    assert_eq!(stats.puts, stats.reused() + stats.drops + held, "{stats:?}");
    assert_eq!(stats.held(), held, "{stats:?}");
}

/// P1: private, then the own chain, then another thread's; each get is counted by its source.
#[test]
fn sources_come_in_the_order_of_sync_pool() {
    let pool = Arc::new(Pool::new(|| 0u32));
    let (ready, filled) = mpsc::channel();
    let (done, finish) = mpsc::channel::<()>();
    let other = {
        let pool = pool.clone();
        thread::spawn(move || {
            // One in the private place, out of reach; two on the chain, to be stolen oldest first.
            [100, 101, 102].into_iter().for_each(|value| pool.put(Box::new(value)));
            ready.send(()).unwrap();
            let _ = finish.recv();
        })
    };
    filled.recv().unwrap();
    [1, 2, 3].into_iter().for_each(|value| pool.put(Box::new(value)));
    let got = [(); 6].map(|()| *pool.take());
    assert_eq!(got, [1, 3, 2, 101, 102, 0]);
    let stats = pool.stats();
    assert_eq!(
        (stats.private, stats.local, stats.steal, stats.victim, stats.victim_steal, stats.new),
        (1, 2, 2, 0, 0, 1)
    );
    check(stats, 1);
    drop(done);
    other.join().unwrap();
}

/// P4: values survive one epoch as victims; the next one drops them.
#[test]
fn victims_survive_one_epoch() {
    let live = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(|| Counted::new(&live));
    for value in [(); 10].map(|()| pool.take()) {
        pool.put(value);
    }
    assert_eq!(pool.advance(), Some(0));
    drop(pool.get());
    let stats = pool.stats();
    assert_eq!((stats.victim, stats.new), (1, 10), "{stats:?}");
    assert_eq!(live.load(SeqCst), 10);
    // Nine on the victim chain go; the one used since is the private one.
    assert_eq!(pool.advance(), Some(9));
    assert_eq!(live.load(SeqCst), 1);
    check(pool.stats(), 1);
    drop(pool.get());
    assert_eq!(pool.stats().victim, 2);
    pool.advance();
    pool.advance();
    drop(pool.get());
    assert_eq!(pool.stats().new, 11);
    assert_eq!(live.load(SeqCst), 1);
}

/// P1: another thread's victims are found, too, and counted apart.
#[test]
fn victims_are_stolen() {
    let pool = Pool::new(|| 0u32);
    on_another_thread(|| [1, 2, 3].map(|value| pool.put(Box::new(value))));
    pool.advance();
    // The other thread left three values when it ended; this one has an index of its own or has
    // taken over that of the dead thread, and finds all of them either way.
    let mut got = [(); 4].map(|()| *pool.take());
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3]);
    let stats = pool.stats();
    assert_eq!((stats.victim + stats.victim_steal, stats.new), (3, 1), "{stats:?}");
    check(stats, 0);
}

/// P5: the counters equal a ledger kept by the test, whatever the threads do.
#[test]
fn counters_equal_a_ledger() {
    const THREADS: u64 = 4;
    const STEPS: u64 = 20_000;
    let live = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(|| Counted::new(&live));
    let ledger: Vec<(u64, u64)> = thread::scope(|scope| {
        let workers: Vec<_> = (1..=THREADS)
            .map(|seed| {
                let pool = &pool;
                scope.spawn(move || {
                    let mut random = Random(seed);
                    let (mut gets, mut puts, mut mine) = (0, 0, Vec::new());
                    for _ in 0..STEPS {
                        match random.below(100) {
                            0 => drop(pool.advance()),
                            1..55 => {
                                mine.push(pool.take());
                                gets += 1;
                            }
                            _ => {
                                if let Some(value) = mine.pop() {
                                    pool.put(value);
                                    puts += 1;
                                }
                            }
                        }
                    }
                    (gets, puts)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let stats = pool.stats();
    assert_eq!(stats.gets(), ledger.iter().map(|(gets, _)| gets).sum::<u64>());
    assert_eq!(stats.puts, ledger.iter().map(|(_, puts)| puts).sum::<u64>());
    // What the workers held when they ended died with them: what lives is in the pool.
    check(stats, live.load(SeqCst) as u64);
    drop(pool);
    assert_eq!(live.load(SeqCst), 0);
}

/// No value is ever in two hands.
#[test]
fn a_value_has_one_holder() {
    let made = AtomicUsize::new(0);
    let pool = Pool::new(|| Keep((made.fetch_add(1, SeqCst), AtomicBool::new(false))));
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for seed in 1..=4 {
            let (pool, start) = (&pool, &start);
            scope.spawn(move || {
                let mut random = Random(seed);
                start.wait();
                let mut held = Vec::new();
                for _ in 0..20_000 {
                    if random.below(2) == 0 {
                        let value = pool.get();
                        assert!(!value.1.swap(true, SeqCst), "value {} is in use", value.0.0);
                        held.push(value);
                    } else if let Some(value) = held.pop() {
                        assert!(value.1.swap(false, SeqCst));
                    }
                }
                for value in held {
                    assert!(value.1.swap(false, SeqCst));
                }
            });
        }
    });
    assert_eq!(pool.stats().new, made.load(SeqCst) as u64);
    check(pool.stats(), made.load(SeqCst) as u64);
}

/// Threads that end leave their values to the others, the private one and the victim included.
#[test]
fn ending_threads_leave_their_values() {
    let live = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(|| Counted::new(&live));
    on_another_thread(|| {
        pool.put(Box::new(Counted::new(&live)));
        pool.advance();
        // The first becomes the victim; these are private and local.
        let values = [Counted::new(&live), Counted::new(&live)];
        values.into_iter().for_each(|value| pool.put(Box::new(value)));
    });
    check(pool.stats(), 3);
    let taken = [(); 3].map(|()| pool.try_take());
    assert!(taken.iter().all(Option::is_some));
    assert!(pool.try_take().is_none());
    check(pool.stats(), 0);
}

/// A pool used from a thread-local's destructor, after the thread has left its pools.
#[test]
fn a_thread_being_torn_down_is_served() {
    struct AtExit(Arc<Pool<Counted, Box<dyn Fn() -> Counted + Send + Sync>>>);

    impl Drop for AtExit {
        fn drop(&mut self) {
            drop(self.0.get());
            self.0.put(self.0.take());
        }
    }

    thread_local!(static AT_EXIT: RefCell<Option<AtExit>> = const { RefCell::new(None) });
    let live = Arc::new(AtomicUsize::new(0));
    let init: Box<dyn Fn() -> Counted + Send + Sync> = {
        let live = live.clone();
        Box::new(move || Counted::new(&live))
    };
    let pool = Arc::new(Pool::new(init));
    for pool_first in [false, true] {
        let pool = pool.clone();
        thread::spawn(move || {
            if pool_first {
                drop(pool.get());
            }
            AT_EXIT.set(Some(AtExit(pool.clone())));
            drop(pool.get());
        })
        .join()
        .unwrap();
    }
    check(pool.stats(), live.load(SeqCst) as u64);
    drop(pool);
    assert_eq!(live.load(SeqCst), 0);
}

/// P6: the guard resets; `Keep` does not; `detach` takes the value out of circulation.
#[test]
fn guards_reset_on_drop() {
    let live = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(|| Counted::new(&live));
    pool.get().dirty = true;
    assert!(!pool.get().dirty);
    let mut dirty = pool.take();
    dirty.dirty = true;
    pool.put(dirty);
    assert!(pool.get().dirty, "put without a guard resets nothing");
    drop(spanalloc::pool::PoolGuard::detach(pool.get()));
    assert_eq!(live.load(SeqCst), 0);
    check(pool.stats(), 0);
}

/// P2: after the first, a cleared map is constructed no more, and keeps its table.
#[test]
fn a_pooled_map_keeps_its_table() {
    let pool: Pool<HashMap<u64, u64>> = Pool::new(HashMap::new);
    for round in 0..1000 {
        let mut map = pool.get();
        assert!(map.is_empty());
        assert!(round == 0 || map.capacity() >= 8);
        map.extend((0..8).map(|key| (key, round)));
    }
    let stats = pool.stats();
    assert_eq!((stats.new, stats.private), (1, 999));
    assert!((stats.hit_rate() - 0.999).abs() < 1e-9);
}

/// P3: one pool for all types boxes what it is given and hands out what comes.
#[test]
fn any_pool_counts_boxes_and_type_misses() {
    let pool = AnyPool::new();
    for round in 0..10u32 {
        pool.put(round);
        pool.put(vec![round]);
        // The private place holds the number, the chain the vector.
        assert_eq!(pool.get::<Vec<u32>>(), None);
        assert_eq!(pool.get::<Vec<u32>>().as_deref(), Some(&vec![round]));
        assert_eq!(pool.get::<u32>(), None);
    }
    let stats = pool.stats();
    assert_eq!((stats.boxed, stats.type_hits, stats.type_misses), (20, 10, 10));
    check(stats.pool, 0);
}

/// P9: a vector that has grown beyond the bound is not kept.
#[test]
fn slice_pool_discards_what_grew() {
    let pool = SlicePool::<u8>::new(64, 128);
    assert!(pool.get().capacity() >= 64);
    pool.get().resize(128, 1);
    assert!(pool.get().is_empty());
    pool.get().resize(129, 1);
    let stats = pool.stats();
    assert_eq!((stats.discards, stats.pool.new, stats.pool.private), (1, 1, 3));
    assert!(pool.get().capacity() <= 128);
    assert_eq!(pool.stats().pool.new, 2);
    let refused = catch_unwind(|| SlicePool::<u8>::new(2, 1)).unwrap_err();
    let message = refused.downcast::<String>().unwrap();
    assert!(message.contains("capacity 2 is above capacity_max 1"), "{message}");
}

/// P7: 512 slots per 64 bytes of metadata; each in one hand; constructed once; dropped with it.
#[test]
fn bitmap_pool_hands_each_slot_to_one() {
    let live = Arc::new(AtomicUsize::new(0));
    for prefault in [Prefault::OnUse, Prefault::Touch, Prefault::Populate] {
        let pool = BitmapPool::new(1000, prefault, || Counted::new(&live)).unwrap();
        assert_eq!(pool.stats().metadata_bytes, 128);
        let mut held: Vec<_> = std::iter::from_fn(|| pool.get()).collect();
        assert_eq!((held.len(), live.load(SeqCst)), (1000, 1000));
        let mut places: Vec<*const Counted> = held.iter().map(|value| &raw const **value).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 1000);
        held.iter_mut().for_each(|value| value.dirty = true);
        held.truncate(400);
        let stats = pool.stats();
        assert_eq!((stats.in_use, stats.made, stats.exhausted), (400, 1000, 1));
        assert!(!pool.get().unwrap().dirty);
        drop(held);
        drop(pool);
        assert_eq!(live.load(SeqCst), 0);
    }
}

#[test]
fn bitmap_pool_under_threads() {
    let pool = BitmapPool::new(70, Prefault::OnUse, || Keep(AtomicBool::new(false))).unwrap();
    thread::scope(|scope| {
        for seed in 1..=4 {
            let pool = &pool;
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..5_000 {
                    let count = random.below(30);
                    let held: Vec<_> = (0..count).map_while(|_| pool.get()).collect();
                    assert!(held.iter().all(|value| !value.swap(true, SeqCst)));
                    assert!(held.iter().all(|value| value.swap(false, SeqCst)));
                }
            });
        }
    });
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn bitmap_pool_refuses_impossible_sizes() {
    for capacity in [0, usize::MAX / 2] {
        let error = BitmapPool::new(capacity, Prefault::OnUse, || [0u64; 4]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&capacity.to_string()), "{error}");
    }
}

/// A value whose reset or drop panics when told to.
struct Bomb {
    armed: bool,
    live: Arc<AtomicUsize>,
}

impl Bomb {
    fn new(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, SeqCst);
        Self { armed: false, live: live.clone() }
    }
}

impl Reset for Bomb {
    fn reset(&mut self) {
        assert!(!std::mem::take(&mut self.armed), "reset");
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.live.fetch_sub(1, SeqCst);
        assert!(!self.armed, "drop");
    }
}

#[test]
fn a_panicking_reset_costs_the_value_only() {
    let live = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(|| Bomb::new(&live));
    let slots = BitmapPool::new(1, Prefault::OnUse, || Bomb::new(&live)).unwrap();
    drop((pool.get(), slots.get()));
    assert_eq!(live.load(SeqCst), 2);
    let panicked = catch_unwind(AssertUnwindSafe(|| pool.get().armed = true));
    assert!(panicked.is_err());
    assert_eq!(live.load(SeqCst), 1);
    check(pool.stats(), 0);
    let panicked = catch_unwind(AssertUnwindSafe(|| slots.get().unwrap().armed = true));
    assert!(panicked.is_err());
    assert_eq!((live.load(SeqCst), slots.stats().made, slots.stats().in_use), (0, 0, 0));
    drop((pool.get(), slots.get()));
    assert_eq!((live.load(SeqCst), pool.stats().new, slots.stats().made), (2, 2, 1));
}

#[test]
fn a_panicking_constructor_takes_no_slot() {
    let fail = AtomicBool::new(true);
    let init = || assert!(!fail.load(SeqCst));
    let pool = Pool::new(init);
    let slots = BitmapPool::new(1, Prefault::OnUse, init).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| pool.take())).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(slots.get()))).is_err());
    assert_eq!((pool.stats().new, slots.stats().in_use, slots.stats().made), (0, 0, 0));
    fail.store(false, SeqCst);
    assert!(slots.get().is_some());
}

#[test]
fn a_panicking_drop_stops_an_epoch_not_the_pool() {
    let live = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(|| Bomb::new(&live));
    for armed in [false, false, true, false] {
        let mut bomb = Bomb::new(&live);
        bomb.armed = armed;
        pool.put(Box::new(bomb));
    }
    pool.advance();
    assert!(catch_unwind(AssertUnwindSafe(|| pool.advance())).is_err());
    check(pool.stats(), live.load(SeqCst) as u64);
    assert!(pool.advance().is_some(), "the turn was given back");
    pool.advance();
    drop(pool.get());
    check(pool.stats(), live.load(SeqCst) as u64);
}

/// A value's `Drop` may use the pool it is dropped by.
#[test]
fn dropping_may_come_back_to_the_pool() {
    struct Echo(Arc<Pool<Keep<u32>>>, Option<Arc<Pool<Self>>>);

    impl Drop for Echo {
        fn drop(&mut self) {
            drop(self.0.get());
            if let Some(pool) = &self.1 {
                assert_eq!(pool.advance(), None, "this runs inside an advance");
            }
        }
    }

    let numbers = Arc::new(Pool::new((|| Keep(0)) as fn() -> _));
    let echoes = Arc::new(Pool::new((|| unreachable!()) as fn() -> _));
    echoes.put(Box::new(Echo(numbers.clone(), None)));
    echoes.put(Box::new(Echo(numbers.clone(), Some(echoes.clone()))));
    echoes.advance();
    echoes.advance();
    assert_eq!(numbers.stats().gets(), 1);
    check(echoes.stats(), 1);
}

/// More pools than the thread's cache has entries, used in turn.
#[test]
fn many_pools_in_turn() {
    let pools: Vec<_> = (0..40).map(|_| Pool::new(|| Keep(0))).collect();
    for _ in 0..10 {
        for (number, pool) in pools.iter().enumerate() {
            let mut value = pool.get();
            assert!(value.0 == 0 || value.0 == number);
            value.0 = number;
        }
    }
    for pool in &pools {
        assert_eq!((pool.stats().new, pool.stats().private), (1, 9));
        check(pool.stats(), 1);
    }
}

/// P4: epochs by the clock, and by a condition that came true.
#[test]
fn epochs_from_a_thread() {
    let pool: Pool<Keep<u8>> = Pool::new(|| Keep(0));
    let period = Duration::from_millis(1);
    let drivers = [
        Epochs::every(&pool, period).unwrap(),
        Epochs::when(&pool, period, resident_above(1)).unwrap(),
    ];
    while pool.stats().epochs < 4 {
        thread::yield_now();
    }
    drop(drivers);
    let before = pool.stats().epochs;
    let idle = Epochs::when(&pool, period, resident_above(u64::MAX)).unwrap();
    let (asked, answers) = mpsc::channel();
    let watch = Epochs::when(&pool, period, move || asked.send(()).is_err()).unwrap();
    assert_eq!(answers.iter().take(3).count(), 3);
    drop((idle, watch));
    assert_eq!(pool.stats().epochs, before);
    let error = Epochs::every(&pool, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn epochs_end_with_their_pool() {
    let pool: Pool<Keep<u8>> = Pool::new(|| Keep(0));
    let epochs = Epochs::every(&pool, Duration::from_millis(1)).unwrap();
    drop(pool);
    drop(epochs);
}

#[test]
fn statistics_read_well() {
    let pool: Pool<Keep<u8>> = Pool::new(|| Keep(0));
    drop(pool.get());
    drop(pool.get());
    let text = pool.stats().to_string();
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    assert!(text.contains("private                     1    50.00"), "{text}");
    assert!(text.contains("2 gets, 50.00 % reused; 2 puts, 0 drops, 1 held, 0 epochs"), "{text}");
}
