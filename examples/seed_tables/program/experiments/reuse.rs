//! E2, E16: an object of 512 bytes by four ways of keeping it, and pages touched in advance.

use super::{Experiment, Finding, Plot, Verdict};
use crate::program::probe::{Probe, faults, peak_resident, quantile, timed};
use spanalloc::arena::Arena;
use spanalloc::observe::Timer;
use spanalloc::pool::{BitmapPool, Keep, PRIVATE_MAX, Pool, Prefault, Reset};
use std::hint::black_box;

const NS: &str = "ns per object";
const FAULTS: &str = "page faults per 1000 objects";
const PEAK: &str = "peak resident growth, KiB";

type Object = [u8; 512];

const NONE: &str = "none";
const POOL: &str = "pool";
const ARENA: &str = "arena + pool";
const ALL: &str = "arena + pool + object";

pub(super) const E2: Experiment = Experiment {
    id: "E2",
    title: "Three tiers of reuse",
    workload: "A request makes 64 objects of 512 bytes, writes one line of each and lets all go: \
               boxes; a pool of objects; arenas of a pool, freed in bulk; arenas of a pool that \
               keep their objects. Beside them slots of 4 KiB with one object or eight.",
    article: "89.2 / 22.7 / 9.3 / 6.1 ns; 736 / 92 / 16 / 11 MB",
    rule: "the four ways in the same order, their intervals apart",
    plot: Plot::bars(NS),
    measure: tiers,
    rule_on: |data| {
        let ns = [NONE, POOL, ARENA, ALL].map(|variant| data.ours(NS, variant));
        let [none, pool, arena, all] = ns;
        let ns = [none?, pool?, arena?, all?];
        let names = [NONE, POOL, ARENA, ALL];
        let mut order: [(f64, &str); 4] = std::array::from_fn(|at| (ns[at].median, names[at]));
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let apart = ns.windows(2).all(|pair| pair[1].below(pair[0]));
        let same = ns.windows(2).all(|pair| pair[1].median < pair[0].median);
        let peak = data.ours(PEAK, "4 KiB slot, one object")?;
        let peak_eight = data.ours(PEAK, "4 KiB slot, eight objects")?;
        Some(Finding {
            verdict: match (apart, same) {
                (true, _) => Verdict::Reproduced,
                (false, true) => Verdict::NotMeasurable,
                (false, false) => Verdict::Refuted,
            },
            ours: format!("{} / {} / {} / {} ns", ns[0], ns[1], ns[2], ns[3]),
            why: format!(
                "from slow to fast it is {}: with 64 objects out at a time, all gets of a pool but \
                 the {PRIVATE_MAX} that a thread keeps to itself cost a locked instruction, which \
                 a box need not; a slot of 4 KiB for one \
                 object takes {peak} KiB where eight in a slot take {peak_eight}.",
                order.map(|(_, name)| name).join(", ")
            ),
        })
    },
};

/// An arena that is emptied when it goes back.
#[derive(Default)]
struct Bulk(Arena);

impl Reset for Bulk {
    fn reset(&mut self) {
        self.0.reset();
    }
}

const PER_REQUEST: usize = 64;

