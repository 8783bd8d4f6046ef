//! A mutex over one futex word that allocates nothing, is `const` to make, and
//! can be held across `fork`.
//!
//! The word is the classic one (Drepper, *Futexes Are Tricky*, mutex 3): 0 free,
//! 1 held, 2 held and somebody may sleep. `std::sync::Mutex` would do on Linux
//! but for two things: it poisons, and it cannot be taken in `pthread_atfork`'s
//! *prepare* handler and released in *parent* and *child*.
//!
//! # Invariants
//!
//! 1. The value is reached only by who holds the lock: through a [`Guard`], or
//!    between `acquire` and `release`.
//! 2. Whoever sets the word from 2 to 0 wakes one sleeper.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering::*};

use super::futex::futex;

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;
const SPINS: u32 = 60;

/// A mutual-exclusion lock around a `T`. The word comes first, for what follows may be long
/// and not be touched.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Lock<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: by invariant 1 one thread at a time reaches the value.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { word: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Waits for the lock.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.acquire();
        Guard { lock: self }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        let taken = self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok();
        // Lazily: a guard made and dropped would release what another thread holds.
        taken.then(|| Guard { lock: self })
    }

    /// Takes the lock without a guard: for fork handlers, where it is taken in
    /// one function and released in another.
    #[inline]
    pub(crate) fn acquire(&self) {
        if self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
            acquire_contended(&self.word);
        }
    }

    /// The value, for who took the lock by [`acquire`](Self::acquire).
    ///
    /// # Safety
    ///
    /// The calling thread holds the lock while it uses the result.
    #[cfg(test)]
    pub(crate) unsafe fn peek(&self) -> &T {
        // SAFETY: by the contract.
        unsafe { &*self.value.get() }
    }

    /// Whether a thread may be waiting for the lock, which this one holds.
    #[inline]
    pub(crate) fn is_waited_for(&self) -> bool {
        self.word.load(Relaxed) == CONTENDED
    }

    /// Releases a lock that [`acquire`](Self::acquire) took.
    #[inline]
    pub(crate) fn release(&self) {
        if self.word.swap(FREE, Release) == CONTENDED {
            // By invariant 2.
            futex(&self.word, libc::FUTEX_WAKE, 1, None);
        }
    }
}

#[cold]
#[unsafe(link_section = ".spanalloc.text")]
fn acquire_contended(word: &AtomicU32) {
    for _ in 0..SPINS {
        if word.load(Relaxed) == FREE && word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
        {
            return;
        }
        core::hint::spin_loop();
    }
    while word.swap(CONTENDED, Acquire) != FREE {
        futex(word, libc::FUTEX_WAIT, CONTENDED, None);
    }
}

/// The right to the value; gives the lock back when dropped.
#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Guard<'_, T> {
    /// Lets those have the lock who wait for it, if anybody does, and takes it again: otherwise
    /// whoever released it takes it again before they have woken up.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn let_others(&mut self) {
        if self.lock.is_waited_for() {
            self.lock.release();
            super::os::pause();
            self.lock.acquire();
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: by invariant 1; a guard exists only while the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: by invariant 1, and `self` is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.release();
    }
}

#[cfg(test)]
mod tests {
    use super::Lock;

    #[test]
    fn increments_under_contention_are_not_lost() {
        let lock = Lock::new(0u64);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50_000).for_each(|_| *lock.lock() += 1));
            }
        });
        assert_eq!(*lock.lock(), 400_000);
        assert!(lock.try_lock().is_some());
        let _held = lock.lock();
        assert!(lock.try_lock().is_none());
        assert!(lock.try_lock().is_none(), "a failed attempt releases nothing");
    }
}
