//! Many threads, every kind of block, and a pattern in each one.

use std::cell::RefCell;
use std::sync::{Mutex, mpsc};
use std::thread;

use spanalloc::SpanAlloc;

mod common;
use common::{Block, Random, churn};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// Sizes on both sides of every border between kinds of blocks.
const BORDERS: [usize; 18] = [
    1,
    8,
    9,
    128,
    129,
    1024,
    8 << 10,
    (8 << 10) + 1,
    32 << 10,
    (32 << 10) + 1,
    64 << 10,
    (64 << 10) + 1,
    1 << 20,
    3 << 20,
    16 << 20,
    (16 << 20) + 1,
    17 << 20,
    40 << 20,
];

#[test]
fn threads_hand_blocks_around() {
    let pool = Mutex::new(Vec::new());
    for round in 0..3 {
        thread::scope(|scope| {
            for seed in 0..6 {
                let pool = &pool;
                scope.spawn(move || churn(round * 6 + seed, 4000, pool));
            }
        });
    }
}

#[cfg(feature = "profile")]
#[test]
fn sampled_blocks_are_blocks_too() {
    let sampled = || -> u64 {
        let sites = spanalloc::profile::capture().sites;
        sites.iter().map(|site| site.allocated.samples).sum()
    };
    let before = sampled();
    spanalloc::profile::start(256).unwrap();
    let pool = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for seed in 50..54 {
            let pool = &pool;
            scope.spawn(move || churn(seed, 3000, pool));
        }
    });
    spanalloc::profile::stop();
    let taken = sampled() - before;
    assert!(taken > 500, "{taken} samples of 4 threads with 3000 steps each");
}

#[test]
fn a_block_keeps_its_contents_when_it_is_resized() {
    for align in [1, 64, 4096, 1 << 20] {
        for from in BORDERS {
            for to in BORDERS {
                Block::new(from, align, false).resize(to);
            }
        }
    }
}

#[test]
fn a_large_block_grows_and_shrinks_step_by_step() {
    let mut block = Block::new(60 << 10, 8, false);
    let mut others = Vec::new();
    for bytes in ((64 << 10)..(18 << 20)).step_by(256 << 10) {
        block.resize(bytes);
        // Something behind the block, now and then.
        others.push(Block::new(40 << 10, 8, false));
    }
    for bytes in ((64 << 10)..(18 << 20)).step_by(1 << 20).rev() {
        block.resize(bytes);
    }
}

#[test]
fn any_alignment() {
    for shift in 0..=20 {
        let align = 1 << shift;
        let blocks: Vec<_> = [1, 7, 24, 100, 5000, 40_000, 200_000]
            .into_iter()
            .map(|size| Block::new(size, align, shift % 2 == 0))
            .collect();
        drop(blocks);
    }
    for align in [8 << 20, 16 << 20, 32 << 20, 64 << 20, 128 << 20] {
        let mut block = Block::new(100, align, true);
        block.resize(5 << 20);
        block.resize(20 << 20);
        block.resize(3);
    }
}

#[test]
fn zeroed_blocks_are_zero_where_dirty_ones_were() {
    for size in BORDERS {
        let count = ((4 << 20) / size).clamp(1, 500);
        for _ in 0..3 {
            let dirty: Vec<_> = (0..count).map(|_| Block::new(size, 8, false)).collect();
            drop(dirty);
            let zeroed: Vec<_> = (0..count).map(|_| Block::new(size, 8, true)).collect();
            drop(zeroed);
            if size > 1 << 20 {
                spanalloc::release_free_memory();
            }
        }
    }
}

#[test]
fn releasing_memory_meanwhile_takes_nobodys_blocks() {
    let pool = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let workers: Vec<_> = (200..203)
            .map(|seed| {
                let pool = &pool;
                scope.spawn(move || churn(seed, 6000, pool))
            })
            .collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            spanalloc::release_free_memory();
        }
    });
}

