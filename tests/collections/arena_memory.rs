//! Arenas where memory is short.

use crate::map_support::counting::refusing_above;
use spanalloc::arena::Arena;
use std::alloc::Layout;

/// Where no chunk of twice the size can be had, a smaller one does, and the arena keeps the largest.
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
