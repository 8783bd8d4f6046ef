//! The heap profiler: which allocation sites allocate, and hold, how much.
//!
//! The allocator *samples* one block per so many bytes, at random. The stack of
//! each is kept with a *weight*, how many objects it stands for; stacks that are
//! equal form a *site*. [`start()`] and [`stop()`] switch sampling while the
//! program runs, [`capture()`] takes what was gathered.
//!
//! What is kept takes up to 1 KiB for a site with a sampled object, and 20 bytes for each of its
//! frames, as `tests/quiet.rs` checks. A site is a stack in a thread of one name and a kind of
//! span: worker threads that share a name share their sites. Beyond 256 MiB samples are dropped and
//! counted as [`Losses::out_of_memory`](Losses), and what was kept goes on being told of.
//! [`reset()`] gives sites back.

// What is kept lies in tables of their own pages:
//
// | table | key | value |
// | --- | --- | --- |
// | `sites` | stack, thread and span | sums allocated and live |
// | `live` | address | sample: weight, sizes, site |
// | `classes` | block size | sums allocated and live |
// | `threads`, `spans` | name | label |
// | `peak` | | what is in use, and the most that was |
//
// An allocation walks the stack, adds to `sites` and `classes`, and enters
// `live`; a free takes its entry from `live` and subtracts. One lock is held at
// a time, and under it that of `memory`; none while walking. Nothing here allocates from
// the heap but `prepare`, `begin_thread`, `note_modules`, `start` and `capture`, which run in
// ordinary code with sampling suppressed on their thread.
//
// Invariants
// 1. While `Thread::busy` is set this thread may hold a lock of the profiler,
//    so whoever finds it set takes none by waiting. A signal handler that
//    allocates is such a finder.

mod ages;
mod batches;
mod capture;
mod classes;
mod debug_info;
mod frames;
pub(crate) mod labels;
mod lifetimes;
mod line_tables;
mod live;
mod memory;
mod peak;
mod recorder;
mod rules;
#[cfg(any(target_arch = "aarch64", test))]
mod signed;
mod sites;
pub(crate) mod snapshot;
mod stack;
mod sums;
pub(crate) mod symbols;
mod tables;
mod trace;
mod unwind;

use core::cell::Cell;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use frames::Frames;
pub(crate) use labels::Label;
use live::Sample;
use recorder::{Birth, Recorder};
use sites::Origin;
use sums::Weight;

use crate::base::zeroed::Zeroed;
use crate::sys::per_thread::per_thread;
use crate::sys::{modules, os};

pub use capture::capture;
pub(crate) use capture::sizes;
pub use snapshot::{Amount, BlockSize, Group, Lifetimes, Losses, Module, Profile, Site, Unwinding};
pub(crate) use trace::Trace;

static INTERVAL_BYTES: AtomicU64 = AtomicU64::new(0);
static PROFILER: Recorder = Recorder::new();

struct Thread {
    /// How many [`quietly`] calls this thread is in.
    quiet: Cell<u32>,
    /// Whether this thread is inside `on_alloc`, `on_free` or `on_resize`.
    busy: Cell<bool>,
    /// Whether this thread holds all locks for a fork.
    forking: Cell<bool>,
    /// The label of its name; none until something is sampled.
    name: Cell<Label>,
    /// Samples until it is asked for again.
    name_samples: Cell<u32>,
    /// The label of the span that it is in.
    span: Cell<Label>,
}

// SAFETY: integers, booleans and labels.
unsafe impl Zeroed for Thread {}

per_thread! {
    static THREAD: Thread = Thread {
        quiet: Cell::new(0),
        busy: Cell::new(false),
        forking: Cell::new(false),
        name: Cell::new(Label::NONE),
        name_samples: Cell::new(0),
        span: Cell::new(Label::NONE),
    }, "spanalloc_profile_thread";
}

/// Mean bytes between samples now, as the program was built, the environment variable `SPANALLOC`
/// or [`start`] says; 1 if every allocation is sampled, 0 while sampling is off. Cost: a load.
///
/// # Examples
///
/// ```
/// use spanalloc::profile;
///
/// profile::start(512 * 1024)?;
/// assert_eq!(profile::interval(), 512 * 1024);
/// profile::stop();
/// assert_eq!(profile::interval(), 0);
/// # Ok::<(), profile::IntervalError>(())
/// ```
#[inline]
#[must_use]
pub fn interval() -> u64 {
    INTERVAL_BYTES.load(Ordering::Relaxed)
}

/// Sets the interval the program was built or configured with. Neither allocates
/// nor waits; [`prepare`] does what is left to do.
pub(crate) fn init(interval_bytes: u64) {
    INTERVAL_BYTES.store(interval_bytes, Ordering::Relaxed);
}

/// Gets the unwinder ready if sampling is on. Allocates; called once, before
/// `main`.
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) fn prepare() {
    PROFILER.walker.unwinders.note_linked();
    if interval() != 0 {
        quietly(|| PROFILER.walker.unwinders.load());
    }
}

