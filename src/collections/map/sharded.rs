//! A map in shards, each behind a lock of its own.
//!
//! The number of shards is a power of two; a mask of hash bits picks one. The
//! classic `key & (n − 1)` would do for integers, but then, with a hasher that
//! keeps low bits, all entries of a shard would share the low bits by which a map
//! picks its buckets. Bits are taken that the map uses for neither buckets nor
//! tophashes, and of the hash times an odd number (Knuth's multiplicative hashing), for such a
//! hasher leaves them 0: so any key type is spread evenly.
//!
//! # Invariants
//!
//! 1. An entry lies in the shard its hash picks. All shards use clones of one
//!    hasher, and none ever draws another.
//!
//! # Locking
//!
//! One shard is locked at a time, never two. A panic under a lock leaves the map in
//! it valid, so poisoning is ignored. Counters are written under the lock they
//! count.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, TryLockError};

use super::api::Map;
use crate::base::random::GOLDEN;

/// The lowest hash bit that picks the shard: above the bits of any bucket index
/// that fits in memory, below the tophash.
const SHARD_SHIFT: u32 = 40;

/// A concurrent map: `n` maps behind a lock each.
///
/// Code of the caller's runs under a shard's lock: closures; `Hash` and `Eq` of the keys, and the
/// hasher; `Clone` of a value that is got, and `Default` of one that [`with`](Self::with) makes;
/// `Drop` of a key that is removed or was there already, and of the keys and values that
/// [`clear`](Self::clear) and [`retain`](Self::retain) drop. It must not use the same map: it would
/// wait for itself. `Debug` waits for nobody: a shard in use is shown as `<locked>`.
///
/// ```
/// use spanalloc::map::Sharded;
///
/// let words = Sharded::new(8);
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| (0..100).for_each(|n| words.with(n % 10, |count| *count += 1)));
///     }
/// });
/// assert_eq!(words.get(&3), Some(40));
/// ```
pub struct Sharded<K, V, S = RandomState> {
    shards: Box<[Shard<K, V, S>]>,
    hasher: S,
}

/// One shard, on cache lines of its own.
#[repr(align(128))]
struct Shard<K, V, S>(Mutex<Counted<K, V, S>>);

struct Counted<K, V, S> {
    map: Map<K, V, S>,
    counts: ShardStats,
}

impl<K, V, S> Counted<K, V, S> {
    fn stats(&self) -> ShardStats {
        ShardStats { len: self.map.len(), ..self.counts }
    }
}

/// How a shard's lock was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// Entries in the shard.
    pub len: usize,
    /// Times the lock was taken.
    pub locks: u64,
    /// Times it was taken by another thread at that moment.
    pub contended: u64,
}

impl<K, V> Sharded<K, V, RandomState> {
    /// An empty map of `shards` shards.
    ///
    /// # Panics
    ///
    /// When `shards` is not a power of two from 1 to [`Sharded::SHARDS_MAX`].
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self::with_hasher(shards, RandomState::new())
    }
}

impl<K, V, S: Clone> Sharded<K, V, S> {
    /// The largest number of shards.
    pub const SHARDS_MAX: usize = 1 << (56 - SHARD_SHIFT);

    /// An empty map of `shards` shards that hash with `hasher`.
    ///
    /// # Panics
    ///
    /// As [`new`](Sharded::new).
    pub fn with_hasher(shards: usize, hasher: S) -> Self {
        let max = Self::SHARDS_MAX;
        assert!(
            shards.is_power_of_two() && shards <= max,
            "{shards} shards are not possible: give a power of two from 1 to {max}"
        );
        let shard = |_| {
            let map = Map::with_hasher(hasher.clone());
            Shard(Mutex::new(Counted { map, counts: ShardStats::default() }))
        };
        Self { shards: (0..shards).map(shard).collect(), hasher }
    }
}

impl<K, V, S: Clone + Default> Default for Sharded<K, V, S> {
    /// An empty map of four shards for each processor, rounded up to a power of two, so that two
    /// threads seldom meet in one.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = (4 * processors).next_power_of_two().min(Self::SHARDS_MAX);
        Self::with_hasher(shards, S::default())
    }
}

impl<K, V, S> Sharded<K, V, S> {
    /// What each shard counted. Costs a lock per shard, which is not counted.
    pub fn stats(&self) -> Vec<ShardStats> {
        self.each_stats().collect()
    }

    fn each_stats(&self) -> impl Iterator<Item = ShardStats> {
        self.shards.iter().map(|shard| {
            let shard = shard.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            shard.stats()
        })
    }

    /// Entries in all shards. Each shard is counted at a different moment, under its lock.
    pub fn len(&self) -> usize {
        self.each_stats().map(|shard| shard.len).sum()
    }

    /// Whether all shards are empty, each at its moment. Locks them in turn, up to the first that
    /// is not.
    pub fn is_empty(&self) -> bool {
        self.each_stats().all(|shard| shard.len == 0)
    }

