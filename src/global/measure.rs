//! Exact measurement of a piece of code, for tests: what it allocates and frees
//! on the threads that count for it, whatever other threads do meanwhile.
//!
//! While a thread counts, its heap grants it one block at a time, so every
//! allocation and every free takes a slow path, and these report here. A thread
//! that does not count pays nothing.
//!
//! # Invariants
//!
//! 1. `COUNTING` is null or points to the [`Count`] of a call of
//!    [`Meter::count`] on this thread that has not ended; so does each `outer`.

use core::cell::Cell;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::slow;
use crate::base::counted::counted;
use crate::sys::per_thread::per_thread;

/// Runs `work` and returns its value with what it allocated and freed on this
/// thread. Exact, and independent of other threads, so tests may run in parallel.
///
/// Counts only where [`SpanAlloc`](crate::SpanAlloc) is the global allocator. A
/// `realloc` that moves a block or changes its size class is an allocation and a
/// free; one that does neither counts as nothing. For work on several threads see
/// [`Meter`]; for assertions, [`assert_usage!`](crate::assert_usage).
///
/// Cost: each allocation and each free of `work` takes some tens of nanoseconds
/// more.
///
/// # Examples
///
/// ```
/// #[global_allocator]
/// static GLOBAL: spanalloc::SpanAlloc = spanalloc::SpanAlloc::new();
///
/// let (sum, usage) = spanalloc::measure(|| vec![1_u64; 100].iter().sum::<u64>());
/// assert_eq!((sum, usage.allocs, usage.frees), (100, 1, 1));
/// assert_eq!(usage.bytes, 800);
/// assert!(usage.peak_block_bytes >= 800);
/// ```
pub fn measure<R>(work: impl FnOnce() -> R) -> (R, Usage) {
    let meter = Meter::new();
    let value = meter.count(work);
    let usage = meter.usage();
    (value, usage)
}

/// Counts what threads allocate and free inside [`count`](Self::count). Clones
/// count together: give one to each thread whose work belongs to a measurement.
///
/// # Examples
///
/// ```
/// # #[global_allocator]
/// # static GLOBAL: spanalloc::SpanAlloc = spanalloc::SpanAlloc::new();
/// let meter = spanalloc::Meter::new();
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| meter.count(|| drop(std::hint::black_box(Box::new(7_u64)))));
///     }
/// });
/// assert_eq!((meter.usage().allocs, meter.usage().frees), (4, 4));
/// ```
#[derive(Clone)]
pub struct Meter {
    counters: ManuallyDrop<Arc<Counters>>,
}

/// What a [`Meter`] counted.
///
/// Bytes of blocks are by the size of the block rather than by what was asked
/// for, which frees do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Allocations.
    pub allocs: u64,
    /// Frees, also of blocks that were allocated before.
    pub frees: u64,
    /// Bytes that the allocations asked for.
    pub bytes: u64,
    /// Bytes of the blocks they got.
    pub block_bytes: u64,
    /// Bytes of the blocks that were freed.
    pub freed_block_bytes: u64,
    /// The most by which bytes of blocks allocated exceeded those freed, at any
    /// moment.
    pub peak_block_bytes: u64,
}

impl Usage {
    /// Blocks that are left over: allocations less frees. Negative if more was
    /// freed than allocated.
    #[must_use]
    pub fn left_blocks(&self) -> i64 {
        self.allocs.wrapping_sub(self.frees).cast_signed()
    }

    /// Bytes of the blocks that are left over, less those freed that were
    /// allocated before.
    #[must_use]
    pub fn left_block_bytes(&self) -> i64 {
        self.block_bytes.wrapping_sub(self.freed_block_bytes).cast_signed()
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |bytes| counted(bytes, "byte", "bytes");
        let allocs = counted(self.allocs, "allocation", "allocations");
        write!(f, "{allocs} of {} in blocks of {}", bytes(self.bytes), self.block_bytes)?;
        let frees = counted(self.frees, "free", "frees");
        write!(f, ", {frees} of blocks of {}", bytes(self.freed_block_bytes))?;
        write!(f, ", peak {} in blocks", bytes(self.peak_block_bytes))
    }
}

#[derive(Default)]
struct Counters {
    allocs: AtomicU64,
    frees: AtomicU64,
    bytes: AtomicU64,
    block_bytes: AtomicU64,
    freed_block_bytes: AtomicU64,
    held: AtomicI64,
    peak: AtomicI64,
    /// The sites that allocate, if they are asked for.
    #[cfg(feature = "profile")]
    trace: Option<crate::profile::Trace>,
}

impl Counters {
    fn allocated(&self, requested_bytes: usize, block_bytes: usize) {
        self.allocs.fetch_add(1, Relaxed);
        self.bytes.fetch_add(requested_bytes as u64, Relaxed);
        self.block_bytes.fetch_add(block_bytes as u64, Relaxed);
        // A block has at most `isize::MAX` bytes.
        let more = block_bytes as i64;
        self.peak.fetch_max(self.held.fetch_add(more, Relaxed) + more, Relaxed);
        #[cfg(feature = "profile")]
        if let Some(trace) = &self.trace {
            trace.allocated(requested_bytes, block_bytes);
        }
    }

