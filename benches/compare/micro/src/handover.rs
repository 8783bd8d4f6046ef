//! Blocks that one thread allocates and another frees.

use harness::{Bytes, Kind, Rng, Run, Workload, bytes};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "producer_consumer",
        kind: Kind::Time,
        about: "one thread allocates 16 to 256 bytes, one other frees",
        run: |run| hand_over(run, 1, 12_000),
    },
    Workload {
        name: "many_to_many",
        kind: Kind::Time,
        about: "4 threads allocate 16 to 256 bytes, 4 others free whatever comes",
        run: |run| hand_over(run, 4, 3_000),
    },
];

/// Blocks go over in batches, so that the channel costs little beside them.
const BATCH: usize = 512;
/// Batches under way per producer.
const QUEUE: usize = 16;

fn hand_over(run: &mut Run, pairs: usize, batches_per_producer: usize) {
    let batches = run.count(batches_per_producer);
    let freed = run.time(pairs * batches * BATCH, || {
        let (sender, receiver) = sync_channel(QUEUE * pairs);
        let receiver = Mutex::new(receiver);
        thread::scope(|scope| {
            for seed in 0..pairs {
                let sender = sender.clone();
                scope.spawn(move || produce(seed as u64, batches, &sender));
            }
            drop(sender);
            let consumers: Vec<_> =
                (0..pairs).map(|_| scope.spawn(|| consume(&receiver))).collect();
            consumers
                .into_iter()
                .map(|consumer| consumer.join().expect("no workload panics"))
                .sum::<u64>()
        })
    });
    run.check(freed);
}

fn produce(seed: u64, batches: usize, sender: &SyncSender<Vec<Bytes>>) {
    let mut rng = Rng::new(seed);
    for _ in 0..batches {
        let batch = (0..BATCH).map(|_| bytes(rng.between(16, 256))).collect();
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
