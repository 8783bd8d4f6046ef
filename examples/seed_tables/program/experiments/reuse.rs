//! E2, E16: an object of 512 bytes by four ways of keeping it, and pages touched in advance.

use super::{About, Experiment, Finding, Plot, Verdict, listed};
use crate::program::data::Estimate;
use crate::program::probe::{Probe, faults, peak_resident, quantile, timed};
use spanalloc::arena::Arena;
use spanalloc::observe::Timer;
use spanalloc::pool::{BitmapPool, Keep, PRIVATE_MAX, Pool, Prefault};
use std::hint::black_box;
use std::mem::MaybeUninit;

const NS: &str = "ns per object";
const FAULTS: &str = "page faults per 1000 objects";
const FIRST_USES: &str = "page faults per 1000 objects, first use";
const PEAK: &str = "peak resident growth, KiB";

type Object = [u8; 512];

const NONE: &str = "none";
const POOL: &str = "pool";
const ARENA: &str = "arena + pool";
const ALL: &str = "arena + pool + object";
const ONE: &str = "4 KiB slot, one object";
const EIGHT: &str = "4 KiB slot, eight objects";

pub(super) const E2: Experiment = Experiment {
    id: "E2",
    title: "Three tiers of reuse",
    workload: "A request makes 64 objects of 512 bytes, writes one line of each and lets all go: \
               boxes; a pool of objects; arenas of a pool, freed in bulk; arenas of a pool that \
               keep their objects; arenas with slots of 4 KiB for one object or eight. Time and \
               faults are those of requests one after another, resident memory and first uses \
               those of 128 at a time.",
    about: About::Implementation,
    article: "89.2 / 22.7 / 9.3 / 6.1 ns; 736 / 92 / 16 / 11 MB",
    rule: "in time and in memory: the four ways in the same order, their intervals apart, and from \
           the first to the last at least 89.2 ÷ 6.1 and 736 ÷ 11 times less",
    plot: Plot::bars(NS),
    measure: tiers,
    rule_on: |data| {
        let ns = [NONE, POOL, ARENA, ALL].map(|variant| data.ours(NS, variant));
        let [none, pool, arena, all] = ns;
        let ns = [none?, pool?, arena?, all?];
        let names = [NONE, POOL, ARENA, ALL];
        let mut order: [(f64, &str); 4] = std::array::from_fn(|at| (ns[at].median, names[at]));
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let peaks = [NONE, POOL, ARENA, ALL].map(|variant| data.ours(PEAK, variant));
        let [none, pool, arena, all] = peaks;
        let peaks = [none?, pool?, arena?, all?];
        let (peak, peak_eight) = (data.ours(PEAK, ONE)?, data.ours(PEAK, EIGHT)?);
        let parts = [
            ("order of the times", falling(ns)),
            ("times from first to last", Verdict::gain(ns[0].over(ns[3]), 89.2 / 6.1)),
            ("order of the memory", falling(peaks)),
            ("memory from first to last", Verdict::gain(peaks[0].over(peaks[3]), 736.0 / 11.0)),
        ];
        Some(Finding {
            verdict: Verdict::of_all(&parts),
            ours: format!(
                "{} / {} / {} / {} ns; {} / {} / {} / {} KiB",
                ns[0], ns[1], ns[2], ns[3], peaks[0], peaks[1], peaks[2], peaks[3]
            ),
            why: format!(
                "{}. From slow to fast it is {}: with 64 objects out at a time, those that go beyond \
                 the {PRIVATE_MAX} that a thread keeps to itself pass through a ring, half as many at \
                 a time, which a box does not have to. Objects in use take their room however they are kept; the \
                 article does not say what its memory counts. A slot of 4 KiB for one object takes \
                 {peak} KiB where eight in a slot take {peak_eight}.",
                listed(&parts),
                order.map(|(_, name)| name).join(", ")
            ),
        })
    },
};

