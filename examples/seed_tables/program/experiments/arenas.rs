//! E22: growth of a map whose values others point to.

use super::{About, Experiment, Finding, Plot, Verdict, listed};
use crate::program::probe::{Probe, counted, mix, timed, unused};
use spanalloc::arena::Arena;
use spanalloc::map::{HandleMap, Map};

const NS: &str = "ns per insert";
const REBINDS: &str = "% of references to rebind";

pub(super) const E22: Experiment = Experiment {
    id: "E22",
    title: "A map in an arena",
    workload: "50,000 inserts of values of 64 bytes into an empty map that somebody keeps \
               references into: values in the map, which move when it grows; in an arena; behind \
               handles; in boxes.",
    about: About::Implementation,
    article: "10,000 → 1 allocations, 82 → 24 ns by migrating the map and rebinding pointers",
    rule: "handles need no rebinding where the map does, and are at least 82 ÷ 24 times as fast as \
           boxes with a 10,000th of the allocations",
    plot: Plot::bars(NS),
    measure: rebinding,
    rule_on: |data| {
        let rebinds = |variant| data.ours(REBINDS, variant);
        let ns = |variant| data.ours(NS, variant);
        let allocs = |variant| data.ours("allocations per insert", variant);
        let (moved, handles) = (rebinds("in the map")?, rebinds("handles")?);
        let speed = ns("boxes")?.over(ns("handles")?);
        let fewer = allocs("boxes")?.over(allocs("handles")?);
        let parts = [
            ("no rebinding", Verdict::when(moved.low > 0.0 && handles.high == 0.0)),
            ("times", Verdict::gain(speed, 82.0 / 24.0)),
            ("allocations", Verdict::gain(fewer, 10_000.0)),
        ];
        Some(Finding {
            verdict: Verdict::of_all(&parts),
            ours: format!(
                "{moved} % of references to rebind in the map, {handles} with handles; {speed} times as \
                 fast as boxes, {fewer} times fewer allocations"
            ),
            why: format!(
                "{}. Values in chunks stay where they are, so nothing is rebound, but chunks are \
                 allocations too: honestly counted, {} per insert with handles and {} in an arena.",
                listed(&parts),
                allocs("handles")?,
                allocs("arena")?
            ),
        })
    },
};

type Value = [u64; 8];

fn rebinding(probe: &mut Probe) {
    let at = |value: &Value| std::ptr::from_ref(value).addr();
    for name in probe.turns(&["in the map", "arena", "handles", "boxes"]) {
        match name {
            "in the map" => variant(
                probe,
                name,
                Map::new,
                |map: &mut Map<u64, Value>, key| unused(map.insert(key, [key; 8])),
                |map, key| map.get(&key).map(at),
            ),
            "arena" => {
                // Both passes' values stay until the second is over.
                let arena = Arena::new();
                variant(
                    probe,
                    name,
                    Map::new,
                    |map: &mut Map<u64, &Value>, key| {
                        unused(map.insert(key, arena.alloc([key; 8])))
                    },
                    |map, key| map.get(&key).map(|value| at(value)),
                );
            }
            "handles" => variant(
                probe,
                name,
                HandleMap::new,
                |map: &mut HandleMap<u64, Value>, key| unused(map.insert(key, [key; 8])),
                |map, key| map.get(&key).map(at),
            ),
            _ => variant(
                probe,
                name,
                Map::new,
                |map: &mut Map<u64, Box<Value>>, key| unused(map.insert(key, Box::new([key; 8]))),
                |map, key| map.get(&key).map(|value| at(value)),
            ),
        }
    }
}

const INSERTS: u64 = 50_000;

/// One pass is timed; another notes where each value is put and looks whether it is there still
/// when all are in.
fn variant<M>(
    probe: &mut Probe,
    name: &str,
    new: impl Fn() -> M,
    insert: impl Fn(&mut M, u64),
    place: impl Fn(&M, u64) -> Option<usize>,
) {
    let mut map = new();
    let (allocs, (ns, ())) =
        counted(|| timed(|| (0..INSERTS).for_each(|number| insert(&mut map, mix(number)))));
    probe.record(NS, name, ns / INSERTS as f64);
    let per_insert = allocs.map(|allocs| allocs / INSERTS as f64);
    probe.record_some("allocations per insert", name, per_insert);
    let mut map = new();
    let mut places = Vec::with_capacity(INSERTS as usize);
    for key in (0..INSERTS).map(mix) {
        insert(&mut map, key);
        places.push((key, place(&map, key)));
    }
    let stale = places.iter().filter(|(key, noted)| place(&map, *key) != *noted).count();
    probe.record(REBINDS, name, 100.0 * stale as f64 / INSERTS as f64);
}
