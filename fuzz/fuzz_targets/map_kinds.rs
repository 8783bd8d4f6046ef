//! The maps built on the map against `std::collections::HashMap`: handles that stay what they are,
//! entries that are marked before they go, and shards behind locks.
//!
//! `cargo +nightly fuzz run map_kinds`

#![no_main]

#[path = "../../tests/map_support/mod.rs"]
mod map_support;

use std::collections::HashMap;
use std::rc::Rc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use map_support::Masked;
use spanalloc::map::{Handle, HandleMap, Lazy, Sharded, Sweep};

#[derive(Arbitrary, Debug)]
struct Input {
    /// The bits of hashes that are kept: few, and keys collide.
    mask: u64,
    sweep: u8,
    sweep_at: u8,
    shards: u8,
    calls: Vec<Call>,
}

#[derive(Arbitrary, Debug)]
enum Call {
    Insert(u8, u32),
    InsertMany(u8, u8),
    Remove(u8),
    RemoveMany(u8, u8),
    Get(u8),
    Change(u8, u32),
    Retain(u8),
    Clear,
    /// Time passes, and the lazy map sweeps if it is due.
    Tick(u8),
    Sweep,
}

fuzz_target!(|input: Input| {
    let hasher = Masked(input.mask);
    let (interval_ns, backlog_max) = (u64::from(input.sweep_at), usize::from(input.sweep_at));
    let sweep = match input.sweep % 3 {
        0 => Sweep::Interval(interval_ns),
        1 => Sweep::Space(backlog_max),
        _ => Sweep::Hybrid { interval_ns, backlog_max },
    };
    let mut maps = Maps {
        handles: HandleMap::with_hasher(hasher),
        known: HashMap::new(),
        stale: Vec::new(),
        lazy: Lazy::with_hasher(sweep, hasher),
        token: Rc::new(()),
        now_ns: 0,
        shards: Sharded::with_hasher(1 << (input.shards % 5), hasher),
        theirs: HashMap::new(),
    };
    for call in &input.calls {
        maps.apply(call);
        maps.same();
    }
});

/// The maps, and what must be in each of them.
struct Maps {
    handles: HandleMap<u8, u32, Masked>,
    /// By key its handle and where its value is.
    known: HashMap<u8, (Handle, *const u32)>,
    /// Handles of entries that have gone.
    stale: Vec<Handle>,
    lazy: Lazy<u8, (u32, Rc<()>), Masked>,
    /// As many others as the lazy map has values.
    token: Rc<()>,
    now_ns: u64,
    shards: Sharded<u8, u32, Masked>,
    theirs: HashMap<u8, u32>,
}

