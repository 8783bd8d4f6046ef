//! Pools of `Vec<u8>`: one value out at a time, as many as a thread of ours keeps to itself, one
//! more, and four times as many; the same from two threads; and what one thread gets put back by
//! another.

use crate::race::{Contender, row};
use crossbeam_queue::{ArrayQueue, SegQueue};
use lockfree_object_pool::{LinearObjectPool, MutexObjectPool, SpinLockObjectPool};
use opool::PoolAllocator;
use spanalloc::pool::{Pool, PoolGuard};
use std::hint::{black_box, spin_loop};
use std::thread;

const OPERATIONS: u64 = 100_000;
/// Values that the hand-over has in a batch, and batches that it has.
const BATCH: usize = 64;
const BATCHES: usize = 4;
/// What bounded pools have room for: the most that any row has out.
const CAPACITY: usize = BATCH * BATCHES;

fn buffer() -> Vec<u8> {
    Vec::with_capacity(256)
}

/// A pool that hands out cleared vectors.
trait Peer: Sync {
    type Loan<'a>: AsVec + Send
    where
        Self: 'a;
    fn get(&self) -> Self::Loan<'_>;
    fn put(&self, loan: Self::Loan<'_>);
}

trait AsVec {
    fn as_vec(&mut self) -> &mut Vec<u8>;
}

impl<T: std::ops::DerefMut<Target = Vec<u8>>> AsVec for T {
    #[inline]
    fn as_vec(&mut self) -> &mut Vec<u8> {
        self
    }
}

/// A vector taken out of a queue.
struct Plain(Vec<u8>);

impl std::ops::Deref for Plain {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl std::ops::DerefMut for Plain {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

/// Implements [`Peer`] for a pool whose loan goes back when it is dropped.
macro_rules! guarded {
    ($pool:ty, $loan:ty, $get:expr) => {
        impl Peer for $pool {
            type Loan<'a> = $loan;
            #[inline]
            fn get(&self) -> Self::Loan<'_> {
                let get: fn(&Self) -> Self::Loan<'_> = $get;
                get(self)
            }
            #[inline]
            fn put(&self, loan: Self::Loan<'_>) {
                drop(loan);
            }
        }
    };
}

/// Implements [`Peer`] for a queue of vectors.
macro_rules! queued {
    ($queue:ty) => {
        impl Peer for $queue {
            type Loan<'a> = Plain;
            #[inline]
            fn get(&self) -> Plain {
                Plain(self.pop().unwrap_or_else(buffer))
            }
            #[inline]
            fn put(&self, mut loan: Plain) {
                loan.0.clear();
                let _ = self.push(loan.0);
            }
        }
    };
}

/// `object-pool` does not reset; this does it for it.
struct Cleared<'a>(object_pool::Reusable<'a, Vec<u8>>);

impl AsVec for Cleared<'_> {
    #[inline]
    fn as_vec(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Peer for object_pool::Pool<Vec<u8>> {
    type Loan<'a> = Cleared<'a>;
    #[inline]
    fn get(&self) -> Cleared<'_> {
        Cleared(self.pull(buffer))
    }
    #[inline]
    fn put(&self, mut loan: Cleared<'_>) {
        loan.0.clear();
    }
}

struct Buffers;

impl PoolAllocator<Vec<u8>> for Buffers {
    #[inline]
    fn allocate(&self) -> Vec<u8> {
        buffer()
    }
    #[inline]
    fn reset(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
    }
}

guarded!(Pool<Vec<u8>>, PoolGuard<'a, Vec<u8>>, |pool| pool.get());
guarded!(LinearObjectPool<Vec<u8>>, lockfree_object_pool::LinearReusable<'a, Vec<u8>>, |pool| pool
    .pull());
guarded!(
    SpinLockObjectPool<Vec<u8>>,
    lockfree_object_pool::SpinLockReusable<'a, Vec<u8>>,
    |pool| { pool.pull() }
);
guarded!(MutexObjectPool<Vec<u8>>, lockfree_object_pool::MutexReusable<'a, Vec<u8>>, |pool| pool
    .pull());
guarded!(opool::Pool<Buffers, Vec<u8>>, opool::RefGuard<'a, Buffers, Vec<u8>>, |pool| pool.get());
queued!(ArrayQueue<Vec<u8>>);
queued!(SegQueue<Vec<u8>>);

#[inline(never)]
fn one_at_a_time<P: Peer>(pool: &P) {
    for _ in 0..OPERATIONS {
        let mut loan = pool.get();
        black_box(loan.as_vec());
        pool.put(loan);
    }
}

#[inline(never)]
fn many_at_a_time<const OUT: usize, P: Peer>(pool: &P) {
    for _ in 0..OPERATIONS / OUT as u64 {
        let mut loans: [_; OUT] = std::array::from_fn(|_| pool.get());
        black_box(loans[0].as_vec());
        loans.into_iter().for_each(|loan| pool.put(loan));
    }
}

/// The operations of `many_at_a_time`.
const fn whole(out: u64) -> u64 {
    OPERATIONS / out * out
}

/// One thread gets, another puts. Batches go to and fro through queues, which cost each contender
/// the same, and little for each value.
#[inline(never)]
fn handed_over<P: Peer>(pool: &P) {
    let (full, empty) = (ArrayQueue::new(BATCHES), ArrayQueue::new(BATCHES));
    for _ in 0..BATCHES {
        let _ = empty.push(Vec::with_capacity(BATCH));
    }
    let turns = OPERATIONS / BATCH as u64;
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..turns {
                let mut batch: Vec<P::Loan<'_>> = wait_for(&full);
                batch.drain(..).for_each(|loan| pool.put(loan));
                let _ = empty.push(batch);
            }
        });
        for _ in 0..turns {
            let mut batch = wait_for(&empty);
            batch.extend((0..BATCH).map(|_| pool.get()));
            black_box(batch[0].as_vec());
            let _ = full.push(batch);
        }
    });
}

