//! A set of live blocks, one of which is replaced at a time.

use harness::{Bytes, Kind, Rng, Run, Workload, bytes};
use std::hint::black_box;
use std::mem::MaybeUninit;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "ring1024",
        kind: Kind::Time,
        about: "1,024 live blocks of 8 to 1024 bytes, the oldest replaced",
        run: ring1024,
    },
    Workload {
        name: "live1m",
        kind: Kind::Time,
        about: "a million live blocks of 16 to 256 bytes, a random one replaced",
        run: live1m,
    },
    Workload {
        name: "live1m_64",
        kind: Kind::Time,
        about: "a million live blocks of 64 bytes, a random one replaced",
        run: live1m_64,
    },
];

/// Replaces the oldest of 1,024 blocks `ops` times and returns the bytes that
/// were asked for.
pub(crate) fn ring(seed: u64, ops: usize) -> u64 {
    let mut rng = Rng::new(seed);
    let mut ring: Vec<Bytes> = (0..1024).map(|_| bytes(rng.between(8, 1024))).collect();
    let mut asked = 0;
    for i in 0..ops {
        let size = rng.between(8, 1024);
        asked += size as u64;
        ring[i & 1023] = bytes(size);
    }
    black_box(&ring);
    asked
}

fn ring1024(run: &mut Run) {
    let ops = run.count(30_000_000);
    let asked = run.time(ops, || ring(2, ops));
    run.check(asked);
}

/// `slots` blocks made by `new`.
pub(crate) fn fill<T>(slots: usize, rng: &mut Rng, new: impl Fn(&mut Rng) -> T) -> Vec<T> {
    (0..slots).map(|_| new(rng)).collect()
}

/// Replaces a random block of `live`, `ops` times.
pub(crate) fn replace<T>(live: &mut [T], ops: usize, rng: &mut Rng, new: impl Fn(&mut Rng) -> T) {
    for _ in 0..ops {
        let at = rng.below(live.len());
        live[at] = new(rng);
    }
    black_box(live);
}

/// A million blocks: filling, replacing and emptying are all on the clock.
fn million<T>(run: &mut Run, replacements: usize, new: impl Fn(&mut Rng) -> T) {
    let (slots, ops) = (run.count(1_000_000), run.count(replacements));
    let mut rng = Rng::new(3);
    run.time(slots + ops, || {
        let mut live = fill(slots, &mut rng, &new);
        replace(&mut live, ops, &mut rng, &new);
    });
    run.check(u64::from(rng.next_u32()));
}

fn live1m(run: &mut Run) {
    million(run, 2_500_000, |rng| bytes(rng.between(16, 256)));
}

fn live1m_64(run: &mut Run) {
    million(run, 3_000_000, |_| {
        let mut block = Box::new([const { MaybeUninit::<u64>::uninit() }; 8]);
        block[0].write(1);
        block
    });
}
