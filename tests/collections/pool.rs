//! The pool against what it promises: order of sources, epochs, exact counters, reset on drop, and
//! threads that end.

use crate::random::Random;
use spanalloc::map::{HandleMap, Map};
use spanalloc::pool::{
    AnyPool, Epochs, Keep, PRIVATE_MAX, Pool, PoolStats, Reset, SlicePool, resident_above,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Counts its live instances; keeps what its user wrote unless reset.
#[derive(Debug)]
pub(crate) struct Counted {
    live: Arc<AtomicUsize>,
    pub(crate) dirty: bool,
}

impl Counted {
    pub(crate) fn new(live: &Arc<AtomicUsize>) -> Self {
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

/// As many values as a thread keeps to itself, from `first` on.
fn private(first: u32) -> impl DoubleEndedIterator<Item = u32> {
    first..first + PRIVATE_MAX as u32
}

fn on_another_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

pub(crate) fn check(stats: PoolStats, held: u64) {
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
            // The older half of a stash on the chain, to be stolen; the rest private, out of reach.
            private(1000).chain([101, 102]).for_each(|value| pool.put(Box::new(value)));
            ready.send(()).unwrap();
            let _ = finish.recv();
        })
    };
    filled.recv().unwrap();
    private(0).chain([21, 22]).for_each(|value| pool.put(Box::new(value)));
    let half = PRIVATE_MAX / 2;
    // One's own, the youngest first, whether they were private or not; then, of what is on the
    // other thread's chain, the older half, again and again, the youngest of each first; then a new
    // one.
    let mut expected: Vec<u32> = [22, 21].into_iter().chain(private(0).rev()).collect();
    let (mut left, mut steals) = (Vec::from_iter(private(1000).take(half)), 0);
    while !left.is_empty() {
        expected.extend(left.drain(..left.len().div_ceil(2)).rev());
        steals += 1;
    }
    expected.push(0);
    let got: Vec<u32> = expected.iter().map(|_| *pool.take()).collect();
    assert_eq!(got, expected);
    let stats = pool.stats();
    assert_eq!(
        (stats.local, stats.steal, stats.victim, stats.victim_steal, stats.new),
        (1, steals, 0, 0, 1)
    );
    assert_eq!(stats.gets(), expected.len() as u64);
    check(stats, half as u64 + 2);
    drop(done);
    other.join().unwrap();
}

/// P4: values survive one epoch as victims; the next one drops them.
#[test]
fn victims_survive_one_epoch() {
    let live = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(|| Counted::new(&live));
    // Some of them private, some on the chain.
    let values = 4 * PRIVATE_MAX;
    let taken: Vec<_> = (0..values).map(|_| pool.take()).collect();
    taken.into_iter().for_each(|value| pool.put(value));
    assert_eq!(pool.advance(), Some(0));
    drop(pool.get());
    let stats = pool.stats();
    assert_eq!((stats.victim, stats.new), (1, values as u64), "{stats:?}");
    assert_eq!(live.load(SeqCst), values);
    // All other victims go; the one used since is a private one.
    assert_eq!(pool.advance(), Some(values as u64 - 1));
    assert_eq!(live.load(SeqCst), 1);
    check(pool.stats(), 1);
    drop(pool.get());
    assert_eq!(pool.stats().victim, 2);
    pool.advance();
    pool.advance();
    drop(pool.get());
    assert_eq!(pool.stats().new, values as u64 + 1);
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

/// Threads that end leave their values to the others, the private ones and the victims included.
#[test]
fn ending_threads_leave_their_values() {
    let live = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(|| Counted::new(&live));
    on_another_thread(|| {
        pool.put(Box::new(Counted::new(&live)));
        pool.advance();
        // The first becomes a victim; these are private, and one is local.
        for _ in 0..=PRIVATE_MAX {
            pool.put(Box::new(Counted::new(&live)));
        }
    });
    let held = PRIVATE_MAX + 2;
    check(pool.stats(), held as u64);
    let taken: Vec<_> = (0..held).map(|_| pool.try_take()).collect();
    assert!(taken.iter().all(Option::is_some));
    assert!(pool.try_take().is_none());
    check(pool.stats(), 0);
}

/// What an ending thread had among its victims is found in the same epoch, by those who had found
/// no victims before.
#[test]
fn victims_left_late_are_found() {
    let pool = Pool::new(|| 0u32);
    let (ready, rotated) = mpsc::channel();
    let (look, looked) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let looked = looked;
            pool.put(Box::new(1));
            pool.advance();
            // The first is a victim of this thread now, and nobody else's.
            pool.put(Box::new(2));
            ready.send(()).unwrap();
            let _ = looked.recv();
        });
        rotated.recv().unwrap();
        assert!(pool.try_take().is_none(), "both values are private");
        drop(look);
        other.join().unwrap();
    });
    let mut got = [(); 2].map(|()| pool.try_take().map(|value| *value));
    got.sort_unstable();
    assert_eq!(got, [Some(1), Some(2)]);
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

