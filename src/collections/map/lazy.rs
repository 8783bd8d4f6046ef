//! Deleting later: entries are marked, and swept out by policy.
//!
//! Go's map does nothing of the kind: it deletes at once, and so does ours. This
//! wrapper makes the other way measurable. A removed entry stays in its cell with
//! the time of its removal; lookups pass it by; a *sweep* drops all marked entries.
//! The *backlog* is what is marked but not swept, the *latency* of an entry the time
//! from its mark to its sweep.
//!
//! Time comes from the caller, as nanoseconds on any clock that does not go back;
//! there is no clock in here.
//!
//! # Invariants
//!
//! 1. `live + backlog == map.len()`.
//! 2. `marked − revived − swept − cleared == backlog`.
//! 3. No entry was removed, and no sweep done, at a later time than the latest one that was told.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use super::api::Map;

/// When marked entries are swept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sweep {
    /// Whenever this many nanoseconds have passed since the last sweep.
    Interval(u64),
    /// Whenever this many entries are marked.
    Space(usize),
    /// Whichever comes first.
    Hybrid {
        /// Nanoseconds between sweeps.
        interval_ns: u64,
        /// Marked entries.
        backlog_max: usize,
    },
}

/// What a [`Lazy`] map counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LazyStats {
    /// Entries that are there.
    pub live: usize,
    /// Entries that are marked and not swept.
    pub backlog: usize,
    /// The most that the backlog has been.
    pub backlog_max: usize,
    /// Entries marked so far.
    pub marked: u64,
    /// Marked entries that an insert of their key took over.
    pub revived: u64,
    /// Marked entries dropped by sweeps.
    pub swept: u64,
    /// Marked entries dropped by [`clear`](Lazy::clear).
    pub cleared: u64,
    /// Sweeps so far, but for those that found nothing marked.
    pub sweeps: u64,
    /// Entries looked at by sweeps.
    pub visited: u64,
    /// Sum of the swept entries' latencies, in nanoseconds.
    pub latency_sum_ns: u128,
    /// The longest latency, in nanoseconds.
    pub latency_max_ns: u64,
}

/// A map that removes by marking. A *sweep* drops what is marked, by policy.
///
/// It has no clock. Calls that may sweep are given the time, `now_ns`: nanoseconds on any clock
/// that does not go back, from the same beginning each time. The first interval of
/// [`Sweep::Interval`] begins at 0. A time before an earlier one counts as no time passed.
///
/// ```
/// use spanalloc::map::{Lazy, Sweep};
///
/// let mut map = Lazy::new(Sweep::Space(2));
/// map.insert("a", 1, 0);
/// map.insert("b", 2, 0);
/// assert!(map.remove("a", 100));
/// assert_eq!((map.get("a"), map.stats().backlog), (None, 1));
/// map.remove("b", 150); // the second marked entry: both are swept
/// assert_eq!((map.stats().swept, map.stats().latency_max_ns), (2, 50));
/// ```
pub struct Lazy<K, V, S = RandomState> {
    map: Map<K, Marked<V>, S>,
    sweep: Sweep,
    /// The latest time that it was told.
    now_ns: u64,
    swept_at_ns: u64,
    counts: LazyStats,
}

struct Marked<V> {
    value: V,
    removed_at_ns: Option<u64>,
}

impl<V> Marked<V> {
    fn is_there(&self) -> bool {
        self.removed_at_ns.is_none()
    }
}

impl<K, V> Lazy<K, V> {
    /// An empty map that sweeps by `sweep`.
    #[must_use]
    pub fn new(sweep: Sweep) -> Self {
        let map = Map::new();
        Self { map, sweep, now_ns: 0, swept_at_ns: 0, counts: LazyStats::default() }
    }
}

impl<K, V, S> Lazy<K, V, S> {
    /// An empty map that uses `hasher`.
    pub fn with_hasher(sweep: Sweep, hasher: S) -> Self {
        let map = Map::with_hasher(hasher);
        Self { map, sweep, now_ns: 0, swept_at_ns: 0, counts: LazyStats::default() }
    }

    /// Entries that are there; marked ones are not.
    pub fn len(&self) -> usize {
        self.counts.live
    }

    /// Whether no entry is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the map counted.
    pub fn stats(&self) -> LazyStats {
        self.counts
    }

    /// Bytes of the map's arrays: what the backlog keeps from shrinking. Costs no pass over them.
    pub fn bytes(&self) -> usize {
        self.map.bytes()
    }

