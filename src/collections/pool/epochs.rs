//! Epochs begun by the clock or by a condition, from a thread of their own.

use super::thread::Member;
use super::{AnyPool, Pool, SlicePool};
use crate::base::forks;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

/// Advances a pool from a background thread, until it is dropped or the pool is gone.
///
/// When the `Drop` of a pooled value panics there, the epochs go on: the value is gone, the next
/// one drops the rest.
///
/// Dropping it stops the thread and waits for it, unless it is dropped on that very thread, by the
/// condition or by a value of the pool: then the thread ends as soon as it comes back from there. A
/// child of a fork has no such thread, and waits for none.
///
/// ```
/// use spanalloc::pool::{Epochs, Pool};
/// use std::time::Duration;
///
/// let pool: Pool<Vec<u8>> = Pool::new(Vec::new);
/// let epochs = Epochs::every(&pool, Duration::from_secs(60))?;
/// // … values unused for one to two minutes are dropped …
/// drop(epochs); // stops the thread and waits for it
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Epochs {
    /// Dropping it wakes the thread for the last time.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// In which the thread runs.
    process: u64,
}

/// A pool whose epochs [`Epochs`] can begin: [`Pool`], [`SlicePool`] or [`AnyPool`]. Nobody else
/// implements it.
pub trait EpochPool: sealed::Sealed {}

mod sealed {
    pub trait Sealed {
        /// What knows how to begin an epoch, while the pool is there.
        fn member(&self) -> std::sync::Weak<dyn super::Member>;
    }
}

impl<T: Send + 'static, F> sealed::Sealed for Pool<T, F> {
    fn member(&self) -> Weak<dyn Member> {
        Arc::downgrade(&self.core) as Weak<dyn Member>
    }
}

impl<T: Send + 'static> sealed::Sealed for SlicePool<T> {
    fn member(&self) -> Weak<dyn Member> {
        Arc::downgrade(&self.core) as Weak<dyn Member>
    }
}

impl sealed::Sealed for AnyPool {
    fn member(&self) -> Weak<dyn Member> {
        Arc::downgrade(&self.core) as Weak<dyn Member>
    }
}

impl<T: Send + 'static, F> EpochPool for Pool<T, F> {}
impl<T: Send + 'static> EpochPool for SlicePool<T> {}
impl EpochPool for AnyPool {}

impl Epochs {
    /// Begins an epoch of `pool` once in each `period`.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started, or `period` is zero ([`io::ErrorKind::InvalidInput`]).
    pub fn every(pool: &impl EpochPool, period: Duration) -> io::Result<Self> {
        Self::when(pool, period, || true)
    }

    /// Asks `condition` once in each `period` and begins an epoch of `pool` when it says true, for
    /// example [`resident_above`] a number of bytes. A `condition` that panics ends the epochs.
    ///
    /// # Errors
    ///
    /// As [`every`](Epochs::every).
    pub fn when<C>(pool: &impl EpochPool, period: Duration, mut condition: C) -> io::Result<Self>
    where
        C: FnMut() -> bool + Send + 'static,
    {
        if period.is_zero() {
            let message = "the period of a pool's epochs is 0; it must be longer than that";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let pool = pool.member();
        let (stop, stopped) = mpsc::channel();
        let thread = Builder::new().name("pool-epochs".into()).spawn(move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                match pool.upgrade() {
                    Some(pool) if condition() => {
                        // Has been reported; the pool gives the turn back as it unwinds.
                        let _ = catch_unwind(AssertUnwindSafe(|| pool.advance()));
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            process: forks::process(std::process::id()),
        })
    }
}

impl Drop for Epochs {
    fn drop(&mut self) {
        if self.process != forks::process(std::process::id()) {
            // In the child of a fork the thread is gone, maybe with a lock of the channel: even to
            // let go of the two would be to look at what it left.
            std::mem::forget((self.stop.take(), self.thread.take()));
            return;
        }
        drop(self.stop.take());
        // Its condition, or a value dropped with the pool, may have been the last owner of this: a
        // thread cannot wait for itself.
        let is_other = |thread: &JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = self.thread.take().filter(is_other) {
            // A panic there came from the condition, or from a value dropped with the pool, and has
            // been reported; this destructor must not raise it again.
            let _ = thread.join();
        }
    }
}

/// A condition for [`Epochs::when`]: whether the process has more than `bytes_max` resident bytes,
/// as the kernel counts them. Costs one read of `/proc/self/statm`; false where that fails.
///
/// ```
/// use spanalloc::pool::resident_above;
///
/// assert!(resident_above(0)());
/// assert!(!resident_above(u64::MAX)());
/// ```
pub fn resident_above(bytes_max: u64) -> impl FnMut() -> bool + Send + 'static {
    move || resident_bytes().is_some_and(|bytes| bytes > bytes_max)
}

fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: no preconditions.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page_bytes).ok()?)
}
