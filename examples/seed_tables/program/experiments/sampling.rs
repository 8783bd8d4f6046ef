//! E18, E20: what sampling costs and whether it tells the truth; free memory kept or given back.

use super::{Experiment, Finding, Plot, Verdict};
use crate::program::probe::{
    Probe, Random, allocated, counts, on_new_thread, quantile, resident, timed,
};
use std::hint::black_box;

const NS: &str = "ns per allocation and free";
const ERROR: &str = "error of bytes, %";

pub(super) const E18: Experiment = Experiment {
    id: "E18",
    title: "Sampling against the truth",
    workload: "200,000 allocations of 16 to 2063 bytes with a sample per 512 KiB, per 64 KiB, of \
               every allocation, and none; the bytes estimated against those asked for.",
    article: "no figure",
    rule: "the interval of the error holds 0 at 512 and at 64 KiB, and every allocation sampled \
           leaves less than 0.001 % (the measuring thread's own start)",
    plot: Plot::bars(NS).log_y(),
    measure: sampling,
    rule_on: |data| {
        let error = |variant| data.ours(ERROR, variant);
        let (rare, often, every) = (error("512 KiB")?, error("64 KiB")?, error("every")?);
        let unbiased = [rare, often].iter().all(|error| error.low <= 0.0 && error.high >= 0.0);
        let cost = |variant| Some(data.ours(NS, variant)?.over(data.ours(NS, "off")?));
        Some(Finding {
            verdict: Verdict::when(unbiased && every.low >= 0.0 && every.high < 0.001),
            ours: format!("{rare} % / {often} % / {every} %"),
            why: format!(
                "gaps between samples are exponential, so each byte has the same chance; the time \
                 with sampling is {} times that without at 512 KiB, {} at 64 KiB, {} with every \
                 allocation.",
                cost("512 KiB")?,
                cost("64 KiB")?,
                cost("every")?
            ),
        })
    },
};

fn sampling(probe: &mut Probe) {
    let count = probe.size(200_000, 20_000);
    if !counts() {
        let (ns, _) = timed(|| allocate(probe.seed(), count));
        return probe.record(NS, "off", ns / f64::from(count));
    }
    let variants = [("off", 0), ("512 KiB", 512 << 10), ("64 KiB", 64 << 10), ("every", 1)];
    for (name, interval) in probe.turns(&variants) {
        spanalloc::profile::stop();
        let before = allocated().0;
        if interval > 0 && spanalloc::profile::start(interval).is_err() {
            continue;
        }
        let seed = probe.seed();
        let (ns, bytes) = on_new_thread(|| timed(|| allocate(seed, count)));
        spanalloc::profile::stop();
        probe.record(NS, name, ns / f64::from(count));
        if interval > 0 {
            let estimate = allocated().0 - before;
            probe.record(ERROR, name, 100.0 * (estimate / bytes - 1.0));
        }
    }
}

/// Allocates and frees; returns the bytes asked for.
#[inline(never)]
fn allocate(seed: u64, count: u32) -> f64 {
    let mut random = Random(seed);
    let mut held: [Vec<u8>; 64] = [const { Vec::new() }; 64];
    let mut bytes = 0;
    for number in 0..count as usize {
        let size = 16 + random.below(2048);
        bytes += size;
        held[number % 64] = black_box(Vec::with_capacity(size));
    }
    black_box(&held);
    bytes as f64
}

const RSS: &str = "mean resident, MB";
const STALL: &str = "P99.9 of a step, ns";

