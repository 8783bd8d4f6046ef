//! An unbounded queue made of rings, each twice as large as the one before.
//!
//! ```text
//! tail ─▶ ring 8 ─next─▶ ring 16 ─next─▶ ring 32 ◀─ head
//!         drained by any thread          filled by the owner
//! ```
//!
//! The *owner* (one thread at a time) pushes and pops at the head ring. Any thread pops at the tail
//! ring and moves `tail` past rings that are drained for good. A ring so unlinked is *retired*; see
//! the `readers` module for when it is freed.
//!
//! # Invariants
//!
//! 1. `head` is null until the first push, then the last ring of the list. Only the owner writes
//!    it.
//! 2. A ring whose `next` is set receives no further values.
//! 3. A consumer reads `next` *before* it pops. If the pop then fails and `next` was set, the ring
//!    is empty for ever (2) and may be unlinked. The head ring has no `next`, so it never is.
//! 4. A consumer reaches rings only while pinned, and retires a ring only after unlinking it.

use super::readers::Pin;
use super::ring::Ring;
use crate::base::sync::AtomicPtr;
use crate::collections::rest::drop_rest;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Slots of the first ring.
#[cfg(not(loom))]
const RING_CAPACITY_MIN: usize = 8;
/// Small enough for the model to see several rings.
#[cfg(loom)]
const RING_CAPACITY_MIN: usize = 1;

/// Rings stop doubling here: the head ring outlives what it held, so this bounds what an emptied
/// chain keeps.
const RING_CAPACITY_MAX: usize = 4096;

/// An unbounded queue of rings.
pub(super) struct Chain<T> {
    head: AtomicPtr<Ring<T>>,
    tail: AtomicPtr<Ring<T>>,
}

impl<T> Chain<T> {
    pub(super) fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()), tail: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Adds `values` at the head.
    ///
    /// # Safety
    ///
    /// The calling thread is the chain's owner.
    pub(super) unsafe fn push_head<I>(&self, values: I)
    where
        I: IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    {
        let mut values = values.into_iter();
        let mut head = self.head.load(Relaxed);
        // SAFETY: by invariant 3 the head ring is never unlinked, so it is alive while the owner
        // looks at it.
        if let Some(ring) = unsafe { head.as_ref() } {
            // SAFETY: the owner is the only producer of its rings.
            unsafe { ring.push_head(&mut values) };
        }
        while values.len() > 0 {
            // SAFETY: the owner, with its head ring.
            head = unsafe { self.grow(head, &mut values) };
        }
    }

    /// Takes up to `most` of the youngest values of the head ring, the oldest of them first, and
    /// returns how many. Older rings are left to `pop_tail`.
    ///
    /// # Safety
    ///
    /// The calling thread is the chain's owner.
    pub(super) unsafe fn pop_head(&self, most: u32, each: impl FnMut(T)) -> u32 {
        // SAFETY: as in `push_head`.
        let Some(ring) = (unsafe { self.head.load(Relaxed).as_ref() }) else { return 0 };
        // SAFETY: the owner is the only producer of its rings.
        unsafe { ring.pop_head(most, each) }
    }

    /// Whether there are rings older than the head ring. As the owner sees it, this does not become
    /// true before the next push.
    pub(super) fn has_older(&self) -> bool {
        self.tail.load(Relaxed) != self.head.load(Relaxed)
    }

    /// Takes the oldest value; any thread may call this.
    pub(super) fn pop_oldest(&self, pin: &Pin<'_, T>) -> Option<T> {
        let mut oldest = None;
        self.pop_tail(1, pin, |value| oldest = Some(value));
        oldest
    }

    /// Takes up to `most` of the oldest values, but no more than half of the oldest ring's, the
    /// odd one included; the oldest first. Returns how many. Any thread may call this.
    pub(super) fn pop_tail(&self, most: u32, pin: &Pin<'_, T>, mut each: impl FnMut(T)) -> u32 {
        let mut at = self.tail.load(Acquire);
        loop {
            // SAFETY: by invariant 4 a ring reached while pinned stays allocated.
            let Some(ring) = (unsafe { at.as_ref() }) else { return 0 };
            let next = ring.next.load(Acquire);
            let count = ring.pop_tail(most, &mut each);
            if count > 0 || next.is_null() {
                return count;
            }
            match self.tail.compare_exchange(at, next, Release, Acquire) {
                Ok(_) => {
                    pin.retire(at);
                    at = next;
                }
                Err(now) => at = now,
            }
        }
    }

    /// Links a ring of twice the size, with what it holds of `values` in it, behind `full`, and
    /// returns it.
    ///
    /// # Safety
    ///
    /// The calling thread is the chain's owner, and `full` is `head`.
    #[cold]
    #[inline(never)]
    unsafe fn grow(
        &self,
        full: *const Ring<T>,
        values: &mut impl Iterator<Item = T>,
    ) -> *mut Ring<T> {
        // SAFETY: null or, by invariant 3, alive, until it is linked below.
        let before = unsafe { full.as_ref() };
        let capacity = before.map_or(RING_CAPACITY_MIN, |full| full.capacity() * 2);
        let ring = Ring::new(capacity.min(RING_CAPACITY_MAX));
        // SAFETY: nobody else knows the ring yet.
        unsafe { ring.push_head(values) };
        let ring = Box::into_raw(Box::new(ring));
        self.head.store(ring, Relaxed);
        let link = if full.is_null() {
            &self.tail
        } else {
            // SAFETY: as above. No more than the link is borrowed: once it is set, a consumer may
            // free the ring before the store returns.
            unsafe { &(*full).next }
        };
        link.store(ring, Release);
        ring
    }
}

