//! A pool without its constructor and guards: where a value comes from and where it goes.
//!
//! *Get*, in this order: this thread's private values; its local chain; the other threads' local
//! chains, starting after oneself; this thread's victims; all victims. *Put*: private, after the
//! older half of those has moved on to the local chain, if need be. A get that comes to a local
//! chain takes others along, which become private: half a stash at most, and no more than half of a
//! ring, unless that is its own newest. *Advance*: what is still among the victims is
//! dropped, and the current values become the victims.
//!
//! Nothing is moved by an advance: the two chains of every shard change roles with the parity of
//! the epoch, and each thread rotates its own two stashes when it next comes by, or ends. A thread
//! that an advance overtakes may put values on the chain of another epoch, or count what it takes
//! along to the one before: these merely go, or stay, up to two epochs too early or too long.
//!
//! In the child of a fork that came during an advance, the next one takes the turn over and begins
//! anew. Rings that are drained later are kept until the pool is dropped, because threads that were
//! pinned in the parent still count.
//!
//! # Invariants
//!
//! 1. `key` identifies this pool in its present epoch; see the `thread` module.
//! 2. At a quiet point, `puts = private + local + steal + victim + victim_steal + drops + held`,
//!    where `held` values are inside the pool.
//! 3. Only one thread advances at a time, and no lock is held while foreign code runs.

use super::readers::{Pin, Readers};
use super::reset::Reset;
use super::shard::{Counts, Owned, Shard};
use super::shards::{ShardTable, steal, steal_share};
use super::stats::PoolStats;
use super::thread::{self, Member};
use crate::base::forks;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Weak};

/// A pool without its constructor and guards.
pub(super) struct Core<T> {
    /// Written by `advance`; the Release publishes `epoch`.
    key: AtomicU64,
    epoch: AtomicU64,
    /// The epoch in which somebody found all victim chains empty.
    victims_gone_in: AtomicU64,
    /// The process in which somebody is advancing; 0 for none.
    advancing: AtomicU64,
    shards: ShardTable<T>,
    readers: Readers<T>,
    cold: ColdCounts,
    this: Weak<Self>,
}

/// What is counted outside of any shard, with locked additions.
#[derive(Default)]
struct ColdCounts {
    new: AtomicU64,
    steal: AtomicU64,
    victim_steal: AtomicU64,
    puts: AtomicU64,
    drops: AtomicU64,
    discards: AtomicU64,
}

