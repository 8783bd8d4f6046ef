//! E7: how full a map may be before it costs.

use super::{About, Data, Experiment, Finding, Plot, Verdict};
use crate::program::data::{Estimate, figure};
use crate::program::probe::{Probe, mix, timed, unused};
use spanalloc::map::{Growth, LoadFactor, Map, Policy};

const NS: &str = "ns per delete and insert";
const FIXED: [(&str, u32); 3] = [("256 buckets", 8), ("2048 buckets", 11), ("16384 buckets", 14)];
/// Loads in tenths, from 0.5 to 6.5.
const TENTHS: std::ops::RangeInclusive<u32> = 5..=65;
/// Where the article has jumps.
const JUMPS: [f64; 2] = [2.3, 5.7];
/// Less than this between neighbours is no jump.
const JUMP_MIN: f64 = 1.5;

pub(super) const E7: Experiment = Experiment {
    id: "E7",
    title: "The load factor",
    workload: "Pairs of a remove and an insert at 0.5 to 6.5 entries per bucket, in steps of 0.1: \
               tables of three fixed sizes, and tables that may grow at that load.",
    about: About::Implementation,
    article: "jumps at 2.3 ± 0.1 and 5.7 ± 0.2 entries per bucket, 3.8 times in all",
    rule: "at three table sizes the median of the three loads after 2.3 and after 5.7 is at least \
           1.5 times that of the three loads before",
    plot: Plot::lines(NS, "entries per bucket"),
    measure: loads,
    rule_on: |data| {
        let jump = |name, at| Some(level(data, name, at + 0.1)? / level(data, name, at - 0.3)?);
        let mut jumps = Vec::new();
        for (name, _) in FIXED {
            for at in JUMPS {
                jumps.push(jump(name, at)?);
            }
        }
        let largest = jumps.iter().copied().fold(0.0, f64::max);
        let ends = |name| {
            let sweep = data.sweep(NS, name);
            Some(sweep.last()?.1.over(sweep.first()?.1))
        };
        let [small, middle, large] = FIXED.map(|(name, _)| ends(name));
        Some(Finding {
            verdict: Verdict::when(jumps.iter().all(|jump| *jump >= JUMP_MIN)),
            ours: format!(
                "the largest step at either load is {} times; 0.5 to 6.5 costs {} / {} / {} times",
                figure(largest),
                small?,
                middle?,
                large?
            ),
            why: String::from(
                "a bucket fills cell by cell and chains lengthen one by one, so the curve is \
                 smooth but for the caches' sizes; where tables may grow it saws between powers \
                 of two.",
            ),
        })
    },
};

/// The median over the three loads from `from` on.
fn level(data: &Data, name: &str, from: f64) -> Option<f64> {
    let inside = |x: f64| (from - 0.05..from + 0.25).contains(&x);
    let points: Vec<f64> = data
        .sweep(NS, name)
        .iter()
        .filter(|(x, _)| inside(*x))
        .map(|(_, estimate)| estimate.median)
        .collect();
    Some(Estimate::of(&points)?.median)
}

fn loads(probe: &mut Probe) {
    let pairs = probe.size(4000, 500);
    for (name, log2) in probe.turns(&FIXED) {
        let buckets = 1usize << log2;
        let mut map = Map::with_capacity(buckets * 13 / 2);
        map.set_policy(Policy { growth: Growth::Never, ..Policy::default() });
        fill_and_churn(probe, name, buckets, pairs, &mut map);
    }
    for tenths in TENTHS {
        let x = f64::from(tenths) / 10.0;
        let Ok(load_factor) = LoadFactor::new(x) else { continue };
        let mut map = Map::new().with_policy(Policy { load_factor, ..Policy::default() });
        let entries = (2048.0 * x) as u64;
        (0..entries).for_each(|number| unused(map.insert(mix(number), number)));
        probe.record_at(NS, "grown at this load", x, churn(&mut map, entries, 0, pairs));
    }
}

/// Times churn at each load while the map fills.
fn fill_and_churn(
    probe: &mut Probe,
    name: &str,
    buckets: usize,
    pairs: u64,
    map: &mut Map<u64, u64>,
) {
    let mut first = 0;
    for tenths in TENTHS {
        let entries = (buckets * tenths as usize / 10) as u64;
        for number in first + map.len() as u64..first + entries {
            map.insert(mix(number), number);
        }
        let ns = churn(map, entries, first, pairs);
        first += pairs;
        probe.record_at(NS, name, f64::from(tenths) / 10.0, ns);
    }
    assert_eq!(map.stats().buckets, buckets, "the table has kept its size");
}

/// Replaces the oldest entries, numbered from `first`, by new ones.
fn churn(map: &mut Map<u64, u64>, entries: u64, first: u64, pairs: u64) -> f64 {
    let (ns, ()) = timed(|| {
        for number in first..first + pairs {
            map.remove(&mix(number));
            map.insert(mix(number + entries), number);
        }
    });
    ns / pairs as f64
}