    fn freed(&self, block_bytes: usize) {
        self.frees.fetch_add(1, Relaxed);
        self.freed_block_bytes.fetch_add(block_bytes as u64, Relaxed);
        self.held.fetch_sub(block_bytes as i64, Relaxed);
    }
}

/// One call of [`Meter::count`], on its stack.
struct Count {
    counters: *const Counters,
    outer: *const Count,
}

per_thread! {
    static COUNTING: Cell<*const Count> = Cell::new(ptr::null()), "spanalloc_counting";
}

/// Reports an allocation that took a slow path.
#[inline]
pub(super) fn on_alloc(requested_bytes: usize, block_bytes: usize) {
    if !COUNTING.with(Cell::get).is_null() {
        each(|counters| counters.allocated(requested_bytes, block_bytes));
    }
}

/// Reports a free that took a slow path.
#[inline]
pub(super) fn on_free(block_bytes: usize) {
    if !COUNTING.with(Cell::get).is_null() {
        each(|counters| counters.freed(block_bytes));
    }
}

/// Calls `visit` with the counters of every count that this thread is in.
#[cold]
fn each(mut visit: impl FnMut(&Counters)) {
    let mut next = COUNTING.with(Cell::get);
    // SAFETY: by invariant 1.
    while let Some(count) = unsafe { next.as_ref() } {
        // SAFETY: the meter is borrowed for as long as the count lasts.
        visit(unsafe { &*count.counters });
        next = count.outer;
    }
}

impl Meter {
    /// A meter that has counted nothing.
    #[must_use]
    pub fn new() -> Self {
        uncounted(|| Self { counters: ManuallyDrop::new(Arc::default()) })
    }

    /// The same, that also keeps the stack of every allocation, for
    /// [`profile`](Self::profile). An allocation then costs about a microsecond.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[global_allocator]
    /// # static GLOBAL: spanalloc::SpanAlloc = spanalloc::SpanAlloc::new();
    /// use spanalloc::report::Weight;
    ///
    /// let meter = spanalloc::Meter::with_sites();
    /// let held = meter.count(|| vec![0_u8; 100]);
    /// let profile = meter.profile().expect("asked for");
    /// assert_eq!(profile.sites[0].allocated.bytes, 100);
    /// println!("{}", profile.top(5, Weight::AllocatedBytes));
    /// ```
    #[cfg(feature = "profile")]
    #[must_use]
    pub fn with_sites() -> Self {
        uncounted(|| {
            let trace = Some(crate::profile::Trace::new());
            Self {
                counters: ManuallyDrop::new(Arc::new(Counters { trace, ..Counters::default() })),
            }
        })
    }

    /// Runs `work` and counts what this thread allocates and frees meanwhile.
    ///
    /// Counts nest: what is inside two meters counts for both. Inside a count of
    /// the same meter this just runs `work`. What `work` unwinds with passes through, and counting
    /// ends with it. Costs and limits are those of [`measure`](fn@measure); of a meter
    /// [`with_sites`](Self::with_sites) each allocation takes about a microsecond.
    pub fn count<R>(&self, work: impl FnOnce() -> R) -> R {
        let (counters, outer) = (Arc::as_ptr(&self.counters), COUNTING.with(Cell::get));
        let mut counted = false;
        if !outer.is_null() {
            each(|active| counted |= ptr::eq(active, counters));
        }
        if counted {
            return work();
        }
        let count = Count { counters, outer };
        let _guard = Guard(outer);
        slow::observe();
        COUNTING.with(|counting| counting.set(&raw const count));
        work()
    }

    /// What was counted so far. While other threads count, each figure is one that
    /// was true moments ago.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let counters = &**self.counters;
        Usage {
            allocs: counters.allocs.load(Relaxed),
            frees: counters.frees.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            block_bytes: counters.block_bytes.load(Relaxed),
            freed_block_bytes: counters.freed_block_bytes.load(Relaxed),
            peak_block_bytes: counters.peak.load(Relaxed).cast_unsigned(),
        }
    }

    /// The sites that allocated, each with all of its allocations; what was freed
    /// of them is not followed. None unless the meter was made
    /// [`with_sites`](Self::with_sites), and in a forked child for a meter of its parent's, which
    /// goes on without sites there.
    #[cfg(feature = "profile")]
    pub fn profile(&self) -> Option<crate::profile::Profile> {
        self.counters.trace.as_ref().and_then(crate::profile::Trace::profile)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // The last one frees what it counted with.
        // SAFETY: not used after this.
        uncounted(|| unsafe { ManuallyDrop::drop(&mut self.counters) });
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.usage()).finish()
    }
}

/// Runs `work` without its being counted by whoever counts on this thread: what a meter needs
/// for itself.
pub(super) fn uncounted<R>(work: impl FnOnce() -> R) -> R {
    struct Goes(*const Count);
    impl Drop for Goes {
        fn drop(&mut self) {
            COUNTING.with(|counting| counting.set(self.0));
            if !self.0.is_null() {
                // A count inside may have ended the observation with itself.
                slow::observe();
            }
        }
    }
    let _goes = Goes(COUNTING.with(|counting| counting.replace(ptr::null())));
    work()
}

/// Ends a count, also when its work unwinds; the field is what was counted outside.
struct Guard(*const Count);

impl Drop for Guard {
    fn drop(&mut self) {
        COUNTING.with(|counting| counting.set(self.0));
        if self.0.is_null() {
            slow::unobserve();
        }
    }
}
