//! The pools for other needs: of any type, of slices, of a fixed number of slots.

use crate::pool::{Counted, check};
use crate::random::Random;
use spanalloc::arena::Arena;
use spanalloc::map::{Lazy, Sweep};
use spanalloc::pool::{
    AnyPool, BitmapPool, Keep, OwnedPoolGuard, OwnedSliceGuard, Pool, Prefault, Reset, SlicePool,
};
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

/// P3: one pool for all types boxes what it is given and hands out what comes.
#[test]
fn any_pool_counts_boxes_and_type_misses() {
    let pool = AnyPool::new();
    for round in 0..10u32 {
        pool.put(round);
        pool.put(vec![round]);
        // The vector comes first: it was put last.
        assert_eq!(pool.get::<u32>(), None);
        assert_eq!(pool.get::<u32>(), Some(Box::new(round)));
        assert_eq!(pool.get::<Vec<u32>>(), None);
    }
    let stats = pool.stats();
    assert_eq!((stats.boxed, stats.type_hits, stats.type_misses), (20, 10, 10));
    check(stats.pool, 0);
}

/// P9: a vector that has grown beyond the bound is not kept.
#[test]
fn slice_pool_discards_what_grew() {
    let pool = SlicePool::<u8>::new(64, 128);
    assert!(pool.get().capacity() >= 64);
    pool.get().resize(128, 1);
    assert!(pool.get().is_empty());
    pool.get().resize(129, 1);
    let stats = pool.stats();
    assert_eq!((stats.discards, stats.pool.new, stats.pool.private), (1, 1, 3));
    assert!(pool.get().capacity() <= 128);
    assert_eq!(pool.stats().pool.new, 2);
    let refused = catch_unwind(|| SlicePool::<u8>::new(2, 1)).unwrap_err();
    let message = refused.downcast::<String>().unwrap();
    assert!(message.contains("capacity 2 is above capacity_max 1"), "{message}");
    let refused = catch_unwind(|| SlicePool::<u16>::new(usize::MAX, usize::MAX)).unwrap_err();
    let message = refused.downcast::<String>().unwrap();
    assert!(message.contains("too large for values of 2 bytes"), "{message}");
}

/// What a get promises is not undone by what an earlier user did to the vector.
#[test]
fn slice_pool_keeps_no_vector_that_is_too_small() {
    let pool = SlicePool::<u8>::new(64, 128);
    *pool.get() = Vec::new();
    assert!(pool.get().capacity() >= 64);
    pool.get().shrink_to_fit();
    assert!(pool.get().capacity() >= 64);
    let stats = pool.stats();
    assert_eq!((stats.discards, stats.pool.new, stats.pool.private), (2, 3, 1), "{stats:?}");
}

/// Vectors of what has no size have all capacities at once.
#[test]
fn slice_pool_reuses_vectors_of_nothing() {
    let pool = SlicePool::<()>::new(64, 128);
    (0..3).for_each(|_| pool.get().push(()));
    let stats = pool.stats();
    assert_eq!((stats.discards, stats.pool.new, stats.pool.private), (0, 1, 2), "{stats:?}");
}

/// P7: 512 slots per 64 bytes of metadata; each in one hand; constructed once; dropped with it.
#[test]
fn bitmap_pool_hands_each_slot_to_one() {
    let live = Arc::new(AtomicUsize::new(0));
    for prefault in [Prefault::OnUse, Prefault::Touch, Prefault::Populate] {
        let pool = BitmapPool::new(1000, prefault, || Counted::new(&live)).unwrap();
        assert_eq!(pool.stats().metadata_bytes, 128);
        let mut held: Vec<_> = std::iter::from_fn(|| pool.get()).collect();
        assert_eq!((held.len(), live.load(SeqCst)), (1000, 1000));
        let mut places: Vec<*const Counted> = held.iter().map(|value| &raw const **value).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 1000);
        held.iter_mut().for_each(|value| value.dirty = true);
        held.truncate(400);
        let stats = pool.stats();
        assert_eq!((stats.in_use, stats.made, stats.exhausted), (400, 1000, 1));
        assert!(!pool.get().unwrap().dirty);
        drop(held);
        drop(pool);
        assert_eq!(live.load(SeqCst), 0);
    }
}