impl<T: Send + 'static> Core<T> {
    pub(super) fn new() -> Arc<Self> {
        let first_key = thread::fresh_key(0);
        // Successive pools start with successive keys, which spreads them over the thread caches.
        let key = thread::fresh_key(first_key >> thread::CACHE_BITS);
        Arc::new_cyclic(|this| Self {
            key: AtomicU64::new(key),
            epoch: AtomicU64::new(0),
            victims_gone_in: AtomicU64::new(0),
            advancing: AtomicU64::new(0),
            shards: ShardTable::new(),
            readers: Readers::new(),
            cold: ColdCounts::default(),
            this: this.clone(),
        })
    }

    /// A value from the pool, if there is one that this thread can reach.
    #[inline]
    pub(super) fn take(&self) -> Option<T> {
        let Some(mine) = self.cached() else { return self.take_slow() };
        match mine.take_private() {
            Some(value) => {
                mine.counts().private.add(1);
                Some(value)
            }
            None => self.take_local(&mine),
        }
    }

    /// Gives the pool `value`.
    #[inline]
    pub(super) fn put(&self, value: T) {
        let Some(mine) = self.cached() else { return self.put_slow(value) };
        match mine.put_private(value) {
            Ok(()) => mine.counts().puts.add(1),
            Err(value) => Self::put_spilling(&mine, value),
        }
    }

    pub(super) fn count_new(&self) {
        self.cold.new.fetch_add(1, Relaxed);
    }

    /// Resets `value` and takes it back, or drops it if it is not worth keeping.
    #[inline]
    pub(super) fn put_reset(&self, mut value: T)
    where
        T: Reset,
    {
        value.reset();
        if value.keep() { self.put(value) } else { self.discard(value) }
    }

    #[cold]
    #[inline(never)]
    fn discard(&self, value: T) {
        self.cold.discards.fetch_add(1, Relaxed);
        drop(value);
    }

    /// Begins the next epoch and returns how many values were dropped, or `None` when another
    /// thread is doing it.
    pub(super) fn advance(&self) -> Option<u64> {
        let _turn = Turn::begin(&self.advancing)?;
        let now = self.epoch.load(Relaxed);
        let mut dropped = 0;
        let pin = self.readers.pin();
        for shard in self.shards.iter() {
            while let Some(value) = shard.chain(now + 1).pop_oldest(&pin) {
                self.cold.drops.fetch_add(1, Relaxed);
                dropped += 1;
                drop(value);
            }
        }
        self.epoch.store(now + 1, Release);
        self.key.store(thread::fresh_key(self.key.load(Relaxed)), Release);
        Some(dropped + self.mine().map_or(0, |mine| self.settle(&mine)))
    }

    pub(super) fn stats(&self) -> PoolStats {
        let sum = |field: fn(&Counts) -> u64| -> u64 {
            self.shards.iter().map(|shard| field(&shard.counts)).sum()
        };
        let cold = &self.cold;
        PoolStats {
            private: sum(|c| c.private.get()),
            local: sum(|c| c.local.get()),
            steal: sum(|c| c.steal.get()) + cold.steal.load(Relaxed),
            victim: sum(|c| c.victim.get()),
            victim_steal: sum(|c| c.victim_steal.get()) + cold.victim_steal.load(Relaxed),
            new: cold.new.load(Relaxed),
            puts: sum(|c| c.puts.get()) + cold.puts.load(Relaxed),
            drops: sum(|c| c.drops.get()) + cold.drops.load(Relaxed),
            discards: cold.discards.load(Relaxed),
            epochs: self.epoch.load(Relaxed),
        }
    }

    /// This thread's shard, if the thread cache has it for the present epoch.
    #[inline]
    fn cached(&self) -> Option<Owned<'_, T>> {
        let shard = thread::cached(self.key.load(Relaxed))?.cast::<Shard<T>>();
        // SAFETY: by invariant 2 of the `thread` module the address is that of a shard of this
        // pool, which `self` keeps alive.
        let shard = unsafe { shard.as_ref() };
        // SAFETY: by the same invariant the shard belongs to this thread.
        Some(unsafe { Owned::new(shard) })
    }

    /// This thread's shard and its index, brought to the present epoch; `None` for a thread without
    /// an index, as one that is being torn down.
    fn locate(&self) -> Option<(Owned<'_, T>, usize)> {
        let me = thread::me()?;
        let shard = self.shards.get_or_make(me.index);
        // SAFETY: by invariant 1 of the `thread` module the index is this thread's.
        let mine = unsafe { Owned::new(shard) };
        if mine.sign(me.stamp) {
            thread::leave_at_exit(self.this.clone());
        }
        self.settle(&mine);
        Some((mine, me.index))
    }

    /// This thread's shard, if it has one.
    fn mine(&self) -> Option<Owned<'_, T>> {
        let me = thread::me()?;
        // SAFETY: by invariant 1 of the `thread` module the index is this thread's.
        let mine = unsafe { Owned::new(self.shards.get(me.index)?) };
        mine.is_signed(me.stamp).then_some(mine)
    }

    /// Brings this thread's shard to the present epoch and returns how many values were dropped.
    fn settle(&self, mine: &Owned<'_, T>) -> u64 {
        // The key before the epoch: if an advance comes between, the entry is stale at once.
        let key = self.key.load(Acquire);
        let outdated = mine.rotate(self.epoch.load(Acquire));
        thread::cache(key, mine.shard().cast());
        let dropped = outdated.len() as u64;
        // Before they are: a drop that panics takes the others with it.
        mine.counts().drops.add(dropped);
        drop(outdated);
        dropped
    }

    #[inline(never)]
    fn take_local(&self, mine: &Owned<'_, T>) -> Option<T> {
        match mine.refill() {
            Some(value) => {
                mine.counts().local.add(1);
                Some(value)
            }
            None => self.take_slow(),
        }
    }

    #[inline(never)]
    fn put_spilling(mine: &Owned<'_, T>, value: T) {
        mine.spill(value);
        mine.counts().puts.add(1);
    }

    #[cold]
    #[inline(never)]
    fn take_slow(&self) -> Option<T> {
        let Some((mine, index)) = self.locate() else {
            return self.take_torn_down();
        };
        let counts = mine.counts();
        if let Some(value) = mine.take_private() {
            counts.private.add(1);
            return Some(value);
        }
        if let Some(value) = mine.pop(&self.readers) {
            counts.local.add(1);
            return Some(value);
        }
        let pin = self.readers.pin();
        let epoch = mine.epoch();
        if let Some(value) = steal_share(&self.shards, &mine, index, &pin) {
            counts.steal.add(1);
            return Some(value);
        }
        if let Some(value) = mine.take_victim() {
            counts.victim.add(1);
            return Some(value);
        }
        let (value, from) = self.take_victim(epoch, index, &pin)?;
        let count = if from == index { &counts.victim } else { &counts.victim_steal };
        count.add(1);
        Some(value)
    }

    /// A value from any victim chain, with the index of its shard.
    fn take_victim(&self, epoch: u64, from: usize, pin: &Pin<'_, T>) -> Option<(T, usize)> {
        if self.victims_gone_in.load(Relaxed) == epoch {
            return None;
        }
        // One step back, so that the search starts with the thread's own victims.
        let before = from.checked_sub(1).unwrap_or(self.shards.len().saturating_sub(1));
        let found = steal(&self.shards, epoch + 1, before, pin);
        if found.is_none() {
            self.victims_gone_in.store(epoch, Relaxed);
        }
        found
    }

    /// What a thread without an index can get: other threads' values.
    fn take_torn_down(&self) -> Option<T> {
        let pin = self.readers.pin();
        let epoch = self.epoch.load(Acquire);
        if let Some((value, _)) = steal(&self.shards, epoch, 0, &pin) {
            self.cold.steal.fetch_add(1, Relaxed);
            return Some(value);
        }
        let (value, _) = self.take_victim(epoch, 0, &pin)?;
        self.cold.victim_steal.fetch_add(1, Relaxed);
        Some(value)
    }

    #[cold]
    #[inline(never)]
    fn put_slow(&self, value: T) {
        match self.locate() {
            Some((mine, _)) => {
                if let Err(value) = mine.put_private(value) {
                    return Self::put_spilling(&mine, value);
                }
                mine.counts().puts.add(1);
            }
            None => {
                self.cold.puts.fetch_add(1, Relaxed);
                self.cold.drops.fetch_add(1, Relaxed);
                drop(value);
            }
        }
    }
}