/// Whether each is less than the one before, intervals apart; undecided where they overlap.
fn falling(all: [Estimate; 4]) -> Verdict {
    let by = |less: fn(&Estimate, &Estimate) -> bool| {
        all.windows(2).all(|pair| less(&pair[1], &pair[0]))
    };
    match () {
        () if by(|next, last| next.below(*last)) => Verdict::Holds,
        () if by(|next, last| next.low <= last.high) => Verdict::Undecided,
        () => Verdict::Fails,
    }
}

const PER_REQUEST: usize = 64;

/// What requests take their objects from.
struct Pools {
    objects: Pool<Keep<Object>>,
    arenas: Pool<Arena>,
    kept: Pool<Keep<Box<[Object]>>>,
}

impl Pools {
    fn new() -> Self {
        Self {
            objects: Pool::new(|| Keep([0; 512])),
            arenas: Pool::new(Arena::new),
            kept: Pool::new(|| Keep(vec![[0; 512]; PER_REQUEST].into())),
        }
    }
}

/// A slot of 4 KiB with one object in it; the rest of it nobody writes to.
struct Slot {
    object: Object,
    _rest: MaybeUninit<[u8; 4096 - size_of::<Object>()]>,
}

fn tiers(probe: &mut Probe) {
    for name in probe.turns(&[NONE, POOL, ARENA, ALL, ONE, EIGHT]) {
        let pools = [&Pools::new(), &Pools::new()];
        match name {
            NONE => way(probe, name, pools, |_| {
                let mut all: [Option<Box<Object>>; PER_REQUEST] = [const { None }; PER_REQUEST];
                for place in &mut all {
                    touch(place.insert(Box::new([0; 512])));
                }
                all
            }),
            POOL => way(probe, name, pools, |pools| -> [_; PER_REQUEST] {
                std::array::from_fn(|_| {
                    let mut object = pools.objects.get();
                    touch(&mut object.0);
                    object
                })
            }),
            ARENA => way(probe, name, pools, |pools| {
                let arena = pools.arenas.get();
                for _ in 0..PER_REQUEST {
                    touch(arena.alloc_with(|| [0; 512]));
                }
                arena
            }),
            ALL => way(probe, name, pools, |pools| {
                let mut kept = pools.kept.get();
                kept.iter_mut().for_each(touch);
                kept
            }),
            ONE => way(probe, name, pools, |pools| {
                let arena = pools.arenas.get();
                for _ in 0..PER_REQUEST {
                    let slot = || Slot { object: [0; 512], _rest: MaybeUninit::uninit() };
                    touch(&mut arena.alloc_with(slot).object);
                }
                arena
            }),
            _ => way(probe, name, pools, |pools| {
                let arena = pools.arenas.get();
                for _ in 0..PER_REQUEST / 8 {
                    arena.alloc_with(|| [[0; 512]; 8]).iter_mut().for_each(touch);
                }
                arena
            }),
        }
    }
}

/// One way of keeping objects: the time and faults of a request after another, and what many at a
/// time grow the process by. What begins a request returns what ends it when it is dropped.
fn way<'p, R>(
    probe: &mut Probe,
    name: &str,
    [used, fresh]: [&'p Pools; 2],
    begin: impl Fn(&'p Pools) -> R,
) {
    let requests = probe.size(2000, 200);
    let request = || {
        black_box(&begin(used));
    };
    request();
    let before = faults();
    let (ns, ()) = timed(|| (0..requests).for_each(|_| request()));
    let made = (requests * PER_REQUEST) as f64;
    probe.record(NS, name, ns / made);
    probe.record(FAULTS, name, 1000.0 * (faults() - before) / made);
    let open = probe.size(128, 16);
    let mut all = Vec::with_capacity(open);
    let (peak, first_uses) = peak_resident(|| {
        let before = faults();
        all.extend((0..open).map(|_| begin(fresh)));
        faults() - before
    });
    black_box(&all);
    probe.record(FIRST_USES, name, 1000.0 * first_uses / (open * PER_REQUEST) as f64);
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
    about: About::Expectation,
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
