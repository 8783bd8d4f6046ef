//! How long a thread's lists get.

use std::collections::VecDeque;

use super::{Piece, Worker};
use crate::heap::Heap;
use crate::heap::bin::{list_max, list_most};
use crate::heap::class::ClassId;
use crate::sys::fake::Fake;

/// Frees a little more than a list holds, then allocates enough to empty what is loaded by then:
/// the previous list is loaded again, and is the one that the next frees would make longer.
fn shrinks_in_rounds(worker: &Worker, bytes: usize, blocks: usize, allocated: usize) -> usize {
    let layout = Worker::layout(bytes, 8);
    let class = ClassId::of(layout).unwrap();
    let freed = list_max(class) as usize + allocated - 1;
    let mut pieces: VecDeque<Piece> =
        (0..blocks).map(|_| worker.allocate(layout).unwrap()).collect();
    let mut longest = 0;
    while pieces.len() > freed {
        pieces.drain(..freed).for_each(|piece| worker.free(piece));
        pieces.extend((0..allocated).map(|_| worker.allocate(layout).unwrap()));
        let owner = worker.cache.owner().unwrap();
        let lists = owner.bin(class).lists(worker.cache.list(class));
        longest = lists.iter().fold(longest, |longest, (_, blocks)| longest.max(*blocks as usize));
    }
    worker.heap.check();
    pieces.into_iter().for_each(|piece| worker.free(piece));
    longest
}

#[test]
fn a_list_does_not_grow_with_each_turn_of_a_thread_that_frees_more_than_it_allocates() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    for (bytes, blocks) in [(8, 100_000), (64, 50_000), (1024, 4000), (4096, 2000), (32_768, 500)] {
        let class = ClassId::of(Worker::layout(bytes, 8)).unwrap();
        for allocated in [2, 3, list_max(class) as usize] {
            let longest = shrinks_in_rounds(&worker, bytes, blocks, allocated);
            let most = list_most(class) as usize;
            assert!(longest <= most, "{longest} blocks of {bytes} bytes on a list, not {most}");
        }
    }
    HEAP.check();
    worker.close();
    HEAP.check();
    HEAP.release_free();
    assert_eq!(HEAP.slots_in_use(), HEAP.late_slots());
}

/// They will hardly be allocated here.
#[test]
fn full_lists_of_another_threads_blocks_are_not_kept() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let (worker, other) = (Worker::new(&HEAP), Worker::new(&HEAP));
    let layout = Worker::layout(64, 8);
    let pieces: Vec<_> = (0..20_000).map(|_| worker.allocate(layout).unwrap()).collect();
    let class = ClassId::of(layout).unwrap();
    pieces.into_iter().for_each(|piece| {
        other.free(piece);
        assert_eq!(other.cache.owner().map_or(0, |owner| owner.bin(class).kept.get()), 0);
    });
    let owner = other.cache.owner().unwrap();
    let listed: u32 =
        owner.bin(class).lists(other.cache.list(class)).map(|(_, blocks)| blocks).iter().sum();
    assert!(listed <= 512, "{listed} blocks");
    [other, worker].iter().for_each(Worker::close);
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}

/// A few would be all that a thread may keep.
#[test]
fn full_lists_of_blocks_that_share_a_span_with_few_are_not_kept() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    let layout = Worker::layout(10_000, 8);
    let class = ClassId::of(layout).unwrap();
    assert!(!class.is_narrow());
    let pieces: Vec<_> = (0..500).map(|_| worker.allocate(layout).unwrap()).collect();
    pieces.into_iter().for_each(|piece| {
        worker.free(piece);
        assert_eq!(worker.cache.owner().unwrap().bin(class).kept.get(), 0);
    });
    worker.close();
    HEAP.check();
}
