//! Batches: 20,000 blocks of 64 bytes are allocated, then freed in some order.

use harness::{Bytes, Kind, Rng, Run, Workload, bytes};

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "batch_order",
        kind: Kind::Time,
        about: "20,000 blocks, freed in the order they were allocated",
        run: |run| batch(run, |_| {}),
    },
    Workload {
        name: "batch_reverse",
        kind: Kind::Time,
        about: "20,000 blocks, freed in the reverse order",
        run: |run| batch(run, |order| order.reverse()),
    },
    Workload {
        name: "batch_shuffled",
        kind: Kind::Time,
        about: "20,000 blocks, freed in random order",
        run: |run| batch(run, |order| Rng::new(4).shuffle(order)),
    },
];

const BLOCKS: usize = 20_000;

fn batch(run: &mut Run, arrange: fn(&mut [u32])) {
    let batches = run.count(1000);
    let mut order: Vec<u32> = (0..BLOCKS as u32).collect();
    arrange(&mut order);
    let mut slots: Vec<Option<Bytes>> = Vec::new();
    slots.resize_with(BLOCKS, || None);
    let freed = run.time(batches * BLOCKS, || {
        let mut freed = 0u64;
        for _ in 0..batches {
            for slot in &mut slots {
                *slot = Some(bytes(64));
            }
            for &at in &order {
                freed += u64::from(slots[at as usize].take().is_some());
            }
        }
        freed
    });
    run.check(freed);
}
