//! E1, E5, E17: what a pool saves, what types cost in it, and what survives an epoch.

use super::{About, Experiment, Finding, Plot, Verdict, listed};
use crate::program::SYSTEM;
use crate::program::data::figure;
use crate::program::probe::{Probe, Random, counted, timed, unused};
use spanalloc::map::Map;
use spanalloc::pool::{AnyPool, Keep, Pool, Reset};
use std::hint::black_box;

const NS: &str = "ns per operation";
const ALLOCS: &str = "allocations per operation";
const RATIO: &str = "times as fast as new";
/// Turns that the variants of E1 take in a round.
const TURNS: usize = 50;

pub(super) const E1: Experiment = Experiment {
    id: "E1",
    title: "A pool of maps",
    workload: "Each of 100,000 operations a round takes a map, puts 16 entries in it and lets it \
               go: a new one, one of a pool as the last user left it, or one that is cleared. The \
               three take turns 50 times a round; a ratio is the median of its turns' ratios.",
    about: About::Implementation,
    article: "182 → 23 ns, 1,000,000 → about 500 allocations",
    rule: "the pool that does not clear, which is the article's, is at least 182 ÷ 23 times as fast \
           as new maps, with at most 500 of a million allocations",
    plot: Plot::bars(NS),
    measure: maps,
    rule_on: |data| {
        let [new, cleared] = ["new", "pool, cleared"].map(|variant| data.ours(NS, variant));
        let (new, cleared) = (new?, cleared?);
        let ratio = data.ours(RATIO, "pool, cleared")?;
        let articles = data.ours(RATIO, "pool, not cleared")?;
        let on_system = data.find(SYSTEM, RATIO, "pool, cleared", None);
        let allocs = |variant| data.ours(ALLOCS, variant);
        let fewer = allocs("pool, not cleared")?.high <= allocs("new")?.low / 2000.0;
        let parts = [
            ("times", Verdict::gain(articles, 182.0 / 23.0)),
            ("allocations", Verdict::when(fewer)),
        ];
        Some(Finding {
            verdict: Verdict::of_all(&parts),
            ours: format!(
                "not cleared {articles} times as fast as new, {} → {} allocations; cleared {ratio} \
                 times, {new} → {cleared} ns",
                allocs("new")?,
                allocs("pool, not cleared")?,
            ),
            why: format!(
                "{}. A pool that never clears hands out the last user's \
                 entries; a cleared map keeps its buckets, and takes {} allocations; on the \
                 system's allocator the cleared pool is {} times as fast as new maps.",
                listed(&parts),
                allocs("pool, cleared")?,
                on_system.map_or_else(|| String::from("an unknown number of"), |r| r.to_string()),
            ),
        })
    },
};

/// A map that is cleared when it goes back.
#[derive(Default)]
struct Cleared(Map<u64, u64>);

impl Reset for Cleared {
    fn reset(&mut self) {
        self.0.clear();
    }
}