    /// Drops all entries; the arrays stay. Locks one shard after the other: what others insert
    /// meanwhile may stay. `Drop` of keys and values runs under the lock.
    ///
    /// ```
    /// let map = spanalloc::map::Sharded::new(4);
    /// map.insert("a", 1);
    /// map.clear();
    /// assert!(map.is_empty());
    /// ```
    pub fn clear(&self) {
        self.for_each_shard(Map::clear);
    }

    /// Keeps the entries for which `keep` returns true and drops the others, under the lock of one
    /// shard after the other. `keep` must not use this map: it would wait for itself.
    ///
    /// ```
    /// let map = spanalloc::map::Sharded::new(4);
    /// (0..10).for_each(|n| assert_eq!(map.insert(n, n), None));
    /// map.retain(|key, _| key % 2 == 0);
    /// assert_eq!((map.len(), map.get(&1)), (5, None));
    /// ```
    pub fn retain(&self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.for_each_shard(|shard| shard.retain(&mut keep));
    }

    /// Calls `visit` with the map of each shard in turn, under its lock. Entries that are put into
    /// a shard which their hash does not pick are not found again.
    pub fn for_each_shard(&self, mut visit: impl FnMut(&mut Map<K, V, S>)) {
        for shard in &self.shards {
            visit(&mut lock(shard).map);
        }
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Sharded<K, V, S> {
    /// A copy of the value of `key`.
    pub fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        V: Clone,
    {
        self.shard(key).map.get(key).cloned()
    }

    /// What `look` returns for the value of `key`, without a copy of it; `None` if it is absent,
    /// and `look` is not called. It runs under the shard's lock, and must not use this map: it
    /// would wait for itself.
    ///
    /// ```
    /// let map = spanalloc::map::Sharded::new(4);
    /// map.insert("a", String::from("long"));
    /// assert_eq!(map.get_with("a", |text| text.len()), Some(4));
    /// assert_eq!(map.get_with("b", |text| text.len()), None);
    /// ```
    pub fn get_with<Q: ?Sized + Eq + Hash, R>(
        &self,
        key: &Q,
        look: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
    {
        self.shard(key).map.get(key).map(look)
    }

    /// As [`get_with`](Self::get_with), with the value to change. Unlike [`with`](Self::with), it
    /// inserts nothing and needs no key of its own.
    ///
    /// ```
    /// let map = spanalloc::map::Sharded::new(4);
    /// map.insert("a", 1);
    /// let doubled = map.update("a", |value| {
    ///     *value *= 2;
    ///     *value
    /// });
    /// assert_eq!((doubled, map.update("b", |value| *value)), (Some(2), None));
    /// ```
    pub fn update<Q: ?Sized + Eq + Hash, R>(
        &self,
        key: &Q,
        change: impl FnOnce(&mut V) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
    {
        self.shard(key).map.get_mut(key).map(change)
    }

    /// A copy of the value of `key`, after inserting what `make` returns if there was none. `make`
    /// runs under the shard's lock, so that no other thread makes the same, and must not use this
    /// map: it would wait for itself.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let map = spanalloc::map::Sharded::new(4);
    /// let text: Arc<str> = map.get_or_insert_with(1, || Arc::from("one"));
    /// assert!(Arc::ptr_eq(&text, &map.get_or_insert_with(1, || unreachable!())));
    /// ```
    pub fn get_or_insert_with(&self, key: K, make: impl FnOnce() -> V) -> V
    where
        V: Clone,
    {
        self.shard(&key).map.entry(key).or_insert_with(make).clone()
    }

    /// Whether `key` is present.
    pub fn contains_key<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.shard(key).map.contains_key(key)
    }

    /// Inserts an entry and returns the value the key had before, if any.
    pub fn insert(&self, key: K, value: V) -> Option<V> {
        self.shard(&key).map.insert(key, value)
    }

    /// Removes `key` and returns its value.
    pub fn remove<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.shard(key).map.remove(key)
    }

    /// As [`remove`](Self::remove), with the map's own key.
    ///
    /// ```
    /// let map = spanalloc::map::Sharded::new(4);
    /// map.insert(String::from("a"), 1);
    /// assert_eq!(map.remove_entry("a"), Some((String::from("a"), 1)));
    /// ```
    pub fn remove_entry<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.shard(key).map.remove_entry(key)
    }

    /// Calls `change` with the value of `key`, the default if there was none, under
    /// the shard's lock, and returns what it returns. `change` must not use this
    /// map: it would wait for itself.
    pub fn with<R>(&self, key: K, change: impl FnOnce(&mut V) -> R) -> R
    where
        V: Default,
    {
        change(self.shard(&key).map.entry(key).or_default())
    }

    fn shard<Q: ?Sized + Hash>(&self, key: &Q) -> MutexGuard<'_, Counted<K, V, S>> {
        let bits = (self.hasher.hash_one(key).wrapping_mul(GOLDEN) >> SHARD_SHIFT) as usize;
        lock(&self.shards[bits & (self.shards.len() - 1)])
    }
}

