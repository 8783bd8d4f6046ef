//! The map against `std::collections::HashMap` under random operations: every
//! policy, good and bad hashers, growth in every state, entries of every kind.
#![cfg(feature = "collections")]

mod map_support;

use std::collections::HashMap;
use std::collections::hash_map;
use std::fmt::Debug;
use std::hash::Hash;

use map_support::{MASKS, Masked, Random, assert_same};
use spanalloc::map::{Entry, Growth, LoadFactor, Map, Policy};

/// One random operation on both maps; both must answer alike.
fn step<K, V>(
    random: &mut Random,
    keys: u64,
    make: &impl Fn(u64) -> (K, V),
    ours: &mut Map<K, V, Masked>,
    theirs: &mut HashMap<K, V>,
) where
    K: Eq + Hash + Debug + Clone,
    V: PartialEq + Debug + Clone,
{
    let (key, value) = make(random.below(keys));
    match random.below(100) {
        0..=44 => assert_eq!(ours.insert(key.clone(), value.clone()), theirs.insert(key, value)),
        45..=64 => assert_eq!(ours.remove_entry(&key), theirs.remove_entry(&key)),
        65..=74 => assert_eq!(ours.get(&key), theirs.get(&key)),
        75..=77 => assert_eq!(ours.get_mut(&key), theirs.get_mut(&key)),
        78..=79 => {
            let others = [(); 2].map(|()| make(random.below(keys)).0);
            let all = [&key, &others[0], &others[1]];
            let present = |at: usize| theirs.contains_key(all[at]);
            let twice =
                [(0, 1), (0, 2), (1, 2)].iter().any(|&(a, b)| all[a] == all[b] && present(a));
            if !twice {
                assert_eq!(ours.get_disjoint_mut(all), theirs.get_disjoint_mut(all));
            }
        }
        80..=84 => assert_eq!(
            ours.entry(key.clone()).or_insert_with(|| value.clone()),
            theirs.entry(key).or_insert(value)
        ),
        85..=89 => match (ours.entry(key.clone()), theirs.entry(key)) {
            (Entry::Occupied(our), hash_map::Entry::Occupied(their)) => {
                assert_eq!(our.remove_entry(), their.remove_entry());
            }
            (Entry::Vacant(our), hash_map::Entry::Vacant(their)) => {
                assert_eq!(our.key(), their.key());
                assert_eq!(our.insert(value.clone()), their.insert(value));
            }
            _ => panic!("one has the key, the other does not"),
        },
        90..=92 => {
            let divisor = 2 + random.below(6);
            let mut turn = Random(random.next());
            let doomed: Vec<K> =
                theirs.keys().filter(|_| turn.below(divisor) == 0).cloned().collect();
            if random.below(2) == 0 {
                ours.retain(|key, _| !doomed.contains(key));
                theirs.retain(|key, _| !doomed.contains(key));
            } else {
                let mut extracted = ours.extract_if(|key, _| doomed.contains(key));
                let some = random.below(2 * doomed.len() as u64 + 1) as usize;
                for (key, value) in extracted.by_ref().take(some) {
                    assert_eq!(theirs.remove(&key), Some(value));
                }
                drop(extracted);
                if some >= doomed.len() {
                    assert!(!theirs.keys().any(|key| doomed.contains(key)), "not all were taken");
                }
            }
        }
        93 => ours.shrink_to_fit(),
        94 => ours.reserve(random.below(2 * keys) as usize),
        95 => *ours = ours.clone(),
        96 if random.below(4) == 0 => {
            ours.clear();
            theirs.clear();
        }
        97 if random.below(4) == 0 => {
            let mut drained: HashMap<K, V> = ours.drain().collect();
            assert_eq!(drained, *theirs);
            theirs.clear();
            ours.extend(drained.drain().take(keys as usize / 2).inspect(|(key, value)| {
                theirs.insert(key.clone(), value.clone());
            }));
        }
        _ => {
            for value in ours.values_mut() {
                let same = value.clone();
                *value = same;
            }
        }
    }
}

fn policies() -> Vec<Policy> {
    let mut policies = Vec::new();
    for growth in [Growth::Incremental, Growth::AtOnce, Growth::Never] {
        for load in [6.5, 0.5, 20.0] {
            let load_factor = LoadFactor::new(load).unwrap();
            policies.push(Policy { load_factor, growth, same_size: load == 6.5 });
        }
    }
    policies
}

