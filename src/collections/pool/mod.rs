//! Pools of reusable values.
//!
//! [`Pool`] is Go's `sync.Pool` for a language without a garbage collector: a value given back by a
//! thread is first kept as one of that thread's *private* values, of which Go has one and this pool
//! [`PRIVATE_MAX`]; when there are more, the older half of them goes on the thread's *local* chain
//! of lock-free rings, from which it comes back as it went, and other threads may *steal*, up to
//! half of a ring, eight at most, as the schedulers of Go and tokio do with tasks. Values that
//! nobody has wanted for an *epoch* become *victims*; what is still a victim an epoch later is
//! dropped. An epoch begins when somebody says so: by [`Pool::advance`], or by an [`Epochs`] that
//! watches the clock or the memory in use.
//!
//! ```text
//!            thread 1                    thread 2
//!   get/put ─▶ private                    private ◀─ get/put
//!              local  8 ▸ 16 ▸ 32 ◀steal─ local  8
//!   ── epoch ────────────────────────────────────────────────
//!              victim                     victim      (the epoch before)
//!              victims 8                  victims 8 ▸ 16
//! ```
//!
//! The other pools are for other needs: [`AnyPool`] mixes types and pays for it, [`BitmapPool`] has
//! a fixed number of values in one mapping, [`SlicePool`] keeps vectors of a bounded capacity.

// The floors inside, from the bottom: `stash`, `ring`, `readers`, `chain`, `shard`, `shards`,
// `indices`, `thread`, `core`; `owned` stands beside this file.
//
// Invariants of this file:
//
// 1. A guard's `value` is initialized until the guard is dropped or taken apart, which happens
//    once.

mod any;
mod bitmap;
mod chain;
mod core;
mod epochs;
mod indices;
mod owned;
mod readers;
mod region;
mod reset;
mod ring;
mod shard;
mod shards;
mod slice;
mod stash;
mod stats;
mod thread;

pub use any::{AnyPool, AnyPoolStats};
pub use bitmap::{BitmapGuard, BitmapPool, BitmapStats, Prefault};
pub use epochs::{EpochPool, Epochs, resident_above};
pub use owned::{OwnedPoolGuard, OwnedSliceGuard};
pub use reset::{Keep, Reset};
pub use slice::{SliceGuard, SlicePool, SlicePoolStats};
pub use stash::PRIVATE_MAX;
pub use stats::PoolStats;

use self::core::Core;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A pool of values of one type, shared by any number of threads.
///
/// Get and put by one thread cost a few nanoseconds and no locked instruction as long as the thread
/// never has more than [`PRIVATE_MAX`] values out at a time; otherwise about one for each half of
/// [`PRIVATE_MAX`] gets, or puts. A thread that gets what others put takes up to half of
/// [`PRIVATE_MAX`] at a time, but no more than half of what a ring holds, for three locked
/// instructions. No operation waits for another thread, unless the allocator does.
///
/// Values live in boxes, which are reused with them: what moves through the pool is a pointer, so a
/// large value costs no more than a small one.
///
/// A thread that ends leaves its values to the others. A thread that is idle keeps its private
/// values, what it took along among them, and the victims of these, [`PRIVATE_MAX`] of each at
/// most, through any number of epochs, until it next uses the pool or ends. So a thread's first get
/// or put after an epoch (whether by [`get`](Pool::get), [`take`](Pool::take), [`put`](Pool::put)
/// or a guard that is dropped) may drop up to two times [`PRIVATE_MAX`] values that have become too
/// old, and runs their `Drop`; the end of a thread may, too. If one panics there, the call does: a
/// get has taken nothing, and what was to be put is dropped.
///
/// More than 65,536 threads at a time are served, but those beyond have no values of their own:
/// they get what others have put back, and what they put back is dropped.
///
/// In the child of a fork no call waits for a thread that stayed behind. But what one was doing to
/// the pool at that moment may be half done there: unless all were at rest, the child had better
/// make a pool of its own. The other threads' private values are out of its reach until the pool is
/// dropped.
///
/// ```
/// use spanalloc::pool::Pool;
///
/// let pool: Pool<Vec<u8>> = Pool::new(|| Vec::with_capacity(4096));
/// {
///     let mut buffer = pool.get();
///     buffer.extend_from_slice(b"hello");
/// } // cleared and given back here
/// assert!(pool.get().is_empty());
/// assert!(pool.get().capacity() >= 4096);
/// assert_eq!(pool.stats().new, 1);
/// ```
///
/// In a static:
///
/// ```
/// use spanalloc::pool::Pool;
/// use std::sync::LazyLock;
///
/// static LINES: LazyLock<Pool<String>> = LazyLock::new(|| Pool::new(String::new));
/// LINES.get().push_str("reused");
/// ```
pub struct Pool<T, F = fn() -> T> {
    core: Arc<Core<Box<T>>>,
    init: F,
}

