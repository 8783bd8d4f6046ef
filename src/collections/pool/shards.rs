//! The table of a pool's shards, by the index of their owners, and the search through it.
//!
//! Places come in buckets of 1, 2, 4, …, so that none ever moves; a shard is made when it is
//! needed, since the threads that use one pool may be few of many.
//!
//! # Invariants
//!
//! 1. A bucket of the table, and a shard in a place of one, once set, stays until the table is
//!    dropped. Each came from `Box::into_raw`.

use super::readers::Pin;
use super::shard::{Owned, Shard};
use crate::collections::rest::drop_rest;
use std::ops::Range;
use std::ptr;
use std::slice;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicPtr, AtomicUsize};

/// Takes the oldest value of any shard that is on its chain of `epoch`, beginning after the shard
/// `from` and ending with it. The shard the value came from is the second result.
pub(super) fn steal<T>(
    shards: &ShardTable<T>,
    epoch: u64,
    from: usize,
    pin: &Pin<'_, T>,
) -> Option<(T, usize)> {
    shards.find_from(from, |index, shard| Some((shard.chain(epoch).pop_oldest(pin)?, index)))
}

/// Takes a value for `mine`, the shard `me`, from the local chain of any shard as [`steal`] does,
/// with the share of it that becomes private.
pub(super) fn steal_share<T>(
    shards: &ShardTable<T>,
    mine: &Owned<'_, T>,
    me: usize,
    pin: &Pin<'_, T>,
) -> Option<T> {
    shards.find_from(me, |_, shard| mine.take_share(shard.chain(mine.epoch()), pin))
}

/// A pool's shards, by their owners' indices.
pub(super) struct ShardTable<T> {
    buckets: [AtomicPtr<Place<T>>; usize::BITS as usize / 2],
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

    /// The shard `index`, if it is there.
    pub(super) fn get(&self, index: usize) -> Option<&Shard<T>> {
        self.place(index)?.shard()
    }

