//! What is said about Go's map, row by row, as assertions about ours: claims that
//! hold are shown to hold, claims that do not are refuted.

mod map_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::any::Any;
use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;

use map_support::{Masked, Random};
use spanalloc::map::{
    BucketLayout, Event, Growth, GrowthKind, HandleMap, Lazy, LoadFactor, Map, Policy, Sweep, Tier,
};

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

fn count(bytes: usize) {
    let (calls, total) = ALLOCATIONS.get();
    ALLOCATIONS.set((calls + 1, total + bytes as u64));
}

// SAFETY: all work is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The allocations `work` makes, in number and in bytes.
fn allocations<R>(work: impl FnOnce() -> R) -> (u64, u64, R) {
    let before = ALLOCATIONS.get();
    let result = work();
    let after = ALLOCATIONS.get();
    (after.0 - before.0, after.1 - before.1, result)
}

/// Every hash is its key: tests choose buckets and tophashes.
fn exact() -> std::hash::BuildHasherDefault<Identity> {
    Default::default()
}

#[derive(Default)]
struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64")
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// M1, true: growth above 6.5 · 2^B, and only above eight entries.
#[test]
fn m1_doubles_above_six_and_a_half_per_bucket() {
    let mut map = Map::new();
    let mut doubled_at = Vec::new();
    for n in 0..1000u32 {
        let before = map.stats().log2_buckets;
        map.insert(n, n);
        if map.stats().log2_buckets > before {
            doubled_at.push(n);
        }
    }
    assert_eq!(doubled_at, [8, 13, 26, 52, 104, 208, 416, 832]);
    let stats = map.stats();
    assert_eq!((stats.len, stats.log2_buckets, stats.buckets), (1000, 8, 256));
    assert_eq!(stats.growth.doublings, 8);
    assert!(stats.array_address != 0 && stats.load_limit == 6.5);
}

/// M2, refuted: a hint of up to eight means one bucket, not four; keys and values
/// are packed, an `i8` takes a byte; each map has its own seed.
#[test]
fn m2_one_bucket_packed_cells_seed_per_map() {
    let (calls, _, mut map) = allocations(|| Map::<i64, i8>::with_capacity(4));
    assert_eq!(calls, 0, "nothing is allocated before the first insert");
    let (calls, bytes, _) = allocations(|| map.insert(1, 1));
    assert_eq!((calls, bytes), (1, 88), "8 tophashes, 8 keys, 8 bytes of values, a link");
    assert_eq!((map.stats().buckets, map.stats().log2_buckets), (1, 0));
    let tops: HashSet<u8> =
        (0..50).map(|_| Map::from([("key", ())]).tophashes().current[0][0][0]).collect();
    assert!(tops.len() > 10, "one seed for all maps would give one tophash");
}

/// M3, in part: a bucket is 8 + 8K + 8V + 8 bytes; above 128 bytes a value has a
/// block of its own, not an extra bucket.
#[test]
fn m3_large_values_are_stored_by_pointer() {
    fn insert_one<const BYTES: usize>() -> (usize, u64) {
        let mut map: Map<u64, [u8; BYTES]> = Map::new();
        map.insert(0, [0; BYTES]);
        let (calls, ..) = allocations(|| map.insert(1, [1; BYTES]));
        assert_eq!(map.stats().indirect_bytes, if BYTES > 128 { 2 * BYTES } else { 0 });
        (map.stats().bucket.size, calls)
    }
    assert_eq!(insert_one::<8>(), (144, 0));
    assert_eq!(insert_one::<64>(), (8 + 64 + 512 + 8, 0));
    assert_eq!(insert_one::<128>(), (8 + 64 + 1024 + 8, 0));
    assert_eq!(insert_one::<129>(), (144, 1));
    assert_eq!(insert_one::<4096>(), (144, 1));
}

/// M4, the other way round: too many entries double the array.
#[test]
fn m4_entries_double() {
    let mut map = Map::new();
    (0..2000u32).for_each(|n| assert_eq!(map.insert(n, n), None));
    let stats = map.stats();
    assert_eq!((stats.growth.doublings, stats.growth.same_size), (9, 0));
}

