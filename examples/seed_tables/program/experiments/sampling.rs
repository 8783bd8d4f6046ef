//! E18, E20: what sampling costs and whether it tells the truth; free memory kept or given back.

use super::{About, Experiment, Finding, Plot, Verdict, listed};
use crate::program::probe::{
    Probe, Random, allocated, counts, faults, on_new_thread, quantile, resident, timed,
};
use crate::program::scavenges::scavenged;
use std::hint::black_box;
use std::time::Duration;

const NS: &str = "ns per allocation and free";
const ERROR: &str = "error of bytes, %";

pub(super) const E18: Experiment = Experiment {
    id: "E18",
    title: "Sampling against the truth",
    workload: "200,000 allocations of 16 to 2063 bytes with a sample per 512 KiB, per 64 KiB, of \
               every allocation, and none; the bytes estimated against those asked for.",
    about: About::Expectation,
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
const FAULTS: &str = "page faults per 1000 steps";
const SCAVENGES: &str = "scavenges per 1000 steps";
const GIVEN_BACK: &str = "MB given back per 1000 steps";
const STALL: &str = "P99.9 of a step, ns";

pub(super) const E20: Experiment = Experiment {
    id: "E20",
    title: "Decay and a soft limit",
    workload: "6000 steps of work on live memory that swells to 64 MB and shrinks to 4 MB again. \
               Free pages go back to the kernel after every so many steps; or after a decay of 1, \
               20 or 500 ms, with and without a soft limit of 32 MB. Scavenges are the times that \
               pages went back.",
    about: About::Implementation,
    article: "heap 5.1 → 3.1 GB, P99 pause 1.8 → 0.32 ms",
    rule: "with the soft limit, at a decay of 500 ms, mean resident memory is at least 5.1 ÷ 3.1 times \
           lower than without, and the P99.9 of a step 1.8 ÷ 0.32 times shorter",
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
        let (faults_often, faults_rarely) = of(FAULTS)?;
        let (stall_often, stall_rarely) = of(STALL)?;
        let [slow, fast, limited] =
            ["decay 500 ms", "decay 1 ms", "decay 500 ms, limit"].map(|name| data.ours(RSS, name));
        let (slow, fast, limited) = (slow?, fast?, limited?);
        let (stall, stall_limited) =
            (data.ours(STALL, "decay 500 ms")?, data.ours(STALL, "decay 500 ms, limit")?);
        let parts = [
            ("memory", Verdict::gain(slow.over(limited), 5.1 / 3.1)),
            ("pauses", Verdict::gain(stall.over(stall_limited), 1.8 / 0.32)),
        ];
        let times = |name| {
            data.ours(SCAVENGES, name).map_or_else(|| String::from("–"), |times| times.to_string())
        };
        Some(Finding {
            verdict: Verdict::of_all(&parts),
            ours: format!(
                "{slow} → {limited} MB, P99.9 of a step {stall} → {stall_limited} ns with the limit"
            ),
            why: format!(
                "{}. Pages given back must be faulted in again, and there is no collector here \
                 whose pauses a smaller heap shortens. Given back every 4 steps instead of every \
                 1024: {rss_rarely} → {rss_often} MB, {faults_rarely} → {faults_often} faults, \
                 P99.9 {stall_rarely} → {stall_often} ns. A decay of 1 ms holds {fast} MB; at \
                 500 ms, 1 ms and 500 ms with the limit pages go back {}, {} and {} times per 1000 \
                 steps.",
                listed(&parts),
                times("decay 500 ms"),
                times("decay 1 ms"),
                times("decay 500 ms, limit"),
            ),
        })
    },
};

/// When free memory is given back.
#[derive(Clone, Copy)]
enum Release {
    Every(usize),
    /// By the scavenger after so many milliseconds, and above a limit of so many bytes if not 0.
    After(u64, u64),
}

fn decay(probe: &mut Probe) {
    const LIMIT: u64 = 32 << 20;
    if !counts() {
        return;
    }
    let everys = [4, 16, 64, 256, 1024].map(|steps| ("every n steps", Release::Every(steps)));
    let others = [
        ("decay 1 ms", Release::After(1, 0)),
        ("decay 20 ms", Release::After(20, 0)),
        ("decay 500 ms", Release::After(500, 0)),
        ("decay 1 ms, limit", Release::After(1, LIMIT)),
        ("decay 20 ms, limit", Release::After(20, LIMIT)),
        ("decay 500 ms, limit", Release::After(500, LIMIT)),
    ];
    let all: Vec<_> = everys.into_iter().chain(others).collect();
    for (name, release) in probe.turns(&all) {
        let (decay_ms, limit) = match release {
            Release::Every(_) => (u64::from(u32::MAX), 0),
            Release::After(decay_ms, limit) => (decay_ms, limit),
        };
        spanalloc::set_decay(Duration::from_millis(decay_ms));
        if spanalloc::set_soft_limit(limit).is_err() {
            continue;
        }
        let steps = probe.size(6000, 1500);
        let (given_back, swelled) = scavenged(|| swell(release, steps));
        let mut record = |metric: &str, value| match release {
            Release::Every(steps) => probe.record_at(metric, name, steps as f64, value),
            Release::After(..) => probe.record(metric, name, value),
        };
        record(RSS, swelled.rss_bytes / 1e6);
        record(FAULTS, swelled.faults);
        record(STALL, swelled.stall_ns);
        if let Some(given_back) = given_back {
            record(SCAVENGES, 1000.0 * given_back.times / steps as f64);
            record(GIVEN_BACK, 1000.0 * given_back.bytes / 1e6 / steps as f64);
        }
        spanalloc::release_free_memory();
    }
    // Zero is taken back by everyone.
    let _ = spanalloc::set_soft_limit(0);
}

/// What a run came to.
struct Swelled {
    /// Mean resident memory.
    rss_bytes: f64,
    /// Page faults per 1000 steps.
    faults: f64,
    /// P99.9 of a step's processor time.
    stall_ns: f64,
}

fn swell(release: Release, steps: usize) -> Swelled {
    const BLOCK_BYTES: usize = 8192;
    // Room for all, and the first blocks, before the first step.
    let mut held: Vec<Vec<u8>> = Vec::with_capacity(16_384);
    held.resize_with(500, || black_box(vec![1; BLOCK_BYTES]));
    let mut took = vec![0u32; steps];
    let (mut sum, mut looks) = (0.0, 0.0);
    let before = faults();
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
        if let Release::Every(steps) = release
            && step % steps == 0
        {
            spanalloc::release_free_memory();
        }
        if step % 64 == 0
            && let Some(rss) = resident()
        {
            (sum, looks) = (sum + rss, looks + 1.0);
        }
    }
    let faults = 1000.0 * (faults() - before) / steps as f64;
    took.sort_unstable();
    Swelled { rss_bytes: sum / looks, faults, stall_ns: quantile(&took, 0.999) }
}