    /// All entries that are there, in an order that differs from call to call. Costs a pass over
    /// the map, the marked entries included.
    ///
    /// ```
    /// use spanalloc::map::{Lazy, Sweep};
    ///
    /// let mut map = Lazy::new(Sweep::Space(10));
    /// map.insert("a", 1, 0);
    /// map.insert("b", 2, 0);
    /// map.remove("a", 1);
    /// assert!(map.iter().eq([(&"b", &2)]));
    /// map.iter_mut().for_each(|(_, value)| *value += 1);
    /// assert_eq!((map.get("b"), map.keys().count()), (Some(&3), 1));
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        let there = self.map.iter().filter(|(_, entry)| entry.is_there());
        there.map(|(key, entry)| (key, &entry.value))
    }

    /// As [`iter`](Self::iter), with values to change in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        let there = self.map.iter_mut().filter(|(_, entry)| entry.is_there());
        there.map(|(key, entry)| (key, &mut entry.value))
    }

    /// The keys of all entries that are there. Costs what [`iter`](Self::iter) does.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// Drops all entries, marked or not; keeps the arrays. Those that were marked do not count as
    /// swept, but as `cleared`. Costs as much as [`Map::clear`].
    ///
    /// ```
    /// use spanalloc::map::{Lazy, Sweep};
    ///
    /// let mut map = Lazy::new(Sweep::Space(10));
    /// map.insert("a", 1, 0);
    /// map.insert("b", 2, 0);
    /// map.remove("a", 1);
    /// map.clear();
    /// assert_eq!((map.len(), map.stats().backlog, map.stats().cleared), (0, 0, 1));
    /// ```
    pub fn clear(&mut self) {
        // Before the drops, of which one may panic: then the others are dropped nevertheless.
        let backlog = std::mem::take(&mut self.counts.backlog);
        self.counts.cleared += backlog as u64;
        self.counts.live = 0;
        self.map.clear();
    }

    /// Clears the map for somebody whose time begins at 0.
    pub(in crate::collections) fn begin_again(&mut self) {
        (self.now_ns, self.swept_at_ns) = (0, 0);
        self.clear();
    }

    /// Sweeps if it is time to, which it is told by `now_ns`; returns how many entries were
    /// dropped. Costs a comparison, or a [`sweep`](Self::sweep).
    pub fn tick(&mut self, now_ns: u64) -> usize {
        let now_ns = self.latest(now_ns);
        let waited_ns = now_ns - self.swept_at_ns;
        let due = match self.sweep {
            Sweep::Interval(interval_ns) => waited_ns >= interval_ns,
            Sweep::Space(backlog_max) => self.counts.backlog >= backlog_max,
            Sweep::Hybrid { interval_ns, backlog_max } => {
                waited_ns >= interval_ns || self.counts.backlog >= backlog_max
            }
        };
        if due { self.sweep(now_ns) } else { 0 }
    }

    /// The time, which does not go back.
    fn latest(&mut self, now_ns: u64) -> u64 {
        self.now_ns = self.now_ns.max(now_ns);
        self.now_ns
    }

    /// Drops all marked entries, whose latency ends at `now_ns`; returns how many. Costs a pass
    /// over the map, or nothing when none is marked.
    pub fn sweep(&mut self, now_ns: u64) -> usize {
        let now_ns = self.latest(now_ns);
        self.swept_at_ns = now_ns;
        if self.counts.backlog == 0 {
            return 0;
        }
        self.counts.sweeps += 1;
        let before = self.counts.backlog;
        self.counts.visited += self.map.len() as u64;
        let counts = &mut self.counts;
        self.map.retain(|_, entry| {
            let Some(removed_at_ns) = entry.removed_at_ns else { return true };
            let latency_ns = now_ns - removed_at_ns;
            counts.latency_sum_ns += u128::from(latency_ns);
            counts.latency_max_ns = counts.latency_max_ns.max(latency_ns);
            counts.swept += 1;
            counts.backlog -= 1;
            false
        });
        before
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Lazy<K, V, S> {
    /// The value of `key`, unless it is absent or marked.
    pub fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let entry = self.map.get(key)?;
        entry.is_there().then_some(&entry.value)
    }

    /// The value of `key`, to change, unless it is absent or marked.
    ///
    /// ```
    /// let mut map = spanalloc::map::Lazy::new(spanalloc::map::Sweep::Space(2));
    /// map.insert("a", 1, 0);
    /// *map.get_mut("a").unwrap() += 1;
    /// assert_eq!(map.get("a"), Some(&2));
    /// map.remove("a", 1);
    /// assert_eq!(map.get_mut("a"), None);
    /// ```
    pub fn get_mut<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let entry = self.map.get_mut(key)?;
        entry.is_there().then_some(&mut entry.value)
    }

    /// Whether `key` is there: neither absent nor marked.
    ///
    /// ```
    /// let mut map = spanalloc::map::Lazy::new(spanalloc::map::Sweep::Space(2));
    /// map.insert("a", 1, 0);
    /// assert!(map.contains_key("a"));
    /// map.remove("a", 1);
    /// assert!(!map.contains_key("a"));
    /// ```
    pub fn contains_key<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.map.get(key).is_some_and(Marked::is_there)
    }

    /// Inserts an entry and returns the value the key had before, if it was there.
    /// A marked entry of the key is taken over, and its old value dropped. Sweeps if it is time to.
    pub fn insert(&mut self, key: K, value: V, now_ns: u64) -> Option<V> {
        let old = self.map.insert(key, Marked { value, removed_at_ns: None });
        let was_marked = old.as_ref().is_some_and(|old| old.removed_at_ns.is_some());
        if was_marked {
            self.counts.backlog -= 1;
            self.counts.revived += 1;
        }
        self.counts.live += usize::from(old.is_none() || was_marked);
        self.tick(now_ns);
        old.filter(|_| !was_marked).map(|old| old.value)
    }

    /// Marks the entry of `key`; returns whether it was there. Sweeps if it is time
    /// to.
    pub fn remove<Q: ?Sized + Eq + Hash>(&mut self, key: &Q, now_ns: u64) -> bool
    where
        K: Borrow<Q>,
    {
        let now_ns = self.latest(now_ns);
        let entry = self.map.get_mut(key).filter(|entry| entry.is_there());
        let found = entry.is_some();
        if let Some(entry) = entry {
            entry.removed_at_ns = Some(now_ns);
            self.counts.marked += 1;
            self.counts.live -= 1;
            self.counts.backlog += 1;
            self.counts.backlog_max = self.counts.backlog_max.max(self.counts.backlog);
        }
        self.tick(now_ns);
        found
    }

    /// Verifies the invariants.
    ///
    /// # Errors
    ///
    /// A sentence that names the first violation.
    pub fn check(&self) -> Result<(), String> {
        self.map.check()?;
        let LazyStats { live, backlog, marked, revived, swept, cleared, .. } = self.counts;
        let there = self.map.values().filter(|entry| entry.is_there()).count();
        if there != live || self.map.len() != live + backlog {
            return Err(format!("{there} there of {}, but live is {live}", self.map.len()));
        }
        if marked - revived - swept - cleared != backlog as u64 {
            return Err(format!(
                "{marked} marked, {revived} revived, {swept} swept, {cleared} cleared: \
                 {backlog} left"
            ));
        }
        Ok(())
    }
}

