//! Points of the curves of cost over growth; `--size` says which point.

use crate::live::{fill, replace, ring};
use crate::threads::on_threads;
use harness::{Kind, Rng, Run, Workload, bytes};

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "scale_heap",
        kind: Kind::Scaling,
        about: "random replacement in a live heap of --size bytes, blocks of 16 to 496 bytes",
        run: scale_heap,
    },
    Workload {
        name: "scale_threads",
        kind: Kind::Scaling,
        about: "the ring of 1,024 blocks in --size threads, 24 million replacements in all",
        run: scale_threads,
    },
];

/// The mean of the sizes that `scale_heap` draws.
const MEAN_BYTES: usize = 256;

fn scale_heap(run: &mut Run) {
    let slots = (run.size(64 << 20) / MEAN_BYTES).max(1);
    let ops = run.count(2_000_000);
    let mut rng = Rng::new(10);
    let new = |rng: &mut Rng| bytes(rng.between(16, 2 * MEAN_BYTES - 16));
    let mut live = fill(slots, &mut rng, new);
    run.time(ops, || replace(&mut live, ops, &mut rng, new));
    run.check(u64::from(rng.next_u32()));
}

fn scale_threads(run: &mut Run) {
    let threads = run.size(2).max(1);
    let ops = run.count(24_000_000) / threads;
    let asked: u64 =
        run.time(ops * threads, || on_threads(threads as u64, |seed| ring(seed, ops)).iter().sum());
    run.check(asked);
}