impl<T> Drop for Chain<T> {
    fn drop(&mut self) {
        let mut at = self.tail.load(Relaxed);
        drop_rest(|| {
            if at.is_null() {
                return false;
            }
            // SAFETY: the chain is going, so nobody else can reach its rings; each came from
            // `Box::into_raw` in `grow`, and those still linked have not been retired.
            let ring = unsafe { Box::from_raw(at) };
            at = ring.next.load(Relaxed);
            true
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::readers::Readers;
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn grows_by_doubling_and_gives_drained_rings_back() {
        let (chain, readers) = (Chain::new(), Readers::new());
        for value in 0..100 {
            // SAFETY: one thread.
            unsafe { chain.push_head([value]) };
        }
        // 8 + 16 + 32 + 64 ≥ 100.
        // SAFETY: one thread.
        assert_eq!(unsafe { &*chain.head.load(Relaxed) }.capacity(), 64);
        let pin = readers.pin();
        let drained: Vec<_> = std::iter::from_fn(|| chain.pop_oldest(&pin)).collect();
        assert_eq!(drained, Vec::from_iter(0..100));
        assert_eq!(readers.waiting(), 3);
        drop(pin);
        assert_eq!(readers.waiting(), 0);
    }

    #[test]
    fn head_is_last_in_first_out() {
        let chain = Chain::new();
        // SAFETY: one thread.
        unsafe { chain.push_head(0..5) };
        let mut popped = Vec::new();
        for most in [1, 2, 9] {
            // SAFETY: one thread.
            unsafe { chain.pop_head(most, |value| popped.push(value)) };
        }
        assert_eq!(popped, [4, 2, 3, 0, 1]);
    }

    #[test]
    fn a_batch_may_take_several_rings() {
        let (chain, readers) = (Chain::new(), Readers::new());
        // SAFETY: one thread.
        unsafe { chain.push_head(0..5) };
        // SAFETY: one thread.
        unsafe { chain.push_head(5..60) };
        let pin = readers.pin();
        let drained: Vec<_> = std::iter::from_fn(|| chain.pop_oldest(&pin)).collect();
        assert_eq!(drained, Vec::from_iter(0..60));
        // 8 + 16 + 32 < 60 ≤ 8 + 16 + 32 + 64.
        assert_eq!(readers.waiting(), 3);
        // SAFETY: one thread.
        unsafe { chain.push_head(None) };
        assert!(chain.pop_oldest(&pin).is_none());
    }

    #[test]
    fn thieves_and_owner_lose_and_double_nothing() {
        const VALUES: u64 = if cfg!(miri) { 300 } else { 201_000 };
        let shared = Arc::new((Chain::<Box<u64>>::new(), Readers::new(), AtomicBool::new(false)));
        let thieves = [(); 3].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || {
                let (chain, readers, done) = &*shared;
                let (mut count, mut sum) = (0, 0);
                loop {
                    let finished = done.load(Acquire);
                    let pin = readers.pin();
                    let mut add = |value: Box<u64>| {
                        count += 1;
                        sum += *value;
                    };
                    while chain.pop_tail(5, &pin, &mut add) > 0 {}
                    if finished {
                        return (count, sum);
                    }
                }
            })
        });
        let (chain, _, done) = &*shared;
        let (mut count, mut sum) = (0, 0);
        for value in (0..VALUES).step_by(3) {
            // SAFETY: this thread is the owner.
            unsafe { chain.push_head([0, 1, 2].map(|at| Box::new(value + at))) };
            let add = |value: Box<u64>| {
                count += 1;
                sum += *value;
            };
            // SAFETY: this thread is the owner.
            unsafe { chain.pop_head(1 + (value % 2) as u32, add) };
        }
        done.store(true, Release);
        for thief in thieves {
            let (their_count, their_sum) = thief.join().unwrap();
            count += their_count;
            sum += their_sum;
        }
        assert_eq!((count, sum), (VALUES, VALUES * (VALUES - 1) / 2));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::super::readers::Readers;
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// What was `seen` so far and what is left in the chain, in order.
    fn all<T: Ord>(mut seen: Vec<T>, chain: &Chain<T>, readers: &Readers<T>) -> Vec<T> {
        let pin = readers.pin();
        seen.extend(std::iter::from_fn(|| chain.pop_oldest(&pin)));
        seen.sort();
        seen
    }

    /// The owner pushes past two rings while a thief drains, unlinks and frees them.
    #[test]
    fn loom_chain_unlinks_only_drained_rings() {
        loom::model(|| {
            let shared = Arc::new((Chain::new(), Readers::new()));
            let thief = {
                let shared = shared.clone();
                thread::spawn(move || {
                    let pin = shared.1.pin();
                    [shared.0.pop_oldest(&pin), shared.0.pop_oldest(&pin)]
                })
            };
            let (chain, readers) = &*shared;
            for value in [1, 2, 3] {
                // SAFETY: only this thread owns the chain.
                unsafe { chain.push_head([Box::new(value)]) };
            }
            let mut seen = Vec::new();
            // SAFETY: only this thread owns the chain.
            unsafe { chain.pop_head(1, |value| seen.push(value)) };
            seen.extend(thief.join().unwrap().into_iter().flatten());
            assert_eq!(all(seen, chain, readers), [1, 2, 3].map(Box::new));
        });
    }

    /// A thief finds a ring empty; the owner fills that ring and links another one. The thief must
    /// not take the first for drained.
    #[test]
    fn loom_chain_does_not_unlink_a_ring_that_was_refilled() {
        loom::model(|| {
            let shared = Arc::new((Chain::new(), Readers::new()));
            let (chain, readers) = &*shared;
            // SAFETY: only this thread owns the chain.
            unsafe { chain.push_head([Box::new(0)]) };
            // SAFETY: only this thread owns the chain.
            assert_eq!(unsafe { chain.pop_head(1, drop) }, 1);
            let thief = {
                let shared = shared.clone();
                thread::spawn(move || shared.0.pop_oldest(&shared.1.pin()))
            };
            for value in [1, 2] {
                // SAFETY: only this thread owns the chain.
                unsafe { chain.push_head([Box::new(value)]) };
            }
            let seen = thief.join().unwrap().into_iter().collect();
            assert_eq!(all(seen, chain, readers), [1, 2].map(Box::new));
        });
    }

    /// Somebody is about to free retired rings when two thieves come: one looks at a ring that the
    /// other one retires.
    #[test]
    fn loom_chain_frees_no_ring_under_a_late_reader() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(3);
        bounds.check(|| {
            let shared = Arc::new((Chain::new(), Readers::new()));
            let (chain, readers) = &*shared;
            for value in 1..=4 {
                // SAFETY: only this thread owns the chain.
                unsafe { chain.push_head([Box::new(value)]) };
            }
            let pin = readers.pin();
            assert_eq!(
                [(); 3].map(|()| chain.pop_oldest(&pin).map(|value| *value)),
                [1, 2, 3].map(Some)
            );
            let thieves = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || shared.0.pop_oldest(&shared.1.pin()))
            });
            drop(pin);
            let seen: Vec<_> =
                thieves.into_iter().filter_map(|thief| thief.join().unwrap()).collect();
            assert_eq!(seen, [Box::new(4)]);
        });
    }

    /// Two thieves walk the same rings: the one that unlinks a ring may not free it under the
    /// other.
    #[test]
    fn loom_chain_frees_no_ring_under_a_reader() {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(3);
        bounds.check(|| {
            let shared = Arc::new((Chain::new(), Readers::new()));
            for value in [1, 2] {
                // SAFETY: only this thread owns the chain.
                unsafe { shared.0.push_head([Box::new(value)]) };
            }
            let thieves = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let pin = shared.1.pin();
                    shared.0.pop_oldest(&pin)
                })
            });
            let mut seen: Vec<_> =
                thieves.into_iter().filter_map(|thief| thief.join().unwrap()).collect();
            seen.sort();
            assert_eq!(seen, [1, 2].map(Box::new));
        });
    }
}