/// A thread begins: has an unwinder more, if sampling is on. Allocates.
#[cold]
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) fn begin_thread() {
    if interval() != 0 {
        quietly(|| PROFILER.walker.unwinders.begin_thread());
    }
}

/// Looks at what is loaded now, if sampling is on. Allocates and takes the loader's lock. Before
/// [`prepare`], which may be what opens a module, that is left to it.
#[cfg(feature = "preload")]
pub(crate) fn note_modules() {
    if interval() != 0 && PROFILER.walker.unwinders.ready() {
        quietly(|| PROFILER.walker.unwinders.load());
    }
}

/// Starts sampling, or changes the interval: one sample per `interval_bytes`
/// allocated, on average. 1 samples every allocation.
///
/// What the program was built with and what `sample=` of the environment variable `SPANALLOC`
/// said no longer counts: this is a decision of the running program's.
///
/// A thread notices when it next asks the slow path for a class: what it was granted before, at
/// most 64 KiB of each class, but 16 blocks if that is more and never more than 1,024, is allocated
/// unsampled. To sample everything from the first allocation on, set the interval in the
/// environment or with [`SpanAlloc::sample_every`](crate::SpanAlloc::sample_every).
///
/// What was sampled before is kept. The first call reads the list of loaded modules (about a
/// hundred microseconds), and waits for a thread that opens a library just then: no constructor of
/// a library may wait for a thread that makes it.
///
/// # Errors
///
/// An interval of 0 bytes is refused; [`stop`] turns sampling off.
///
/// # Examples
///
/// ```
/// spanalloc::profile::start(512 * 1024)?;
/// assert!(spanalloc::profile::start(0).is_err());
/// # Ok::<(), spanalloc::profile::IntervalError>(())
/// ```
pub fn start(interval_bytes: u64) -> Result<(), IntervalError> {
    if interval_bytes == 0 {
        return Err(IntervalError(()));
    }
    quietly(|| PROFILER.walker.unwinders.load_all());
    init(interval_bytes);
    Ok(())
}

/// Stops sampling. Blocks sampled before are followed until they are freed, and
/// what was gathered stays until [`reset`].
///
/// # Examples
///
/// ```
/// spanalloc::profile::stop();
/// assert_eq!(spanalloc::profile::capture().interval_bytes, 0);
/// ```
pub fn stop() {
    init(0);
}

/// Forgets everything that was gathered and gives its memory back. Sampling goes
/// on if it is on; blocks allocated before are not followed any more.
///
/// # Examples
///
/// ```
/// spanalloc::profile::stop();
/// spanalloc::profile::reset();
/// assert!(spanalloc::profile::capture().sites.is_empty());
/// ```
pub fn reset() {
    if let Some(_busy) = Busy::enter() {
        PROFILER.reset();
    }
}

/// A sampling interval of 0 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalError(());

impl fmt::Display for IntervalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sampling interval 0 is not accepted: give at least 1 byte, or call `stop`")
    }
}

impl std::error::Error for IntervalError {}

/// Whether allocations of this thread must not be sampled: it is inside the
/// profiler, or writing a report.
#[inline]
pub(crate) fn suppressed() -> bool {
    THREAD.with(|thread| thread.quiet.get() != 0 || thread.busy.get())
}

/// Runs `work` with sampling suppressed on this thread.
pub(crate) fn quietly<R>(work: impl FnOnce() -> R) -> R {
    struct Quiet;
    impl Drop for Quiet {
        fn drop(&mut self) {
            THREAD.with(|thread| thread.quiet.set(thread.quiet.get() - 1));
        }
    }
    THREAD.with(|thread| thread.quiet.set(thread.quiet.get() + 1));
    let _quiet = Quiet;
    work()
}

/// Runs `work`, which takes locks of the profiler, so that a signal handler that meets it waits for
/// none (invariant 1). What `work` frees was allocated with sampling suppressed.
fn busily<R>(work: impl FnOnce() -> R) -> R {
    let _busy = Busy::enter();
    work()
}

/// Bytes of memory that the profiler's tables take.
pub(crate) fn memory_bytes() -> usize {
    memory::bytes()
}

/// Records a sampled allocation. No lock of the allocator may be held.
#[cold]
#[unsafe(link_section = ".spanalloc.sample")]
pub(crate) fn on_alloc(address: usize, requested_bytes: usize, block_bytes: usize, interval: u64) {
    let Some(_busy) = Busy::enter() else {
        return PROFILER.lost.reentrant.raise();
    };
    let mut frames = Frames::new();
    let ending = PROFILER.walker.walk(Busy::hint(), &mut frames);
    PROFILER.lost.note_ending(ending);
    let birth = Birth {
        weight: Weight::new(block_bytes, interval),
        requested_bytes: requested_bytes as u64,
        block_bytes: block_bytes as u64,
        origin: Origin { thread: thread_label(), span: THREAD.with(|thread| thread.span.get()) },
        now_ns: os::monotonic_ns(),
    };
    PROFILER.allocated(address, &birth, &frames);
}

