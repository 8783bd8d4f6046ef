//! When a ring that was unlinked from its chain may be freed.
//!
//! A thread *pins* itself before it walks the rings of chains. A ring that has been unlinked is
//! *retired*: no later pin reaches it, but an earlier one may. So it is freed when nobody is
//! pinned.
//!
//! # Invariants
//!
//! 1. A ring in the list at `retired` was unlinked before it came there, and came from
//!    `Box::into_raw`. The list, or the call of `reclaim` that has taken it, owns it and its
//!    `retired_next`.
//! 2. Rings are reached only while pinned, and freed only by who has taken the list and then found
//!    `active` at zero.
//! 3. Nobody waits: a fork may leave the child without the thread that would be waited for.
//!
//! Ordering: `active` is changed, and checked, by read-modify-writes alone, which have one order.
//! So either the check sees the pin, or the pin's Acquire reads what the check's Release has
//! written, or what others made of it since, and the pinned thread sees the chain without the
//! retired ring. The Release of unpinning makes all uses happen before the check's Acquire. The
//! Release of retiring hands the ring, and that it was unlinked, to the Acquire of taking the list.

use super::ring::Ring;
use crate::base::sync::{AtomicPtr, AtomicUsize};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Who is looking at rings, and which rings wait until nobody is.
pub(super) struct Readers<T> {
    /// Threads that are pinned.
    active: AtomicUsize,
    /// The first of the unlinked rings, which are linked by `retired_next`.
    retired: AtomicPtr<Ring<T>>,
    /// Values pass from thread to thread, as through a mutex: they must be `Send`.
    values: PhantomData<Mutex<T>>,
}

impl<T> Readers<T> {
    pub(super) fn new() -> Self {
        Self {
            active: AtomicUsize::new(0),
            retired: AtomicPtr::new(ptr::null_mut()),
            values: PhantomData,
        }
    }

    /// Keeps rings allocated until the result is dropped.
    pub(super) fn pin(&self) -> Pin<'_, T> {
        self.active.fetch_add(1, Acquire);
        Pin(self)
    }

    /// Rings retired and not yet freed, counted while nobody else is at work.
    #[cfg(all(test, not(loom)))]
    pub(super) fn waiting(&self) -> usize {
        let mut at = self.retired.load(Relaxed);
        let next = || {
            // SAFETY: by invariant 1; nobody frees it meanwhile.
            let ring = unsafe { at.as_ref() }?;
            at = ring.retired_next.load(Relaxed);
            Some(())
        };
        std::iter::from_fn(next).count()
    }

    /// Frees the retired rings if nobody is pinned.
    #[cold]
    fn reclaim(&self) {
        let list = self.retired.swap(ptr::null_mut(), Acquire);
        if self.active.fetch_add(0, AcqRel) != 0 {
            return self.put_back(list);
        }
        // SAFETY: by invariants 1 and 2: the rings were unlinked before they came into the list, it
        // was taken before the check, and nobody is pinned.
        unsafe { Self::free(list) };
    }

    /// # Safety
    ///
    /// The caller has taken the list, and nobody can reach its rings.
    unsafe fn free(mut at: *mut Ring<T>) {
        while !at.is_null() {
            // SAFETY: the caller's contract; by invariant 1 it came from `Box::into_raw`.
            let ring = unsafe { Box::from_raw(at) };
            at = ring.retired_next.load(Relaxed);
        }
    }

    /// Puts a list that was taken before those that have been retired since.
    fn put_back(&self, first: *mut Ring<T>) {
        let mut last = first;
        loop {
            // SAFETY: by invariant 1 the ring is this call's, and not freed.
            let Some(ring) = (unsafe { last.as_ref() }) else { return };
            let next = ring.retired_next.load(Relaxed);
            if next.is_null() {
                // SAFETY: the list that was taken.
                return unsafe { self.push(first, last) };
            }
            last = next;
        }
    }

    /// Puts a list from `first` to `last` before what is there.
    ///
    /// # Safety
    ///
    /// The list is the caller's, of rings as by invariant 1.
    unsafe fn push(&self, first: *mut Ring<T>, last: *const Ring<T>) {
        // SAFETY: by invariant 1 the ring is not freed as long as the list is this call's. No more
        // than the link is borrowed: somebody may take the list and free the ring before the
        // exchange below returns.
        let link = unsafe { &(*last).retired_next };
        let mut seen = self.retired.load(Relaxed);
        loop {
            link.store(seen, Relaxed);
            match self.retired.compare_exchange_weak(seen, first, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

impl<T> Drop for Readers<T> {
    fn drop(&mut self) {
        let list = self.retired.swap(ptr::null_mut(), Acquire);
        // SAFETY: `&mut self` excludes pins, those of `active` that a fork left behind, too.
        unsafe { Self::free(list) };
    }
}

/// While it lives, no ring is freed.
pub(super) struct Pin<'a, T>(&'a Readers<T>);

impl<T> Pin<'_, T> {
    /// Takes charge of a ring that the caller has unlinked.
    #[cold]
    pub(super) fn retire(&self, ring: *mut Ring<T>) {
        // SAFETY: it was unlinked, and only by this caller; rings come from `Box::into_raw`.
        unsafe { self.0.push(ring, ring) };
    }
}

impl<T> Drop for Pin<'_, T> {
    fn drop(&mut self) {
        let was_last = self.0.active.fetch_sub(1, Release) == 1;
        if was_last && !self.0.retired.load(Relaxed).is_null() {
            self.0.reclaim();
        }
    }
}
