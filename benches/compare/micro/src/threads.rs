//! Several threads, each with its own blocks, and threads that come and go.

use crate::live::ring;
use harness::{Bytes, Kind, Rng, Run, Workload, bytes};
use std::thread;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "ring_2_threads",
        kind: Kind::Time,
        about: "the ring of 1,024 blocks in each of 2 threads",
        run: |run| rings(run, 2, 16_000_000),
    },
    Workload {
        name: "ring_16_threads",
        kind: Kind::Time,
        about: "the ring of 1,024 blocks in each of 16 threads",
        run: |run| rings(run, 16, 2_000_000),
    },
    Workload {
        name: "larson",
        kind: Kind::Time,
        about: "4 sets of 1,000 blocks, replaced at random and handed to a fresh thread in turn",
        run: larson,
    },
    Workload {
        name: "thread_churn",
        kind: Kind::Time,
        about: "short threads of 300 blocks each, two at a time",
        run: thread_churn,
    },
];

fn rings(run: &mut Run, threads: u64, ops_per_thread: usize) {
    let ops = run.count(ops_per_thread);
    let asked: u64 = run.time(ops * threads as usize, || {
        on_threads(threads, |seed| ring(seed, ops)).into_iter().sum()
    });
    run.check(asked);
}

/// Runs `work` on `threads` threads at once, each with its own number.
pub(crate) fn on_threads<T: Send>(threads: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|i| scope.spawn(move || work(i))).collect();
        handles.into_iter().map(|handle| handle.join().expect("no workload panics")).collect()
    })
}

const SETS: u64 = 4;
const SET_BLOCKS: usize = 1000;

fn larson(run: &mut Run) {
    let (generations, ops) = (run.pick(100, 5), 50_000);
    let total = generations * ops * SETS as usize;
    let asked: u64 = run.time(total, || {
        on_threads(SETS, |seed| {
            let mut rng = Rng::new(seed);
            let mut set: Vec<Bytes> = (0..SET_BLOCKS).map(|_| bytes(10)).collect();
            let mut asked = 0;
            for _ in 0..generations {
                let heir = thread::spawn(move || {
                    for _ in 0..ops {
                        let size = rng.between(10, 500);
                        asked += size as u64;
                        set[rng.below(SET_BLOCKS)] = bytes(size);
                    }
                    (rng, set, asked)
                });
                (rng, set, asked) = heir.join().expect("no workload panics");
            }
            asked
        })
        .into_iter()
        .sum()
    });
    run.check(asked);
}

fn thread_churn(run: &mut Run) {
    let (lives, blocks) = (run.count(4_000), 300);
    let asked: usize = run.time(2 * lives * blocks, || {
        on_threads(2, |seed| {
            (0..lives).map(|life| short_life(seed + life as u64, blocks)).sum::<usize>()
        })
        .into_iter()
        .sum()
    });
    run.check(asked as u64);
}

fn short_life(seed: u64, blocks: usize) -> usize {
    thread::spawn(move || {
        let mut rng = Rng::new(seed);
        let kept: Vec<Bytes> = (0..blocks).map(|_| bytes(rng.between(16, 256))).collect();
        kept.iter().map(|block| block.len()).sum()
    })
    .join()
    .expect("no workload panics")
}