    /// The shard `index`, made if it is not there.
    pub(super) fn get_or_make(&self, index: usize) -> &Shard<T> {
        if let Some(shard) = self.get(index) {
            return shard;
        }
        let (bucket, _) = Self::split(index);
        if self.buckets[bucket].load(Acquire).is_null() {
            let places: Box<[Place<T>]> = (0..1 << bucket).map(|_| Place::default()).collect();
            let first = Box::into_raw(places).cast::<Place<T>>();
            let raced =
                self.buckets[bucket].compare_exchange(ptr::null_mut(), first, AcqRel, Acquire);
            if raced.is_err() {
                // SAFETY: nobody else has seen this bucket.
                drop(unsafe { Self::bucket_from_raw(bucket, first) });
            }
        }
        let shard = self.place(index).expect("the bucket has just been seen").shard_or_made();
        self.len.fetch_max(index + 1, AcqRel);
        shard
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Shard<T>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The first that `look` finds at a shard, beginning after `from` and ending with it.
    fn find_from<R>(
        &self,
        from: usize,
        mut look: impl FnMut(usize, &Shard<T>) -> Option<R>,
    ) -> Option<R> {
        self.find(from + 1..self.len(), &mut look).or_else(|| self.find(0..from + 1, &mut look))
    }

    /// The first that `look` finds at a shard of `indices`. Costs a look at each place of the
    /// buckets that are there.
    #[inline]
    fn find<R>(
        &self,
        indices: Range<usize>,
        mut look: impl FnMut(usize, &Shard<T>) -> Option<R>,
    ) -> Option<R> {
        if indices.is_empty() {
            return None;
        }
        let (first, last) = (Self::split(indices.start), Self::split(indices.end - 1));
        for bucket in first.0..=last.0 {
            let places = self.bucket(bucket);
            let from = if bucket == first.0 { first.1 } else { 0 };
            let places = places.get(from..).unwrap_or_default();
            for (index, place) in ((1 << bucket) - 1 + from..indices.end).zip(places) {
                if let Some(found) = place.shard().and_then(|shard| look(index, shard)) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// The places of a bucket; none if it does not exist.
    fn bucket(&self, bucket: usize) -> &[Place<T>] {
        let first = self.buckets[bucket].load(Acquire);
        if first.is_null() {
            return &[];
        }
        // SAFETY: bucket `b` is an array of 2^b places, which by invariant 1 lives as long as the
        // table.
        unsafe { slice::from_raw_parts(first, 1 << bucket) }
    }

    /// The place of `index`, if its bucket exists.
    fn place(&self, index: usize) -> Option<&Place<T>> {
        let (bucket, offset) = Self::split(index);
        self.bucket(bucket).get(offset)
    }

    /// Bucket and offset of `index`: 0 | 1 2 | 3 4 5 6 | …
    fn split(index: usize) -> (usize, usize) {
        let bucket = (index + 1).ilog2() as usize;
        (bucket, index + 1 - (1 << bucket))
    }

    /// # Safety
    ///
    /// `first` is the bucket's pointer from `Box::into_raw`, and the caller alone holds it.
    unsafe fn bucket_from_raw(bucket: usize, first: *mut Place<T>) -> Box<[Place<T>]> {
        let places = ptr::slice_from_raw_parts_mut(first, 1 << bucket);
        // SAFETY: the caller's contract; bucket `b` was made with 2^b places.
        unsafe { Box::from_raw(places) }
    }
}

/// Where a shard is, if it has been made; owns it.
struct Place<T>(AtomicPtr<Shard<T>>);

impl<T> Place<T> {
    fn shard(&self) -> Option<&Shard<T>> {
        // SAFETY: by invariant 1 of the module the shard lives as long as its place.
        unsafe { self.0.load(Acquire).as_ref() }
    }

    fn shard_or_made(&self) -> &Shard<T> {
        if self.0.load(Acquire).is_null() {
            let shard = Box::into_raw(Box::new(Shard::new()));
            if self.0.compare_exchange(ptr::null_mut(), shard, AcqRel, Acquire).is_err() {
                // SAFETY: nobody else has seen this shard.
                drop(unsafe { Box::from_raw(shard) });
            }
        }
        self.shard().expect("the shard has just been seen")
    }
}

impl<T> Default for Place<T> {
    fn default() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        let shard = *self.0.get_mut();
        if !shard.is_null() {
            // SAFETY: by invariant 1 of the module; the place is going, so nobody else holds it.
            drop(unsafe { Box::from_raw(shard) });
        }
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
    use super::super::readers::Readers;
    use super::super::stash::{BATCH, PRIVATE_MAX};
    use super::*;

    #[test]
    fn places_tile_the_buckets() {
        let places: Vec<_> = (0..7).map(ShardTable::<()>::split).collect();
        assert_eq!(places, [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)]);
    }

    #[test]
    fn a_shard_is_made_alone() {
        let shards = ShardTable::<u8>::new();
        let made = std::ptr::from_ref(shards.get_or_make(1000));
        assert_eq!((shards.len(), shards.iter().count()), (1001, 1));
        assert!(shards.get(1000).is_some_and(|shard| std::ptr::eq(shard, made)));
        assert!(shards.get(999).is_none() && shards.get(5000).is_none());
        assert!(std::ptr::eq(shards.get_or_make(1000), made));
        shards.get_or_make(3);
        assert_eq!((shards.len(), shards.iter().count()), (1001, 2));
    }

    #[test]
    fn steal_starts_after_oneself_and_ends_with_oneself() {
        let (shards, readers) = (ShardTable::new(), Readers::new());
        for index in 0..5usize {
            // SAFETY: one thread.
            let owned = unsafe { Owned::new(shards.get_or_make(index)) };
            owned.put_private(index).unwrap();
            owned.share();
        }
        let pin = readers.pin();
        let stolen: Vec<_> =
            std::iter::from_fn(|| steal(&shards, 0, 2, &pin)).map(|(value, _)| value).collect();
        assert_eq!(stolen, [3, 4, 0, 1, 2]);
    }

    #[test]
    fn values_move_in_batches() {
        let (shards, readers) = (ShardTable::new(), Readers::new());
        // SAFETY: one thread.
        let [mine, theirs] = [0, 1].map(|index| unsafe { Owned::new(shards.get_or_make(index)) });
        for value in 0..PRIVATE_MAX + 1 {
            if let Err(value) = theirs.put_private(value) {
                theirs.spill(value);
            }
        }
        // The older half is on the ring; of it a thief takes half, and has the youngest of these.
        let pin = readers.pin();
        assert_eq!(steal_share(&shards, &mine, 0, &pin), Some(3));
        let stolen: Vec<_> = std::iter::from_fn(|| mine.take_private()).collect();
        assert_eq!(stolen, [2, 1, 0]);
        // The owner has its values back, the youngest first.
        let private: Vec<_> = std::iter::from_fn(|| theirs.take_private()).collect();
        assert_eq!(private, Vec::from_iter((BATCH..PRIVATE_MAX + 1).rev()));
        assert_eq!(theirs.refill(), Some(7));
        let refilled: Vec<_> = std::iter::from_fn(|| theirs.take_private()).collect();
        assert_eq!(refilled, [6, 5, 4]);
        assert_eq!((theirs.pop(&readers), steal_share(&shards, &mine, 0, &pin)), (None, None));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::super::readers::Readers;
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
                mine.keep(Box::new(10 * index));
                mine.keep(Box::new(10 * index + 1));
                mine.share();
                // It may have been stolen from, or else brings both of its values.
                let mut seen: Vec<_> = mine.pop(&shared.1).into_iter().collect();
                seen.extend(std::iter::from_fn(|| mine.take_private()));
                let pin = shared.1.pin();
                seen.extend(steal_share(&shared.0, &mine, index, &pin));
                seen.extend(std::iter::from_fn(|| mine.take_private()));
                seen
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