/// M4 again: as many overflow buckets as main ones give an array of the same size.
#[test]
fn m4_same_size_growth_packs_chains() {
    // Chains that were long once, one after the other: few entries, many buckets.
    let mut map = Map::with_capacity_and_hasher(100, exact());
    map.record_events(1000);
    'all: for bucket in 0..16u64 {
        let keys: Vec<u64> = (0..24).map(|n| n << 8 | bucket).collect();
        for &key in &keys {
            map.insert(key, ());
            if map.stats().growth.same_size > 0 {
                break 'all;
            }
        }
        keys[..23].iter().for_each(|key| assert_eq!(map.remove(key), Some(())));
    }
    let started = map.events().find_map(|event| match event {
        Event::ArrayAdded { kind, old_bytes, new_bytes, .. } => {
            Some((*kind, *old_bytes == *new_bytes))
        }
        _ => None,
    });
    assert_eq!(started, Some((GrowthKind::SameSize, true)));
    let before = map.stats();
    (0..40u64).for_each(|n| {
        map.remove(&(n << 50));
    });
    let after = map.stats();
    assert!(before.old.is_some_and(|old| old.same_size) && after.old.is_none());
    assert!(after.overflow_buckets <= 3, "chains are packed: {:?}", after.chains);
    assert_eq!(map.check(), Ok(()));
}

/// M5, refuted: nothing shrinks by itself. `shrink_to_fit` is an extension.
#[test]
fn m5_never_shrinks_by_itself() {
    let mut map: Map<u32, u64> = (0..100_000).map(|n| (n, 0)).collect();
    let full = map.stats().bytes;
    (0..100_000).for_each(|n| {
        map.remove(&n);
    });
    assert_eq!((map.len(), map.stats().bytes), (0, full));
    map.shrink_to_fit();
    assert_eq!(map.stats().bytes, 0);
}

/// M6: chains, not open addressing; the first overflow buckets come with the array,
/// a sixteenth of it, from sixteen buckets on.
#[test]
fn m6_spare_buckets_first_then_heap() {
    for (capacity, buckets, spares) in [(52, 8, 0), (104, 16, 1), (208, 32, 2), (6656, 1024, 64)] {
        let map: Map<u64, u64> = Map::with_capacity(capacity);
        let stats = map.stats();
        assert_eq!((stats.buckets, stats.spares), (buckets, spares));
        assert_eq!(stats.bytes, (buckets + spares) * 144);
    }
    let mut map = Map::with_capacity_and_hasher(104, exact());
    let insert = |map: &mut Map<u64, u64, _>, n: u64| allocations(|| map.insert(n << 8, n)).0;
    let heap: Vec<u64> = (0..33).map(|n| insert(&mut map, n)).collect();
    let stats = map.stats();
    assert_eq!((stats.overflow_spare, stats.overflow_heap), (1, 3));
    assert_eq!(heap.iter().sum::<u64>(), 3, "the spare bucket allocates nothing");
    assert_eq!(stats.chains, [15, 0, 0, 0, 1], "one chain of four overflow buckets");
    assert_eq!(stats.inserts.new_overflow, 4);
}

/// M7, refuted: a chain is evacuated before it is written to, never written twice.
#[test]
fn m7_evacuates_first_then_writes() {
    let mut map = Map::with_hasher(Masked(u64::MAX));
    map.record_events(100_000);
    let mut random = Random(7);
    let keys: Vec<u64> = (0..3000).map(|_| random.next()).collect();
    for &key in &keys {
        map.insert(key, key);
        map.insert(random.next(), 0);
        map.remove(&keys[random.below(3000) as usize]);
        assert_eq!(map.check(), Ok(()), "targets of unevacuated chains are empty");
    }
    // Between the start and the end of a growth, no insert goes to a chain whose
    // old one has not been evacuated before.
    let (mut old_len, mut done, mut written) = (0usize, HashSet::new(), 0);
    let mut buckets = 0usize;
    for event in map.events() {
        match *event {
            Event::ArrayAdded { kind, new_bytes, old_bytes, .. } => {
                let same = new_bytes == old_bytes;
                (old_len, done) = (buckets, HashSet::new());
                buckets = if kind == GrowthKind::First { 1 } else { buckets << u32::from(!same) };
            }
            Event::ChainEvacuated { index, .. } => assert!(done.insert(index), "evacuated twice"),
            Event::GrowthFinished => old_len = 0,
            Event::Inserted { index, .. } if old_len > 0 => {
                assert!(done.contains(&(index & (old_len - 1))), "written before evacuated");
                written += 1;
            }
            _ => {}
        }
    }
    assert!(written > 300, "{written} inserts during growth");
}

