//! Statistics that nothing in the heap relies on, beside what a test counts.

use super::{Worker, tick};
use crate::heap::Heap;
use crate::heap::class::ClassId;
use crate::heap::counts::ClassCount;
use crate::sys::fake::Fake;

const BLOCKS: usize = 20_000;

fn count(heap: &Heap<Fake>, bytes: usize) -> ClassCount {
    heap.counts().classes[ClassId::of(Worker::layout(bytes, 8)).unwrap().index()]
}

#[test]
fn frees_of_others_are_counted_wherever_the_blocks_come_home() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let layout = Worker::layout(64, 8);
    let mut freed = 0;
    for round in 0..4 {
        let (owner, other) = (Worker::new(&HEAP), Worker::new(&HEAP));
        let mut pieces: Vec<_> = (0..BLOCKS).map(|_| owner.allocate(layout).unwrap()).collect();
        let rest = pieces.split_off(BLOCKS / 2);
        freed += pieces.len() as u64;
        pieces.into_iter().for_each(|piece| other.free(piece));
        HEAP.flush_outbox(other.cache.owner().unwrap());
        assert_eq!(count(&HEAP, 64).remote_frees, freed, "on their way, round {round}");
        match round {
            0 => tick(&HEAP),
            1 => _ = HEAP.release_free(),
            // The owner takes them, and frees what it has without lists that others reap.
            2 => {
                let more: Vec<_> = (0..BLOCKS).map(|_| owner.allocate(layout).unwrap()).collect();
                more.into_iter().for_each(|piece| owner.free(piece));
            }
            _ => {}
        }
        assert_eq!(count(&HEAP, 64).remote_frees, freed, "round {round}");
        owner.close();
        assert_eq!(count(&HEAP, 64).remote_frees, freed, "nobody's, round {round}");
        freed += rest.len() as u64;
        rest.into_iter().for_each(|piece| other.free(piece));
        other.close();
        assert_eq!(count(&HEAP, 64).remote_frees, freed, "retired, round {round}");
        HEAP.check();
        assert_eq!(HEAP.slots_in_use(), 0);
    }
}

/// All of it was freed by others: nothing of it is handed out again before it ends.
#[test]
fn frees_of_others_in_a_current_span_that_ends_are_counted() {
    static HEAPS: [Heap<Fake>; 2] = [const { Heap::new(Fake::new(1 << 30)) }; 2];
    let layout = Worker::layout(6000, 8);
    for (heap, closes) in HEAPS.iter().zip([true, false]) {
        let (owner, other) = (Worker::new(heap), Worker::new(heap));
        let mut pieces = vec![owner.allocate(layout).unwrap()];
        // What was carved and not used would go home with the thread's lists only.
        while count(heap, 6000).listed > 0 {
            pieces.push(owner.allocate(layout).unwrap());
        }
        let freed = pieces.len() as u64;
        pieces.into_iter().for_each(|piece| other.free(piece));
        other.close();
        if closes {
            owner.close();
        } else {
            heap.thin(true);
        }
        assert_eq!((heap.slots_in_use(), count(heap, 6000).remote_frees), (0, freed));
        owner.close();
        heap.check();
    }
}

#[test]
fn first_uses_are_blocks_that_were_carved_and_no_others() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 32));
    let worker = Worker::new(&HEAP);
    let fill = || -> Vec<_> {
        (0..BLOCKS).map(|_| worker.allocate(Worker::layout(64, 8)).unwrap()).collect()
    };
    let pieces = fill();
    let first = count(&HEAP, 64);
    assert!(first.first_uses >= BLOCKS as u64);
    assert_eq!(first.first_uses, first.carved, "no span has ended");
    let mut index = 0;
    let (stay, go): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|_| {
        index += 1;
        index % 300 == 0
    });
    go.into_iter().for_each(|piece| worker.free(piece));
    HEAP.release_free();
    assert!(count(&HEAP, 64).carved < first.carved / 2, "pages went back");
    let again: Vec<_> = fill().into_iter().take(BLOCKS).collect();
    let second = count(&HEAP, 64);
    let ended = second.first_uses - first.first_uses;
    assert!(ended <= BLOCKS as u64 / 4, "{ended} were carved that had been cut again");
    stay.into_iter().chain(again).for_each(|piece| worker.free(piece));
    HEAP.check();
}

#[test]
fn a_wait_for_a_span_is_in_the_counts_of_its_class() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    worker.free(worker.allocate(Worker::layout(64, 8)).unwrap());
    let held = HEAP.space.lock();
    let worker = std::thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            worker.free(worker.allocate(Worker::layout(128, 8)).unwrap());
            worker
        });
        while !HEAP.space.is_waited_for() {
            std::thread::yield_now();
        }
        drop(held);
        waiter.join().unwrap()
    });
    assert_eq!((count(&HEAP, 64).waits, count(&HEAP, 128).waits), (0, 1));
    worker.close();
    HEAP.check();
}
