//! How often a thread had to wait for a lock while it fetched or ended a span of blocks, by
//! class.
//!
//! Counted where the lock is found taken; one that is free costs nothing more.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::class::{CLASSES, ClassId};
use crate::sys::lock::{Guard, Lock};

/// Counts of waits.
#[derive(Debug)]
pub(crate) struct Waits([AtomicU64; CLASSES]);

impl Waits {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; CLASSES])
    }

    /// Takes a lock on behalf of a class.
    #[inline]
    pub(crate) fn lock<'a, T>(&self, lock: &'a Lock<T>, class: ClassId) -> Guard<'a, T> {
        lock.try_lock().unwrap_or_else(|| {
            self.waited(class);
            lock.lock()
        })
    }

    #[cold]
    fn waited(&self, class: ClassId) {
        if let Some(count) = self.0.get(class.index()) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn of(&self, class: ClassId) -> u64 {
        self.0.get(class.index()).map_or(0, |count| count.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_counted_for_its_class_and_a_free_lock_is_not() {
        static WAITS: Waits = Waits::new();
        static LOCK: Lock<u32> = Lock::new(0);
        let (class, other) = (ClassId::from_header(3), ClassId::from_header(4));
        drop(WAITS.lock(&LOCK, class));
        assert_eq!(WAITS.of(class), 0);
        let held = LOCK.lock();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(move || *WAITS.lock(&LOCK, class) += 1);
            while WAITS.of(class) == 0 {
                std::thread::yield_now();
            }
            drop(held);
            waiter.join().unwrap();
        });
        assert_eq!((WAITS.of(class), WAITS.of(other), *LOCK.lock()), (1, 0, 1));
    }
}