/// M8, refuted: the value is dropped at once; trailing empty cells are marked so
/// that searches stop there.
#[test]
fn m8_removal_drops_and_marks_the_rest() {
    let mut map = Map::with_hasher(exact());
    (0..6u64).for_each(|n| {
        map.insert(n, Rc::new(n));
    });
    let watched = Rc::clone(&map[&2]);
    drop(map.remove(&2));
    assert_eq!(Rc::strong_count(&watched), 1, "nothing is kept in the cell");
    let tops = |map: &Map<u64, Rc<u64>, _>| map.tophashes().current[0][0];
    assert_eq!(
        tops(&map)[..6].iter().map(|&top| top < 5).collect::<Vec<_>>(),
        [false, false, true, false, false, false]
    );
    assert_eq!(tops(&map)[2], 1, "emptied, with live cells after it");
    map.remove(&5);
    map.remove(&4);
    assert_eq!(tops(&map)[3..], [5, 0, 0, 0, 0], "the rest is empty");
    map.remove(&3);
    assert_eq!(tops(&map)[2..], [0; 6], "the hole before it has become rest as well");
    assert!(map.tophashes().to_string().contains(" 05 05 . . . . . ."));
}

/// M8 along a chain: what becomes the rest of it is marked in earlier buckets too.
#[test]
fn m8_the_rest_reaches_back_over_buckets() {
    let mut map = Map::with_capacity_and_hasher(100, exact());
    let key = |n: u64| n << 8;
    (0..24).for_each(|n| {
        map.insert(key(n), ());
    });
    (3..23).for_each(|n| {
        map.remove(&key(n));
    });
    let cells = |map: &Map<u64, (), _>| map.tophashes().current[0].concat();
    assert_eq!(cells(&map)[3..23], [1; 20], "a live cell follows in the third bucket");
    map.remove(&key(23));
    assert_eq!(cells(&map)[3..], [0; 21], "nothing follows any more");
    assert_eq!(map.check(), Ok(()));
}

/// M9, refuted: the first empty cell of the chain is taken, whatever its tophash
/// was and whether or not there is an overflow bucket.
#[test]
fn m9_the_first_empty_cell_is_taken() {
    let mut random = Random(9);
    let mut map = Map::with_capacity_and_hasher(13, exact())
        .with_policy(Policy { growth: Growth::Never, ..Policy::default() });
    for _ in 0..3000 {
        let key = random.below(24) << 56 | random.below(2);
        let chain = map.tophashes().current[(key & 1) as usize].concat();
        if random.below(5) < 2 {
            map.remove(&key);
        } else if !map.contains_key(&key) {
            map.insert(key, ());
            let after = map.tophashes().current[(key & 1) as usize].concat();
            let taken = (0..after.len()).find(|&n| chain.get(n) != Some(&after[n]));
            assert_eq!(taken, Some(chain.iter().position(|&top| top < 5).unwrap_or(chain.len())));
        }
    }
    let inserts = map.stats().inserts;
    assert!(inserts.empty_one > 100 && inserts.empty_rest > 100 && inserts.new_overflow > 1);
}

/// M10, refuted: what is removed is unreachable. Live is `len`.
#[test]
fn m10_live_is_len() {
    let token = Rc::new(());
    let mut map = Map::new();
    let mut random = Random(10);
    for _ in 0..5000 {
        let key = random.below(500);
        if random.below(2) == 0 {
            map.insert(key, Rc::clone(&token));
        } else {
            map.remove(&key);
        }
        assert_eq!(Rc::strong_count(&token), map.len() + 1);
    }
    let stats = map.stats();
    assert_eq!(stats.inserts.new_keys() - stats.removed, map.len() as u64);
    let (len, before) = (map.len() as u64, stats.dropped);
    map.clear();
    assert_eq!((map.stats().dropped - before, Rc::strong_count(&token)), (len, 1));
}

/// M11, not Go: deferred deletion leaves a backlog that keeps memory alive.
#[test]
fn m11_deferred_deletion_has_a_backlog() {
    let token = Rc::new(());
    let mut map = Lazy::new(Sweep::Hybrid { interval_ns: 300_000_000_000, backlog_max: 50 });
    (0..100).for_each(|n| {
        map.insert(n, Rc::clone(&token), 0);
    });
    (0..49).for_each(|n| assert!(map.remove(&n, n * 1000)));
    assert_eq!((map.len(), map.stats().backlog, Rc::strong_count(&token)), (51, 49, 101));
    assert!(map.remove(&49, 49_000));
    assert_eq!((map.stats().backlog, Rc::strong_count(&token)), (0, 51));
    assert_eq!(map.stats().latency_max_ns, 49_000);
    assert_eq!(map.tick(300_000_049_000), 0);
}

