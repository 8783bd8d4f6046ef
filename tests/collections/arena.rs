//! The arenas against what they promise: blocks that do not overlap, bytes that add up, reuse by
//! class, drops that happen once, and estimates that are exact.

use crate::random::Random;
use spanalloc::arena::{
    Arena, ArenaBox, ArenaStats, CapacityEstimator, DropArena, SizeModel, poisson_quantile,
};
use std::alloc::Layout;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;

fn check(stats: ArenaStats) {
    let ArenaStats { live_bytes, padding_bytes, returned_bytes, tail_bytes, room_bytes, .. } =
        stats;
    let sum = live_bytes + padding_bytes + returned_bytes + tail_bytes + room_bytes;
    assert_eq!(stats.chunk_bytes, sum, "{stats:?}");
    assert_eq!(stats.waste_bytes(), padding_bytes + returned_bytes + tail_bytes);
}

/// The blocks in use, to find overlaps.
#[derive(Default)]
struct Ledger(BTreeMap<usize, usize>);

impl Ledger {
    fn add(&mut self, at: usize, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let before = self.0.range(..at + bytes).next_back();
        assert!(before.is_none_or(|(start, len)| start + len <= at), "overlap at {at:#x}");
        self.0.insert(at, bytes);
    }
}

#[test]
fn blocks_are_aligned_and_apart() {
    let mut arena = Arena::new();
    let mut random = Random(7);
    for round in 0..4 {
        let mut ledger = Ledger::default();
        let mut live_bytes = 0;
        for _ in 0..3_000 {
            let align = 1 << random.below(9);
            let size_max = if random.below(100) == 0 { 20_000 } else { 200 };
            let layout = Layout::from_size_align(random.below(size_max) as usize, align).unwrap();
            let block = arena.alloc_layout(layout);
            assert_eq!(block.addr().get() % align, 0);
            ledger.add(block.addr().get(), layout.size());
            // SAFETY: the block has this size and nobody else uses it.
            unsafe { block.write_bytes(round, layout.size()) };
            live_bytes += layout.size();
        }
        let stats = arena.stats();
        assert_eq!((stats.live_bytes, stats.resets), (live_bytes, u64::from(round)));
        check(stats);
        arena.reset();
        let stats = arena.stats();
        assert_eq!((stats.live_bytes, stats.chunks, stats.waste_bytes()), (0, 1, 16));
        check(stats);
    }
}

#[test]
fn values_slices_and_text() {
    let arena = Arena::with_capacity(10);
    let number = arena.alloc(1u64);
    let copied = arena.alloc_slice_copy(&[1u16, 2, 3]);
    let filled = arena.alloc_slice_fill_with(4, |index| index * index);
    let text = arena.alloc_str("größer");
    let nothing = arena.alloc(());
    let empty: &mut [u64] = arena.alloc_slice_copy(&[]);
    text.make_ascii_uppercase();
    *number += 1;
    copied[0] = 9;
    assert_eq!((*number, &*copied, &*text), (2, &[9, 2, 3][..], "GRößER"));
    assert_eq!((&*filled, empty.len(), *nothing), (&[0, 1, 4, 9][..], 0, ()));
    let part = arena.alloc_with(|| *arena.alloc(5) + 1);
    assert_eq!(*part, 6);
    check(arena.stats());
}

#[test]
fn a_slice_that_cannot_be_is_named() {
    let call = || Arena::new().alloc_slice_fill_with(usize::MAX / 2, |_| 0u64).len();
    let message = catch_unwind(call).unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains(&format!("{} values of 8 bytes", usize::MAX / 2)), "{message}");
}

/// R1: chunks are counted honestly: ten thousand values, and how few allocations stand behind them.
#[test]
fn chunks_double() {
    let arena = Arena::new();
    for index in 0..10_000u64 {
        arena.alloc([index; 4]);
    }
    let stats = arena.stats();
    assert_eq!(stats.live_bytes, 320_000);
    // 1 KiB · (2⁹ − 1) ≥ 320,000 > 1 KiB · (2⁸ − 1).
    assert_eq!((stats.chunks, stats.chunk_bytes), (9, 1024 * 511));
    check(stats);
}

