//! E10, E11: locks over shards, and compare-and-swap on hot cells.

use super::{About, Experiment, Finding, Plot, Verdict};
use crate::program::data::Estimate;
use crate::program::probe::{Probe, Random, timed};
use spanalloc::map::{CasTable, ShardStats, Sharded};
use spanalloc::pool::SlicePool;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

const CONTENDED: &str = "% of locks contended";
const SHARDS: [usize; 4] = [1, 8, 32, 64];
const THREADS: [usize; 3] = [1, 2, 4];

pub(super) const E10: Experiment = Experiment {
    id: "E10",
    title: "Shards",
    workload: "1, 2 and 4 threads append to lists of 64 values under 4096 keys of a sharded map; \
               a full list goes and a new one comes, of a pool or not. It is done in bursts of a \
               millisecond or so; those in which fewer than 1.5 processors were at work do not \
               count.",
    about: About::Implementation,
    article: "contention from high to very low with 32 or 64 shards",
    rule: "with 4 threads contention falls or stays from 1 to 8, 32 and 64 shards, and falls from \
           1 to 64, intervals apart",
    plot: Plot::lines(CONTENDED, "shards").log_x(),
    measure: shards,
    rule_on: |data| {
        let at = |shards| data.ours_at(CONTENDED, "4 threads", shards as f64);
        let levels: Vec<Estimate> = SHARDS.into_iter().filter_map(at).filter(is_sure).collect();
        let &[one, _, _, most] = &levels[..] else { return Some(alone()) };
        // A step up counts only where the intervals show it.
        let never_up = levels.windows(2).all(|pair| !pair[0].below(pair[1]));
        let speed = |name: &str| data.ours_at("million operations per second", name, 64.0);
        let (plain, pooled) = (speed("4 threads")?, speed("4 threads, pool")?);
        Some(Finding {
            verdict: Verdict::when(never_up && most.below(one)),
            ours: format!("{one} % → {most} % of locks"),
            why: format!(
                "two threads meet in one of n shards with a chance of 1 in n; the pool of lists \
                 changes {plain} million operations per second to {pooled}."
            ),
        })
    },
};

/// Whether there are enough readings for an interval at 95 %: rounds in which the threads did not
/// run at the same time have none.
fn is_sure(estimate: &Estimate) -> bool {
    estimate.readings >= 6
}

/// What to say where there are not.
fn alone() -> Finding {
    Finding {
        verdict: Verdict::NotMeasurable,
        ours: String::from("not measured"),
        why: format!(
            "the machine had other work: in too few bursts were {PROCESSORS_MIN} processors at \
             work for our threads, and threads that take turns do not contend."
        ),
    }
}

fn shards(probe: &mut Probe) {
    let operations = probe.size(12_000, 6000);
    for shards in probe.turns(&SHARDS) {
        for threads in THREADS {
            for pooled in [false, true] {
                let suffix = if pooled { ", pool" } else { "" };
                let plural = if threads == 1 { "" } else { "s" };
                let name = format!("{threads} thread{plural}{suffix}");
                let pool: SlicePool<u64> = SlicePool::default();
                let pool = pooled.then_some(&pool);
                let run = contend(shards, threads, pool, operations, probe.seed());
                let Some((ns, contended)) = run else { continue };
                let x = shards as f64;
                let speed = (threads as u64 * operations) as f64 * 1000.0 / ns;
                probe.record_at(CONTENDED, &name, x, 100.0 * contended);
                probe.record_at("million operations per second", &name, x, speed);
            }
        }
    }
}

/// Nanoseconds of so many operations in each thread, and the part of the locks contended.
fn contend(
    shards: usize,
    threads: usize,
    pool: Option<&SlicePool<u64>>,
    operations: u64,
    seed: u64,
) -> Option<(f64, f64)> {
    let map: Sharded<u64, Vec<u64>> = Sharded::new(shards);
    let sum = |of: fn(&ShardStats) -> u64| map.stats().iter().map(of).sum::<u64>() as f64;
    let bursts = bursts(|burst| {
        let before = (sum(|shard| shard.contended), sum(|shard| shard.locks));
        let (ns, _) = together(threads, |thread| {
            let mut random = Random(thread as u64 + (seed * TRIES + burst) * 100);
            for number in 0..operations {
                append(&map, pool, random.next() % 4096, number);
            }
        })?;
        Some((ns, sum(|shard| shard.contended) - before.0, sum(|shard| shard.locks) - before.1))
    })?;
    let add = |of: fn(&(f64, f64, f64)) -> f64| bursts.iter().map(of).sum::<f64>();
    Some((add(|burst| burst.0) / bursts.len() as f64, add(|burst| burst.1) / add(|burst| burst.2)))
}

/// Appends to the list of a key; a list of 64 makes room for a new one.
fn append(map: &Sharded<u64, Vec<u64>>, pool: Option<&SlicePool<u64>>, key: u64, value: u64) {
    map.with(key, |list| {
        if list.len() < 64 {
            list.push(value);
            return;
        }
        match pool {
            // The guard takes the full list, and gives it back cleared.
            Some(pool) => std::mem::swap(list, &mut pool.get()),
            None => *list = Vec::with_capacity(64),
        }
        black_box(&*list);
    });
}

