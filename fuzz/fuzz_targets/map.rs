//! The map against `std::collections::HashMap`: any sequence of calls, any policy,
//! any mask of hash bits; invariants are checked after every call.
//!
//! `cargo +nightly fuzz run map`

#![no_main]

#[path = "../../tests/map_support/mod.rs"]
mod map_support;

use std::collections::HashMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use map_support::Masked;
use spanalloc::map::{Entry, Growth, LoadFactor, Map, Policy};

#[derive(Arbitrary, Debug)]
struct Input {
    /// The bits of hashes that are kept: few, and keys collide.
    mask: u64,
    growth: u8,
    load: u8,
    same_size: bool,
    capacity: u8,
    calls: Vec<Call>,
}

#[derive(Arbitrary, Debug)]
enum Call {
    Insert(u8, u32),
    InsertMany(u8, u8),
    Remove(u8),
    RemoveMany(u8, u8),
    Get(u8),
    Entry(u8, u32),
    Retain(u8),
    Extract(u8, u8),
    Iterate,
    Cursor,
    Clone,
    Reserve(u8),
    Shrink,
    Drain(u8),
    Clear,
}

fuzz_target!(|input: Input| {
    let policy = Policy {
        load_factor: LoadFactor::new(0.5 + f64::from(input.load) / 16.0).expect("in range"),
        growth: [Growth::Incremental, Growth::AtOnce, Growth::Never][usize::from(input.growth % 3)],
        same_size: input.same_size,
    };
    let mut ours = Map::with_capacity_and_hasher(usize::from(input.capacity), Masked(input.mask));
    ours.set_policy(policy);
    let mut theirs = HashMap::new();
    for call in input.calls {
        apply(call, &mut ours, &mut theirs);
        assert_eq!(ours.check(), Ok(()));
        assert_eq!(ours.len(), theirs.len());
    }
    assert!(theirs.iter().all(|(key, value)| ours.get(key) == Some(value)));
    assert_eq!(ours.into_iter().collect::<HashMap<_, _>>(), theirs);
});

type Ours = Map<u8, Box<u32>, Masked>;

fn apply(call: Call, ours: &mut Ours, theirs: &mut HashMap<u8, Box<u32>>) {
    let boxed = |value: u32| Box::new(value);
    match call {
        Call::Insert(key, value) => {
            assert_eq!(ours.insert(key, boxed(value)), theirs.insert(key, boxed(value)));
        }
        Call::InsertMany(first, count) => {
            for key in (first..=u8::MAX).take(usize::from(count)) {
                let value = u32::from(key);
                assert_eq!(ours.insert(key, boxed(value)), theirs.insert(key, boxed(value)));
            }
        }
        Call::Remove(key) => assert_eq!(ours.remove_entry(&key), theirs.remove_entry(&key)),
        Call::RemoveMany(first, count) => {
            for key in (first..=u8::MAX).take(usize::from(count)) {
                assert_eq!(ours.remove(&key), theirs.remove(&key));
            }
        }
        Call::Get(key) => assert_eq!(ours.get_key_value(&key), theirs.get_key_value(&key)),
        Call::Entry(key, value) => match ours.entry(key) {
            Entry::Occupied(entry) => assert_eq!(Some(entry.remove()), theirs.remove(&key)),
            Entry::Vacant(entry) => {
                entry.insert(boxed(value));
                assert_eq!(theirs.insert(key, boxed(value)), None);
            }
        },
        Call::Retain(divisor) => {
            let divisor = divisor.max(1);
            ours.retain(|key, _| key % divisor != 0);
            theirs.retain(|key, _| key % divisor != 0);
        }
        Call::Extract(divisor, count) => {
            let divisor = divisor.max(1);
            let mut extracted = ours.extract_if(|key, _| key % divisor == 0);
            for (key, value) in extracted.by_ref().take(usize::from(count)) {
                assert_eq!((key % divisor, theirs.remove(&key)), (0, Some(value)));
            }
            drop(extracted);
            if usize::from(count) > usize::from(u8::MAX / divisor) {
                assert!(theirs.keys().all(|key| key % divisor != 0), "not all were taken");
            }
        }
        Call::Iterate => {
            assert!(ours.iter().all(|(key, value)| theirs.get(key) == Some(value)));
            assert_eq!(ours.iter().count(), theirs.len());
        }
        Call::Cursor => {
            let mut cursor = ours.cursor();
            let mut seen = HashMap::new();
            while let Some((&key, _)) = cursor.next(ours) {
                let value = ours.remove(&key).expect("the cursor yields what is there");
                assert!(seen.insert(key, value.clone()).is_none());
                ours.insert(key, value);
            }
            assert!(theirs.keys().all(|key| seen.contains_key(key)));
        }
        Call::Clone => *ours = ours.clone(),
        Call::Reserve(additional) => ours.reserve(usize::from(additional)),
        Call::Shrink => ours.shrink_to_fit(),
        Call::Drain(count) => {
            let mut drain = ours.drain();
            for (key, value) in drain.by_ref().take(usize::from(count)) {
                assert_eq!(theirs.remove(&key), Some(value));
            }
            drop(drain);
            theirs.clear();
        }
        Call::Clear => {
            ours.clear();
            theirs.clear();
        }
    }
}
