//! A pool of vectors whose capacity stays in bounds.
//!
//! # Invariants
//!
//! 1. A guard's `value` is initialized until the guard is dropped or taken apart, which happens
//!    once.

use super::core::Core;
use super::owned::OwnedSliceGuard;
use super::stats::PoolStats;
use std::alloc::Layout;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A pool of vectors that start with one capacity and are not kept beyond another.
///
/// A vector that has grown past the larger bound is freed instead of reused, so that one unusual
/// job does not leave its memory with every later one. So is one that was shrunk or replaced and
/// has less room than the smaller bound.
///
/// ```
/// use spanalloc::pool::SlicePool;
///
/// let pool: SlicePool<u64> = SlicePool::default(); // made with 64, kept up to 128
/// pool.get().extend(0..100);
/// pool.get().extend(0..1000);
/// let stats = pool.stats();
/// assert_eq!((stats.pool.new, stats.pool.reused(), stats.discards), (1, 1, 1));
/// ```
pub struct SlicePool<T> {
    pub(super) core: Arc<Core<Vec<T>>>,
    capacity: usize,
    capacity_max: usize,
    discards: AtomicU64,
}

impl<T: Send + 'static> SlicePool<T> {
    /// A pool whose vectors are made with room for `capacity` values and reused while they have
    /// room for `capacity_max` at most.
    ///
    /// # Panics
    ///
    /// When `capacity` is greater than `capacity_max`: no vector would ever be reused; and when no
    /// vector can have so large a capacity.
    #[must_use]
    pub fn new(capacity: usize, capacity_max: usize) -> Self {
        assert!(
            capacity <= capacity_max,
            "capacity {capacity} is above capacity_max {capacity_max}: nothing would be reused"
        );
        let size = size_of::<T>();
        assert!(
            Layout::array::<T>(capacity).is_ok(),
            "capacity {capacity} is too large for values of {size} bytes"
        );
        Self { core: Core::new(), capacity, capacity_max, discards: AtomicU64::new(0) }
    }

    /// An empty vector with room for at least the pool's smaller capacity.
    #[inline]
    #[must_use]
    pub fn get(&self) -> SliceGuard<'_, T> {
        SliceGuard { pool: self, value: ManuallyDrop::new(self.take()) }
    }

    /// As [`get`](SlicePool::get), without a guard: the caller may give the vector back by
    /// [`put`](SlicePool::put), or keep it.
    ///
    /// ```
    /// use spanalloc::pool::SlicePool;
    ///
    /// let pool: SlicePool<u8> = SlicePool::new(1024, 4096);
    /// let mut page = pool.take();
    /// page.extend(b"sent to another thread");
    /// std::thread::scope(|scope| scope.spawn(|| pool.put(page)).join()).unwrap();
    /// assert!(pool.take().is_empty());
    /// assert_eq!(pool.stats().pool.new, 1);
    /// ```
    #[inline]
    #[must_use]
    pub fn take(&self) -> Vec<T> {
        self.core.take().unwrap_or_else(|| {
            let value = Vec::with_capacity(self.capacity);
            self.core.count_new();
            value
        })
    }

    /// Clears `value` and gives it to the pool, or frees it when its capacity is out of the pool's
    /// bounds. It need not have come from it. If dropping an element panics, the vector is freed.
    #[inline]
    pub fn put(&self, mut value: Vec<T>) {
        // What has no size has room without end.
        let kept = self.capacity..=self.capacity_max;
        if size_of::<T>() > 0 && !kept.contains(&value.capacity()) {
            return self.discard(value);
        }
        value.clear();
        self.core.put(value);
    }

    /// As [`get`](SlicePool::get), with a guard that keeps the pool alive instead of borrowing it:
    /// for tasks and threads. Costs an addition to the count of owners more, and a subtraction when
    /// the guard goes.
    ///
    /// ```
    /// use spanalloc::pool::SlicePool;
    /// use std::sync::Arc;
    ///
    /// let pool: Arc<SlicePool<u8>> = Arc::default();
    /// let mut line = pool.get_owned();
    /// std::thread::spawn(move || line.push(b'x')).join().unwrap();
    /// assert_eq!(pool.stats().pool.puts, 1);
    /// ```
    #[inline]
    #[must_use]
    pub fn get_owned(self: &Arc<Self>) -> OwnedSliceGuard<T> {
        OwnedSliceGuard::new(self.clone(), self.take())
    }

    /// Begins an epoch; see [`Pool::advance`](super::Pool::advance).
    pub fn advance(&self) -> Option<u64> {
        self.core.advance()
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> SlicePoolStats {
        SlicePoolStats { pool: self.core.stats(), discards: self.discards.load(Relaxed) }
    }

    #[cold]
    fn discard(&self, value: Vec<T>) {
        self.discards.fetch_add(1, Relaxed);
        drop(value);
    }
}

impl<T: Send + 'static> Default for SlicePool<T> {
    /// Made with room for 64, kept up to 128.
    fn default() -> Self {
        Self::new(64, 128)
    }
}

impl<T: Send + 'static> fmt::Debug for SlicePool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlicePool")
            .field("capacity", &self.capacity)
            .field("capacity_max", &self.capacity_max)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Counters of a [`SlicePool`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlicePoolStats {
    /// The counters of the pool inside.
    pub pool: PoolStats,
    /// Vectors freed because they had become too large to keep, or too small.
    pub discards: u64,
}

/// A vector on loan from a [`SlicePool`]; cleared and given back, or discarded, when dropped.
pub struct SliceGuard<'a, T: Send + 'static> {
    pool: &'a SlicePool<T>,
    value: ManuallyDrop<Vec<T>>,
}

impl<T: Send + 'static> SliceGuard<'_, T> {
    /// Keeps the vector: it does not go back to the pool.
    #[must_use]
    pub fn detach(this: Self) -> Vec<T> {
        let mut this = ManuallyDrop::new(this);
        // SAFETY: by invariant 1; the guard is not dropped any more.
        unsafe { ManuallyDrop::take(&mut this.value) }
    }
}

impl<T: Send + 'static> Drop for SliceGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by invariant 1; this is the guard's end.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        self.pool.put(value);
    }
}

impl<T: Send + 'static> Deref for SliceGuard<'_, T> {
    type Target = Vec<T>;

    #[inline]
    fn deref(&self) -> &Vec<T> {
        &self.value
    }
}

impl<T: Send + 'static> DerefMut for SliceGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.value
    }
}

impl<T: Send + fmt::Debug + 'static> fmt::Debug for SliceGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