/// M12, refuted: iterating over values copies nothing, and over entries neither.
#[test]
fn m12_iterating_allocates_and_copies_nothing() {
    let map: Map<u32, [u64; 8]> = (0..1000).map(|n| (n, [u64::from(n); 8])).collect();
    let (by_entry, _, first) = allocations(|| map.iter().map(|(_, value)| value[0]).sum::<u64>());
    let (by_value, _, second) = allocations(|| map.values().map(|value| value[0]).sum::<u64>());
    assert_eq!((by_entry, by_value, first), (0, 0, second));
    let array = map.stats().array_address..map.stats().array_address + map.stats().bytes;
    assert!(map.keys().all(|key| array.contains(&std::ptr::from_ref(key).addr())));
}

/// M13: the load factor is the limit that is set, without jumps at 2.3 or 5.7.
#[test]
fn m13_load_factor_is_what_it_says() {
    let mut bytes = Vec::new();
    for tenths in 5..=65 {
        let load_factor = LoadFactor::new(f64::from(tenths) / 10.0).unwrap();
        let policy = Policy { load_factor, growth: Growth::AtOnce, ..Policy::default() };
        let mut map = Map::new().with_policy(policy);
        for n in 0..2000u32 {
            map.insert(n, n);
            if n % 97 == 0 {
                let stats = map.stats();
                assert!(stats.load <= stats.load_limit.max(8.0), "{tenths}: {}", stats.load);
            }
        }
        bytes.push(map.stats().buckets);
    }
    assert!(bytes.is_sorted_by(|a, b| a >= b), "more load, no more buckets: {bytes:?}");
    assert_eq!((bytes[0], bytes[60]), (4096, 512));
}

/// M14 and M6: churn at constant size reuses cells and allocates next to nothing.
#[test]
fn m14_churn_reuses_cells() {
    let mut map: Map<u64, u64> = (0..1000).map(|n| (n, n)).collect();
    (0..2000).for_each(|n| {
        map.remove(&n);
        map.insert(n + 1000, n);
    });
    let (calls, ..) = allocations(|| {
        for n in 2000..102_000 {
            map.remove(&n);
            map.insert(n + 1000, n);
        }
    });
    assert_eq!(map.len(), 1000);
    assert!(calls < 500, "{calls} allocations in 100,000 pairs");
}

/// M17: sizes with padding, and the layout of buckets.
#[test]
fn m17_padding() {
    #[allow(dead_code, reason = "only the layout matters")]
    struct WithUnit {
        a: u64,
        b: u8,
        nothing: (),
    }
    assert_eq!((size_of::<(u8, u32)>(), size_of::<(u8, u64)>()), (8, 16), "true, true");
    assert_eq!(size_of::<WithUnit>(), 16, "a unit field adds nothing: not 24");
    let layout = BucketLayout::of::<u8, u64>();
    assert_eq!((layout.size, layout.keys_offset, layout.values_offset), (88, 8, 16));
    assert_eq!(BucketLayout::of::<u64, ()>().size, 80, "unit values take no room");
}

/// M18, refuted: a vector of units never allocates.
#[test]
fn m18_units_allocate_nothing() {
    let (calls, _, units) = allocations(|| vec![(); 100].into_iter().collect::<Vec<()>>());
    let (pushed, ..) = allocations(|| {
        let mut units = units;
        (0..1000).for_each(|_| units.push(()));
        units.len()
    });
    assert_eq!((calls, pushed), (0, 0));
}

/// M19, refuted: growth moves the vectors' headers, not their elements.
#[test]
fn m19_growth_moves_headers_only() {
    let mut map: Map<u32, Vec<u64>> = (0..8).map(|n| (n, Vec::with_capacity(16))).collect();
    let elements: Vec<_> = (0..8).map(|n| map[&n].as_ptr()).collect();
    let header = std::ptr::from_ref(&map[&0]);
    (8..5000).for_each(|n| {
        map.insert(n, Vec::new());
    });
    assert!((0..8).all(|n| map[&n].as_ptr() == elements[n as usize]));
    assert_ne!(std::ptr::from_ref(&map[&0]), header);
}