/// The maps of this library go through a pool as those of the standard library do, and so does a
/// place that may be empty.
#[test]
fn pooled_maps_and_places_are_reset() {
    let pool: Pool<Map<u64, u64>> = Pool::default();
    pool.get().extend((0..100).map(|key| (key, key)));
    let map = pool.get();
    assert!(map.is_empty() && map.capacity() >= 100);
    let pool: Pool<HandleMap<u64, u64>> = Pool::default();
    let handle = pool.get().insert(1, 1).0;
    assert_eq!((pool.get().get_handle(handle), pool.get().len()), (None, 0));
    let pool: Pool<Option<String>> = Pool::default();
    *pool.get() = Some(String::from("left"));
    assert_eq!(*pool.get(), None);
    assert_eq!(pool.stats().new, 1);
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
    let since = Instant::now();
    while pool.stats().epochs < 4 {
        assert!(since.elapsed() < Duration::from_secs(20), "{} epochs", pool.stats().epochs);
        thread::sleep(period);
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
fn epochs_are_begun_of_every_pool_that_has_some() {
    let (slices, mixed) = (SlicePool::<u8>::new(16, 4096), AnyPool::new());
    drop(slices.get());
    mixed.put(7_u8);
    let period = Duration::from_millis(1);
    let epochs = [Epochs::every(&slices, period).unwrap(), Epochs::every(&mixed, period).unwrap()];
    let since = Instant::now();
    while slices.stats().pool.epochs < 2 || mixed.stats().pool.epochs < 2 {
        assert!(since.elapsed() < Duration::from_secs(20), "no epochs");
        std::thread::sleep(period);
    }
    drop(epochs);
    assert!(mixed.get::<u8>().is_none(), "nobody wanted it for two epochs");
}

#[test]
fn epochs_end_with_their_pool() {
    let pool: Pool<Keep<u8>> = Pool::new(|| Keep(0));
    let (asked, answers) = mpsc::channel();
    let period = Duration::from_millis(1);
    let epochs = Epochs::when(&pool, period, move || asked.send(()).is_err()).unwrap();
    answers.recv().unwrap();
    drop(pool);
    // The thread drops its condition as it ends, and so the other end of the channel.
    let since = Instant::now();
    let end = loop {
        match answers.recv_timeout(Duration::from_secs(20)) {
            Ok(()) => assert!(since.elapsed() < Duration::from_secs(20), "still asks"),
            Err(end) => break end,
        }
    };
    assert_eq!(end, mpsc::RecvTimeoutError::Disconnected);
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
    assert!(
        text.contains("2 gets, 50.00 % reused; 2 puts, 0 drops, 0 discards, 1 held, 0 epochs"),
        "{text}"
    );
}

/// What a thread kept from an epoch before is found when it ends, also by who has just looked in
/// vain.
#[test]
fn an_ending_thread_leaves_its_values_to_who_looked_before() {
    let pool: Pool<Keep<u8>> = Pool::new(|| Keep(0));
    let (go_on, may_end) = mpsc::channel::<()>();
    let (say, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        let pool = &pool;
        let thread = scope.spawn(move || {
            pool.put(Box::new(Keep(7)));
            say.send(()).unwrap();
            may_end.recv().unwrap();
        });
        hear.recv().unwrap();
        pool.advance();
        assert!(pool.try_take().is_none(), "it is the thread's own");
        go_on.send(()).unwrap();
        thread.join().unwrap();
    });
    assert_eq!(pool.try_take().map(|value| value.0), Some(7));
}

#[test]
fn slices_and_tuples_are_reset_part_by_part() {
    type Parts = (Vec<u8>, String, [u32; 2], Box<[u8]>);
    let pool: Pool<Parts> = Pool::new(|| (Vec::new(), String::new(), [0; 2], Box::new([0; 3])));
    {
        let mut parts = pool.get();
        parts.0.push(1);
        parts.1.push('x');
        parts.2[1] = 5;
        parts.3[2] = 6;
    }
    let parts = pool.get();
    assert_eq!(*parts, (Vec::new(), String::new(), [0; 2], Box::from([0; 3])));
    assert!(parts.0.capacity() > 0 && parts.1.capacity() > 0);
}
