//! The maps built on the map against `std::collections::HashMap` under random
//! operations, with good and bad hashers: `HandleMap`, whose handles and places are
//! followed too, `Lazy` under each sweep, and `Sharded` over one shard and several.
#![cfg(feature = "collections")]

mod map_support;

use std::collections::HashMap;
use std::rc::Rc;

use map_support::{MASKS, Masked, Random};
use spanalloc::map::{Handle, HandleMap, Lazy, Sharded, Sweep};

const STEPS: u64 = 1500;
/// Few keys, which meet again and again, and enough for growth.
const KEYS: [u64; 2] = [12, 400];

/// A map of handles, std's, and what is known of the handles.
struct Handles {
    hasher: Masked,
    ours: HandleMap<u64, u64, Masked>,
    theirs: HashMap<u64, u64>,
    /// By key its handle and the address of its value.
    live: HashMap<u64, (Handle, *const u64)>,
    stale: Vec<Handle>,
}

impl Handles {
    fn insert(&mut self, key: u64, value: u64) {
        let (handle, old) = self.ours.insert(key, value);
        assert_eq!(old, self.theirs.insert(key, value));
        let place = std::ptr::from_ref(self.ours.get_handle(handle).unwrap());
        let known = *self.live.entry(key).or_insert((handle, place));
        assert_eq!(known, (handle, place), "a present key keeps its handle and place");
    }

    fn forget(&mut self, gone: impl Fn(u64) -> bool) {
        self.live.retain(|key, (handle, _)| {
            if gone(*key) {
                self.stale.push(*handle);
            }
            !gone(*key)
        });
    }

    fn step(&mut self, random: &mut Random, keys: u64) {
        let (key, value) = (random.below(keys), random.next());
        match random.below(100) {
            0..=44 => self.insert(key, value),
            45..=69 => {
                assert_eq!(self.ours.remove(&key), self.theirs.remove(&key));
                self.forget(|other| other == key);
            }
            70..=74 => assert_eq!(self.ours.get_mut(&key), self.theirs.get_mut(&key)),
            75..=79 => {
                let ours = self.ours.handle(&key).and_then(|it| self.ours.get_handle_mut(it));
                let theirs = self.theirs.get_mut(&key);
                assert_eq!(ours, theirs);
                ours.into_iter().chain(theirs).for_each(|place| *place = value);
            }
            80..=83 => {
                let divisor = 2 + random.below(6);
                self.ours.retain(|key, value| {
                    *value ^= 1;
                    key % divisor != 0
                });
                self.theirs.retain(|key, value| {
                    *value ^= 1;
                    key % divisor != 0
                });
                self.forget(|key| key % divisor == 0);
            }
            84..=87 => {
                self.ours.iter_mut().for_each(|(key, value)| *value = value.wrapping_add(*key));
                self.theirs.iter_mut().for_each(|(key, value)| *value = value.wrapping_add(*key));
            }
            88..=91 => {
                let more: Vec<(u64, u64)> =
                    (0..random.below(20)).map(|_| (random.below(keys), random.next())).collect();
                self.ours.extend(more.iter().copied());
                self.theirs.extend(more.iter().copied());
                for (key, _) in more {
                    self.insert(key, value);
                }
            }
            92 if random.below(4) == 0 => {
                self.ours.clear();
                self.theirs.clear();
                self.forget(|_| true);
            }
            93 if random.below(4) == 0 => {
                // Another map: its handles and places are others, too.
                let len = self.theirs.len();
                self.ours = HandleMap::with_capacity_and_hasher(len, self.hasher);
                self.ours.extend(self.theirs.iter().map(|(key, value)| (*key, *value)));
                self.stale.clear();
                self.live.clear();
                for key in self.theirs.keys() {
                    let handle = self.ours.handle(key).unwrap();
                    let place = std::ptr::from_ref(self.ours.get(key).unwrap());
                    self.live.insert(*key, (handle, place));
                }
            }
            _ => assert_eq!(self.ours.get(&key), self.theirs.get(&key)),
        }
    }

    fn same(&self) {
        assert_eq!(self.ours.check(), Ok(()));
        assert_eq!(self.ours.len(), self.theirs.len());
        let seen: HashMap<u64, u64> = self.ours.iter().map(|(key, value)| (*key, *value)).collect();
        assert_eq!(seen, self.theirs);
        for (key, (handle, place)) in &self.live {
            let value = self.ours.get_handle(*handle);
            assert_eq!(value, self.theirs.get(key));
            assert_eq!(value.map(std::ptr::from_ref), Some(*place), "a value moved");
            assert_eq!(self.ours.handle(key), Some(*handle));
        }
        assert!(self.stale.iter().all(|&handle| self.ours.get_handle(handle).is_none()));
    }
}

#[test]
fn handle_maps() {
    for mask in MASKS {
        for keys in KEYS {
            let mut random = Random(mask ^ keys);
            let hasher = Masked(mask);
            let mut maps = Handles {
                hasher,
                ours: HandleMap::with_hasher(hasher),
                theirs: HashMap::new(),
                live: HashMap::new(),
                stale: Vec::new(),
            };
            for step in 0..STEPS {
                maps.step(&mut random, keys);
                if step % 16 == 0 {
                    maps.same();
                }
            }
            maps.same();
        }
    }
}

