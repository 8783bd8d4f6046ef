//! Collections that grow by reallocation.

use harness::{Kind, Rng, Run, Workload};
use std::arch::asm;
use std::hint::black_box;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "vec_grow_small",
        kind: Kind::Time,
        about: "push 1,000 words to an empty Vec, per Vec",
        run: vec_grow_small,
    },
    Workload {
        name: "vec_grow_512m",
        kind: Kind::Time,
        about: "push words to one Vec until it holds 512 MiB, per 4 KiB",
        run: vec_grow_512m,
    },
    Workload {
        name: "realloc_strings",
        kind: Kind::Time,
        about: "1,000 Strings, a random one gets 16 more bytes, cleared above 4 KiB",
        run: realloc_strings,
    },
];

fn vec_grow_small(run: &mut Run) {
    let vecs = run.count(300_000);
    let sum = run.time(vecs, || {
        let mut sum = 0u64;
        for i in 0..vecs as u64 {
            let mut vec = Vec::new();
            begin_a_line();
            for value in 0..1000 {
                vec.push(value);
            }
            sum = sum.wrapping_add(black_box(vec.as_slice())[(i % 1000) as usize]);
        }
        sum
    });
    run.check(sum);
}

/// Begins a line of the processor's cache, so that a short loop behind it does not lie across two:
/// that takes the one of `vec_grow_small` half as long again, and where it lies hangs otherwise on
/// the size of what is linked before it, and so on the allocator.
#[inline(always)]
fn begin_a_line() {
    // SAFETY: padding for the instructions before it to run through.
    unsafe { asm!(".p2align 6", options(nomem, nostack, preserves_flags)) };
}

fn vec_grow_512m(run: &mut Run) {
    let words = run.pick(512 << 20, 32 << 20) / size_of::<u64>();
    let last = run.time(words / 512, || {
        let mut vec = Vec::new();
        for value in 0..words as u64 {
            vec.push(value);
        }
        black_box(vec.as_slice())[words - 1]
    });
    run.check(last);
}

fn realloc_strings(run: &mut Run) {
    let appends = run.count(25_000_000);
    let mut rng = Rng::new(5);
    let mut strings = vec![String::new(); 1000];
    run.time(appends, || {
        for _ in 0..appends {
            let string = &mut strings[rng.below(1000)];
            if string.len() > 4096 {
                *string = String::new();
            }
            string.push_str("sixteen bytes...");
        }
    });
    run.check(strings.iter().map(|string| string.len() as u64).sum());
}
