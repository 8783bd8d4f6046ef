//! Arenas where memory is short, and what they are filled with.

use crate::map_support::counting::{allocations, refusing_above};
use spanalloc::arena::Arena;
use std::alloc::Layout;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Where no chunk of twice the size can be had, a smaller one does, and the arena keeps the
/// largest.
#[test]
fn a_chunk_that_cannot_double_is_as_large_as_it_must_be() {
    let mut arena = Arena::with_capacity(1 << 20);
    arena.alloc_layout(Layout::from_size_align(1 << 20, 1).unwrap());
    let largest = arena.stats().chunk_bytes;
    refusing_above(1 << 20, || {
        let small = arena.alloc([7_u8; 100]);
        assert_eq!((small[0], small[99]), (7, 7));
        arena.alloc_layout(Layout::from_size_align(100_000, 8).unwrap());
        assert_eq!(arena.stats().live_bytes, (1 << 20) + 100 + 100_000);
    });
    assert!(arena.stats().chunks > 1);
    arena.reset();
    let stats = arena.stats();
    assert_eq!((stats.chunks, stats.chunk_bytes, stats.live_bytes), (1, largest, 0));
    arena.alloc_layout(Layout::from_size_align(1 << 20, 1).unwrap());
    assert_eq!(arena.stats().chunks, 1, "the largest chunk was not kept");
}

#[test]
fn memory_that_is_refused_is_an_error_and_changes_nothing() {
    let layout = |size, align| Layout::from_size_align(size, align).unwrap();
    let arena = Arena::new();
    let refused = refusing_above(0, || {
        assert_eq!(arena.try_alloc(7_u64).unwrap_err().bytes(), 8);
        assert!(Arena::try_with_capacity(0).is_ok());
        Arena::try_with_capacity(5000).unwrap_err()
    });
    assert!(refused.to_string().contains("5000 bytes"), "{refused}");
    assert_eq!(arena.stats().chunks, 0);
    *arena.try_alloc(7_u64).unwrap() += 1;
    let before = arena.stats();
    refusing_above(10_000, || {
        for refused in [layout(20_000, 1), layout(1, 1 << 14), layout(isize::MAX as usize, 1)] {
            assert_eq!(arena.try_alloc_layout(refused).unwrap_err().bytes(), refused.size());
            assert_eq!(arena.stats(), before);
        }
        assert!(arena.try_alloc([1_u8; 5000]).is_ok_and(|bytes| *bytes == [1; 5000]));
    });
    let block = arena.try_alloc_layout(layout(3, 1 << 14)).unwrap();
    assert!(block.addr().get().is_multiple_of(1 << 14));
    assert_eq!(arena.stats().live_bytes, 8 + 5000 + 3);
}

/// An iterator that does not yield what it promises.
struct Liar {
    promised: usize,
    left: u32,
}

impl Iterator for Liar {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        Some(self.left)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.promised, Some(self.promised))
    }
}

impl ExactSizeIterator for Liar {}

#[test]
fn slices_are_filled_from_iterators() {
    let arena = Arena::new();
    let all = arena.alloc_slice_fill_iter(0..1000_u32);
    assert!(all.iter().copied().eq(0..1000));
    assert_eq!(arena.alloc_slice_fill_iter(Liar { promised: 5, left: 3 }), [2, 1, 0]);
    assert_eq!(arena.alloc_slice_fill_iter(Liar { promised: 2, left: 5 }), [4, 3]);
    assert!(arena.alloc_slice_fill_iter([0_u8; 0]).is_empty());
    let huge = Liar { promised: usize::MAX, left: 0 };
    assert!(catch_unwind(AssertUnwindSafe(|| arena.alloc_slice_fill_iter(huge).len())).is_err());
}

/// Writes a letter more each time.
struct Longer(Cell<usize>);

impl fmt::Display for Longer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.set(self.0.get() + 1);
        (0..self.0.get()).try_for_each(|_| f.write_str("ä"))
    }
}

#[test]
fn text_is_formatted_in_place() {
    let arena = Arena::with_capacity(1000);
    let (calls, _, ()) = allocations(|| {
        let text = arena.alloc_fmt(format_args!("{:>5}|{}|{:?}", 42, 'ß', "x\n"));
        text.make_ascii_uppercase();
        assert_eq!(text, "   42|ß|\"X\\N\"");
        assert_eq!(arena.alloc_fmt(format_args!("plain")), "plain");
        let nothing = "";
        assert_eq!(arena.alloc_fmt(format_args!("{nothing}")), "");
    });
    assert_eq!((calls, arena.stats().live_bytes), (0, 14 + 5));
    let longer = Longer(Cell::new(0));
    let format = AssertUnwindSafe(|| arena.alloc_fmt(format_args!("{longer}")).len());
    assert!(catch_unwind(format).is_err());
}