impl<T: Send + 'static> Member for Core<T> {
    fn leave(&self, index: usize) {
        let Some(shard) = self.shards.get(index) else { return };
        // SAFETY: the index is given back only after all members have been left.
        let mine = unsafe { Owned::new(shard) };
        // First: a chain takes turns, so what is private since two epochs ago would be put on the
        // one that is local now.
        let outdated = mine.rotate(self.epoch.load(Acquire));
        mine.share();
        // There may be victims now that nobody has found yet.
        self.victims_gone_in.store(u64::MAX, Relaxed);
        mine.sign(0);
        // Last: it may panic, or come back to the pool.
        mine.counts().drops.add(outdated.len() as u64);
        drop(outdated);
    }

    fn advance(&self) {
        Core::advance(self);
    }
}

/// The right to advance; given back also when a value's `Drop` panics.
struct Turn<'a>(&'a AtomicU64);

impl<'a> Turn<'a> {
    fn begin(advancing: &'a AtomicU64) -> Option<Self> {
        let process = forks::process(std::process::id());
        let take_from = |before| advancing.compare_exchange(before, process, Acquire, Relaxed);
        let taken = match take_from(0) {
            // The thread that had it stayed behind when this process was forked.
            Err(parent) if parent != process => take_from(parent),
            taken => taken,
        };
        // Lazily: a turn made and dropped would end the one that another thread has.
        taken.is_ok().then(|| Self(advancing))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(0, Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_finds_the_turn_taken_leaves_it_so() {
        let advancing = AtomicU64::new(0);
        let turn = Turn::begin(&advancing);
        assert!(turn.is_some());
        for _ in 0..2 {
            assert!(Turn::begin(&advancing).is_none());
        }
        drop(turn);
        assert!(Turn::begin(&advancing).is_some());
        // No process has this number.
        advancing.store(u64::MAX, Relaxed);
        let turn = Turn::begin(&advancing);
        assert!(turn.is_some() && Turn::begin(&advancing).is_none());
    }
}
