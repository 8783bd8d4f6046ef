//! E3, E8: growth of maps and of the vectors in them, and how growth is spread over inserts.

use super::{About, Experiment, Finding, Plot, Verdict, listed};
use crate::program::data::figure;
use crate::program::probe::{
    Probe, mix, peak_blocks, peak_resident, profiled, quantile, regrown, timed, unused,
};
use spanalloc::map::{Growth, Map, Policy};
use std::collections::HashMap;
use std::hint::black_box;

const MB: &str = "MB allocated";
const PEAK_MB: &str = "peak resident growth, MB";
const ALLOCS: &str = "allocations";
const REALLOCS: &str = "reallocations";

pub(super) const E3: Experiment = Experiment {
    id: "E3",
    title: "A map of vectors, grown or preallocated",
    workload: "10,000 keys with 128 events of 32 bytes each: nothing preallocated, the map, the \
               vectors, or both. Bytes and allocations are exact, from a profile of every \
               allocation, in whose bytes a reallocation counts with its new size; reallocations \
               are counted apart.",
    about: About::Implementation,
    article: "out of memory; preallocate 10,000 and 128",
    rule: "without preallocation at least twice the bytes are allocated, and resident at the most: \
           the article has no figures, but twice is what doubling amounts to",
    plot: Plot::bars(MB),
    measure: events,
    rule_on: |data| {
        let mb = |variant| data.ours(MB, variant);
        let (none, both) = (mb("none")?, mb("both")?);
        let ratio = none.over(both);
        let peak = |variant| data.ours(PEAK_MB, variant);
        let (peak_none, peak_both) = (peak("none")?, peak("both")?);
        let parts = [
            ("bytes allocated", Verdict::gain(ratio, 2.0)),
            ("resident at the most", Verdict::gain(peak_none.over(peak_both), 2.0)),
        ];
        let (map, vectors) = (mb("map")?, mb("vectors")?);
        let reallocs = |variant| data.ours(REALLOCS, variant);
        let (regrown, spared) = (reallocs("none")?, reallocs("both")?);
        Some(Finding {
            verdict: Verdict::of_all(&parts),
            ours: format!(
                "{none} against {both} MB allocated: {ratio} times; {peak_none} against {peak_both} \
                 MB resident at the most"
            ),
            why: format!(
                "{}. A vector that doubles from 4 to 128 places asks for 252 in all, just under twice \
                 128: the vectors' growth is {} MB of it, the map's {} MB; {regrown} reallocations \
                 become {spared}. What a vector leaves when it grows is used again by the next.",
                listed(&parts),
                figure(none.median - vectors.median),
                figure(none.median - map.median),
            ),
        })
    },
};

/// An event of 32 bytes.
type Event = [u64; 4];

/// What the events of a job amount to.
type Events = Map<String, Vec<Event>>;

fn aggregate(names: &[String], each: usize, map_too: bool, vectors_too: bool) -> Events {
    let mut map = if map_too { Map::with_capacity(names.len()) } else { Map::new() };
    for event in 0..each as u64 {
        for name in names {
            let events = match map.get_mut(name.as_str()) {
                Some(events) => events,
                None => map
                    .entry(name.clone())
                    .or_insert_with(|| Vec::with_capacity(if vectors_too { each } else { 0 })),
            };
            events.push([event; 4]);
        }
    }
    map
}

fn events(probe: &mut Probe) {
    let (keys, each) = (probe.size(10_000, 500), 128);
    let names: Vec<String> = (0..keys).map(|key| format!("key-{key}")).collect();
    let variants = [
        ("none", false, false),
        ("map", true, false),
        ("vectors", false, true),
        ("both", true, true),
    ];
    for (name, map, vectors) in probe.turns(&variants) {
        let run = || aggregate(&names, each, map, vectors);
        let (peak, (reallocs, (ns, result))) = peak_resident(|| regrown(|| timed(run)));
        drop(black_box(result));
        probe.record("ns per event", name, ns / (keys * each) as f64);
        probe.record_some(PEAK_MB, name, peak.map(|bytes| bytes / 1e6));
        let (profile, result) = profiled(run);
        drop(black_box(result));
        probe.record_some(MB, name, profile.map(|(bytes, _)| bytes / 1e6));
        // To the profile a reallocation is an allocation.
        probe.record_some(ALLOCS, name, profile.map(|(_, objects)| objects - reallocs));
        probe.record(REALLOCS, name, reallocs);
    }
}

pub(super) const E8: Experiment = Experiment {
    id: "E8",
    title: "Incremental growth and growth at once",
    workload: "400,000 inserts into an empty map, each timed by the thread's processor time: \
               evacuating seventeen chains per insert, all at once, and std's HashMap. The most \
               bytes that their blocks have at a time are taken in a run of its own.",
    about: About::Expectation,
    article: "no figure",
    rule: "the worst insert of incremental growth is shorter than that of growth at once, \
           intervals apart",
    plot: Plot::bars(WORST).log_y(),
    measure: worst_insert,
    rule_on: |data| {
        let [slow, fast, std] = ["incremental", "at once", "std"].map(|v| data.ours(WORST, v));
        let (slow, fast, std) = (slow?, fast?, std?);
        let [bytes, std_bytes] = ["incremental", "std"].map(|v| data.ours(PEAK_TABLES, v));
        let (bytes, std_bytes) = (bytes?, std_bytes?);
        Some(Finding {
            verdict: Verdict::when(slow.below(fast)),
            ours: format!("{slow} µs incremental, {fast} at once, {std} std"),
            why: format!(
                "what is left of the worst insert is the allocation of the new array; old and new \
                 together peak at {bytes} MB for as long as evacuation takes, std's at \
                 {std_bytes}."
            ),
        })
    },
};

const WORST: &str = "worst insert, µs";
const PEAK_TABLES: &str = "peak bytes of tables, MB";

fn worst_insert(probe: &mut Probe) {
    let inserts = probe.size(400_000u64, 40_000);
    for (name, growth) in probe.turns(&[
        ("incremental", Some(Growth::Incremental)),
        ("at once", Some(Growth::AtOnce)),
        ("std", None),
    ]) {
        let peak = match growth {
            Some(growth) => {
                let new = || Map::new().with_policy(Policy { growth, ..Policy::default() });
                let mut map = new();
                time_inserts(probe, name, inserts, |key| unused(map.insert(key, key)));
                peak_of(inserts, new(), |map, key| unused(map.insert(key, key)))
            }
            None => {
                let mut map = HashMap::new();
                time_inserts(probe, name, inserts, |key| unused(map.insert(key, key)));
                peak_of(inserts, HashMap::new(), |map, key| unused(map.insert(key, key)))
            }
        };
        probe.record_some(PEAK_TABLES, name, peak.map(|bytes| bytes / 1e6));
    }
}

/// The most bytes of blocks that a map has while it is filled.
fn peak_of<M>(inserts: u64, mut map: M, mut insert: impl FnMut(&mut M, u64)) -> Option<f64> {
    let (peak, ()) = peak_blocks(|| (0..inserts).for_each(|key| insert(&mut map, mix(key))));
    drop(black_box(map));
    peak
}

fn time_inserts(probe: &mut Probe, name: &str, inserts: u64, mut insert: impl FnMut(u64)) {
    let mut took = vec![0u32; inserts as usize];
    for (key, took) in (0..inserts).zip(&mut took) {
        *took = timed(|| insert(mix(key))).0 as u32;
    }
    took.sort_unstable();
    probe.record(WORST, name, quantile(&took, 1.0) / 1000.0);
    probe.record("P99.99, ns with the clock", name, quantile(&took, 0.9999));
}