/// M20: while a map grows, the old and the new array are both there; and A6, which
/// tier served each.
#[test]
fn m20_growth_holds_both_arrays() {
    let mut map: Map<u64, u64> = Map::new();
    map.record_events(1 << 20);
    (0..100_000).for_each(|n| {
        map.insert(n, n);
    });
    let growths: Vec<(usize, usize, Tier)> = map
        .events()
        .filter_map(|event| match *event {
            Event::ArrayAdded { old_bytes, new_bytes, tier, .. } => {
                Some((old_bytes, new_bytes, tier))
            }
            _ => None,
        })
        .collect();
    let (old, new, _) = *growths.last().unwrap();
    let stats = map.stats();
    assert!(stats.bytes_peak >= old + new && new > old);
    let of = |wanted| growths.iter().filter(|growth| growth.2 == wanted).count() as u64;
    let tiers = [Tier::ThreadCache, Tier::PageHeap, Tier::Large].map(of);
    assert_eq!(stats.arrays_by_tier, tiers);
    assert!(tiers.iter().all(|&count| count > 0), "all three were used: {tiers:?}");
    assert!(growths.iter().all(|&(_, bytes, tier)| Tier::of(bytes) == tier));
}

/// V1: a boxed value is an allocation per insert, an enum or the value itself none.
#[test]
fn v1_boxes_allocate_enums_do_not() {
    #[allow(dead_code, reason = "stored, not read")]
    enum Value {
        Int(i64),
        Float(f64),
    }
    fn inserts<V>(make: impl Fn(u64) -> V) -> u64 {
        let mut map = Map::with_capacity(10_000);
        (0..10_000).for_each(|n| {
            map.insert(n, make(n));
        });
        let full = map.stats();
        let (calls, ..) = allocations(|| {
            (0..10_000).for_each(|n| {
                map.insert(n, make(n));
            })
        });
        assert_eq!(full.inserts.new_keys(), 10_000);
        calls
    }
    assert_eq!(inserts(|n| Box::new(n) as Box<dyn Any>), 10_000);
    assert_eq!(inserts(|_| Box::new(42_i64) as Box<dyn Any>), 10_000, "even of a small integer");
    assert_eq!(inserts(|n| if n % 2 == 0 { Value::Int(1) } else { Value::Float(0.5) }), 0);
    assert_eq!(inserts(|n| n), 0);
}

/// V2: the step lies at the inline limit of 128 bytes, because of indirect storage.
#[test]
fn v2_the_step_is_at_the_inline_limit() {
    fn per_insert<const BYTES: usize>() -> u64 {
        let mut map = Map::with_capacity(1000);
        (0..1000u64).for_each(|n| {
            map.insert(n, [0u8; BYTES]);
        });
        let before = map.stats().overflow_heap;
        (0..500).for_each(|n| {
            map.remove(&n);
        });
        let (calls, ..) = allocations(|| {
            (0..500).for_each(|n| {
                map.insert(n, [1; BYTES]);
            })
        });
        calls - (map.stats().overflow_heap - before)
    }
    assert_eq!([per_insert::<24>(), per_insert::<128>()], [0, 0]);
    assert_eq!([per_insert::<136>(), per_insert::<2048>()], [500, 500]);
}

/// V5: a value is changed where it lies.
#[test]
fn v5_values_change_in_place() {
    let mut map = Map::from([("a", [0u64; 4])]);
    let place = std::ptr::from_ref(&map["a"]);
    let (calls, ..) = allocations(|| {
        map.get_mut("a").unwrap()[3] = 1;
        map.entry("a").and_modify(|value| value[0] = 2).or_default();
    });
    assert_eq!((calls, map["a"]), (0, [2, 0, 0, 1]));
    assert_eq!(std::ptr::from_ref(&map["a"]), place);
}

/// R1: growth moves entries, so pointers to them would have to be rebound; handles
/// stay good and values stay put.
#[test]
fn r1_handles_need_no_rebinding() {
    let mut plain = Map::new();
    let mut handles = HandleMap::new();
    let held: Vec<_> = (0..10_000u64).map(|n| handles.insert(n, n).0).collect();
    (0..10_000u64).for_each(|n| {
        plain.insert(n, n);
    });
    assert!(plain.stats().growth.entries_moved > 10_000);
    assert!((0..10_000).all(|n| handles.get_handle(held[n as usize]) == Some(&n)));
    assert_eq!(handles.stats().chunks, 10_000usize.div_ceil(256), "honest: chunks are allocations");
}

/// The seed changes when the map becomes empty, unless the hasher is the user's.
#[test]
fn reseeds_when_it_becomes_empty() {
    let mut map = Map::from([("key", ())]);
    let tops: HashSet<u8> = (0..50)
        .map(|_| {
            map.remove("key");
            map.insert("key", ());
            map.tophashes().current[0][0][0]
        })
        .collect();
    assert!(tops.len() > 10 && map.stats().reseeds == 50);
    let mut fixed = Map::with_hasher(exact());
    fixed.insert(1u64, ());
    fixed.remove(&1);
    assert_eq!(fixed.stats().reseeds, 0);
}
