//! E6, E9: removing and inserting over and over, and tidying chains.

use super::{About, Experiment, Finding, Plot, Verdict};
use crate::program::perf::CacheMisses;
use crate::program::probe::{Probe, clocked, mix, quantile, timed, unused};
use spanalloc::map::{Growth, Map, Policy};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const P50: &str = "P50, ns per pair";
const BATCH: usize = 32;

pub(super) const E6: Experiment = Experiment {
    id: "E6",
    title: "Delete and insert",
    workload: "100,000 pairs of a remove and an insert on maps of N entries: the same key again, \
               a fresh key, a fresh key of the same bucket, and a fresh key in std's HashMap. \
               Quantiles are over batches of 32 pairs.",
    about: About::Implementation,
    article: "cache misses fall by 72 % when a bucket is reused",
    rule: "cache misses, by the processor's count, at least 72 % fewer in the same bucket than \
           over all buckets at a million entries",
    plot: Plot::lines(P50, "entries").log_x().log_y(),
    measure: churn,
    rule_on: |data| {
        let (x, metric) = (1_000_000.0, "cache misses per 1000 pairs");
        let pairs = |variant| data.ours_at(P50, variant, x);
        let times = format!(
            "{} ns per pair with fresh keys of a million, {} in one bucket",
            pairs("fresh key")?,
            pairs("same bucket")?
        );
        let misses = |variant| data.ours_at(metric, variant, x);
        let Some((near, far)) = misses("same bucket").zip(misses("fresh key")) else {
            return Some(Finding {
                verdict: Verdict::NotMeasurable,
                ours: format!("misses not measured; {times}"),
                why: String::from(
                    "this machine gives us no cache-miss counter, and times are not misses.",
                ),
            });
        };
        Some(Finding {
            verdict: Verdict::at_least(far.over(near), 1.0 / 0.28),
            ours: format!("{far} misses per 1000 pairs, {near} in one bucket; {times}"),
            why: String::from("a bucket that is used again and again stays in the cache."),
        })
    },
};

/// Takes the key for its own hash, so that a key says which bucket it is for.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0 << 8 | u64::from(byte));
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

type ByKey = BuildHasherDefault<Identity>;

fn churn(probe: &mut Probe) {
    let pairs = probe.size(100_000, 6400);
    for entries in probe.size(&[8u64, 1000, 64_000, 1_000_000][..], &[8, 1000]) {
        let (entries, x) = (*entries, *entries as f64);
        for name in probe.turns(&["same key", "fresh key", "same bucket", "std, fresh key"]) {
            if name == "std, fresh key" {
                let mut map: HashMap<u64, u64, ByKey> = (0..entries).map(|n| (mix(n), n)).collect();
                time_pairs(probe, name, x, pairs, |number| {
                    map.remove(&mix(number));
                    map.insert(mix(number + entries), number);
                });
                continue;
            }
            let mut map: Map<u64, u64, ByKey> = (0..entries).map(|n| (mix(n), n)).collect();
            match name {
                "same key" => time_pairs(probe, name, x, pairs, |number| {
                    let key = mix(number % entries);
                    map.remove(&key);
                    map.insert(key, number);
                }),
                "fresh key" => time_pairs(probe, name, x, pairs, |number| {
                    map.remove(&mix(number));
                    map.insert(mix(number + entries), number);
                }),
                _ => {
                    // Bits between the bucket's and the tophash's tell keys of a bucket apart.
                    let key = |number: u64| (number & 0xFFFF) << 32 | 5;
                    map.insert(key(0), 0);
                    time_pairs(probe, name, x, pairs, |number| {
                        map.remove(&key(number));
                        map.insert(key(number + 1), number);
                    });
                }
            }
        }
    }
}

fn time_pairs(probe: &mut Probe, name: &str, x: f64, pairs: usize, mut pair: impl FnMut(u64)) {
    let mut misses = CacheMisses::open().ok();
    let before = misses.as_mut().and_then(|misses| misses.read().ok());
    let mut took: Vec<u32> = vec![0; pairs / BATCH];
    for (batch, took) in took.iter_mut().enumerate() {
        let first = (batch * BATCH) as u64;
        *took = clocked(|| (first..first + BATCH as u64).for_each(&mut pair)) as u32;
    }
    let after = misses.as_mut().and_then(|misses| misses.read().ok());
    if let Some((before, after)) = before.zip(after) {
        let per_pair = (after - before) as f64 / pairs as f64;
        probe.record_at("cache misses per 1000 pairs", name, x, 1000.0 * per_pair);
    }
    took.sort_unstable();
    for (metric, part) in [(P50, 0.5), ("P99, ns per pair", 0.99), ("P99.9, ns per pair", 0.999)] {
        probe.record_at(metric, name, x, quantile(&took, part) / BATCH as f64);
    }
}

const LONGEST: &str = "longest chain, buckets";
const OVERFLOW: &str = "overflow buckets";

pub(super) const E9: Experiment = Experiment {
    id: "E9",
    title: "Growth to the same size",
    workload: "A queue of 8000 entries in 2048 buckets: each step inserts a new key and removes the \
               oldest, 400,000 steps. Keys come in runs of 32 for a bucket, so that chains are \
               needed everywhere in turn; evacuation to an array of the same size on and off.",
    about: About::Expectation,
    article: "no figure",
    rule: "chains are longer when it is off, intervals apart",
    plot: Plot::bars(OVERFLOW),
    measure: fifo,
    rule_on: |data| {
        let of = |metric| Some((data.ours(metric, "on")?, data.ours(metric, "off")?));
        let (on, off) = of("mean buckets per chain")?;
        let (longest_on, longest_off) = of(LONGEST)?;
        let (ns_on, ns_off) = of("ns per step")?;
        Some(Finding {
            verdict: Verdict::when(on.below(off)),
            ours: format!("{off} buckets per chain when off, {on} when on"),
            why: format!(
                "a chain keeps its buckets when its entries are gone, and nothing doubles that would \
                 pack it; longest chains {longest_off} and {longest_on}, {ns_off} and {ns_on} ns \
                 per step."
            ),
        })
    },
};

fn fifo(probe: &mut Probe) {
    let (live, steps) = (8000, probe.size(400_000, 100_000));
    for (name, same_size) in probe.turns(&[("on", true), ("off", false)]) {
        let policy = Policy { same_size, growth: Growth::Incremental, ..Policy::default() };
        let mut map: Map<u64, u64, ByKey> =
            Map::with_capacity_and_hasher(13_000, ByKey::default()).with_policy(policy);
        // The low bits are the bucket's, the high ones the tophash's.
        let key = |number: u64| mix(number) & !0xFFFF_FFFF | number >> 5;
        (0..live).for_each(|number| unused(map.insert(key(number), number)));
        let (ns, ()) = timed(|| {
            for number in 0..steps {
                map.remove(&key(number));
                map.insert(key(number + live), number);
            }
        });
        let stats = map.stats();
        let chains: u64 = stats.chains.iter().sum();
        let lengths = stats.chains.iter().zip(1u64..).map(|(count, buckets)| count * buckets);
        probe.record("ns per step", name, ns / steps as f64);
        probe.record(OVERFLOW, name, stats.overflow_buckets as f64);
        probe.record(LONGEST, name, stats.chains.len() as f64);
        probe.record("mean buckets per chain", name, lengths.sum::<u64>() as f64 / chains as f64);
        probe.record("growths to the same size", name, stats.growth.same_size as f64);
    }
}
