//! One thread's part of a pool.
//!
//! A *shard* holds a stash of *private* values, one of *victims* (the private values of the epoch
//! before) and two chains. The chain of an even epoch and the chain of an odd one take turns: the
//! chain of the current epoch is the *local* chain, the other one holds the *victims*.
//!
//! # Invariants
//!
//! 1. A shard's cells, stashes and counters are written only by the thread that owns the shard's
//!    index. [`Owned`] stands for that right and does not leave its thread.
//! 2. No method here runs foreign code (`Drop`, `Reset`, `init`) while a stash is not in order:
//!    what a rotation removes is returned to the caller.

use super::chain::Chain;
use super::readers::{Pin, Readers};
use super::stash::{BATCH, Stash};
use crate::base::own::OwnU64;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// One thread's part of a pool. Padded so that two owners never share a cache line, nor the
/// pair of lines that the prefetcher fetches together.
#[repr(align(128))]
pub(super) struct Shard<T> {
    private: Stash<T>,
    victims: Stash<T>,
    /// The epoch of the owner's last rotation.
    epoch: Cell<u64>,
    /// The stamp of the owner; zero without one.
    stamp: Cell<u64>,
    chains: [Chain<T>; 2],
    pub(super) counts: Counts,
}

// SAFETY: by invariant 1 the cells and stashes have one user at a time; the chains and counters are
// made for several; values themselves are `Send`.
unsafe impl<T: Send> Sync for Shard<T> {}

impl<T> Shard<T> {
    pub(super) fn new() -> Self {
        Self {
            private: Stash::new(),
            victims: Stash::new(),
            epoch: Cell::new(0),
            stamp: Cell::new(0),
            chains: [Chain::new(), Chain::new()],
            counts: Counts::default(),
        }
    }

    /// The chain that is local in `epoch`.
    #[inline]
    pub(super) fn chain(&self, epoch: u64) -> &Chain<T> {
        &self.chains[(epoch & 1) as usize]
    }
}

/// A shard in the hands of the thread it belongs to.
pub(super) struct Owned<'a, T> {
    shard: &'a Shard<T>,
    on_this_thread: PhantomData<*const ()>,
}

impl<'a, T> Owned<'a, T> {
    /// # Safety
    ///
    /// The calling thread owns the shard's index.
    #[inline]
    pub(super) unsafe fn new(shard: &'a Shard<T>) -> Self {
        Self { shard, on_this_thread: PhantomData }
    }

    #[inline]
    pub(super) fn counts(&self) -> &'a Counts {
        &self.shard.counts
    }

    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.shard.epoch.get()
    }

    #[inline]
    pub(super) fn take_private(&self) -> Option<T> {
        self.shard.private.pop()
    }

    pub(super) fn take_victim(&self) -> Option<T> {
        self.shard.victims.pop()
    }

    /// Makes `value` a private one, or hands it back when there are enough.
    #[inline]
    pub(super) fn put_private(&self, value: T) -> Result<(), T> {
        self.shard.private.push(value)
    }

    /// Makes `value` a private one of a stash that is full: the older half of them goes on the
    /// local chain.
    pub(super) fn spill(&self, value: T) {
        let oldest = self.shard.private.take_oldest();
        self.keep(value);
        // SAFETY: the owner of the shard owns its chains.
        unsafe { self.shard.chain(self.epoch()).push_head(oldest) };
    }

    /// Puts all private values on the local chain, and the victims in the stash among the victims.
    pub(super) fn share(&self) {
        let Shard { private, victims, .. } = self.shard;
        // SAFETY: the owner of the shard owns its chains.
        unsafe { self.shard.chain(self.epoch()).push_head(private.take_all()) };
        // SAFETY: as above.
        unsafe { self.shard.chain(self.epoch() + 1).push_head(victims.take_all()) };
    }

    /// Takes the youngest value of the local chain's newest ring, and makes some that are next to
    /// it private ones. The caller has no private values.
    pub(super) fn refill(&self) -> Option<T> {
        let chain = self.shard.chain(self.epoch());
        // SAFETY: the owner of the shard owns its chains.
        unsafe { chain.pop_head(BATCH as u32, |value| self.keep(value)) };
        self.take_private()
    }

    /// Takes a value from the local chain: the youngest of the newest ring, else an old one; and
    /// makes some others private ones. The caller has no private values.
    pub(super) fn pop(&self, readers: &Readers<T>) -> Option<T> {
        let chain = self.shard.chain(self.epoch());
        let youngest = self.refill();
        if youngest.is_some() || !chain.has_older() {
            return youngest;
        }
        self.take_share(chain, &readers.pin())
    }

    /// Takes half of the oldest ring of `chain`, a batch at most: one for the caller, the others
    /// become private ones. The caller has no private values.
    pub(super) fn take_share(&self, chain: &Chain<T>, pin: &Pin<'_, T>) -> Option<T> {
        chain.pop_tail(BATCH as u32, pin, |value| self.keep(value));
        self.take_private()
    }

    /// Makes `value` a private one; there is room.
    pub(super) fn keep(&self, value: T) {
        let kept = self.put_private(value);
        debug_assert!(kept.is_ok(), "what is taken has room in a stash");
    }

    /// Brings the stashes to the epoch `now` and returns what has become too old to keep.
    pub(super) fn rotate(&self, now: u64) -> Vec<T> {
        let Shard { private, victims, epoch, .. } = self.shard;
        let passed = now - epoch.replace(now);
        if passed == 0 {
            return Vec::new();
        }
        let mut outdated = victims.take_all();
        let aged = private.take_all();
        if passed == 1 {
            let kept = aged.into_iter().try_for_each(|value| victims.push(value));
            debug_assert!(kept.is_ok(), "one stash holds what another held");
        } else {
            outdated.extend(aged);
        }
        outdated
    }

    /// The shard itself, for the thread's cache.
    pub(super) fn shard(&self) -> NonNull<Shard<T>> {
        NonNull::from(self.shard)
    }

    /// Whether the thread with `stamp` is recorded as owner.
    pub(super) fn is_signed(&self, stamp: u64) -> bool {
        self.shard.stamp.get() == stamp
    }

    /// Records the thread with `stamp` as owner; true when it was not already.
    pub(super) fn sign(&self, stamp: u64) -> bool {
        self.shard.stamp.replace(stamp) != stamp
    }
}

/// What the owner of a shard has counted; read by anyone.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) private: OwnU64,
    pub(super) local: OwnU64,
    pub(super) steal: OwnU64,
    pub(super) victim: OwnU64,
    pub(super) victim_steal: OwnU64,
    pub(super) puts: OwnU64,
    pub(super) drops: OwnU64,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_a_value_for_one_epoch() {
        let shard = Shard::new();
        // SAFETY: one thread.
        let owned = unsafe { Owned::new(&shard) };
        owned.put_private(1).unwrap();
        owned.put_private(2).unwrap();
        assert!(owned.rotate(1).is_empty());
        assert_eq!(owned.take_private(), None);
        owned.put_private(3).unwrap();
        assert_eq!(owned.rotate(2), [1, 2]);
        owned.put_private(4).unwrap();
        assert_eq!(owned.rotate(9), [3, 4]);
    }
}