/// The label of a kind of span.
#[cfg(feature = "tracing")]
pub(crate) fn span_label(name: &str) -> Label {
    Busy::enter().map_or(Label::NONE, |_busy| PROFILER.spans.of(name.as_bytes()))
}

/// Has what this thread allocates from now on count for a kind of span.
#[cfg(feature = "tracing")]
pub(crate) fn set_span(label: Label) {
    THREAD.with(|thread| thread.span.set(label));
}

/// Samples of a thread between two times that its name is asked for: it may get another.
const NAME_SAMPLES: u32 = 64;

/// The label of this thread's name, as it was a few samples ago at most.
fn thread_label() -> Label {
    THREAD.with(|thread| {
        let left = thread.name_samples.get();
        if left == 0 {
            thread.name.set(PROFILER.threads.of(crate::sys::thread::name().to_bytes()));
        }
        thread.name_samples.set(left.checked_sub(1).unwrap_or(NAME_SAMPLES));
        thread.name.get()
    })
}

/// Records the free of a sampled block, before the block can be reused.
#[cold]
#[unsafe(link_section = ".spanalloc.sample")]
pub(crate) fn on_free(address: usize) {
    match Busy::enter() {
        Some(_busy) => PROFILER.freed(address, os::monotonic_ns()),
        None => PROFILER.lost.frees.raise(),
    }
}

/// The sample of a block whose address may be another's before it is known whether the block is
/// free: see [`take`].
pub(crate) struct Taken(Sample);

/// Takes the sample of the block at `address` out of what is live; it is still counted, until
/// [`put_back`] or [`taken_is_free`].
#[cold]
#[unsafe(link_section = ".spanalloc.sample")]
pub(crate) fn take(address: usize) -> Option<Taken> {
    match Busy::enter() {
        Some(_busy) => PROFILER.take(address).map(Taken),
        None => {
            PROFILER.lost.frees.raise();
            None
        }
    }
}

/// The block is live after all.
#[cold]
#[unsafe(link_section = ".spanalloc.sample")]
pub(crate) fn put_back(address: usize, taken: Taken) {
    match Busy::enter() {
        Some(_busy) => PROFILER.put_back(address, taken.0, os::monotonic_ns()),
        None => PROFILER.lost.frees.raise(),
    }
}

/// The block is free.
#[cold]
#[unsafe(link_section = ".spanalloc.sample")]
pub(crate) fn taken_is_free(taken: Taken) {
    match Busy::enter() {
        Some(_busy) => PROFILER.taken_is_free(&taken.0, os::monotonic_ns()),
        None => PROFILER.lost.frees.raise(),
    }
}

/// Whether the profile holds the block at `address` for live.
pub(crate) fn is_live(address: usize) -> bool {
    Busy::enter().is_some_and(|_busy| PROFILER.remembers(address))
}

/// Records that a sampled block was resized in place.
#[cold]
pub(crate) fn on_resize(address: usize, requested_bytes: usize) {
    if let Some(_busy) = Busy::enter() {
        PROFILER.resized(address, requested_bytes as u64, os::monotonic_ns());
    }
}

/// Takes every lock, so that a fork finds the tables whole. `between` runs when those are taken
/// that are held while the loader is asked, and before those that are held while something is
/// allocated.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn before_fork(between: impl FnOnce()) {
    // A fork inside the profiler, from a signal handler, can only hope: to wait
    // for a lock of its own would be to wait for ever.
    let Some(busy) = Busy::enter() else { return between() };
    PROFILER.walker.unwinders.loading().acquire();
    modules::lock().acquire();
    between();
    PROFILER.hold_all();
    THREAD.with(|thread| thread.forking.set(true));
    core::mem::forget(busy);
}

/// Ends what [`before_fork`] began, in the parent.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn after_fork_parent() {
    if THREAD.with(|thread| thread.forking.replace(false)) {
        PROFILER.release_all();
        modules::lock().release();
        PROFILER.walker.unwinders.loading().release();
        drop(Busy(()));
    }
}

/// Ends what [`before_fork`] began, in the child, which goes on with the
/// parent's profile as its own.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn after_fork_child() {
    modules::forked();
    after_fork_parent();
}

/// Stands for this thread's being inside the profiler (invariant 1).
struct Busy(());

impl Busy {
    fn enter() -> Option<Self> {
        let entered = THREAD.with(|thread| !thread.busy.replace(true));
        // A signal handler on this thread must see the flag before any lock.
        compiler_fence(Ordering::SeqCst);
        // Lazily: dropping one ends what an outer call has begun.
        entered.then(|| Self(()))
    }

    /// A number that differs between threads, mostly.
    fn hint() -> usize {
        THREAD.with(|thread| core::ptr::from_ref(thread).addr() >> 12)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        THREAD.with(|thread| thread.busy.set(false));
    }
}

#[cfg(test)]
mod tests;