/// R1: blocks of returned boxes serve the next values of the same class, and only those.
#[test]
fn boxes_are_reused_by_class() {
    let arena = Arena::new();
    let place = |value: &ArenaBox<'_, [u8; 100]>| (&raw const **value).addr();
    let first = arena.alloc_box([1u8; 100]);
    let at = place(&first);
    drop(first);
    assert_eq!(arena.stats().returned_bytes, 104);
    let other_class = arena.alloc_box([2u8; 113]);
    assert_eq!(arena.stats().reused, 0);
    let same_class = arena.alloc_box([3u8; 100]);
    assert_eq!((place(&same_class), arena.stats().reused), (at, 1));
    assert_eq!((other_class[112], same_class[99]), (2, 3));
    assert_eq!(ArenaBox::into_inner(same_class), [3; 100]);
    assert_eq!(arena.stats().returned_bytes, 104);
    let leaked = ArenaBox::leak(arena.alloc_box([4u8; 97]));
    assert_eq!((leaked[0], arena.stats().reused), (4, 2));
    check(arena.stats());
}

/// A2: objects below 16 bytes share blocks of 16, whose reuse waits for the last of them.
#[test]
fn tiny_objects_share_blocks() {
    let arena = Arena::new();
    let pairs: Vec<_> = (0..1000u64).map(|number| arena.alloc_box(number)).collect();
    let stats = arena.stats();
    assert_eq!((stats.tiny_objects, stats.tiny_blocks), (1000, 500));
    assert!((stats.tiny_saving() - 0.5).abs() < 1e-9);
    assert!(pairs.iter().enumerate().all(|(number, value)| **value == number as u64));
    let chunk_bytes = stats.chunk_bytes;
    // Every other one goes: each block still has a live object, so nothing can be reused.
    let mut halves = pairs.into_iter();
    let mut kept = Vec::new();
    while let (Some(gone), Some(stays)) = (halves.next(), halves.next()) {
        drop(gone);
        kept.push(stays);
    }
    assert!(kept.iter().enumerate().all(|(number, value)| **value == 2 * number as u64 + 1));
    drop(kept);
    // The chunks have no room for as many beside those that were.
    let again: Vec<_> = (0..1000u64).map(|number| arena.alloc_box((number, ()))).collect();
    assert_eq!(arena.stats().chunk_bytes, chunk_bytes, "all blocks were free again");
    assert!(again.iter().enumerate().all(|(number, value)| value.0 == number as u64));
    assert_eq!(arena.stats().live_bytes, 8000);
    drop(again);
    assert_eq!(arena.stats().live_bytes, 0);
    check(arena.stats());
}

#[test]
fn tiny_objects_of_mixed_sizes_keep_apart() {
    let arena = Arena::new();
    let mut random = Random(3);
    let (mut bytes, mut words, mut threes) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..20_000u32 {
        match random.below(6) {
            0 => bytes.push((arena.alloc_box(step as u8), step as u8)),
            1 => words.push((arena.alloc_box(step), step)),
            2 => threes.push((arena.alloc_box([step as u8; 3]), [step as u8; 3])),
            _ => {
                let pick = random.below(1 << 30) as usize;
                let _ = (!bytes.is_empty()).then(|| bytes.swap_remove(pick % bytes.len()));
                let _ = (!words.is_empty()).then(|| words.swap_remove(pick % words.len()));
            }
        }
        if step % 1000 == 0 {
            assert!(bytes.iter().all(|(value, expected)| **value == *expected));
            assert!(words.iter().all(|(value, expected)| **value == *expected));
            assert!(threes.iter().all(|(value, expected)| **value == *expected));
        }
    }
    check(arena.stats());
}

