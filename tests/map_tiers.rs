//! Which part of the allocator serves a map's arrays, as the map says and as the
//! allocator itself does. Here ours is the program's allocator.
#![cfg(feature = "collections")]

use std::hint::black_box;

use spanalloc::map::{Map, Tier};
use spanalloc::{Place, SpanAlloc, inspect};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// The tier that the allocator found the block at `address` in.
fn served_by(address: usize) -> Tier {
    match inspect(std::ptr::without_provenance(address)).unwrap().what {
        Place::Block { .. } => Tier::ThreadCache,
        Place::LargeSpan => Tier::PageHeap,
        Place::Mapping => Tier::Large,
        other => panic!("a live block is not {other:?}"),
    }
}

/// A6, refuted: only arrays of up to 32 KiB come from the thread's cache.
#[test]
fn a6_each_tier_serves_some_growth() {
    let mut map: Map<u64, [u64; 15]> = Map::new();
    let (mut served, mut capacity) = ([0; 3], 0);
    for key in 0..120_000 {
        map.insert(key, [key; 15]);
        if map.capacity() == capacity {
            continue;
        }
        capacity = map.capacity();
        let stats = map.stats();
        let tier = served_by(stats.array_address);
        assert_eq!(stats.tier, Some(tier), "an array of {} bytes", stats.bytes);
        served[tier as usize] += 1;
    }
    assert_eq!(map.stats().arrays_by_tier, served);
    assert!(served.iter().all(|&arrays| arrays > 0), "each served some: {served:?}");
}

/// The limits are the allocator's, to the byte.
#[test]
fn a_tier_ends_where_the_allocators_does() {
    for last in [Tier::THREAD_CACHE_MAX_BYTES, Tier::PAGE_HEAP_MAX_BYTES] {
        for bytes in [last - 1, last, last + 1] {
            let block: Vec<u8> = black_box(Vec::with_capacity(bytes));
            assert_eq!(Tier::of(bytes), served_by(block.as_ptr().addr()), "{bytes} bytes");
        }
    }
}