fn wait_for<T>(queue: &ArrayQueue<T>) -> T {
    for turn in 0_u32.. {
        if let Some(value) = queue.pop() {
            return value;
        }
        if turn % 64 == 63 { thread::yield_now() } else { spin_loop() }
    }
    unreachable!("the loop has no end")
}

#[inline(never)]
fn in_turn<P: Peer>(pools: [&P; 2]) {
    for _ in 0..OPERATIONS / 2 {
        for pool in pools {
            let mut loan = pool.get();
            black_box(loan.as_vec());
            pool.put(loan);
        }
    }
}

fn in_two_threads(work: impl Fn() + Sync) {
    thread::scope(|scope| {
        scope.spawn(&work);
        work();
    });
}

/// The same pools for every row.
struct Pools {
    ours: Pool<Vec<u8>>,
    object_pool: object_pool::Pool<Vec<u8>>,
    linear: LinearObjectPool<Vec<u8>>,
    spin: SpinLockObjectPool<Vec<u8>>,
    mutex: MutexObjectPool<Vec<u8>>,
    opool: opool::Pool<Buffers, Vec<u8>>,
    array: ArrayQueue<Vec<u8>>,
    seg: SegQueue<Vec<u8>>,
}

impl Pools {
    fn new() -> Self {
        Self {
            ours: Pool::new(buffer),
            object_pool: object_pool::Pool::new(CAPACITY, buffer),
            linear: LinearObjectPool::new(buffer, Vec::clear),
            spin: SpinLockObjectPool::new(buffer, Vec::clear),
            mutex: MutexObjectPool::new(buffer, Vec::clear),
            opool: opool::Pool::new_prefilled(CAPACITY, Buffers),
            array: ArrayQueue::new(CAPACITY),
            seg: SegQueue::new(),
        }
    }
}

/// One contender for each field of `Pools`, doing `$work` with it.
macro_rules! contenders {
    ($pools:expr, |$pool:ident| $work:expr) => {{
        let pools = $pools;
        macro_rules! contender {
            ($name:literal, $field:ident) => {{
                let $pool = pools.map(|pools| &pools.$field);
                Contender::new($name, move || $work)
            }};
        }
        vec![
            contender!("spanalloc::pool", ours),
            contender!("object-pool", object_pool),
            contender!("lockfree-object-pool/linear", linear),
            contender!("lockfree-object-pool/spin", spin),
            contender!("lockfree-object-pool/mutex", mutex),
            contender!("opool", opool),
            contender!("crossbeam ArrayQueue", array),
            contender!("crossbeam SegQueue", seg),
        ]
    }};
}

pub fn run(rounds: usize) {
    let (one, two) = (Pools::new(), Pools::new());
    row(
        "pool: get + put, one thread, one value out",
        rounds,
        OPERATIONS,
        contenders!([&one], |pool| one_at_a_time(pool[0])),
    );
    row(
        "pool: get + put, one thread, sixteen values out",
        rounds,
        whole(16),
        contenders!([&one], |pool| many_at_a_time::<16, _>(pool[0])),
    );
    row(
        "pool: get + put, one thread, two pools in turn",
        rounds,
        OPERATIONS,
        contenders!([&one, &two], |pool| in_turn(pool)),
    );
    row(
        "pool: get + put, two threads at one pool, one value out each",
        rounds,
        2 * OPERATIONS,
        contenders!([&one], |pool| in_two_threads(|| one_at_a_time(pool[0]))),
    );
    row(
        "pool: get + put, two threads at one pool, sixteen values out each",
        rounds,
        2 * whole(16),
        contenders!([&one], |pool| in_two_threads(|| many_at_a_time::<16, _>(pool[0]))),
    );
    row(
        "pool: get + put, one thread, seventeen values out",
        rounds,
        whole(17),
        contenders!([&one], |pool| many_at_a_time::<17, _>(pool[0])),
    );
    row(
        "pool: get + put, one thread, sixty-four values out",
        rounds,
        whole(64),
        contenders!([&one], |pool| many_at_a_time::<64, _>(pool[0])),
    );
    row(
        "pool: get + put, two threads at one pool, seventeen values out each",
        rounds,
        2 * whole(17),
        contenders!([&one], |pool| in_two_threads(|| many_at_a_time::<17, _>(pool[0]))),
    );
    row(
        "pool: get + put, two threads at one pool, sixty-four values out each",
        rounds,
        2 * whole(64),
        contenders!([&one], |pool| in_two_threads(|| many_at_a_time::<64, _>(pool[0]))),
    );
    row(
        "pool: get in one thread, put in another",
        rounds,
        whole(BATCH as u64),
        contenders!([&one], |pool| handed_over(pool[0])),
    );
}