#[test]
fn bitmap_pool_under_threads() {
    let pool = BitmapPool::new(70, Prefault::OnUse, || Keep(AtomicBool::new(false))).unwrap();
    thread::scope(|scope| {
        for seed in 1..=4 {
            let pool = &pool;
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..5_000 {
                    let count = random.below(30);
                    let held: Vec<_> = (0..count).map_while(|_| pool.get()).collect();
                    assert!(held.iter().all(|value| !value.swap(true, SeqCst)));
                    assert!(held.iter().all(|value| value.swap(false, SeqCst)));
                }
            });
        }
    });
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn bitmap_pool_refuses_impossible_sizes() {
    for capacity in [0, usize::MAX / 2] {
        let error = BitmapPool::new(capacity, Prefault::OnUse, || [0u64; 4]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&capacity.to_string()), "{error}");
    }
    // Slots that take no room still have bits.
    let error = BitmapPool::new(usize::MAX, Prefault::OnUse, || ()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let error = BitmapPool::new(1 << 57, Prefault::OnUse, || ()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
    assert!(BitmapPool::new(1000, Prefault::Touch, || ()).unwrap().get().is_some());
}

/// A buffer that is not worth keeping once it is large.
#[derive(Default)]
struct Body(Vec<u8>);

impl Reset for Body {
    fn reset(&mut self) {
        self.0.clear();
    }

    fn keep(&self) -> bool {
        assert!(self.0.is_empty(), "asked before the reset");
        self.0.capacity() <= 1000
    }
}

#[test]
fn what_is_not_worth_keeping_is_dropped() {
    let pool: Pool<(Body, [Box<Body>; 1], Keep<u8>)> = Pool::default();
    pool.get().0.0.reserve_exact(10);
    assert!(pool.get().0.0.capacity() >= 10);
    pool.get().1[0].0.reserve_exact(2000);
    pool.get_owned().0.0.reserve_exact(2000);
    let stats = pool.stats();
    assert_eq!((stats.new, stats.puts, stats.discards), (2, 2, 2), "{stats:?}");
    check(stats, 0);
    let slots = BitmapPool::new(1, Prefault::OnUse, Body::default).unwrap();
    slots.get().unwrap().0.reserve_exact(2000);
    assert_eq!(slots.stats().made, 0);
    slots.get().unwrap().0.reserve_exact(10);
    assert_eq!((slots.stats().made, slots.get().unwrap().0.capacity()), (1, 10));
}

#[test]
fn arenas_and_lazy_maps_are_reset() {
    let arenas: Pool<Arena> = Pool::new(Arena::new);
    arenas.get().alloc([0_u8; 5000]);
    let stats = arenas.get().stats();
    assert_eq!((stats.live_bytes, stats.chunks, stats.resets), (0, 1, 1));
    let maps: Pool<Lazy<u8, u8>> = Pool::new(|| Lazy::new(Sweep::Space(9)));
    {
        let mut map = maps.get();
        (0..4).for_each(|key| assert_eq!(map.insert(key, key, 0), None));
        assert!(map.remove(&1, 1));
        assert_eq!(map.check(), Ok(()));
    }
    let map = maps.get();
    assert_eq!((map.len(), map.get(&0), map.check()), (0, None, Ok(())));
    assert_eq!((map.stats().backlog, map.stats().cleared), (0, 1));
    assert!(map.bytes() > 0, "the array stays");
}

/// Guards that own what they need outlive the pool, and bring their values back.
#[test]
fn owned_guards_outlive_their_pool() {
    fn is_static<T: Send + Sync + 'static>(_: &T) {}
    let live = Arc::new(AtomicUsize::new(0));
    let made = live.clone();
    let pool = Pool::new(move || Counted::new(&made));
    let mut guard = pool.get_owned();
    is_static(&guard);
    guard.dirty = true;
    thread::spawn(move || drop(guard)).join().unwrap();
    check(pool.stats(), 1);
    let guard = pool.get_owned();
    assert!(!guard.dirty);
    let (other, kept) = (pool.get_owned(), OwnedPoolGuard::detach(pool.get_owned()));
    drop(pool);
    assert_eq!(live.load(SeqCst), 3);
    drop(guard);
    assert_eq!(live.load(SeqCst), 3, "it is in what is left of the pool");
    drop(other);
    assert_eq!(live.load(SeqCst), 1);
    drop(kept);
    let slices: Arc<SlicePool<u8>> = Arc::new(SlicePool::new(64, 128));
    let (mut first, second) = (slices.get_owned(), slices.get_owned());
    first.extend([1; 100]);
    thread::spawn(move || drop(first)).join().unwrap();
    assert_eq!(OwnedSliceGuard::detach(second).capacity(), 64);
    assert!(slices.take().capacity() >= 100);
    assert_eq!(slices.stats().pool.new, 2);
}

#[test]
fn slice_pool_takes_vectors_by_value() {
    let pool = SlicePool::<u8>::new(64, 128);
    let mut page = pool.take();
    page.extend([7; 100]);
    pool.put(page);
    let page = pool.take();
    assert!(page.is_empty() && page.capacity() >= 100);
    pool.put(vec![0; 129]);
    pool.put(Vec::new());
    let stats = pool.stats();
    assert_eq!((stats.discards, stats.pool.puts, stats.pool.new), (2, 1, 1), "{stats:?}");
}