fn compare<K, V>(name: &str, rounds: u64, make: impl Fn(u64) -> (K, V))
where
    K: Eq + Hash + Debug + Clone,
    V: PartialEq + Debug + Clone,
{
    for (number, policy) in policies().into_iter().enumerate() {
        for mask in MASKS {
            for keys in [12, 300] {
                let seed = number as u64 ^ mask ^ keys;
                let mut random = Random(seed);
                let mut ours = Map::with_hasher(Masked(mask)).with_policy(policy);
                let mut theirs = HashMap::new();
                for round in 0..rounds {
                    step(&mut random, keys, &make, &mut ours, &mut theirs);
                    if round % 16 == 0 || ours.stats().old.is_some() && round % 4 == 0 {
                        let context = format!("{name}, {policy:?}, mask {mask:x}, round {round}");
                        assert_same(&ours, &theirs, &context);
                    }
                }
            }
        }
    }
}

#[test]
fn integers() {
    compare("integers", 600, |n| (n, !n));
}

#[test]
fn strings() {
    compare("strings", 250, |n| (format!("key {n}"), vec![n; (n % 5) as usize]));
}

#[test]
fn zero_sized_keys_and_values() {
    compare("unit value", 250, |n| (n as u8, ()));
    compare("unit key", 250, |n| ((), n));
    compare("both", 100, |_| ((), ()));
}

#[test]
fn over_aligned_entries() {
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    #[repr(align(64))]
    struct Wide(u8);
    fn aligned<T>(place: &T) -> bool {
        (std::ptr::from_ref(place).addr()).is_multiple_of(align_of::<T>())
    }
    compare("wide value", 200, |n| (n as u16, Wide(n as u8)));
    compare("wide key", 200, |n| (Wide(n as u8), n as u8));
    let map: Map<u16, Wide> = (0..1000).map(|n| (n, Wide(n as u8))).collect();
    assert!(map.values().all(aligned));
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    #[repr(align(256))]
    struct Wider([u8; 256]);
    let map: Map<u16, Wider> = (0..100).map(|n| (n, Wider([n as u8; 256]))).collect();
    assert!(map.stats().bucket.value_indirect && map.values().all(aligned));
}

#[test]
fn entries_larger_than_a_cell() {
    compare("large value", 200, |n| (n, [n; 17]));
    compare("large key", 200, |n| ([n; 17], n as u8));
    compare("both large, owning", 150, |n| {
        ([n; 20], [const { String::new() }; 6].map(|_| n.to_string()))
    });
}

/// Growth is stopped at every chain in turn, and each kind of call is made there.
#[test]
fn every_call_at_every_stage_of_a_growth() {
    for mask in [u64::MAX, 0xff00_0000_0000_00ff] {
        for stage in 0..16 {
            let mut base = Map::with_hasher(Masked(mask));
            let mut reference = HashMap::new();
            let mut random = Random(stage);
            while base
                .stats()
                .old
                .is_none_or(|old| old.buckets < 16 || old.evacuated < stage as usize)
                && base.len() < 400
            {
                let key = random.next();
                base.insert(key, key);
                reference.insert(key, key);
            }
            assert_same(&base, &reference, "base");
            assert_eq!(base.clone(), base);
            assert_same(&base.clone(), &reference, "clone");
            let taken: HashMap<u64, u64> = base.clone().into_iter().collect();
            assert_eq!(taken, reference);
            let mut other = base.clone();
            other.iter_mut().for_each(|(_, value)| *value ^= 1);
            assert!(other.iter().all(|(key, value)| *value == key ^ 1));
            let mut other = base.clone();
            other.retain(|key, _| key % 3 == 0);
            let kept = reference.iter().filter(|(key, _)| *key % 3 == 0);
            assert_same(&other, &kept.map(|(k, v)| (*k, *v)).collect(), "retain");
            let mut other = base.clone();
            let taken: HashMap<u64, u64> = other.extract_if(|key, _| key % 3 == 0).collect();
            assert!(taken.iter().all(|(key, value)| key % 3 == 0 && reference[key] == *value));
            let kept = reference.iter().filter(|(key, _)| *key % 3 != 0);
            assert_same(&other, &kept.map(|(k, v)| (*k, *v)).collect(), "extract_if");
            assert_eq!(taken.len() + other.len(), reference.len());
            let mut other = base.clone();
            other.shrink_to_fit();
            assert!(other.stats().old.is_none());
            assert_same(&other, &reference, "shrink");
            let mut other = base.clone();
            other.clear();
            assert_same(&other, &HashMap::new(), "clear");
            let mut other = base.clone();
            assert_eq!(other.drain().len(), reference.len());
            assert_same(&other, &HashMap::new(), "drain");
            for key in reference.keys() {
                assert_eq!(base.remove(key), Some(*key));
            }
            assert_same(&base, &HashMap::new(), "remove");
        }
    }
}