impl<T: Send + 'static, F: Fn() -> T> Pool<T, F> {
    /// An empty pool that calls `init` when it has no value to reuse. Allocates a few hundred
    /// bytes, and a shard (under 1 KiB beside the values) for each thread that uses the pool, with
    /// up to two pointers for each thread that uses any pool.
    #[must_use]
    pub fn new(init: F) -> Self {
        Self { core: Core::new(), init }
    }

    /// A value that goes back to the pool, [reset](Reset), when the guard is dropped. The thread's
    /// first call after an epoch may drop values: see [`Pool`].
    #[inline]
    #[must_use]
    pub fn get(&self) -> PoolGuard<'_, T>
    where
        T: Reset,
    {
        PoolGuard { core: &self.core, value: ManuallyDrop::new(self.take()) }
    }

    /// As [`get`](Pool::get), with a guard that keeps what is inside the pool alive instead of
    /// borrowing the pool: for tasks and threads. Costs an addition to the count of owners more,
    /// and a subtraction when the guard goes: locked instructions on a cache line that all of them
    /// share.
    ///
    /// ```
    /// use spanalloc::pool::Pool;
    ///
    /// # let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    /// # runtime.block_on(async {
    /// let pool: Pool<Vec<u8>> = Pool::new(Vec::new);
    /// let mut body = pool.get_owned();
    /// let task = tokio::spawn(async move {
    ///     body.extend(b"read");
    ///     tokio::task::yield_now().await;
    ///     body.len()
    /// });
    /// assert_eq!(task.await.unwrap(), 4);
    /// assert_eq!(pool.stats().puts, 1);
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn get_owned(&self) -> OwnedPoolGuard<T>
    where
        T: Reset,
    {
        OwnedPoolGuard::new(self.core.clone(), self.take())
    }

    /// A value without a guard: the caller may give it back by [`put`](Pool::put), or keep it. It
    /// is in the state in which it was given.
    #[inline]
    #[must_use]
    pub fn take(&self) -> Box<T> {
        match self.core.take() {
            Some(value) => value,
            None => self.construct(),
        }
    }

    /// A reusable value, or `None` where [`take`](Pool::take) would construct one.
    #[inline]
    #[must_use]
    pub fn try_take(&self) -> Option<Box<T>> {
        self.core.take()
    }

    /// Gives `value` to the pool as it is, without a reset. It need not have come from it. The
    /// thread's first call after an epoch may drop values: see [`Pool`].
    #[inline]
    pub fn put(&self, value: Box<T>) {
        self.core.put(value);
    }

    /// Begins an epoch: drops what was put back before the previous epoch began and not used since,
    /// and returns how many values that were. Costs one pop per dropped value and a glance at each
    /// thread's shard; threads that use the pool meanwhile are not held up. Private values of other
    /// threads are dropped by those threads when they next come by.
    ///
    /// Returns `None`, having done nothing, while another call of `advance` is at work.
    ///
    /// ```
    /// use spanalloc::pool::Pool;
    ///
    /// let pool: Pool<String> = Pool::new(String::new);
    /// pool.put(Box::new(String::from("used")));
    /// pool.advance();
    /// assert_eq!(*pool.take(), "used"); // a victim survives one epoch
    /// pool.put(Box::new(String::from("used")));
    /// pool.advance();
    /// pool.advance();
    /// assert_eq!(*pool.take(), ""); // but not two
    /// ```
    pub fn advance(&self) -> Option<u64> {
        self.core.advance()
    }

    /// The counters so far. Costs a glance at each thread's shard.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.core.stats()
    }

    #[cold]
    #[inline(never)]
    fn construct(&self) -> Box<T> {
        let value = Box::new((self.init)());
        self.core.count_new();
        value
    }
}

impl<T: Default + Send + 'static> Default for Pool<T> {
    /// An empty pool of values that start as their default.
    ///
    /// ```
    /// let pool: spanalloc::pool::Pool<Vec<u8>> = Default::default();
    /// assert!(pool.get().is_empty());
    /// ```
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: Send + 'static, F: Fn() -> T> fmt::Debug for Pool<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A value on loan from a [`Pool`].
///
/// Dropping the guard [resets](Reset) the value and gives it back. If the reset panics, or
/// [`Reset::keep`] says no, the value is dropped and the pool goes on without it. As every put, it
/// may drop values after an epoch: see [`Pool`].
pub struct PoolGuard<'a, T: Reset + Send + 'static> {
    core: &'a Core<Box<T>>,
    value: ManuallyDrop<Box<T>>,
}

impl<T: Reset + Send + 'static> PoolGuard<'_, T> {
    /// Keeps the value: it does not go back to the pool.
    #[must_use]
    pub fn detach(this: Self) -> Box<T> {
        let mut this = ManuallyDrop::new(this);
        // SAFETY: by invariant 1; the guard is not dropped any more.
        unsafe { ManuallyDrop::take(&mut this.value) }
    }
}

impl<T: Reset + Send + 'static> Drop for PoolGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by invariant 1; this is the guard's end. From here on the value is a local, so a
        // panicking reset drops it.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        self.core.put_reset(value);
    }
}

impl<T: Reset + Send + 'static> Deref for PoolGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Reset + Send + 'static> DerefMut for PoolGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Reset + Send + fmt::Debug + 'static> fmt::Debug for PoolGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
