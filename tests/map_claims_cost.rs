//! What is said about Go's map's costs, row by row, as assertions about ours:
//! claims that hold are shown to hold, claims that do not are refuted.
#![cfg(feature = "collections")]

mod map_support;

use std::any::Any;
use std::rc::Rc;

use map_support::Random;
use map_support::counting::{Counting, allocations};
use spanalloc::map::{
    BucketLayout, Event, Growth, HandleMap, Lazy, LoadFactor, Map, Policy, Sweep,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
    assert_eq!((layout.size, layout.entries, layout.values_offset), (88, 72, 8));
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

/// M20: while a map grows, the old and the new array are both there.
#[test]
fn m20_growth_holds_both_arrays() {
    let mut map: Map<u64, u64> = Map::new();
    map.record_events(1 << 20);
    (0..100_000).for_each(|n| {
        map.insert(n, n);
    });
    let bytes = |event: &Event| match *event {
        Event::ArrayAdded { old_bytes, new_bytes, .. } => Some((old_bytes, new_bytes)),
        _ => None,
    };
    let (old, new) = map.events().filter_map(bytes).last().unwrap();
    assert!(map.stats().bytes_peak >= old + new && new > old);
    let peak = map.stats().bytes_peak;
    let before = map.stats().bytes;
    map.reserve(1_000_000);
    let after = map.stats().bytes;
    assert!(after > peak - before);
    assert_eq!(map.stats().bytes_peak, before + after, "a resize, too, has both");
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
        let before = map.stats().overflow_blocks;
        (0..500).for_each(|n| {
            map.remove(&n);
        });
        let (calls, ..) = allocations(|| {
            (0..500).for_each(|n| {
                map.insert(n, [1; BYTES]);
            })
        });
        calls - (map.stats().overflow_blocks - before)
    }
    assert_eq!([per_insert::<24>(), per_insert::<128>()], [0, 0]);
    assert_eq!([per_insert::<136>(), per_insert::<2048>()], [500, 500]);
}

/// V3: what a parser allocates is what its result owns. The count is an assertion, as
/// Go's escape analysis is a tool: one buffer for each text and one for the list, or
/// none where the result borrows from the line.
#[test]
fn v3_parsing_allocates_what_it_owns() {
    #[derive(Debug, PartialEq)]
    struct Owned {
        verb: String,
        fields: Vec<String>,
    }

    #[derive(Debug, PartialEq)]
    struct Borrowed<'l> {
        verb: &'l str,
        fields: [Option<&'l str>; 4],
    }

    fn owned(line: &str) -> Option<Owned> {
        let mut words = line.split(' ');
        let verb = words.next()?.to_owned();
        let mut fields = Vec::with_capacity(4);
        fields.extend(words.map(str::to_owned));
        Some(Owned { verb, fields })
    }

    fn borrowed(line: &str) -> Option<Borrowed<'_>> {
        let mut words = line.split(' ');
        let verb = words.next()?;
        Some(Borrowed { verb, fields: std::array::from_fn(|_| words.next()) })
    }

    let line = "put key value";
    let (calls, bytes, parsed) = allocations(|| owned(line));
    let texts = ["put", "key", "value"].map(str::len).iter().sum::<usize>();
    assert_eq!((calls, bytes as usize), (4, texts + 4 * size_of::<String>()));
    assert_eq!(parsed.map(|parsed| parsed.fields), Some(vec!["key".into(), "value".into()]));
    let (calls, bytes, parsed) = allocations(|| borrowed(line));
    assert_eq!((calls, bytes), (0, 0));
    assert_eq!(parsed.and_then(|parsed| parsed.fields[1]), Some("value"));
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