#[test]
fn iterators_know_their_length_and_can_be_printed() {
    let mut map: Map<u32, String> = (0..100).map(|n| (n, n.to_string())).collect();
    let mut iter = map.iter();
    for left in (0..100).rev() {
        assert!(iter.next().is_some());
        assert_eq!(iter.len(), left);
    }
    assert!(iter.next().is_none() && iter.next().is_none());
    assert_eq!(map.keys().len(), 100);
    let sum: u32 = map.values().map(|value| value.parse::<u32>().unwrap()).sum();
    assert_eq!(sum, 4950);
    map.values_mut().for_each(|value| value.push('!'));
    let one: Map<u8, char> = Map::from([(1, 'a')]);
    assert_eq!(format!("{one:?}"), "{1: 'a'}");
    assert_eq!(format!("{:?} {:?}", one.iter(), one.keys()), "[(1, 'a')] [1]");
    assert_eq!(format!("{:?}", one.clone().into_values()), "['a']");
    assert_eq!(one.into_keys().collect::<Vec<_>>(), [1]);
    let mut rest = map.into_iter();
    assert!(rest.by_ref().take(40).all(|(_, value)| value.ends_with('!')));
    assert_eq!(rest.len(), 60);
}

#[test]
fn orders_differ_from_walk_to_walk() {
    let map: Map<u32, ()> = (0..50).map(|n| (n, ())).collect();
    let orders: std::collections::HashSet<Vec<u32>> =
        (0..50).map(|_| map.keys().copied().collect()).collect();
    assert!(orders.len() > 10, "{} orders in 50 walks", orders.len());
}

#[test]
fn maps_and_iterators_cross_threads_as_their_entries_do() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Map<String, Vec<u8>>>();
    sync::<Map<String, Vec<u8>>>();
    send::<spanalloc::map::Iter<'_, String, u8>>();
    send::<spanalloc::map::IntoIter<String, std::cell::Cell<u8>>>();
    send::<spanalloc::map::Drain<'_, String, u8>>();
    send::<spanalloc::map::HandleIterMut<'_, String, std::cell::Cell<u8>>>();
    sync::<spanalloc::map::HandleIterMut<'_, String, u8>>();
    let map: Map<u32, u32> = (0..1000).map(|n| (n, n)).collect();
    let sums = std::thread::scope(|scope| {
        let sum = || map.values().sum::<u32>();
        let (a, b) = (scope.spawn(sum), scope.spawn(sum));
        (a.join().unwrap(), b.join().unwrap())
    });
    assert_eq!(sums, (499_500, 499_500));
}

#[test]
fn lookups_take_borrowed_keys() {
    let mut map = Map::new();
    map.insert("one".to_string(), 1);
    map.extend([("two".to_string(), 2)]);
    assert_eq!(map.get("one"), Some(&1));
    assert_eq!(map.get_key_value("two"), Some((&"two".to_string(), &2)));
    assert!(map.contains_key("two") && !map.contains_key("three"));
    assert_eq!(map["two"], 2);
    assert_eq!(map.remove("two"), Some(2));
    let copied: Map<&str, i32> = [("a", 1), ("b", 2)].into();
    let mut more: Map<&str, i32> = Map::new();
    more.extend(&copied);
    assert_eq!(more, copied);
}

#[test]
#[should_panic(expected = "two of the keys of get_disjoint_mut are equal")]
fn the_value_of_a_key_is_lent_once() {
    let mut map = Map::from([(1, 1), (2, 2)]);
    map.get_disjoint_mut([&1, &2, &3, &3, &1]);
}