pub(super) const E20: Experiment = Experiment {
    id: "E20",
    title: "Decay and a soft limit",
    workload: "6000 steps of work on live memory that swells to 64 MB and shrinks to 4 MB again. \
               Free pages go back to the kernel after every so many steps, or when resident memory \
               is above a soft limit of 48 MB, or only by the scavenger itself.",
    article: "heap 5.1 → 3.1 GB, P99 pause 1.8 → 0.32 ms",
    rule: "a trade-off: given back more often, resident memory is lower and P99.9 higher, \
           intervals apart; the article has both fall",
    plot: Plot::lines(RSS, "steps between releases").log_x(),
    measure: decay,
    rule_on: |data| {
        let of = |metric| {
            Some((
                data.ours_at(metric, "every n steps", 4.0)?,
                data.ours_at(metric, "every n steps", 1024.0)?,
            ))
        };
        let (rss_often, rss_rarely) = of(RSS)?;
        let (stall_often, stall_rarely) = of(STALL)?;
        let limited = data.ours(RSS, "above the soft limit")?;
        let apart = stall_rarely.below(stall_often) || stall_often.below(stall_rarely);
        let verdict = match rss_often.below(rss_rarely) {
            true if !apart => Verdict::NotMeasurable,
            less => Verdict::when(less && stall_rarely.below(stall_often)),
        };
        let steps = match verdict {
            Verdict::NotMeasurable => "but the steps' intervals overlap on this machine",
            Verdict::Reproduced => "so less memory costs longer steps",
            Verdict::Refuted => "but that did not show as the rule has it",
        };
        Some(Finding {
            verdict,
            ours: format!(
                "{rss_rarely} → {rss_often} MB, P99.9 {stall_rarely} → {stall_often} ns, from \
                 every 1024 steps to every 4"
            ),
            why: format!(
                "pages given back must be faulted in again, {steps}; the soft limit holds \
                 {limited} MB. There is no collector here, so no pause to shorten."
            ),
        })
    },
};

/// When free memory is given back.
#[derive(Clone, Copy)]
enum Release {
    Every(usize),
    Above(f64),
    ByScavenger,
}

fn decay(probe: &mut Probe) {
    if !counts() {
        return;
    }
    let everys = [4, 16, 64, 256, 1024].map(|steps| ("every n steps", Release::Every(steps)));
    let others = [
        ("above the soft limit", Release::Above(48e6)),
        ("by the scavenger", Release::ByScavenger),
    ];
    let all: Vec<_> = everys.into_iter().chain(others).collect();
    for (name, release) in probe.turns(&all) {
        let (rss, stall, released) = swell(release, probe.size(6000, 1500));
        let mut record = |metric: &str, value| match release {
            Release::Every(steps) => probe.record_at(metric, name, steps as f64, value),
            Release::Above(_) | Release::ByScavenger => probe.record(metric, name, value),
        };
        record(RSS, rss / 1e6);
        record(STALL, stall);
        record("scavenges that gave something back", released);
    }
}

/// Mean resident bytes, P99.9 of a step in nanoseconds, and releases that gave something back.
fn swell(release: Release, steps: usize) -> (f64, f64, f64) {
    const BLOCK_BYTES: usize = 8192;
    // Room for all, and the first blocks, before the first step.
    let mut held: Vec<Vec<u8>> = Vec::with_capacity(16_384);
    held.resize_with(500, || black_box(vec![1; BLOCK_BYTES]));
    let mut took = vec![0u32; steps];
    let (mut sum, mut looks, mut released) = (0.0, 0.0, 0.0);
    for (step, took) in took.iter_mut().enumerate() {
        // 1500 steps up and down: 500 blocks to 8000.
        let phase = step % 1500;
        let wanted = if phase < 750 { 500 + phase * 10 } else { 8000 - (phase - 750) * 10 };
        *took = timed(|| {
            held.truncate(wanted);
            while held.len() < wanted {
                held.push(black_box(vec![1; BLOCK_BYTES]));
            }
        })
        .0 as u32;
        let now = match release {
            Release::Every(steps) => step % steps == 0,
            Release::Above(bytes) => step % 16 == 0 && resident().is_some_and(|rss| rss > bytes),
            Release::ByScavenger => false,
        };
        if now {
            let bytes = spanalloc::release_free_memory();
            released += f64::from(u8::from(bytes > 0));
        }
        if step % 64 == 0
            && let Some(rss) = resident()
        {
            (sum, looks) = (sum + rss, looks + 1.0);
        }
    }
    took.sort_unstable();
    (sum / looks, quantile(&took, 0.999), released)
}