#[test]
fn ten_thousand_short_threads() {
    const THREADS: usize = 10_000;
    let (send, receive) = mpsc::sync_channel::<Block>(64);
    let heirs = thread::spawn(move || receive.into_iter().for_each(drop));
    let run = |seeds: std::ops::Range<usize>| {
        for seed in seeds.step_by(4) {
            thread::scope(|scope| {
                for seed in seed..seed + 4 {
                    let send = send.clone();
                    scope.spawn(move || {
                        let mut random = Random(seed as u64);
                        let mut held: Vec<_> =
                            (0..20).map(|_| Block::new(1 + random.below(3000), 8, false)).collect();
                        // A dead thread's blocks are freed by another one.
                        send.send(held.swap_remove(3)).unwrap();
                    });
                }
            });
        }
    };
    run(0..THREADS / 2);
    let metadata = spanalloc::stats().memory.metadata;
    run(THREADS / 2..THREADS);
    drop(send);
    heirs.join().unwrap();
    let grown = spanalloc::stats().memory.metadata - metadata;
    // Heaps are handed on: room for the other tests' threads, not for 5,000.
    assert!(grown < 2 << 20, "{grown} bytes of records for threads that have ended");
}

/// Allocates and frees when its thread's locals are dropped.
struct Dropped(Vec<Block>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let mut random = Random(self.0.len() as u64);
        self.0.extend((0..50).map(|_| Block::random(&mut random)));
        self.0.iter_mut().for_each(|block| block.resize(1 + random.below(5000)));
    }
}

thread_local! {
    static DROPPED: RefCell<Dropped> = const { RefCell::new(Dropped(Vec::new())) };
}

/// Runs once the thread's heap was handed over, and again while there are rounds.
struct Afterwards {
    key: libc::pthread_key_t,
    rounds: usize,
    blocks: Vec<Block>,
}

unsafe extern "C" fn afterwards(value: *mut libc::c_void) {
    // SAFETY: the value that was boxed for this key.
    let mut state = unsafe { Box::from_raw(value.cast::<Afterwards>()) };
    let mut random = Random(state.rounds as u64);
    state.blocks.truncate(10);
    state.blocks.extend((0..40).map(|_| Block::random(&mut random)));
    state.blocks.iter_mut().for_each(|block| block.resize(1 + random.below(5000)));
    if state.rounds > 0 {
        state.rounds -= 1;
        let key = state.key;
        // SAFETY: the key lives until the threads have ended.
        unsafe { libc::pthread_setspecific(key, Box::into_raw(state).cast()) };
    }
}

#[test]
fn threads_allocate_in_destructors_and_after_their_own_end() {
    let mut key = 0;
    // SAFETY: `key` is a live out-parameter.
    assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(afterwards)) }, 0);
    for seed in 0..40 {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                thread::spawn(move || {
                    let mut random = Random(seed * 4 + thread);
                    let mut some = || (0..30).map(|_| Block::random(&mut random)).collect();
                    DROPPED.with(|dropped| dropped.borrow_mut().0 = some());
                    let state = Afterwards { key, rounds: 2, blocks: some() };
                    let value = Box::into_raw(Box::new(state)).cast();
                    // SAFETY: the key lives until the threads have ended.
                    unsafe { libc::pthread_setspecific(key, value) };
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    // SAFETY: its threads have ended.
    unsafe { libc::pthread_key_delete(key) };
    // What they left is whole: nobody's blocks are where others are.
    let stats = spanalloc::stats();
    assert!(stats.classes.iter().all(|row| row.live_blocks <= row.spans * row.blocks_per_span));
}

#[test]
fn errno_is_left_alone() {
    // SAFETY: the location is this thread's own.
    let errno = unsafe { libc::__errno_location() };
    for size in BORDERS {
        // SAFETY: as above.
        unsafe { *errno = 1234 };
        drop(Block::new(size, 8, true));
        // SAFETY: as above.
        assert_eq!(unsafe { *errno }, 1234, "{size} bytes");
    }
    // SAFETY: as above.
    unsafe { *errno = 1234 };
    assert!(Block::try_new(isize::MAX as usize - (1 << 20), 8, false).is_none());
    // SAFETY: as above.
    assert_eq!(unsafe { *errno }, 1234, "after a refusal");
}
