//! E12, E13: where a map's values live, and finding a field by name at run time.

use super::{About, Experiment, Finding, Plot, Verdict, listed};
use crate::program::probe::{Probe, counted, live_bytes, timed, unused};
use spanalloc::arena::Arena;
use spanalloc::map::{HandleMap, INLINE_MAX_BYTES, Map};
use std::any::Any;
use std::collections::HashMap;
use std::hint::black_box;

const ALLOCS: &str = "allocations per insert";
const NS: &str = "ns per insert";
const BYTES: &str = "live bytes per entry";

pub(super) const E12: Experiment = Experiment {
    id: "E12",
    title: "Large values",
    workload: "4000 inserts of values of 8 to 4096 bytes: in the map's cells as far as it goes, in \
               boxes, in an arena, in a map with handles, and in std's HashMap, whose cells hold \
               any size. Maps are preallocated.",
    about: About::Implementation,
    article: "24 bytes: 0 allocations, 8.2 ns; 2048 bytes: 1.2 allocations, 42.7 ns",
    rule: "24 bytes take no allocation (to the article's one decimal), 2048 bytes at least one, of \
           which the article's 1.2 leave a fifth to the map's growth, which is preallocated here; \
           and at least 42.7 ÷ 8.2 times as long",
    plot: Plot::lines(ALLOCS, "bytes").log_x(),
    measure: sizes,
    rule_on: |data| {
        let sweep = data.sweep(ALLOCS, "map");
        let steps = sweep.windows(2).map(|two| (two[0].0, two[1].1.median - two[0].1.median));
        let steps: Vec<f64> = steps.filter(|(_, step)| step.abs() > 0.5).map(|(x, _)| x).collect();
        let ns = |x| data.ours_at(NS, "map", x);
        let (small, large) = (ns(24.0)?, ns(2048.0)?);
        let allocs = |x| data.ours_at(ALLOCS, "map", x);
        let (few, many) = (allocs(24.0)?, allocs(2048.0)?);
        let parts = [
            ("24 bytes", Verdict::when(few.high < 0.05)),
            ("2048 bytes", Verdict::at_least(many, 1.0)),
            ("times", Verdict::gain(large.over(small), 42.7 / 8.2)),
        ];
        Some(Finding {
            verdict: Verdict::of_all(&parts),
            ours: format!(
                "24 bytes: {few} allocations, {small} ns; 2048 bytes: {many}, {large} ns"
            ),
            why: format!(
                "{}. A value of more than {INLINE_MAX_BYTES} bytes is stored by pointer, which \
                 costs its block: the steps are after {steps:?} bytes. The rest of the time is \
                 the copy.",
                listed(&parts)
            ),
        })
    },
};

const INSERTS: u64 = 4000;

fn sizes(probe: &mut Probe) {
    macro_rules! sweep {
        ($($bytes:literal)*) => { $(of_size::<$bytes>(probe);)* };
    }
    sweep!(8 24 64 128 136 256 512 1024 2048 4096);
}

fn of_size<const N: usize>(probe: &mut Probe) {
    let value = |number: u64| black_box([number as u8; N]);
    let entries = INSERTS as usize;
    for name in probe.turns(&["map", "boxes", "arena", "handles", "std"]) {
        match name {
            "map" => insert_all::<N, _>(probe, name, Map::with_capacity(entries), |map, key| {
                map.insert(key, value(key));
            }),
            "boxes" => insert_all::<N, _>(probe, name, Map::with_capacity(entries), |map, key| {
                map.insert(key, Box::new(value(key)));
            }),
            "arena" => {
                let arena = Arena::new();
                insert_all::<N, _>(probe, name, Map::with_capacity(entries), |map, key| {
                    map.insert(key, arena.alloc_with(|| value(key)));
                });
            }
            "handles" => insert_all::<N, _>(probe, name, HandleMap::new(), |map, key| {
                map.insert(key, value(key));
            }),
            _ => insert_all::<N, _>(probe, name, HashMap::with_capacity(entries), |map, key| {
                map.insert(key, value(key));
            }),
        }
    }
}

fn insert_all<const N: usize, M>(
    probe: &mut Probe,
    name: &str,
    mut map: M,
    mut insert: impl FnMut(&mut M, u64),
) {
    let before = live_bytes();
    let (allocs, (ns, ())) =
        counted(|| timed(|| (0..INSERTS).for_each(|key| insert(&mut map, key))));
    let (x, inserts) = (N as f64, INSERTS as f64);
    probe.record_at(NS, name, x, ns / inserts);
    if let (Some(allocs), Some(after), Some(before)) = (allocs, live_bytes(), before) {
        probe.record_at(ALLOCS, name, x, (allocs / inserts * 1000.0).round() / 1000.0);
        let gained = after.saturating_sub(before) as f64;
        probe.record_at(BYTES, name, x, gained / inserts);
    }
    drop(map);
}

const FIELD_NS: &str = "ns per field";

pub(super) const E13: Experiment = Experiment {
    id: "E13",
    title: "A field by name",
    workload: "Read a field of a record through its tag: the tag is parsed and looked up in a map \
               of `dyn Any` fields, or looked up ready-made, or the field is read at its offset.",
    about: About::Implementation,
    article: "824 ns and 24 bytes by name, 47 ns and none by offset: 17.5 times",
    rule: "by name costs an allocation and at least 17.5 times the offset's time, which costs none",
    plot: Plot::bars(FIELD_NS).log_y(),
    measure: fields,
    rule_on: |data| {
        let ns = |variant| data.ours(FIELD_NS, variant);
        let allocs = |variant| Some(data.ours("allocations per field", variant)?.median);
        let (parsed, ready, offset) = (ns("tag parsed")?, ns("tag ready")?, ns("offset")?);
        let ratio = parsed.over(offset);
        let counts = allocs("tag parsed")? >= 0.99 && allocs("offset")? < 0.01;
        Some(Finding {
            verdict: if counts { Verdict::at_least(ratio, 17.5) } else { Verdict::Fails },
            ours: format!("{parsed} ns by name, {offset} by offset: {ratio} times"),
            why: format!(
                "the name's text is built and hashed on every read; with the name at hand it is \
                 {ready} ns and no allocation, and the offset is one load."
            ),
        })
    },
};

struct Record {
    name: u64,
    age: u64,
}

fn fields(probe: &mut Probe) {
    let reads = probe.size(200_000u64, 20_000);
    let record = Record { name: 1, age: 2 };
    let by_name: HashMap<String, Box<dyn Any>> = [("name", record.name), ("age", record.age)]
        .map(|(name, value)| (name.to_owned(), Box::new(value) as Box<dyn Any>))
        .into();
    let value = |name: &str| by_name.get(name)?.downcast_ref::<u64>().copied();
    let parsed = || {
        let tag = black_box("db:AGE,omitempty");
        let name = tag.split([':', ',']).nth(1).unwrap_or_default().to_lowercase();
        value(&name)
    };
    let ready = || value(black_box("age"));
    let offset = || Some(black_box(&record).age);
    let variants: [(&str, &dyn Fn() -> Option<u64>); 3] =
        [("tag parsed", &parsed), ("tag ready", &ready), ("offset", &offset)];
    for (name, read) in probe.turns(&variants) {
        assert_eq!(read(), Some(2), "all ways find the same");
        let (allocs, (ns, ())) =
            counted(|| timed(|| (0..reads).for_each(|_| unused(black_box(read())))));
        probe.record(FIELD_NS, name, ns / reads as f64);
        probe.record_some("allocations per field", name, allocs.map(|n| n / reads as f64));
    }
}
