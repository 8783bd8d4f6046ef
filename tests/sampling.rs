//! The sampler end to end: estimates against exact counts, over many seeds.
//!
//! Every thread's heap starts its random numbers afresh, so a thread is a seed.
//! An estimate of `n` blocks, each sampled with probability `p` and then counted
//! `1/p` times, has the variance `n·(1 − p)/p`; what is looked at is how many
//! standard deviations it is off. Bounds leave one run in a million to chance.
#![cfg(feature = "profile")]

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;

use spanalloc::SpanAlloc;
use spanalloc::profile::{self, Profile};
use spanalloc::report::Weight;

mod common;
use common::Block;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const INTERVAL: u64 = 64 * 1024;
const SEEDS: usize = 60;
/// Blocks of a workload that are kept until they are looked at.
const KEPT: usize = 2000;

/// Block sizes that nothing else in this process asks for, and how many blocks of each a thread
/// allocates.
const SMALL: Sizes = (384, 40_000);
const MIDDLE: Sizes = (3072, 8000);
const WIDE: Sizes = (14 << 10, 3000);
const LARGE: Sizes = (128 << 10, 400);

type Sizes = (usize, usize);

/// What is asked for to get such a block; of the large ones much less, for the block is what the
/// sampler goes by.
fn asked(block_bytes: usize) -> usize {
    if block_bytes == LARGE.0 { 65 << 10 } else { block_bytes }
}

#[inline(never)]
fn pairs_site(bytes: usize) -> Block {
    std::hint::black_box(Block::new(bytes, 8, false))
}

#[inline(never)]
fn batch_site(bytes: usize) -> Block {
    std::hint::black_box(Block::new(bytes, 8, false))
}

#[inline(never)]
fn kept_site(bytes: usize) -> Block {
    std::hint::black_box(Block::new(bytes, 8, false))
}

/// `count` blocks: a third freed at once, a third in batches that fill lists and
/// make bins drain, a share kept.
fn workload((block_bytes, count): Sizes) -> Vec<Block> {
    let bytes = asked(block_bytes);
    let kept = count.min(KEPT) / 4;
    let pairs = count / 3;
    for _ in 0..pairs {
        drop(pairs_site(bytes));
    }
    let mut left = count - pairs - kept;
    for batch in [1, 7, 100, 1000].into_iter().cycle() {
        let batch = batch.min(left);
        let blocks: Vec<_> = (0..batch).map(|_| batch_site(bytes)).collect();
        drop(blocks);
        left -= batch;
        if left == 0 {
            break;
        }
    }
    (0..kept).map(|_| kept_site(bytes)).collect()
}

/// Objects allocated and in use of a block size.
fn objects(profile: &Profile, bytes: usize) -> [f64; 2] {
    let size = profile.sizes.iter().find(|size| size.block_bytes == bytes as u64);
    size.map_or([0.0; 2], |size| [size.allocated.objects as f64, size.in_use.objects as f64])
}

/// By how many standard deviations an estimate of `exact` blocks is off.
fn deviation(estimate: f64, exact: f64, bytes: usize) -> f64 {
    let p = 1.0 - (-(bytes as f64) / INTERVAL as f64).exp();
    (estimate - exact) / (exact * (1.0 - p) / p).sqrt()
}

/// Bytes by site, from the folded stacks.
fn bytes_by_site(profile: &Profile) -> HashMap<&'static str, f64> {
    let mut folded = Vec::new();
    profile.write_folded(Weight::AllocatedBytes, &mut folded).unwrap();
    let mut bytes = HashMap::new();
    for line in String::from_utf8(folded).unwrap().lines() {
        let (stack, value) = line.rsplit_once(' ').unwrap();
        for site in ["pairs_site", "batch_site", "kept_site"] {
            if stack.contains("workload") && stack.contains(site) {
                *bytes.entry(site).or_insert(0.0) += value.parse::<f64>().unwrap();
            }
        }
    }
    bytes
}

#[test]
fn estimates_are_unbiased_and_an_interval_of_one_is_exact() {
    estimates();
    exact();
}

