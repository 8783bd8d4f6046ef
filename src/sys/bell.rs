//! A bell: one thread waits for it; any may ring it, also in a signal handler.
//!
//! # Invariants
//!
//! 1. The word counts rings and changes by nothing else: who has seen a number waits for any
//!    other one, so that no ring in between is missed.
//! 2. A ring is one addition and one system call, takes no lock and leaves `errno` alone.

use core::sync::atomic::{AtomicU32, Ordering::*};
use core::time::Duration;

use super::futex::futex;

/// A count of rings, on which threads sleep.
#[derive(Debug)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Wakes who waits.
    pub(crate) fn ring(&self) {
        self.0.fetch_add(1, Release);
        futex(&self.0, libc::FUTEX_WAKE, 1, None);
    }

    /// Rings so far.
    pub(crate) fn rings(&self) -> u32 {
        self.0.load(Acquire)
    }

    /// Waits while there were `seen` rings, for `time` at most; or less.
    pub(crate) fn wait(&self, seen: u32, time: Option<Duration>) {
        let time = time.map(|time| libc::timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        futex(&self.0, libc::FUTEX_WAIT, seen, time.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::sys::asleep::{PATIENCE, Sleeper};

    #[test]
    fn a_ring_before_the_wait_is_not_missed_and_time_ends_it() {
        let bell = Bell::new();
        let start = Instant::now();
        let seen = bell.rings();
        bell.ring();
        bell.wait(seen, None);
        assert_eq!(bell.rings(), seen + 1);
        while start.elapsed() < Duration::from_millis(20) {
            bell.wait(seen + 1, Some(Duration::from_millis(20)));
        }
        assert_eq!(bell.rings(), seen + 1);
    }

    #[test]
    fn a_ring_wakes_another_thread() {
        let (bell, waits) = (Bell::new(), Sleeper::new());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let start = Instant::now();
                waits.is_me();
                while bell.rings() == 0 {
                    bell.wait(0, Some(2 * PATIENCE));
                }
                start.elapsed()
            });
            waits.wait();
            bell.ring();
            let waited = waiter.join().unwrap();
            assert!(waited < 2 * PATIENCE, "time ended it");
        });
    }
}