/// Less than this many processors at work on average, and threads hardly meet.
const PROCESSORS_MIN: f64 = 1.5;
/// How many bursts to try for as many as are wanted, on a machine with other work.
const TRIES: u64 = 60;
/// Bursts in which the threads ran at the same time that make a reading.
const BURSTS: usize = 8;

/// What came of the first bursts, of a number each, in which the threads ran at the same time.
fn bursts<R>(burst: impl FnMut(u64) -> Option<R>) -> Option<Vec<R>> {
    let good: Vec<R> = (0..TRIES).filter_map(burst).take(BURSTS).collect();
    (good.len() == BURSTS).then_some(good)
}

/// Runs `work` in so many threads that start together. Returns the nanoseconds from the first
/// one's start to the last one's end and the results; `None` if the threads did not truly run at
/// the same time, because the machine had other work.
fn together<R: Send>(threads: usize, work: impl Fn(usize) -> R + Sync) -> Option<(f64, Vec<R>)> {
    let ready = AtomicUsize::new(0);
    let run = |thread| {
        // Nobody sleeps at the start: waking up takes as long as a burst.
        ready.fetch_add(1, SeqCst);
        while ready.load(SeqCst) < threads {
            thread::yield_now();
        }
        let first = Instant::now();
        let (processor_ns, result) = timed(|| work(thread));
        (first, Instant::now(), processor_ns, result)
    };
    let runs: Vec<_> = thread::scope(|scope| {
        let run = &run;
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        all.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let first = runs.iter().map(|run| run.0).min();
    let last = runs.iter().map(|run| run.1).max();
    let span = first.zip(last).map(|(first, last)| (last - first).as_nanos() as f64);
    let (ns, busy) = (span.unwrap_or(f64::NAN), runs.iter().map(|run| run.2).sum::<f64>());
    let parallel = threads == 1 || busy / ns >= PROCESSORS_MIN;
    parallel.then(|| (ns, runs.into_iter().map(|run| run.3).collect()))
}

const FAILED: &str = "% of compare-and-swaps failed";

pub(super) const E11: Experiment = Experiment {
    id: "E11",
    title: "Compare-and-swap on tophashes (not Go)",
    workload: "1, 2 and 4 threads claim and release cells of 1, 4 or 64 hot buckets of a table \
               made for this; Go's map has no atomics. It is done in bursts of a millisecond or so; \
               those in which fewer than 1.5 processors were at work do not count.",
    about: About::Implementation,
    article: "more than 35 % failures, about 12 ns",
    rule: "more than 35 % of the compare-and-swaps fail with 4 threads on one bucket",
    plot: Plot::lines(FAILED, "threads"),
    measure: cas,
    rule_on: |data| {
        let failed = data.ours_at(FAILED, "1 hot bucket", 4.0).filter(is_sure);
        let Some(failed) = failed else { return Some(alone()) };
        let ns = data.ours_at("ns per claim and release", "1 hot bucket", 1.0)?;
        let processors = thread::available_parallelism().map_or(0, usize::from);
        let verdict = Verdict::at_least(failed, 35.0);
        let many = if verdict == Verdict::Holds { "many" } else { "few" };
        Some(Finding {
            verdict,
            ours: format!("{failed} % failures; {ns} ns by one thread"),
            why: format!(
                "a claim looks before it swaps, and on {processors} processors at most \
                 {processors} threads race at a time: {many} swaps meet a cell that changed in \
                 between."
            ),
        })
    },
};

fn cas(probe: &mut Probe) {
    let operations = probe.size(30_000u64, 15_000);
    for (name, buckets) in
        probe.turns(&[("1 hot bucket", 1), ("4 hot buckets", 4), ("64 hot buckets", 64)])
    {
        for threads in THREADS {
            let table = CasTable::new(buckets);
            let run = bursts(|burst| {
                together(threads, |thread| {
                    let mut random = Random(thread as u64 + (probe.seed() * TRIES + burst) * 100);
                    let (mut tried, mut failed) = (0, 0);
                    for number in 0..operations {
                        let claim = table.claim(random.next(), number);
                        tried += u64::from(claim.attempts);
                        failed += u64::from(claim.failures);
                        if let Some(slot) = claim.slot {
                            black_box(table.release(slot));
                        }
                    }
                    (tried, failed)
                })
            });
            let Some(run) = run else { continue };
            let ns: f64 = run.iter().map(|(ns, _)| ns).sum();
            let swaps = || run.iter().flat_map(|(_, swaps)| swaps);
            let tried: u64 = swaps().map(|(tried, _)| tried).sum();
            let failed: u64 = swaps().map(|(_, failed)| failed).sum();
            let (x, all) = (threads as f64, (threads * BURSTS) as u64 * operations);
            probe.record_at(FAILED, name, x, 100.0 * failed as f64 / tried as f64);
            probe.record_at("ns per claim and release", name, x, ns / all as f64);
        }
    }
}
