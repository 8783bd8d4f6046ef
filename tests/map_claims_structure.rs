//! What is said about Go's map's structure, row by row, as assertions about ours:
//! claims that hold are shown to hold, claims that do not are refuted.
#![cfg(feature = "collections")]

mod map_support;

use std::collections::HashSet;
use std::rc::Rc;

use map_support::counting::{Counting, allocations};
use map_support::{Masked, Random, exact};
use spanalloc::map::{Entry, Event, Growth, GrowthKind, LoadFactor, Map, Policy};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
    let mut map = Map::with_capacity_and_hasher(200, exact());
    map.record_events(2000);
    'all: for bucket in 0..32u64 {
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

/// M4 again: entries that come one by one tidy nothing, however many they are and
/// however long the chains may get. In Go the limit is the same for all arrays from
/// 2^15 buckets on, against a count that is an estimate there.
#[test]
fn m4_inserts_alone_never_tidy() {
    let policy = |per_bucket, growth| Policy {
        load_factor: LoadFactor::new(per_bucket).unwrap(),
        growth,
        ..Policy::default()
    };
    for (policy, entries) in [
        (Policy::default(), 2_000_000),
        (policy(16.0, Growth::Incremental), 50_000),
        (policy(64.0, Growth::Incremental), 50_000),
        (policy(64.0, Growth::AtOnce), 20_000),
    ] {
        let mut map = Map::with_hasher(Masked(u64::MAX)).with_policy(policy);
        for key in 0..entries {
            map.insert(key as u64, ());
        }
        let growth = map.stats().growth;
        assert_eq!(growth.same_size, 0, "{policy:?}, {entries} entries");
        assert!(growth.entries_moved < 2 * entries as u64, "{growth:?}");
    }
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

    // In larger arrays a heap block is for a 64th as many as there are buckets.
    let mut map = Map::with_capacity_and_hasher(6656, exact());
    let inserts = (0..8 * (1 + 64 + 17u64)).map(|n| allocations(|| map.insert(n << 10, n)).0);
    let blocks: u64 = inserts.sum();
    let stats = map.stats();
    assert_eq!((stats.overflow_spare, stats.overflow_heap, stats.overflow_blocks), (64, 17, 2));
    assert_eq!((blocks, stats.bytes), (2, (1024 + 64 + 2 * 16) * 144 + 2 * 8));
    assert_eq!(map.check(), Ok(()));
    map.clear();
    assert_eq!((map.stats().bytes, map.stats().overflow_buckets), ((1024 + 64) * 144, 0));
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
    assert!(written > 30, "{written} inserts during growth");
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

/// What cannot be had changes nothing; what can is what `reserve` makes.
#[test]
fn room_that_cannot_be_had_is_an_error() {
    let mut map: Map<u64, u64> = (0..100).map(|n| (n, n)).collect();
    let before = map.stats();
    for additional in [usize::MAX, 1 << 60, 1 << 50] {
        let error = map.try_reserve(additional).unwrap_err().to_string();
        assert!(error.contains(&additional.saturating_add(100).to_string()), "{error}");
    }
    assert_eq!(map.try_reserve(1), Ok(()));
    assert_eq!(map.stats(), before);
    let mut other = map.clone();
    map.reserve(5000);
    assert_eq!(other.try_reserve(5000), Ok(()));
    let same = |map: &Map<u64, u64>| (map.stats().bytes, map.stats().growth, map.capacity());
    assert_eq!(same(&map), same(&other));
    assert_eq!((other.check(), other.get(&99)), (Ok(()), Some(&99)));
}

/// Shrinking an empty map to nothing makes no array.
#[test]
fn shrinking_to_nothing_counts_no_array() {
    let mut map: Map<u64, u64> = Map::new();
    (0..3).for_each(|_| map.shrink_to_fit());
    assert_eq!((map.stats().arrays_by_tier, map.generation()), ([0; 3], 0));
    map = (0..100).map(|n| (n, n)).collect();
    map.clear();
    let before = (map.stats().arrays_by_tier, map.generation());
    map.shrink_to_fit();
    assert_eq!((map.stats().arrays_by_tier, map.generation()), before);
    assert_eq!((map.stats().bytes, map.check()), (0, Ok(())));
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
    fixed.insert(1u64, ());
    fixed.drain();
    fixed.clear();
    assert_eq!(fixed.stats().reseeds, 0);
}

/// In whatever way the map loses its last entry, it draws one seed; a map that had none
/// draws none.
#[test]
fn reseeds_once_however_it_becomes_empty() {
    type Emptied = fn(&mut Map<u32, u32>);
    let ways: [(&str, Emptied); 7] = [
        ("remove", |map| (0..9).for_each(|key| _ = map.remove(&key))),
        ("an entry's remove", |map| {
            for key in 0..9 {
                if let Entry::Occupied(entry) = map.entry(key) {
                    entry.remove();
                }
            }
        }),
        ("clear", Map::clear),
        ("retain", |map| map.retain(|_, _| false)),
        ("extract_if", |map| map.extract_if(|_, _| true).for_each(drop)),
        ("drain", |map| drop(map.drain())),
        ("a drain that is leaked", |map| std::mem::forget(map.drain())),
    ];
    for (way, empty) in ways {
        let mut map = Map::new();
        for reseeds in 0..3 {
            map.extend((0..9).map(|n| (n, n)));
            map.retain(|_, _| true);
            map.extract_if(|key, _| *key == 3).for_each(drop);
            drop(map.extract_if(|_, _| true));
            assert_eq!((map.len(), map.stats().reseeds), (8, reseeds), "{way}");
            for _ in 0..2 {
                empty(&mut map);
                assert_eq!((map.len(), map.stats().reseeds), (0, reseeds + 1), "{way}");
            }
            map.shrink_to_fit();
        }
    }
}

/// Whatever ends a growth, the events say so.
#[test]
fn every_growth_that_begins_is_finished() {
    let ends: [fn(&mut Map<u64, u64>); 4] = [
        Map::shrink_to_fit,
        Map::clear,
        |map| drop(map.drain()),
        |map| {
            map.retain(|_, _| false);
            map.shrink_to_fit();
        },
    ];
    for end in ends {
        let mut map = Map::new();
        map.record_events(100_000);
        let growths = |map: &Map<u64, u64>| {
            let count = |wanted: fn(&Event) -> bool| map.events().filter(|&e| wanted(e)).count();
            let begun = count(|event| match event {
                Event::ArrayAdded { kind, .. } => {
                    matches!(kind, GrowthKind::Double | GrowthKind::SameSize)
                }
                _ => false,
            });
            (begun, count(|event| matches!(event, Event::GrowthFinished)))
        };
        for key in 0.. {
            map.insert(key, key);
            let (begun, finished) = growths(&map);
            if begun > 5 && begun > finished {
                break;
            }
        }
        end(&mut map);
        let (begun, finished) = growths(&map);
        assert_eq!(begun, finished);
        assert_eq!(map.check(), Ok(()));
    }
}

#[test]
fn no_capacity_to_keep_is_too_large() {
    let policy = Policy { load_factor: LoadFactor::new(0.5).unwrap(), ..Policy::default() };
    let mut map: Map<u8, u8> = Map::new().with_policy(policy);
    map.insert(1, 2);
    map.shrink_to(usize::MAX);
    assert_eq!(map.get(&1), Some(&2));
}
