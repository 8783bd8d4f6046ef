//! When a ring that was unlinked from its chain may be freed.
//!
//! A thread *pins* itself before it walks the rings of chains. A ring that has been unlinked is
//! *retired*: no later pin reaches it, but an earlier one may. So it is freed when nobody is pinned.
//!
//! Invariants:
//!
//! 1. A ring in `retired` was unlinked before it came there, and came from `Box::into_raw`. The
//!    list alone owns it.
//! 2. Rings are reached only while pinned, and freed only under the list's lock when `active` is
//!    zero.
//!
//! Ordering: pinning is followed, and the check that nobody is pinned is preceded, by a sequentially
//! consistent fence. So either the check sees the pin, or the pinned thread sees the chain without
//! the retired ring. The Release of unpinning makes all uses happen before the check's Acquire.

use super::ring::Ring;
use crate::base::sync::{AtomicUsize, fence};
#[cfg(loom)]
use loom::sync::Mutex;
#[cfg(not(loom))]
use std::sync::Mutex;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

/// Who is looking at rings, and which rings wait until nobody is.
pub(super) struct Readers<T> {
    /// Threads that are pinned.
    active: AtomicUsize,
    /// Length of `retired`, written under its lock: a hint that spares the pins the lock.
    waiting: AtomicUsize,
    retired: Mutex<Vec<RetiredRing<T>>>,
}

/// An unlinked ring.
struct RetiredRing<T>(*mut Ring<T>);

// SAFETY: the pointer is this value's alone once nobody is pinned, and the ring's values are `Send`.
unsafe impl<T: Send> Send for RetiredRing<T> {}

impl<T> Readers<T> {
    pub(super) fn new() -> Self {
        Self {
            active: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            retired: Mutex::new(Vec::new()),
        }
    }

    /// Keeps rings allocated until the result is dropped.
    pub(super) fn pin(&self) -> Pin<'_, T> {
        self.active.fetch_add(1, SeqCst);
        fence(SeqCst);
        Pin(self)
    }

    /// Rings retired and not yet freed.
    #[cfg(all(test, not(loom)))]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Frees the retired rings if nobody is pinned.
    #[cold]
    fn reclaim(&self) {
        let Ok(mut retired) = self.retired.lock() else { return };
        fence(SeqCst);
        if self.active.load(Acquire) != 0 {
            return;
        }
        for RetiredRing(ring) in retired.drain(..) {
            // SAFETY: by invariants 1 and 2: the ring was unlinked before it came into the list,
            // the list was locked before the check, and nobody is pinned. It came from `Box::into_raw`.
            drop(unsafe { Box::from_raw(ring) });
        }
        self.waiting.store(0, Relaxed);
    }
}

impl<T> Drop for Readers<T> {
    fn drop(&mut self) {
        self.reclaim();
    }
}

/// While it lives, no ring is freed.
pub(super) struct Pin<'a, T>(&'a Readers<T>);

impl<T> Pin<'_, T> {
    /// Takes charge of a ring that the caller has unlinked.
    #[cold]
    pub(super) fn retire(&self, ring: *mut Ring<T>) {
        // A poisoned lock would mean a panic while freeing an empty ring, which runs no foreign
        // code; leaking the ring is then the safe choice.
        if let Ok(mut retired) = self.0.retired.lock() {
            retired.push(RetiredRing(ring));
            self.0.waiting.store(retired.len(), Relaxed);
        }
    }
}

impl<T> Drop for Pin<'_, T> {
    fn drop(&mut self) {
        let was_last = self.0.active.fetch_sub(1, Release) == 1;
        if was_last && self.0.waiting.load(Relaxed) != 0 {
            self.0.reclaim();
        }
    }
}