fn maps(probe: &mut Probe) {
    const ENTRIES: u64 = 16;
    let operations = probe.size(100_000u64, 20_000);
    fn fill(map: &mut Map<u64, u64>) {
        (0..ENTRIES).for_each(|key| unused(map.insert(key, key)));
        black_box(&*map);
    }
    let kept: Pool<Keep<Map<u64, u64>>> = Pool::new(|| Keep(Map::new()));
    let cleared: Pool<Cleared> = Pool::new(Cleared::default);
    let new = || fill(&mut Map::new());
    let as_left = || fill(&mut kept.get());
    let as_new = || fill(&mut cleared.get().0);
    let variants: [(&str, &dyn Fn()); 3] =
        [("new", &new), ("pool, not cleared", &as_left), ("pool, cleared", &as_new)];
    // What else runs on the machine slows all variants of a turn alike.
    let mut ns = [const { Vec::new() }; 3];
    for turn in 0..TURNS {
        for step in 0..variants.len() {
            let at = (turn + step) % variants.len();
            let operation = variants[at].1;
            let work = || (0..operations / TURNS as u64).for_each(|_| operation());
            ns[at].push(timed(work).0 * TURNS as f64 / operations as f64);
        }
    }
    for (at, (name, operation)) in variants.into_iter().enumerate() {
        let (allocs, ()) = counted(|| (0..1000).for_each(|_| operation()));
        probe.record_some(ALLOCS, name, allocs.map(|allocs| allocs / 1000.0));
        probe.record(RATIO, name, median(ns[0].iter().zip(&ns[at]).map(|(new, own)| new / own)));
        probe.record(NS, name, median(ns[at].iter().copied()));
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Records nanoseconds and allocations per operation.
fn per_operation(probe: &mut Probe, name: &str, operations: u64, operation: &dyn Fn()) {
    let work = || (0..operations).for_each(|_| operation());
    let (allocs, (ns, ())) = counted(|| timed(work));
    probe.record(NS, name, ns / operations as f64);
    probe.record_some(ALLOCS, name, allocs.map(|allocs| allocs / operations as f64));
}

pub(super) const E5: Experiment = Experiment {
    id: "E5",
    title: "A pool of any type",
    workload: "Take a value, use it, give it back: vectors in a typed pool; vectors alone in a \
               pool of any type, boxed on the way in or boxed already; vectors and arrays mixed \
               in such a pool.",
    about: About::Implementation,
    article: "1.0 → 0.02 allocations, because pools bucket by type",
    rule: "a typed pool takes at most 0.02 allocations; a pool of mixed \
           types keeps them apart: at most 0.02 of the gets, for which the article has room, meet \
           the wrong type",
    plot: Plot::bars(ALLOCS),
    measure: any,
    rule_on: |data| {
        let allocs = |variant| Some(data.ours(ALLOCS, variant)?.median);
        let misses = data.ours("type misses per get", "any pool, mixed")?;
        let (typed, boxing) = (allocs("typed pool")?, allocs("any pool, boxing")?);
        let boxed = allocs("any pool, boxed already")?;
        let ns = |variant| data.ours(NS, variant);
        let cost = ns("any pool, boxing")?.over(ns("typed pool")?);
        let parts = [
            ("allocations", Verdict::when(typed <= 0.02)),
            ("types kept apart", Verdict::when(misses.high <= 0.02)),
        ];
        Some(Finding {
            verdict: Verdict::of_all(&parts),
            ours: format!(
                "{} allocations with boxing, {} without, {} typed; {misses} of mixed gets meet \
                 the wrong type",
                figure(boxing),
                figure(boxed),
                figure(typed)
            ),
            why: format!(
                "{}. Where a pool of any type allocates, it is for the box around the value put \
                 in, with one type as with two, which costs {cost} times a typed get and put; \
                 neither pool here, nor Go's by its source, sorts by type.",
                listed(&parts)
            ),
        })
    },
};

fn any(probe: &mut Probe) {
    type Text = Vec<u8>;
    type Words = [u64; 4];
    let operations = probe.size(200_000u64, 20_000);
    let text = || Text::with_capacity(64);
    let typed: Pool<Text> = Pool::new(text);
    let (boxing, boxed, mixed) = (AnyPool::new(), AnyPool::new(), AnyPool::new());
    let in_typed = || drop(black_box(typed.get()));
    let in_boxing = || {
        let value = boxing.get::<Text>().map_or_else(text, |value| *value);
        boxing.put(black_box(value));
    };
    let in_boxed = || {
        let value = boxed.get::<Text>().unwrap_or_else(|| Box::new(text()));
        boxed.put_box(black_box(value));
    };
    let in_mixed = || {
        // Two values out at a time, of either type, and in the other order next time.
        let text = mixed.get::<Text>().map_or_else(text, |value| *value);
        let words = mixed.get::<Words>().map_or([0; 4], |value| *value);
        mixed.put(black_box(words));
        mixed.put(black_box(text));
        let words = mixed.get::<Words>().map_or([0; 4], |value| *value);
        mixed.put(black_box(words));
    };
    let variants: [(&str, &dyn Fn()); 4] = [
        ("typed pool", &in_typed),
        ("any pool, boxing", &in_boxing),
        ("any pool, boxed already", &in_boxed),
        ("any pool, mixed", &in_mixed),
    ];
    for (name, operation) in probe.turns(&variants) {
        per_operation(probe, name, operations, operation);
    }
    for (name, pool) in [("any pool, boxing", &boxing), ("any pool, mixed", &mixed)] {
        let stats = pool.stats();
        let gets = stats.type_hits + stats.type_misses;
        probe.record("type misses per get", name, stats.type_misses as f64 / gets as f64);
    }
}

const HITS: &str = "% of gets served by a value of the pool";

pub(super) const E17: Experiment = Experiment {
    id: "E17",
    title: "Epochs and victims",
    workload: "Bursts of up to 64 values out at a time, an epoch after every so many bursts; with \
               victims, and without: every epoch begins twice, so nothing survives it.",
    about: About::Implementation,
    article: "each collection empties the pool (by Go's source it does not: 99.78–99.97 % hits)",
    rule: "gets miss as often with victims as without",
    plot: Plot::lines(HITS, "bursts per epoch").log_x(),
    measure: epochs,
    rule_on: |data| {
        let with = data.ours_at(HITS, "victims", 16.0)?;
        let without = data.ours_at(HITS, "no victims", 16.0)?;
        let served = data.ours_at("% served by victims", "victims", 16.0)?;
        Some(Finding {
            verdict: Verdict::when(!without.below(with)),
            ours: format!("{with} % hits with victims, {without} % without, 16 bursts per epoch"),
            why: format!(
                "what an epoch turns into victims survives it, and serves {served} % of the gets \
                 after it."
            ),
        })
    },
};

fn epochs(probe: &mut Probe) {
    let bursts = probe.size(4096u64, 1024);
    for per_epoch in [1u64, 4, 16, 64, 256] {
        for (name, advances) in probe.turns(&[("victims", 1), ("no victims", 2)]) {
            let pool: Pool<Vec<u8>> = Pool::new(|| Vec::with_capacity(256));
            let mut random = Random(probe.seed());
            for burst in 0..bursts {
                let out: Vec<_> = (0..1 + random.below(64)).map(|_| pool.get()).collect();
                black_box(&out);
                drop(out);
                if burst % per_epoch == 0 {
                    (0..advances).for_each(|_| unused(pool.advance()));
                }
            }
            let stats = pool.stats();
            let x = per_epoch as f64;
            let part = |served: u64| 100.0 * served as f64 / stats.gets() as f64;
            probe.record_at(HITS, name, x, part(stats.reused()));
            probe.record_at("% served by private", name, x, part(stats.private));
            probe.record_at("% served by local", name, x, part(stats.local));
            probe.record_at("% served by victims", name, x, part(stats.victim));
        }
    }
}
