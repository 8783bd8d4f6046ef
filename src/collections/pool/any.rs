//! A pool that takes values of every type, to show what that costs.
//!
//! Go's `sync.Pool` holds interface values. People say that it sorts them by type; it does not. A
//! get hands out whatever comes, and a value that is not already a pointer is boxed on its way in.
//! This pool does the same and counts both, so that the price can be compared with
//! [`Pool`](super::Pool).

use super::core::Core;
use super::stats::PoolStats;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A pool of boxed values of any type.
///
/// ```
/// use spanalloc::pool::AnyPool;
///
/// let pool = AnyPool::new();
/// pool.put(String::from("text")); // boxes it: one allocation
/// assert!(pool.get::<Vec<u8>>().is_none()); // a String came: a type miss, and it is dropped
/// pool.put_box(Box::new(7u32)); // already boxed
/// assert_eq!(pool.get::<u32>().as_deref(), Some(&7));
/// let stats = pool.stats();
/// assert_eq!((stats.boxed, stats.type_hits, stats.type_misses), (1, 1, 1));
/// ```
pub struct AnyPool {
    pub(super) core: Arc<Core<Box<dyn Any + Send>>>,
    boxed: AtomicU64,
    type_hits: AtomicU64,
    type_misses: AtomicU64,
}

impl AnyPool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Self {
        Self {
            core: Core::new(),
            boxed: AtomicU64::new(0),
            type_hits: AtomicU64::new(0),
            type_misses: AtomicU64::new(0),
        }
    }

    /// The next value if it happens to be a `T`. A value of another type is dropped and counted as
    /// a type miss; `None` without one means that the pool had nothing.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<Box<T>> {
        match self.core.take()?.downcast() {
            Ok(value) => {
                self.type_hits.fetch_add(1, Relaxed);
                Some(value)
            }
            Err(other) => {
                self.type_misses.fetch_add(1, Relaxed);
                drop(other);
                None
            }
        }
    }

    /// Gives the pool `value`, in a box allocated for it.
    pub fn put<T: Any + Send>(&self, value: T) {
        self.boxed.fetch_add(1, Relaxed);
        self.core.put(Box::new(value));
    }

    /// Gives the pool a value that is boxed already.
    pub fn put_box<T: Any + Send>(&self, value: Box<T>) {
        self.core.put(value);
    }

    /// Begins an epoch; see [`Pool::advance`](super::Pool::advance).
    pub fn advance(&self) -> Option<u64> {
        self.core.advance()
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> AnyPoolStats {
        AnyPoolStats {
            pool: self.core.stats(),
            boxed: self.boxed.load(Relaxed),
            type_hits: self.type_hits.load(Relaxed),
            type_misses: self.type_misses.load(Relaxed),
        }
    }
}

impl Default for AnyPool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AnyPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyPool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Counters of an [`AnyPool`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnyPoolStats {
    /// The counters of the pool inside, whatever the types.
    pub pool: PoolStats,
    /// Values that were boxed on their way in: one allocation each (none for a type of size 0).
    pub boxed: u64,
    /// Gets that found a value of the type asked for.
    pub type_hits: u64,
    /// Gets that found a value of another type and dropped it.
    pub type_misses: u64,
}