impl<K, V, S> fmt::Debug for Lazy<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lazy").field("counts", &self.counts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_sweeps_when_it_says() {
        let cases = [
            (Sweep::Interval(45), [0, 0, 0, 0, 5]),
            (Sweep::Space(3), [0, 0, 3, 0, 0]),
            (Sweep::Hybrid { interval_ns: 45, backlog_max: 4 }, [0, 0, 0, 4, 0]),
            (Sweep::Hybrid { interval_ns: 45, backlog_max: 9 }, [0, 0, 0, 0, 5]),
        ];
        for (sweep, expected) in cases {
            let mut map = Lazy::new(sweep);
            for key in 0..10 {
                map.insert(key, key, 0);
            }
            for (key, expected) in (0..5).zip(expected) {
                let before = map.stats().swept;
                assert!(map.remove(&key, 10 * (key + 1)));
                assert_eq!(map.check(), Ok(()));
                assert_eq!(map.stats().swept - before, expected, "{sweep:?}, key {key}");
            }
            assert_eq!(map.len(), 5);
        }
    }

    #[test]
    fn a_sweep_of_nothing_is_none() {
        let mut map = Lazy::new(Sweep::Space(0));
        (0..10).for_each(|key| assert_eq!(map.insert(key, key, 0), None));
        assert_eq!((map.sweep(1), map.tick(2), map.stats().sweeps), (0, 0, 0));
        assert!(map.remove(&3, 3));
        assert_eq!((map.stats().swept, map.stats().sweeps), (1, 1));
    }

    #[test]
    fn marked_entries_are_absent_and_may_come_back() {
        let mut map = Lazy::new(Sweep::Interval(1000));
        assert_eq!(map.insert("a", 1, 0), None);
        assert_eq!(map.insert("a", 2, 0), Some(1));
        assert!(map.remove("a", 10));
        assert!(!map.remove("a", 20) && map.get("a").is_none() && map.is_empty());
        assert_eq!(map.insert("a", 3, 30), None, "what was removed is not returned");
        assert_eq!((map.get("a"), map.stats().revived, map.stats().backlog), (Some(&3), 1, 0));
        assert_eq!(map.check(), Ok(()));
    }

    #[test]
    fn a_time_before_an_earlier_one_counts_as_that() {
        let mut map = Lazy::new(Sweep::Hybrid { interval_ns: 100, backlog_max: 1 });
        map.insert("a", 1, 1000);
        assert!(map.remove("a", 10));
        assert_eq!((map.stats().sweeps, map.tick(1005), map.stats().sweeps), (1, 0, 1));
        let mut map = Lazy::new(Sweep::Space(10));
        map.insert("a", 1, 1000);
        map.remove("a", 10);
        assert_eq!((map.sweep(1005), map.stats().latency_max_ns), (1, 5));
        map.insert("a", 1, 0);
        map.remove("a", 0);
        assert_eq!((map.sweep(0), map.stats().latency_sum_ns), (1, 5));
    }
}
