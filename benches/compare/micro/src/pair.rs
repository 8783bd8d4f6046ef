//! Pairs: a block is allocated and freed at once, nothing else is alive.

use harness::{Kind, Rng, Run, Workload, bytes};
use std::hint::black_box;
use std::mem::MaybeUninit;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "pair64",
        kind: Kind::Time,
        about: "alloc and free 64 bytes, layout constant",
        run: pair64,
    },
    Workload {
        name: "pair64_runtime",
        kind: Kind::Time,
        about: "alloc and free 64 bytes, size known only at run time",
        run: pair64_runtime,
    },
    Workload {
        name: "pair_mixed",
        kind: Kind::Time,
        about: "alloc and free 8 to 1024 bytes, size random at run time",
        run: pair_mixed,
    },
];

fn pair64(run: &mut Run) {
    let pairs = run.count(50_000_000);
    run.time(pairs, || {
        for i in 0..pairs {
            let mut block = Box::<[MaybeUninit<u64>; 8]>::new([const { MaybeUninit::uninit() }; 8]);
            block[0].write(i as u64);
            black_box(&mut block);
        }
    });
    run.check(pairs as u64);
}

fn pair64_runtime(run: &mut Run) {
    let pairs = run.count(50_000_000);
    run.time(pairs, || {
        for _ in 0..pairs {
            black_box(bytes(black_box(64)));
        }
    });
    run.check(pairs as u64);
}

fn pair_mixed(run: &mut Run) {
    let pairs = run.count(25_000_000);
    let mut rng = Rng::new(1);
    let sizes: Vec<usize> = (0..4096).map(|_| rng.between(8, 1024)).collect();
    run.time(pairs, || {
        for i in 0..pairs {
            black_box(bytes(sizes[i & 4095]));
        }
    });
    run.check(sizes.iter().sum::<usize>() as u64);
}