fn estimates() {
    profile::start(INTERVAL).unwrap();
    let classes = [SMALL, MIDDLE, WIDE, LARGE];
    let mut before = profile::capture();
    // Per class, allocated and in use: the sum of the deviations and of their squares.
    let mut sums = [[(0.0, 0.0); 2]; 4];
    for _ in 0..SEEDS {
        let (ready, is_ready) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let worker = thread::spawn(move || {
            let kept: Vec<_> = classes.map(workload).into_iter().collect();
            ready.send(()).unwrap();
            may_go.recv().unwrap();
            drop(kept);
        });
        is_ready.recv().unwrap();
        let after = profile::capture();
        for ((bytes, count), sums) in classes.into_iter().zip(&mut sums) {
            let exact = [count as f64, (count.min(KEPT) / 4) as f64];
            let (old, new) = (objects(&before, bytes), objects(&after, bytes));
            // What the thread before kept was free by the time of this capture.
            let estimate = [new[0] - old[0], new[1]];
            for which in 0..2 {
                let off = deviation(estimate[which], exact[which], bytes);
                sums[which].0 += off;
                sums[which].1 += off * off;
            }
        }
        before = after;
        go.send(()).unwrap();
        worker.join().unwrap();
    }
    for ((bytes, _), sums) in classes.iter().zip(&sums) {
        for ((sum, squares), what) in sums.iter().zip(["allocated", "in use"]) {
            let seeds = SEEDS as f64;
            let bias = sum / seeds.sqrt();
            assert!(bias.abs() < 5.0, "{what}, {bytes} bytes: off by {bias} sigma");
            // Twice the expected scatter, or half of it, would be another law.
            let scatter = squares / seeds;
            assert!((0.25..2.5).contains(&scatter), "{what}, {bytes} bytes: scatter {scatter}");
        }
    }
    by_site(&before, &classes);
    profile::stop();
}

fn by_site(profile: &Profile, classes: &[Sizes]) {
    let estimated = bytes_by_site(profile);
    let mut exact = HashMap::<_, (f64, f64)>::new();
    for &(bytes, count) in classes {
        let (kept, pairs) = (count.min(KEPT) / 4, count / 3);
        let sites =
            [("pairs_site", pairs), ("kept_site", kept), ("batch_site", count - pairs - kept)];
        for (site, count) in sites {
            let n = (count * SEEDS) as f64;
            let p = 1.0 - (-(bytes as f64) / INTERVAL as f64).exp();
            let (entry, asked) = (exact.entry(site).or_default(), asked(bytes) as f64);
            entry.0 += n * asked;
            entry.1 += n * (1.0 - p) / p * asked * asked;
        }
    }
    for (site, (bytes, variance)) in exact {
        let off = (estimated[site] - bytes) / variance.sqrt();
        assert!(off.abs() < 5.0, "{site}: {bytes} bytes are estimated {off} sigma off");
    }
}

fn exact() {
    // Before the thread starts, so that all it is ever granted is for this interval.
    profile::start(1).unwrap();
    const BYTES: usize = 448;
    let before = profile::capture();
    let kept = thread::spawn(|| {
        let blocks = (0..5000).map(|_| kept_site(BYTES - 3));
        blocks.enumerate().filter(|(index, _)| index % 5 == 0).map(|(_, block)| block).collect()
    });
    let kept: Vec<Block> = kept.join().unwrap();
    let after = profile::capture();
    let (old, new) = (objects(&before, BYTES), objects(&after, BYTES));
    assert_eq!([new[0] - old[0], new[1] - old[1]], [5000.0, 1000.0]);
    let size = after.sizes.iter().find(|size| size.block_bytes == BYTES as u64).unwrap();
    assert_eq!(size.in_use.bytes, 1000 * (BYTES as u64 - 3));
    assert_eq!(after.losses.reentrant, 0);
    drop(kept);
    assert_eq!(objects(&profile::capture(), BYTES)[1], old[1]);
    profile::stop();
}
