//! Blocks that one thread allocates and another frees.

use harness::{Bytes, Kind, Rng, Run, Workload, bytes};
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "producer_consumer",
        kind: Kind::Time,
        about: "one thread allocates 16 to 256 bytes, one other frees",
        run: |run| hand_over(run, &Handing { batches: 12_000, ..ONE_TO_ONE }),
    },
    Workload {
        name: "many_to_many",
        kind: Kind::Time,
        about: "4 threads allocate 16 to 256 bytes, 4 others free whatever comes",
        run: |run| {
            hand_over(run, &Handing { producers: 4, consumers: 4, batches: 3_000, ..ONE_TO_ONE });
        },
    },
    Workload {
        name: "many_to_one",
        kind: Kind::Time,
        about: "4 threads allocate 16 to 256 bytes, one other frees",
        run: |run| hand_over(run, &Handing { producers: 4, batches: 3_000, ..ONE_TO_ONE }),
    },
    Workload {
        name: "large_handed_over",
        kind: Kind::Time,
        about: "one thread allocates 16 KiB to 1 MiB, a page of each touched, one other frees",
        run: |run| {
            let sizes = 16 << 10..=1 << 20;
            hand_over(run, &Handing { batches: 12_000, batch: 8, queue: 2, sizes, ..ONE_TO_ONE });
        },
    },
];

/// Who hands what over. Blocks go in batches, so that the channel costs little beside them.
struct Handing {
    producers: usize,
    consumers: usize,
    /// Of each producer.
    batches: usize,
    /// Blocks of a batch.
    batch: usize,
    /// Batches under way per producer.
    queue: usize,
    sizes: RangeInclusive<usize>,
}

const ONE_TO_ONE: Handing =
    Handing { producers: 1, consumers: 1, batches: 0, batch: 512, queue: 16, sizes: 16..=256 };

fn hand_over(run: &mut Run, handing: &Handing) {
    let batches = run.count(handing.batches);
    let freed = run.time(handing.producers * batches * handing.batch, || {
        let (sender, receiver) = sync_channel(handing.queue * handing.producers);
        let receiver = Mutex::new(receiver);
        thread::scope(|scope| {
            for seed in 0..handing.producers {
                let sender = sender.clone();
                scope.spawn(move || produce(seed as u64, batches, handing, &sender));
            }
            drop(sender);
            let consumers: Vec<_> =
                (0..handing.consumers).map(|_| scope.spawn(|| consume(&receiver))).collect();
            consumers
                .into_iter()
                .map(|consumer| consumer.join().expect("no workload panics"))
                .sum::<u64>()
        })
    });
    run.check(freed);
}

fn produce(seed: u64, batches: usize, handing: &Handing, sender: &SyncSender<Vec<Bytes>>) {
    let mut rng = Rng::new(seed);
    let (least, most) = handing.sizes.clone().into_inner();
    for _ in 0..batches {
        let batch = (0..handing.batch).map(|_| bytes(rng.between(least, most))).collect();
        sender.send(batch).expect("a consumer is there until all producers are gone");
    }
}

fn consume(receiver: &Mutex<Receiver<Vec<Bytes>>>) -> u64 {
    let mut freed = 0;
    loop {
        let next = receiver.lock().expect("no workload panics").recv();
        let Ok(batch) = next else { return freed };
        freed += batch.iter().map(|block| block.len() as u64).sum::<u64>();
    }
}
