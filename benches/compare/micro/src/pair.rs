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
    Workload {
        name: "loop64",
        kind: Kind::Loop,
        about: "the loop of pair64, on a block of the stack",
        run: loop64,
    },
    Workload {
        name: "loop64_runtime",
        kind: Kind::Loop,
        about: "the loop of pair64_runtime, on a block of the stack",
        run: loop64_runtime,
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

fn loop64(run: &mut Run) {
    let passes = run.count(50_000_000);
    let mut room = [const { MaybeUninit::uninit() }; 8];
    run.time(passes, || {
        for i in 0..passes {
            let mut block: &mut [MaybeUninit<u64>; 8] = &mut room;
            block[0].write(i as u64);
            black_box(&mut block);
        }
    });
    run.check(passes as u64);
}

fn loop64_runtime(run: &mut Run) {
    let passes = run.count(50_000_000);
    let mut room = [const { MaybeUninit::uninit() }; 64];
    run.time(passes, || {
        for _ in 0..passes {
            // As `bytes` does: at least one byte, of which the first is written.
            let size = black_box(64_usize).max(1);
            // SAFETY: the size is 64; a check of it is none of that loop's.
            let block = unsafe { room.get_unchecked_mut(..size) };
            block[0].write(size as u8);
            black_box(block);
        }
    });
    run.check(passes as u64);
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
