//! For tests: waits until a thread sleeps in the kernel, so that what is to wake it comes after.

use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Far longer than anything takes that is to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A thread that will sleep.
#[derive(Debug)]
pub(crate) struct Sleeper(AtomicI32);

impl Sleeper {
    pub(crate) const fn new() -> Self {
        Self(AtomicI32::new(0))
    }

    /// It is this thread, which does nothing from here on that could wait but what is meant.
    pub(crate) fn is_me(&self) {
        // SAFETY: takes no arguments.
        self.0.store(unsafe { libc::gettid() }, SeqCst);
    }

    /// Waits until it sleeps.
    pub(crate) fn wait(&self) {
        eventually("it sleeps", || {
            let stat = format!("/proc/self/task/{}/stat", self.0.load(SeqCst));
            let stat = std::fs::read_to_string(stat).unwrap_or_default();
            // Behind its name, which is in parentheses.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        });
    }
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
