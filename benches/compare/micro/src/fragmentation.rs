//! Fragmentation: what the holes of one size are worth to another.

use harness::{Bytes, Kind, Rng, Run, Workload, bytes, resident_bytes};
use std::hint::black_box;

pub(crate) const WORKLOADS: &[Workload] = &[Workload {
    name: "fragmentation",
    kind: Kind::Time,
    about: "fill 64 MiB, free 90 % at random, refill with another size; six sizes in turn",
    run: fragmentation,
}];

const SIZES: [usize; 6] = [48, 112, 80, 240, 160, 480];

fn fragmentation(run: &mut Run) {
    let target = run.pick(64 << 20, 4 << 20);
    let rounds = run.pick(2, 1);
    let mut rng = Rng::new(9);
    let mut live: Vec<Bytes> = Vec::with_capacity(target / SIZES[0] + 1);
    let mut held = 0;
    for size in SIZES.iter().copied().cycle().take(SIZES.len() * rounds) {
        let blocks = (target - held) / size;
        run.time(blocks, || live.extend((0..blocks).map(|_| bytes(size))));
        rng.shuffle(&mut live);
        run.time(0, || live.truncate(live.len() / 10));
        held = live.iter().map(|block| block.len()).sum();
    }
    black_box(&live);
    run.figure("resident_over_live", resident_bytes() as f64 / held.max(1) as f64);
    run.check(held as u64);
}