impl Maps {
    fn apply(&mut self, call: &Call) {
        match *call {
            Call::Insert(key, value) => self.insert(key, value),
            Call::InsertMany(first, count) => (first..=u8::MAX)
                .take(usize::from(count))
                .for_each(|key| self.insert(key, u32::from(key))),
            Call::Remove(key) => self.remove(key),
            Call::RemoveMany(first, count) => {
                (first..=u8::MAX).take(usize::from(count)).for_each(|key| self.remove(key));
            }
            Call::Get(key) => {
                let value = self.theirs.get(&key);
                assert_eq!(self.handles.get(&key), value);
                assert_eq!(self.lazy.get(&key).map(|(value, _)| value), value);
                assert_eq!(self.shards.get(&key).as_ref(), value);
                assert_eq!(self.shards.contains_key(&key), value.is_some());
            }
            Call::Change(key, value) => {
                let there = self.theirs.contains_key(&key);
                let now = *self.theirs.entry(key).and_modify(|it| *it ^= value).or_default();
                self.shards.with(key, |it| *it ^= if there { value } else { 0 });
                if let Some(it) = self.handles.get_mut(&key) {
                    *it ^= value;
                    assert_eq!(*it, now);
                } else {
                    self.insert_handle(key, now, None);
                }
                let token = Rc::clone(&self.token);
                assert_eq!(self.lazy.insert(key, (now, token), self.now_ns).is_some(), there);
            }
            Call::Retain(divisor) => {
                let keep = |key: &u8| !key.is_multiple_of(divisor.max(1));
                let gone: Vec<u8> = self.theirs.keys().copied().filter(|key| !keep(key)).collect();
                self.handles.retain(|key, _| keep(key));
                gone.iter().for_each(|key| self.forget_handle(*key));
                self.shards.for_each_shard(|shard| shard.retain(|key, _| keep(key)));
                for key in gone {
                    assert!(self.lazy.remove(&key, self.now_ns));
                    self.theirs.remove(&key);
                }
            }
            Call::Clear => {
                let keys: Vec<u8> = self.theirs.keys().copied().collect();
                self.handles.clear();
                keys.iter().for_each(|key| self.forget_handle(*key));
                self.shards.for_each_shard(|shard| shard.clear());
                keys.iter().for_each(|key| assert!(self.lazy.remove(key, self.now_ns)));
                self.theirs.clear();
            }
            Call::Tick(passed_ns) => {
                self.now_ns += u64::from(passed_ns);
                let before = self.lazy.stats().backlog;
                let swept = self.lazy.tick(self.now_ns);
                assert_eq!(swept, before - self.lazy.stats().backlog);
            }
            Call::Sweep => {
                let before = self.lazy.stats().backlog;
                assert_eq!((self.lazy.sweep(self.now_ns), self.lazy.stats().backlog), (before, 0));
            }
        }
    }

    fn insert(&mut self, key: u8, value: u32) {
        let old = self.theirs.insert(key, value);
        self.insert_handle(key, value, old);
        let before = self.lazy.insert(key, (value, Rc::clone(&self.token)), self.now_ns);
        assert_eq!(before.map(|(value, _)| value), old);
        assert_eq!(self.shards.insert(key, value), old);
    }

    /// Inserts into the map of handles, where the key's value is `before`.
    fn insert_handle(&mut self, key: u8, value: u32, before: Option<u32>) {
        let (handle, old) = self.handles.insert(key, value);
        assert_eq!(old, before);
        let place = self.handles.get_handle(handle).map(std::ptr::from_ref).expect("just inserted");
        let known = *self.known.entry(key).or_insert((handle, place));
        assert_eq!(known, (handle, place), "a present key keeps its handle and place");
    }

    fn remove(&mut self, key: u8) {
        let old = self.theirs.remove(&key);
        assert_eq!(self.handles.remove(&key), old);
        self.forget_handle(key);
        assert_eq!(self.lazy.remove(&key, self.now_ns), old.is_some());
        assert_eq!(self.shards.remove(&key), old);
    }

    fn forget_handle(&mut self, key: u8) {
        self.stale.extend(self.known.remove(&key).map(|(handle, _)| handle));
    }

    fn same(&self) {
        assert_eq!((self.handles.check(), self.lazy.check()), (Ok(()), Ok(())));
        self.shards.for_each_shard(|shard| assert_eq!(shard.check(), Ok(())));
        let len = self.theirs.len();
        assert_eq!((self.handles.len(), self.lazy.len(), self.shards.len()), (len, len, len));
        let seen: HashMap<u8, u32> =
            self.handles.iter().map(|(key, value)| (*key, *value)).collect();
        assert_eq!(seen, self.theirs);
        for (key, value) in &self.theirs {
            let (handle, place) = self.known[key];
            let at = self.handles.get_handle(handle);
            assert_eq!((at, self.handles.handle(key)), (Some(value), Some(handle)));
            assert_eq!(at.map(std::ptr::from_ref), Some(place), "a value moved");
            assert_eq!(self.lazy.get(key).map(|(value, _)| value), Some(value));
            assert_eq!(self.shards.get(key).as_ref(), Some(value));
        }
        assert!(self.stale.iter().all(|&handle| self.handles.get_handle(handle).is_none()));
        assert_eq!(Rc::strong_count(&self.token) - 1, len + self.lazy.stats().backlog);
    }
}