/// Boxes of every kind against a model, with exact drops.
#[test]
fn boxes_agree_with_a_model() {
    let arena = Arena::new();
    let alive = Rc::new(());
    let mut random = Random(11);
    let mut boxes = Vec::new();
    let mut big = Vec::new();
    for step in 0..20_000u64 {
        match random.below(9) {
            0..4 => boxes.push((arena.alloc_box((step, alive.clone())), step)),
            4 => big.push((arena.alloc_box([step; 5000]), step)),
            5 => drop((random.below(30) == 0).then(|| big.clear())),
            _ => {
                if !boxes.is_empty() {
                    let (value, expected) =
                        boxes.swap_remove(random.below(boxes.len() as u64) as usize);
                    assert_eq!(ArenaBox::into_inner(value).0, expected);
                }
            }
        }
        assert_eq!(Rc::strong_count(&alive), boxes.len() + 1);
        assert_eq!(arena.stats().live_bytes, boxes.len() * 16 + big.len() * 40_000);
    }
    assert!(boxes.iter().all(|(value, expected)| value.0 == *expected));
    assert!(big.iter().all(|(value, expected)| value.iter().all(|word| word == expected)));
    check(arena.stats());
}

/// A box of one of the sizes that are counted in different ways and share classes.
enum Sized<'a> {
    Odd17(ArenaBox<'a, [u8; 17]>),
    Three(ArenaBox<'a, [u64; 3]>),
    Four(ArenaBox<'a, [u64; 4]>),
    Odd31(ArenaBox<'a, [u8; 31]>),
    Sixteen(ArenaBox<'a, [u64; 16]>),
    Odd129(ArenaBox<'a, [u8; 129]>),
    Seventeen(ArenaBox<'a, [u64; 17]>),
}

impl<'a> Sized<'a> {
    const KINDS: u64 = 7;

    fn make(arena: &'a Arena, kind: u64) -> Self {
        match kind {
            0 => Self::Odd17(arena.alloc_box([1; 17])),
            1 => Self::Three(arena.alloc_box([2; 3])),
            2 => Self::Four(arena.alloc_box([3; 4])),
            3 => Self::Odd31(arena.alloc_box([4; 31])),
            4 => Self::Sixteen(arena.alloc_box([5; 16])),
            5 => Self::Odd129(arena.alloc_box([6; 129])),
            _ => Self::Seventeen(arena.alloc_box([7; 17])),
        }
    }

    /// Whether it is as it was made, its bytes, and those of its class.
    fn look(&self) -> (bool, usize, usize) {
        match self {
            Self::Odd17(value) => (**value == [1; 17], 17, 24),
            Self::Three(value) => (**value == [2; 3], 24, 24),
            Self::Four(value) => (**value == [3; 4], 32, 32),
            Self::Odd31(value) => (**value == [4; 31], 31, 32),
            Self::Sixteen(value) => (**value == [5; 16], 128, 128),
            Self::Odd129(value) => (**value == [6; 129], 129, 160),
            Self::Seventeen(value) => (**value == [7; 17], 136, 160),
        }
    }
}

#[test]
fn counts_of_boxes_equal_a_ledger() {
    let mut arena = Arena::new();
    let mut random = Random(5);
    for _ in 0..2 {
        let mut boxes = Vec::new();
        let mut free: BTreeMap<usize, u64> = BTreeMap::new();
        let (mut made, mut reused, mut live_bytes) = (0, 0, 0);
        for step in 0..20_000 {
            if boxes.is_empty() || random.below(20) < if step / 500 % 2 == 0 { 11 } else { 9 } {
                let new = Sized::make(&arena, random.below(Sized::KINDS));
                let (_, bytes, class_bytes) = new.look();
                let waiting = free.entry(class_bytes).or_default();
                reused += u64::from(*waiting > 0);
                *waiting = waiting.saturating_sub(1);
                made += 1;
                live_bytes += bytes;
                boxes.push(new);
            } else {
                let old = boxes.swap_remove(random.below(boxes.len() as u64) as usize);
                let (whole, bytes, class_bytes) = old.look();
                assert!(whole);
                live_bytes -= bytes;
                *free.entry(class_bytes).or_default() += 1;
            }
            let returned: u64 = free.iter().map(|(&bytes, &blocks)| bytes as u64 * blocks).sum();
            let stats = arena.stats();
            assert_eq!((stats.boxes, stats.reused), (made, reused));
            assert_eq!((stats.live_bytes, stats.returned_bytes as u64), (live_bytes, returned));
            check(stats);
        }
        drop(boxes);
        arena.reset();
        let stats = arena.stats();
        assert_eq!((stats.boxes, stats.reused, stats.live_bytes), (0, 0, 0));
    }
}

/// Padding before almost every block.
#[test]
fn padding_of_any_amount_is_counted() {
    let arena = Arena::with_capacity(64 << 20);
    let pairs: usize = 2_500_000;
    for number in 0..pairs as u64 {
        arena.alloc(number as u8);
        arena.alloc(number);
    }
    let stats = arena.stats();
    assert_eq!((stats.chunks, stats.live_bytes), (1, 9 * pairs));
    // All but the first byte follow a number.
    assert_eq!(stats.padding_bytes, 16 + 7 * pairs);
    check(stats);
}

#[test]
fn an_arena_moves_to_another_thread() {
    let mut arena = Arena::new();
    arena.alloc(1);
    let arena = thread::spawn(move || {
        arena.reset();
        arena.alloc(2);
        arena
    });
    assert_eq!(arena.join().unwrap().stats().live_bytes, 4);
}

/// Counts its drops and notes their order; panics when told to.
struct Noted(u32, Rc<Cell<Vec<u32>>>, bool);

impl Drop for Noted {
    fn drop(&mut self) {
        let mut order = self.1.take();
        order.push(self.0);
        self.1.set(order);
        assert!(!self.2, "told to");
    }
}

#[test]
fn drop_arena_drops_once_youngest_first() {
    let order = Rc::new(Cell::new(Vec::new()));
    let mut arena = DropArena::new();
    for round in 0..3 {
        for number in 0..100 {
            arena.alloc(u64::from(number));
            assert_eq!(arena.alloc(Noted(number, order.clone(), false)).0, number);
        }
        assert_eq!((arena.pending_drops(), order.take()), (100, Vec::new()));
        if round < 2 {
            arena.reset();
        } else {
            drop(std::mem::take(&mut arena));
        }
        assert_eq!(order.take(), Vec::from_iter((0..100).rev()));
        assert_eq!((arena.pending_drops(), arena.stats().live_bytes), (0, 0));
    }
}

#[test]
fn a_panicking_drop_loses_no_other() {
    let order = Rc::new(Cell::new(Vec::new()));
    let mut arena = DropArena::new();
    for number in 0..5 {
        arena.alloc(Noted(number, order.clone(), number == 3));
    }
    assert!(catch_unwind(AssertUnwindSafe(|| arena.reset())).is_err());
    assert_eq!((order.take(), arena.pending_drops()), (vec![4, 3], 3));
    arena.alloc(Noted(9, order.clone(), true));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(arena))).is_err());
    assert_eq!(order.take(), [9, 2, 1, 0]);

    let arena = Arena::new();
    let bomb = arena.alloc_box(Noted(7, order.clone(), true));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(bomb))).is_err());
    assert_eq!((order.take(), arena.stats().live_bytes), (vec![7], 0));
    drop(arena.alloc_box(Noted(8, order.clone(), false)));
    assert_eq!((order.take(), arena.stats().reused), (vec![8], 1));
}