/// What a lazy map has marked is absent, yet alive until a sweep that is due.
#[test]
fn lazy_maps() {
    let sweeps = [
        Sweep::Interval(5000),
        Sweep::Space(20),
        Sweep::Hybrid { interval_ns: 5000, backlog_max: 20 },
    ];
    for (sweep, mask) in sweeps.into_iter().flat_map(|sweep| MASKS.map(|mask| (sweep, mask))) {
        for keys in KEYS {
            let mut random = Random(mask ^ keys);
            let token = Rc::new(());
            let mut ours = Lazy::with_hasher(sweep, Masked(mask));
            let mut theirs = HashMap::new();
            let mut now_ns = 0;
            for step in 0..STEPS {
                now_ns += random.below(100);
                let (key, value) = (random.below(keys), random.next());
                match random.below(100) {
                    0..=44 => {
                        let old = ours.insert(key, (value, Rc::clone(&token)), now_ns);
                        assert_eq!(old.map(|(value, _)| value), theirs.insert(key, value));
                    }
                    45..=79 => {
                        assert_eq!(ours.remove(&key, now_ns), theirs.remove(&key).is_some());
                    }
                    80..=89 => {
                        let before = ours.stats().backlog;
                        let swept = ours.tick(now_ns);
                        assert_eq!(swept, before - ours.stats().backlog);
                    }
                    90 => {
                        let before = ours.stats().backlog;
                        assert_eq!((ours.sweep(now_ns), ours.stats().backlog), (before, 0));
                    }
                    _ => assert_eq!(ours.get(&key).map(|(value, _)| value), theirs.get(&key)),
                }
                if step % 8 == 0 {
                    assert_eq!(ours.check(), Ok(()));
                }
                assert_eq!((ours.len(), ours.is_empty()), (theirs.len(), theirs.is_empty()));
                let backlog = ours.stats().backlog;
                assert_eq!(Rc::strong_count(&token) - 1, theirs.len() + backlog);
                assert!(backlog < 20 || matches!(sweep, Sweep::Interval(_)), "{backlog} marked");
            }
            for key in 0..keys {
                assert_eq!(ours.get(&key).map(|(value, _)| value), theirs.get(&key));
            }
            let stats = ours.stats();
            assert!(stats.swept > 0 && stats.revived > 0, "{sweep:?}: {stats:?}");
        }
    }
}

#[test]
fn sharded_maps() {
    for (shards, mask) in [1, 8].into_iter().flat_map(|shards| MASKS.map(|mask| (shards, mask))) {
        for keys in KEYS {
            let mut random = Random(mask ^ keys);
            let ours = Sharded::with_hasher(shards, Masked(mask));
            let mut theirs: HashMap<u64, u64> = HashMap::new();
            for step in 0..STEPS {
                let (key, value) = (random.below(keys), random.next());
                match random.below(100) {
                    0..=39 => assert_eq!(ours.insert(key, value), theirs.insert(key, value)),
                    40..=64 => assert_eq!(ours.remove(&key), theirs.remove(&key)),
                    65..=79 => {
                        let change = |place: &mut u64| {
                            *place = place.wrapping_add(value);
                            *place
                        };
                        assert_eq!(ours.with(key, change), change(theirs.entry(key).or_default()));
                    }
                    80..=84 => assert_eq!(ours.contains_key(&key), theirs.contains_key(&key)),
                    85 => {
                        let divisor = 2 + random.below(6);
                        ours.for_each_shard(|shard| shard.retain(|key, _| key % divisor != 0));
                        theirs.retain(|key, _| key % divisor != 0);
                    }
                    _ => assert_eq!(ours.get(&key), theirs.get(&key).copied()),
                }
                if step % 16 == 0 {
                    let mut seen = HashMap::new();
                    ours.for_each_shard(|shard| {
                        assert_eq!(shard.check(), Ok(()));
                        seen.extend(shard.iter().map(|(key, value)| (*key, *value)));
                    });
                    assert_eq!((ours.len(), &seen), (theirs.len(), &theirs));
                }
            }
        }
    }
}

/// Threads that each change keys of their own: every shard ends as their map does.
#[test]
fn sharded_maps_among_threads() {
    let ours = Sharded::with_hasher(8, Masked(u64::MAX));
    let work = |thread: u64| {
        let mut random = Random(thread);
        let mut theirs: HashMap<u64, u64> = HashMap::new();
        for _ in 0..STEPS {
            let (key, value) = (random.below(200) * 4 + thread, random.next());
            if random.below(3) == 0 {
                assert_eq!(ours.remove(&key), theirs.remove(&key));
            } else {
                assert_eq!(ours.insert(key, value), theirs.insert(key, value));
            }
        }
        theirs
    };
    let all: HashMap<u64, u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ours.len(), all.len());
    assert!(all.iter().all(|(key, value)| ours.get(key) == Some(*value)));
}

/// A chunk of large values has few of them.
#[test]
fn chunks_are_bounded_in_bytes() {
    let mut map = HandleMap::<u8, [u8; 40_000]>::default();
    let handles: Vec<Handle> = (0..5).map(|key| map.insert(key, [key; 40_000]).0).collect();
    let stats = map.stats();
    assert!(stats.chunk_bytes < 80_000 && stats.chunks >= 5, "{stats:?}");
    for (key, handle) in handles.into_iter().enumerate() {
        assert!(map.get_handle(handle).is_some_and(|value| value[39_999] == key as u8));
    }
    assert_eq!(HandleMap::<u64, u64>::default().stats().chunk_bytes / 256 % 8, 0);
}