fn tiers(probe: &mut Probe) {
    slots::<4096>(probe, "4 KiB slot, one object");
    slots::<512>(probe, "4 KiB slot, eight objects");
    let requests = probe.size(2000, 200);
    let objects: Pool<Keep<Object>> = Pool::new(|| Keep([0; 512]));
    let arenas: Pool<Bulk> = Pool::new(Bulk::default);
    let kept: Pool<Keep<Box<[Object]>>> = Pool::new(|| Keep(vec![[0; 512]; PER_REQUEST].into()));
    let none = || {
        let mut all: [Option<Box<Object>>; PER_REQUEST] = [const { None }; PER_REQUEST];
        for place in &mut all {
            touch(place.insert(Box::new([0; 512])));
        }
        black_box(&all);
    };
    let pool = || {
        let all: [_; PER_REQUEST] = std::array::from_fn(|_| {
            let mut object = objects.get();
            touch(&mut object.0);
            object
        });
        black_box(&all);
    };
    let arena = || {
        let arena = arenas.get();
        for _ in 0..PER_REQUEST {
            touch(arena.0.alloc([0; 512]));
        }
    };
    let all = || kept.get().iter_mut().for_each(touch);
    let variants: [(&str, &dyn Fn()); 4] =
        [(NONE, &none), (POOL, &pool), (ARENA, &arena), (ALL, &all)];
    for (name, request) in probe.turns(&variants) {
        request();
        let before = faults();
        let (ns, ()) = timed(|| (0..requests).for_each(|_| request()));
        let made = (requests * PER_REQUEST) as f64;
        probe.record(NS, name, ns / made);
        probe.record(FAULTS, name, 1000.0 * (faults() - before) / made);
    }
}

/// All objects at once, each in a slot of `BYTES` bytes.
fn slots<const BYTES: usize>(probe: &mut Probe, name: &str) {
    let count = probe.size(8192, 1024);
    let (peak, ()) = peak_resident(|| {
        let arena = Arena::new();
        for _ in 0..count {
            let slot = arena.alloc_with(|| [0u8; BYTES]);
            slot[..512].fill(1);
            black_box(slot);
        }
    });
    probe.record_some(PEAK, name, peak.map(|bytes| bytes / 1024.0));
}

/// What using an object amounts to here.
fn touch(object: &mut Object) {
    object[..64].fill(1);
    black_box(object);
}

const FIRST_FAULTS: &str = "faults at first touch per 1000 slots";
const P99: &str = "P99 of first use, ns";

pub(super) const E16: Experiment = Experiment {
    id: "E16",
    title: "A bitmap pool and MAP_POPULATE",
    workload: "4096 slots of 512 bytes in one mapping, each taken and written for the first time: \
               pages present on use, touched at construction, or populated by the kernel.",
    article: "no figure",
    rule: "populated in advance, first uses fault on less than 1 % of the slots and have a lower \
           P99, intervals apart",
    plot: Plot::bars(P99).log_y(),
    measure: prefault,
    rule_on: |data| {
        let (late, early) = (data.ours(P99, "on use")?, data.ours(P99, "populated")?);
        let faults = data.ours(FIRST_FAULTS, "populated")?;
        let on_use = data.ours(FIRST_FAULTS, "on use")?;
        let cost = data.ours("construction, µs", "populated")?;
        Some(Finding {
            verdict: Verdict::when(faults.high < 10.0 && early.below(late)),
            ours: format!("P99 {late} → {early} ns; {on_use} → {faults} faults per 1000 slots"),
            why: format!(
                "eight slots share a page, whose fault the first of them pays; populating pays \
                 for all of them at once, in {cost} µs at construction."
            ),
        })
    },
};

fn prefault(probe: &mut Probe) {
    const SLOTS: usize = 4096;
    let timer = Timer::calibrate();
    let variants = [
        ("on use", Prefault::OnUse),
        ("touched", Prefault::Touch),
        ("populated", Prefault::Populate),
    ];
    for (name, prefault) in probe.turns(&variants) {
        let (ns, pool) = timed(|| BitmapPool::new(SLOTS, prefault, || Keep([1u8; 512])));
        let Ok(pool) = pool else { continue };
        probe.record("construction, µs", name, ns / 1000.0);
        let mut guards = Vec::with_capacity(SLOTS);
        let mut took = vec![0u32; SLOTS];
        let before = faults();
        for took in &mut took {
            let (guard, ns) = timer.time(|| pool.get());
            guards.push(guard);
            *took = ns as u32;
        }
        probe.record(FIRST_FAULTS, name, 1000.0 * (faults() - before) / SLOTS as f64);
        took.sort_unstable();
        probe.record("P50 of first use, ns", name, quantile(&took, 0.5));
        probe.record(P99, name, quantile(&took, 0.99));
    }
}
