//! Measurements: exact, on one thread and on several, whatever others do. All of
//! these tests run in one process at once, and disturb each other if anything can.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use spanalloc::{Meter, SpanAlloc, assert_no_allocs, assert_usage, measure};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// Boxes of `bytes` bytes.
fn boxes(count: usize, bytes: usize) -> Vec<Box<[u8]>> {
    (0..count).map(|_| vec![1; bytes].into_boxed_slice()).collect()
}

#[test]
fn every_allocation_and_free_counts_once() {
    for bytes in [1, 24, 100, 1000, 20_000, 100_000, 3 << 20, 20 << 20] {
        for count in [1, 7, 300] {
            if bytes * count > 64 << 20 {
                continue;
            }
            let (held, usage) = measure(|| boxes(count, bytes));
            let vector = (count * size_of::<Box<[u8]>>()) as u64;
            assert_eq!(usage.allocs, count as u64 + 1, "{count} of {bytes}");
            assert_eq!(usage.frees, 0);
            assert_eq!(usage.bytes, (count * bytes) as u64 + vector);
            assert!(usage.block_bytes >= usage.bytes);
            assert_eq!(usage.peak_block_bytes, usage.block_bytes);
            let ((), freed) = measure(|| drop(held));
            assert_eq!((freed.allocs, freed.frees), (0, count as u64 + 1));
            assert_eq!(freed.freed_block_bytes, usage.block_bytes);
            assert_eq!(freed.peak_block_bytes, 0);
            assert_eq!(freed.left_block_bytes(), -usage.left_block_bytes());
        }
    }
}

#[test]
fn the_peak_is_the_most_held_at_once() {
    let one = |bytes: usize| drop(black_box(vec![0_u8; bytes]));
    let (_, alone) = measure(|| one(4096));
    let (_, in_turn) = measure(|| (0..100).for_each(|_| one(4096)));
    assert_eq!((in_turn.allocs, in_turn.frees), (100, 100));
    assert_eq!(in_turn.peak_block_bytes, alone.block_bytes);
    let (_, two) = measure(|| {
        let held = black_box(vec![0_u8; 4096]);
        one(4096);
        drop(held);
        one(64);
    });
    assert_eq!(two.peak_block_bytes, 2 * alone.block_bytes);
}

#[test]
fn lists_left_by_earlier_work_hide_nothing() {
    // Frees without allocations make the lists drain; allocations of one class
    // after many frees of it come from lists that are full.
    for round in 0..50 {
        let held = boxes(1000, 48);
        let (_, usage) = measure(|| drop(held));
        assert_eq!(usage.frees, 1001, "round {round}");
        let (_, usage) = measure(|| drop(black_box(boxes(500, 48))));
        assert_eq!((usage.allocs, usage.frees), (501, 501), "round {round}");
    }
}

#[test]
fn blocks_of_other_threads_count_where_they_are_freed() {
    let held = thread::spawn(|| boxes(2000, 64)).join().unwrap();
    let (_, usage) = measure(|| drop(held));
    assert_eq!((usage.allocs, usage.frees), (0, 2001));
}

#[test]
fn a_growing_vector_frees_what_it_leaves() {
    let (vector, usage) = measure(|| (0..100_000_u64).collect::<std::collections::VecDeque<_>>());
    assert_eq!(usage.left_blocks(), 1);
    drop(vector);
    let (vector, usage) = measure(|| {
        let mut vector = Vec::new();
        (0..3_000_000_u64).for_each(|n| vector.push(n));
        vector
    });
    assert_eq!(usage.left_blocks(), 1);
    assert!(usage.left_block_bytes() >= (vector.capacity() * 8) as i64);
    assert!(usage.allocs > 10);
}

#[test]
fn parallel_measurements_do_not_meet() {
    thread::scope(|scope| {
        for thread in 0..8_usize {
            scope.spawn(move || {
                for round in 0..200 {
                    let count = 10 + thread;
                    let (_, usage) = measure(|| drop(black_box(boxes(count, 32 + round))));
                    assert_eq!((usage.allocs, usage.frees), (count as u64 + 1, count as u64 + 1));
                }
            });
        }
    });
}

