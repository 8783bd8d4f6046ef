//! One thread's part of a pool, and the table of all parts.
//!
//! A *shard* holds a stash of *private* values, one of *victims* (the private values of the epoch
//! before) and two chains. The chain of an even epoch and the chain of an odd one take turns: the chain of the
//! current epoch is the *local* chain, the other one holds the *victims*.
//!
//! Invariants:
//!
//! 1. A shard's cells, stashes and counters are written only by the thread that owns the shard's index.
//!    [`Owned`] stands for that right and does not leave its thread.
//! 2. A bucket of the table, once set, stays where it is until the table is dropped.
//! 3. No method here runs foreign code (`Drop`, `Reset`, `init`) while a stash is not in order:
//!    what a rotation removes is returned to the caller.

use super::chain::Chain;
use super::readers::{Pin, Readers};
use super::rest::drop_rest;
use super::stash::Stash;
use crate::base::own::OwnU64;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicPtr, AtomicUsize};

/// See the module's documentation. Padded so that two owners never share a cache line, nor the
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

// SAFETY: by invariant 1 the cells and stashes have one user at a time; the chains and counters are made for
// several; values themselves are `Send`.
unsafe impl<T: Send> Sync for Shard<T> {}

impl<T> Shard<T> {
    fn new() -> Self {
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

    /// Puts `value` on the local chain.
    #[inline]
    pub(super) fn push(&self, value: T) {
        // SAFETY: the owner of the shard owns its chains.
        unsafe { self.shard.chain(self.epoch()).push_head(value) };
    }

    /// Puts `value` among the victims.
    pub(super) fn push_victim(&self, value: T) {
        // SAFETY: the owner of the shard owns its chains.
        unsafe { self.shard.chain(self.epoch() + 1).push_head(value) };
    }

    /// Takes the youngest value of the local chain's newest ring.
    #[inline]
    pub(super) fn pop_head(&self) -> Option<T> {
        // SAFETY: the owner of the shard owns its chains.
        unsafe { self.shard.chain(self.epoch()).pop_head() }
    }

    /// Takes a value from the local chain: the youngest of the newest ring, else the oldest of all.
    pub(super) fn pop(&self, readers: &Readers<T>) -> Option<T> {
        let chain = self.shard.chain(self.epoch());
        self.pop_head().or_else(|| chain.pop_tail(&readers.pin()))
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

/// Takes the oldest value of any shard that is on its chain of `epoch`, beginning after the shard
/// `from` and ending with it. The shard the value came from is the second result.
pub(super) fn steal<T>(
    shards: &ShardTable<T>,
    epoch: u64,
    from: usize,
    pin: &Pin<'_, T>,
) -> Option<(T, usize)> {
    let len = shards.len();
    (1..=len)
        .map(|step| (from + step) % len)
        .find_map(|index| shards.get(index)?.chain(epoch).pop_tail(pin).map(|value| (value, index)))
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

/// All shards of a pool, by index, in buckets of 1, 2, 4, … shards, so that no shard ever moves.
pub(super) struct ShardTable<T> {
    buckets: [AtomicPtr<Shard<T>>; usize::BITS as usize / 2],
    /// One more than the largest index in use so far.
    len: AtomicUsize,
}

impl<T> ShardTable<T> {
    pub(super) fn new() -> Self {
        Self {
            buckets: [const { AtomicPtr::new(ptr::null_mut()) }; usize::BITS as usize / 2],
            len: AtomicUsize::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Acquire)
    }

    /// The shard `index`, if its bucket exists.
    pub(super) fn get(&self, index: usize) -> Option<&Shard<T>> {
        let (bucket, offset) = Self::place(index);
        let first = self.buckets[bucket].load(Acquire);
        if first.is_null() {
            return None;
        }
        // SAFETY: bucket `b` is an array of 2^b shards and `offset < 2^b`.
        let shard = unsafe { first.add(offset) };
        // SAFETY: by invariant 2 the shard lives as long as the table.
        Some(unsafe { &*shard })
    }

    /// The shard `index`, made if it is not there.
    pub(super) fn get_or_make(&self, index: usize) -> &Shard<T> {
        let (bucket, _) = Self::place(index);
        if self.buckets[bucket].load(Acquire).is_null() {
            let shards: Box<[Shard<T>]> = (0..1 << bucket).map(|_| Shard::new()).collect();
            let first = Box::into_raw(shards).cast::<Shard<T>>();
            let raced =
                self.buckets[bucket].compare_exchange(ptr::null_mut(), first, AcqRel, Acquire);
            if raced.is_err() {
                // SAFETY: nobody else has seen this bucket.
                drop(unsafe { Self::bucket_from_raw(bucket, first) });
            }
        }
        if self.len() <= index {
            self.len.fetch_max(index + 1, AcqRel);
        }
        self.get(index).expect("the bucket has just been seen")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Shard<T>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Bucket and offset of `index`: 0 | 1 2 | 3 4 5 6 | …
    fn place(index: usize) -> (usize, usize) {
        let bucket = (index + 1).ilog2() as usize;
        (bucket, index + 1 - (1 << bucket))
    }

    /// # Safety
    ///
    /// `first` is the bucket's pointer from `Box::into_raw`, and the caller alone holds it.
    unsafe fn bucket_from_raw(bucket: usize, first: *mut Shard<T>) -> Box<[Shard<T>]> {
        let shards = ptr::slice_from_raw_parts_mut(first, 1 << bucket);
        // SAFETY: the caller's contract; bucket `b` was made with 2^b shards.
        unsafe { Box::from_raw(shards) }
    }
}

impl<T> Drop for ShardTable<T> {
    fn drop(&mut self) {
        let mut buckets = self.buckets.iter().map(|first| first.load(Relaxed)).enumerate();
        drop_rest(|| {
            let Some((bucket, first)) = buckets.next() else { return false };
            if !first.is_null() {
                // SAFETY: the table is going, so nobody else holds its buckets.
                drop(unsafe { Self::bucket_from_raw(bucket, first) });
            }
            true
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn places_tile_the_buckets() {
        let places: Vec<_> = (0..7).map(ShardTable::<()>::place).collect();
        assert_eq!(places, [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)]);
    }

    #[test]
    fn steal_starts_after_oneself_and_ends_with_oneself() {
        let (shards, readers) = (ShardTable::new(), Readers::new());
        for index in 0..5usize {
            // SAFETY: one thread.
            unsafe { Owned::new(shards.get_or_make(index)) }.push(index);
        }
        let pin = readers.pin();
        let stolen: Vec<_> =
            std::iter::from_fn(|| steal(&shards, 0, 2, &pin)).map(|(value, _)| value).collect();
        assert_eq!(stolen, [3, 4, 0, 1, 2]);
    }

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

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Two owners put and get while each also steals from the other.
    #[test]
    fn loom_steal_moves_each_value_once() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(3);
        bounds.check(|| {
            let shared = Arc::new((ShardTable::new(), Readers::new()));
            shared.0.get_or_make(0);
            shared.0.get_or_make(1);
            let work = |index: usize, shared: &(ShardTable<Box<usize>>, Readers<_>)| {
                let shard = shared.0.get(index).expect("made above");
                // SAFETY: each of the two threads owns the shard it is given.
                let mine = unsafe { Owned::new(shard) };
                mine.push(Box::new(10 * index));
                mine.push(Box::new(10 * index + 1));
                let own = mine.pop(&shared.1);
                let pin = shared.1.pin();
                let stolen = steal(&shared.0, 0, index, &pin).map(|(value, _)| value);
                own.into_iter().chain(stolen).collect::<Vec<_>>()
            };
            let other = {
                let shared = shared.clone();
                thread::spawn(move || work(1, &shared))
            };
            let mut seen = work(0, &shared);
            seen.extend(other.join().unwrap());
            let pin = shared.1.pin();
            seen.extend(std::iter::from_fn(|| steal(&shared.0, 0, 0, &pin)).map(|(v, _)| v));
            seen.sort();
            assert_eq!(seen, [0, 1, 10, 11].map(Box::new));
        });
    }
}