#[test]
#[cfg(debug_assertions)]
fn stale_writes_are_found_in_debug_builds() {
    let mut arena = Arena::new();
    let stale = std::ptr::from_mut(arena.alloc(1u64));
    arena.reset();
    // SAFETY: none: this is the mistake to be found. The chunk is kept, so the write hits memory
    // that is allocated and unused.
    unsafe { stale.write(2) };
    assert!(catch_unwind(AssertUnwindSafe(|| *arena.alloc(3u64))).is_err());

    let arena = Arena::new();
    let mut value = arena.alloc_box([1u64; 8]);
    let stale = &raw mut value[7];
    drop(value);
    // SAFETY: none, as above.
    unsafe { stale.write(2) };
    assert!(catch_unwind(AssertUnwindSafe(|| drop(arena.alloc_box([2u64; 8])))).is_err());
}

/// R4: the exact 95 % quantiles, where the article has 24, 82 and 295.
#[test]
fn poisson_capacities_are_exact() {
    assert_eq!([16.0, 64.0, 256.0].map(|mean| poisson_quantile(mean, 0.95)), [23, 77, 283]);
    let mut estimator = CapacityEstimator::new(10, 0.95).model(SizeModel::Poisson);
    for mean in [16, 64, 256] {
        (0..10).for_each(|_| estimator.record(mean));
        assert_eq!(estimator.estimate(), Some(poisson_quantile(mean as f64, 0.95) as usize));
    }
}