fn lock<K, V, S>(shard: &Shard<K, V, S>) -> MutexGuard<'_, Counted<K, V, S>> {
    let (mut guard, waited) = match shard.0.try_lock() {
        Ok(guard) => (guard, false),
        Err(TryLockError::Poisoned(poisoned)) => (poisoned.into_inner(), false),
        Err(TryLockError::WouldBlock) => {
            (shard.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), true)
        }
    };
    guard.counts.locks += 1;
    guard.counts.contended += u64::from(waited);
    guard
}

impl<K, V, S> fmt::Debug for Sharded<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever has a lock may be the caller, in a closure of this map's.
        let stats = |shard: &Shard<K, V, S>| match shard.0.try_lock() {
            Ok(shard) => Some(shard.stats()),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner().stats()),
            Err(TryLockError::WouldBlock) => None,
        };
        let shards = fmt::from_fn(|f| {
            let mut list = f.debug_list();
            for shard in &self.shards {
                match stats(shard) {
                    Some(stats) => list.entry(&stats),
                    None => list.entry(&format_args!("<locked>")),
                };
            }
            list.finish()
        });
        f.debug_struct("Sharded").field("shards", &shards).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_shards_and_buckets() {
        let map = Sharded::new(32);
        for key in 0..32_000u32 {
            map.insert(key, key);
        }
        for shard in map.stats() {
            assert!((800..1200).contains(&shard.len), "{shard:?}");
            assert_eq!((shard.locks, shard.contended), (shard.len as u64, 0));
        }
        map.for_each_shard(|shard| {
            let chains = shard.stats().chains;
            assert!(chains.len() <= 3, "one shard's buckets are used unevenly: {chains:?}");
            assert_eq!(shard.check(), Ok(()));
        });
    }

    /// A hasher that keeps the low bits: small integers leave all others 0.
    #[derive(Clone, Default)]
    struct Same(u64);

    impl std::hash::Hasher for Same {
        fn write(&mut self, _: &[u8]) {
            unreachable!("keys are u64");
        }

        fn write_u64(&mut self, key: u64) {
            self.0 = key;
        }

        fn finish(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn keys_that_are_their_own_hashes_spread_as_well() {
        let map = Sharded::with_hasher(8, std::hash::BuildHasherDefault::<Same>::default());
        for key in 0..80_000u64 {
            map.insert(key, ());
        }
        for shard in map.stats() {
            assert!((8_000..12_000).contains(&shard.len), "{shard:?}");
        }
    }

    #[test]
    fn a_panic_under_a_lock_leaves_the_shard_usable() {
        let map = Sharded::new(1);
        map.insert(1, 1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            map.with(1, |_| panic!("in the middle"));
        }));
        assert!(panicked.is_err());
        assert_eq!(map.insert(1, 2), Some(1));
        assert_eq!((map.remove(&1), map.is_empty()), (Some(2), true));
    }

    #[test]
    fn waiting_is_counted() {
        let map = Sharded::new(1);
        map.insert(0, 0);
        std::thread::scope(|scope| {
            let (entered, enter) = std::sync::mpsc::channel();
            let map = &map;
            scope.spawn(move || {
                map.for_each_shard(|_| {
                    entered.send(()).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                });
            });
            enter.recv().unwrap();
            map.insert(0, 1);
        });
        assert_eq!(map.stats()[0].contended, 1);
    }

    #[test]
    fn a_map_is_shown_from_within() {
        let map: Sharded<u32, u32> = Sharded::new(2);
        (0..10).for_each(|key| map.with(key, |count| *count += 1));
        let free = format!("{map:?}");
        assert!(!free.contains("locked") && free.matches("ShardStats").count() == 2, "{free}");
        let text = map.get_with(&1, |_| format!("{map:?}")).unwrap();
        assert!(text.starts_with("Sharded { shards: [") && text.ends_with("], .. }"), "{text}");
        assert_eq!([text.matches("<locked>").count(), text.matches("len: ").count()], [1, 1]);
    }

    #[test]
    fn the_default_has_shards_enough() {
        let map: Sharded<u8, u8> = Sharded::default();
        let shards = map.stats().len();
        assert!(shards >= 4 && shards.is_power_of_two());
        assert_eq!((map.insert(1, 2), map.get(&1)), (None, Some(2)));
    }

    #[test]
    fn a_wrong_number_of_shards_is_named() {
        for wrong in [0, 3, 1 << 17] {
            let panic = std::panic::catch_unwind(|| Sharded::<u8, u8>::new(wrong)).unwrap_err();
            let message = panic.downcast_ref::<String>().unwrap();
            assert!(message.contains(&format!("{wrong} shards")), "{message}");
            assert!(message.contains("power of two from 1 to 65536"), "{message}");
        }
    }
}
