//! Foreign code in a pool: constructors, resets and drops that panic, or come back to the pool.

use crate::pool::check;
use spanalloc::pool::{BitmapPool, Epochs, Keep, PRIVATE_MAX, Pool, Prefault, Reset};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

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

/// The thread that begins epochs outlives the panics of values that it drops.
#[test]
fn a_panicking_drop_does_not_end_the_epochs() {
    let live = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(|| Bomb::new(&live));
    for at in 0..60 {
        let mut bomb = Bomb::new(&live);
        bomb.armed = [19, 39].contains(&at);
        pool.put(Box::new(bomb));
    }
    // What is private, the youngest, waits for this thread; the rest does not.
    let epochs = Epochs::every(&pool, Duration::from_millis(1)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while pool.stats().held() > PRIVATE_MAX as u64 || pool.stats().epochs < 5 {
        assert!(Instant::now() < deadline, "the epochs ended: {}", pool.stats());
        thread::sleep(Duration::from_millis(1));
    }
    drop(epochs);
    check(pool.stats(), live.load(SeqCst) as u64);
}

/// However a pool keeps its values, one that panics when the pool is dropped takes no other along.
#[test]
fn a_panicking_drop_costs_no_other_value() {
    for armed in (0..100).step_by(3) {
        let live = Arc::new(AtomicUsize::new(0));
        let bomb = |at: usize| {
            let mut bomb = Bomb::new(&live);
            bomb.armed = at == armed;
            bomb
        };
        let drops = |pool: Box<dyn FnOnce() + '_>| {
            assert_eq!(live.load(SeqCst), 100);
            assert!(catch_unwind(AssertUnwindSafe(pool)).is_err());
            assert_eq!(live.load(SeqCst), 0, "of 100 values, number {armed} panicked");
        };

        // One thread's values: private ones, then a chain of rings; the same as victims.
        let pool = Pool::new(|| Bomb::new(&live));
        (0..50).for_each(|at| pool.put(Box::new(bomb(at))));
        pool.advance();
        (50..100).for_each(|at| pool.put(Box::new(bomb(at))));
        drops(Box::new(move || drop(pool)));

        // Several threads' values.
        let pool = Pool::new(|| Bomb::new(&live));
        let barrier = Barrier::new(5);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..100)
                .step_by(20)
                .map(|first| {
                    let (pool, barrier, bomb) = (&pool, &barrier, &bomb);
                    scope.spawn(move || {
                        (first..first + 20).for_each(|at| pool.put(Box::new(bomb(at))));
                        barrier.wait();
                    })
                })
                .collect();
            // To the end, which is later than the scope's: a thread leaves the pool after its work.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        drops(Box::new(move || drop(pool)));

        let made = AtomicUsize::new(0);
        let next = || Keep(bomb(made.fetch_add(1, SeqCst)));
        let slots = BitmapPool::new(100, Prefault::OnUse, next).unwrap();
        drop(Vec::from_iter(std::iter::from_fn(|| slots.get())));
        drops(Box::new(move || drop(slots)));
    }
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
    assert_eq!(numbers.stats().gets(), 2);
    check(echoes.stats(), 0);
}

/// What an ending thread drops because it is too old may panic: nothing else is lost.
#[test]
fn a_panicking_drop_at_a_thread_s_end_costs_no_other_value() {
    let live = Arc::new(AtomicUsize::new(0));
    let pools = [(); 2].map(|()| Pool::new(|| Bomb::new(&live)));
    let meet = Barrier::new(2);
    thread::scope(|scope| {
        let idle = scope.spawn(|| {
            for pool in &pools {
                let mut bomb = Bomb::new(&live);
                bomb.armed = true;
                pool.put(Box::new(bomb));
                pool.put(Box::new(Bomb::new(&live)));
            }
            meet.wait();
            meet.wait();
            // The stash of the last epoch, of which nothing is too old.
            pools[1].put(Box::new(Bomb::new(&live)));
            meet.wait();
            meet.wait();
        });
        meet.wait();
        pools[1].advance();
        meet.wait();
        meet.wait();
        pools[0].advance();
        pools[0].advance();
        pools[1].advance();
        meet.wait();
        idle.join().unwrap();
    });
    assert_eq!(live.load(SeqCst), 1, "one was put back late enough");
    check(pools[0].stats(), 0);
    check(pools[1].stats(), 1);
    assert!(pools[1].try_take().is_some() && pools[0].try_take().is_none());
}