#[test]
fn observed_quantiles_are_nearest_ranks_of_the_window() {
    let mut random = Random(5);
    let mut sizes = Vec::new();
    let mut estimator = CapacityEstimator::new(20, 0.9);
    for _ in 0..500 {
        let size = random.below(1000) as usize;
        sizes.push(size);
        estimator.record(size);
        let mut window = sizes[sizes.len().saturating_sub(20)..].to_vec();
        window.sort_unstable();
        let covered = |capacity: usize| window.iter().filter(|&&s| s <= capacity).count() as f64;
        let estimate = estimator.estimate().unwrap();
        assert!(covered(estimate) >= 0.9 * window.len() as f64);
        assert!(estimate == 0 || covered(estimate - 1) < 0.9 * window.len() as f64);
    }
}

/// A rank is a whole number where the quantile says so, whatever floating point makes of it.
#[test]
fn whole_ranks_are_met() {
    for percent in 1..100 {
        let mut estimator = CapacityEstimator::new(100, f64::from(percent) / 100.0);
        (1..=100).for_each(|size| estimator.record(size));
        assert_eq!(estimator.estimate(), Some(percent as usize));
    }
}

#[test]
fn estimates_are_scored() {
    let mut estimator = CapacityEstimator::new(1, 0.5);
    assert_eq!((estimator.overflow_rate(), estimator.mean_unused()), (0.0, 0.0));
    [10, 20, 5, 5].into_iter().for_each(|size| estimator.record(size));
    // 20 overflows 10; 5 leaves 15 of 20 unused; 5 fits 5.
    assert_eq!((estimator.overflow_rate(), estimator.mean_unused()), (1.0 / 3.0, 5.0));
    let rounded = estimator.clone().round_to_power_of_two();
    assert_eq!((estimator.estimate(), rounded.estimate()), (Some(5), Some(8)));
}

#[test]
fn log_normal_fits_equal_and_spread_sizes() {
    let mut estimator = CapacityEstimator::new(100, 0.95).model(SizeModel::LogNormal);
    (0..100).for_each(|_| estimator.record(8));
    assert_eq!(estimator.estimate(), Some(8));
    // Logarithms ±1 around that of 1000: σ = 1, so the quantile is 1000 · e^1.645 = 5180.25….
    let (low, high) = (1000.0 / std::f64::consts::E, 1000.0 * std::f64::consts::E);
    (0..100).for_each(|i| estimator.record(if i % 2 == 0 { low } else { high }.round() as usize));
    let estimate = estimator.estimate().unwrap();
    assert!((5150..5210).contains(&estimate), "{estimate}");
}

#[test]
fn impossible_estimators_are_refused() {
    for (call, part) in [
        ((|| drop(CapacityEstimator::new(0, 0.5))) as fn(), "window_len is 0"),
        (|| drop(CapacityEstimator::new(1, 1.5)), "quantile is 1.5"),
    ] {
        let panic = catch_unwind(call).unwrap_err();
        let message = match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(panic) => panic.downcast::<&str>().unwrap().to_string(),
        };
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn estimates_as_large_as_there_are_do_not_overflow_the_score() {
    let mut sizes = CapacityEstimator::new(100, 0.999).model(SizeModel::LogNormal);
    for step in 0..2000 {
        sizes.record(if step % 2 == 0 { 1 } else { usize::MAX / 2 });
    }
    assert!(sizes.mean_unused() > 1e17, "{}", sizes.mean_unused());
    let mut rare = CapacityEstimator::new(10, 1e-17).model(SizeModel::LogNormal);
    (1..20).for_each(|size| rare.record(size));
    assert!(rare.estimate().is_some_and(|size| size < 10), "{:?}", rare.estimate());
}