#[test]
fn threads_with_a_meter_count_together() {
    let meter = Meter::new();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let meter = meter.clone();
            thread::spawn(move || meter.count(|| boxes(10, 100)))
        })
        .collect();
    let held: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let usage = meter.usage();
    assert_eq!((usage.allocs, usage.frees), (44, 0));
    assert_eq!(usage.peak_block_bytes, usage.block_bytes);
    meter.count(|| drop(held));
    // The outer vector's block was allocated outside.
    assert_eq!(meter.usage().frees, 45);
}

#[test]
fn measurements_nest() {
    let outer = Meter::new();
    let inner = outer.count(|| {
        let before = black_box(Box::new(1));
        let (_, inner) = measure(|| drop(black_box(Box::new(2_u32))));
        outer.count(|| drop(before));
        inner
    });
    assert_eq!((inner.allocs, inner.frees), (1, 1));
    // The inner meter itself does not count.
    assert_eq!((outer.usage().allocs, outer.usage().frees), (2, 2));
}

#[test]
fn an_assertion_inside_counts_for_nobody_outside() {
    let inner = || {
        assert_no_allocs!(1 + 1);
        assert_usage!(drop(black_box(Box::new(7))); allocs == 1);
    };
    let ((), usage) = measure(inner);
    assert_eq!((usage.allocs, usage.frees), (1, 1));
    // Nor does it end the measurement outside, as what it counts first might: a probe.
    let (held, usage) = measure(|| {
        drop(spanalloc::__meter());
        boxes(100, 48)
    });
    assert_eq!((usage.allocs, usage.frees), (101, 0));
    let ((), usage) = measure(|| {
        assert_usage!(drop(black_box(Box::new(7))); allocs == 1);
        drop(held);
    });
    assert_eq!((usage.allocs, usage.frees), (1, 102));
    assert_no_allocs!(assert_no_allocs!(1 + 1));
    assert_no_allocs!(drop(Meter::new().clone()));
}

#[test]
fn a_panic_ends_the_measurement() {
    let meter = Meter::new();
    let work = || meter.count(|| std::panic::resume_unwind(Box::new(7)));
    assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
    let counted = meter.usage();
    drop(black_box(Box::new(1)));
    assert_eq!(meter.usage(), counted);
}

#[test]
fn assertions_return_the_value_of_what_they_measure() {
    let text = assert_usage!(String::from("text"); allocs == 1, frees == 0, bytes <= 4);
    assert_usage!(drop(text.clone()); left_blocks == 0, left_block_bytes == 0);
    let leaks = catch_unwind(|| assert_usage!(text.clone(); left_blocks < 1));
    let message = leaks.unwrap_err();
    let message = message.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("expected left_blocks < 1, found 1 allocation of"), "{message}");
    assert_no_allocs!(assert_eq!(text.len(), 4));
}

#[cfg(feature = "profile")]
#[inline(never)]
fn the_culprit() -> Vec<u8> {
    black_box(vec![7; 3000])
}

#[cfg(feature = "profile")]
#[test]
fn a_failed_assertion_names_the_site_that_allocated() {
    let failed = catch_unwind(|| assert_usage!(drop(the_culprit()); frees == 1, bytes < 3000));
    let panic = failed.unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("expected bytes < 3000, found 1 allocation of 3000"), "{message}");
    assert!(message.contains("the_culprit"), "{message}");
    assert!(message.contains("measure.rs"), "{message}");
    assert!(catch_unwind(|| assert_no_allocs!(the_culprit())).is_err());
}

#[cfg(feature = "profile")]
#[test]
fn sampling_changes_nothing_that_is_measured() {
    spanalloc::profile::start(256).unwrap();
    for _ in 0..20 {
        let (_, usage) = measure(|| drop(black_box(boxes(100, 40))));
        assert_eq!((usage.allocs, usage.frees), (101, 101));
    }
    spanalloc::profile::stop();
}
