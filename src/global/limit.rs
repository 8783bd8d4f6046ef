//! Memory given back sooner: the decay setting and the soft limit.
//!
//! The limit is looked after by a thread that exists only while there is one. It
//! looks every few milliseconds at what the heap holds; so neither an allocation nor
//! a free has anything to compare. Over the limit it gives free memory back at once,
//! and tells the listeners, who may free more. Where little was free it looks less often: to
//! give back costs every thread its caches, and a program that needs more than its limit would
//! pay that for nothing (Go bounds its collector by half the processor time for the same reason).
//!
//! # Invariants
//!
//! 1. `watched_in` is this process from the decision to start the thread until it has
//!    decided, under the lock, to end; so there is one at most.
//! 2. No lock is held while a listener runs.
//! 3. A fork takes the lock, so that a child finds it free.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::sampling::{profiler_bytes, quietly};
use super::slow::{HEAP, empty_lists};
use crate::heap::scavenge::DECAY_NEVER_MS;
use crate::sys::lock::{Guard, Lock};

/// Between two looks at what the heap holds.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// While memory stays above the limit, listeners are told again after this long. Also the longest
/// time between two looks.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Giving back fewer bytes than this is not worth it soon again.
const WORTH_BYTES: usize = 1 << 20;

/// By the environment, which wins.
static DECAY_IS_GIVEN: AtomicBool = AtomicBool::new(false);
/// 0 for none.
static LIMIT: AtomicU64 = AtomicU64::new(0);
static WATCH: Lock<Watch> = Lock::new(Watch { watched_in: 0, listeners: Vec::new() });

type Call = dyn Fn(Pressure) + Send + Sync;

struct Watch {
    /// The process in which the thread runs, 0 for none: a forked child has no thread.
    watched_in: u32,
    listeners: Vec<Arc<Call>>,
}

/// Memory that is held above a limit: see [`on_pressure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// Bytes that the allocator holds, as [`held_bytes`] tells, after free pages were given back.
    pub held: u64,
    /// The limit.
    pub limit: u64,
}

/// Keeps a listener registered; dropping it ends that. See [`on_pressure`].
#[must_use = "dropping it ends the listening"]
pub struct PressureListener(Arc<Call>);

/// Sets how long free pages stay before they go back to the system: between once and
/// twice `decay`, inside spans that are partly in use up to three times. It is 500 ms unless
/// it is set (250 ms in a program by preload, where what is inside such spans stays until all
/// threads but one have ended, or `malloc_trim`). Less saves memory, more saves page faults
/// when memory swells and shrinks. Below a millisecond counts as one.
/// With [`Duration::MAX`], or any from 49 days on, nothing goes back by itself, and no thread is
/// started for it: [`release_free_memory`](crate::release_free_memory) and a
/// [soft limit](set_soft_limit) still give back.
///
/// A thread does it, which is there only while it is worth one: from 1 MiB of free pages on,
/// from about 256 KiB of free blocks that threads have put aside, or from 33 times on that a span
/// was found half free. Less than that may stay.
///
/// The key `decay` of the environment variable `SPANALLOC` wins.
///
/// # Examples
///
/// ```
/// spanalloc::set_decay(std::time::Duration::from_millis(50));
/// ```
pub fn set_decay(decay: Duration) {
    if !DECAY_IS_GIVEN.load(Relaxed) {
        HEAP.set_decay_ms(decay.as_millis().try_into().unwrap_or(DECAY_NEVER_MS));
        super::slow::tend();
    }
}

/// How long free pages stay before they go back to the system, as [`set_decay`] or the environment
/// variable has set it, or as it is without them; from a millisecond to 49 days, or
/// [`Duration::MAX`] where nothing goes back by itself.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// # assert!(spanalloc::decay() >= Duration::from_millis(250));
/// spanalloc::set_decay(Duration::from_millis(50));
/// assert_eq!(spanalloc::decay(), Duration::from_millis(50));
/// ```
#[must_use]
pub fn decay() -> Duration {
    match HEAP.decay_ms() {
        DECAY_NEVER_MS => Duration::MAX,
        ms => Duration::from_millis(ms.into()),
    }
}

/// What the environment asks for, before `main`.
pub(super) fn decay_by_environment(decay_ms: u32) {
    DECAY_IS_GIVEN.store(true, Relaxed);
    HEAP.set_decay_ms(decay_ms);
}

/// Sets a soft limit on the memory that the allocator holds, in bytes; 0 for none,
/// which is how a program begins.
///
/// Nothing fails above the limit. As long as more is held, free pages go back to the system within
/// 10 ms (250 ms where little was free the last times) instead of after a while, and whoever asked
/// for it by [`on_pressure`] is told. What threads have put aside for their next allocations goes
/// back, too, but not what their lists hold just then; pages between blocks in use go at a later
/// look, once nothing more was freed beside them. Go's `GOMEMLIMIT` is the model; here is no
/// collector to run more often, so only what is free, or freed by a listener, can go.
///
/// Cost: a thread that looks at one sum a hundred times a second while there is a limit; nothing on
/// any path of an allocation or a free. Above it threads find what they had put aside gone after
/// each time that memory went back; each time that gave back less than 1 MiB, the next one comes
/// twice as late, up to 250 ms. A forked child has no limit until it sets one.
///
/// # Errors
///
/// When the thread cannot be started. There is no limit then.
///
/// # Examples
///
/// ```
/// spanalloc::set_soft_limit(512 << 20)?;
/// # spanalloc::set_soft_limit(0)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn set_soft_limit(bytes: u64) -> io::Result<()> {
    quietly(|| {
        let mut watch = lock();
        LIMIT.store(bytes, Relaxed);
        let process = std::process::id();
        if bytes > 0 && watch.watched_in != process {
            let name = String::from("spanalloc-limit");
            let started = thread::Builder::new().name(name).spawn(look_after);
            watch.watched_in = if started.is_ok() { process } else { 0 };
            if let Err(error) = started {
                LIMIT.store(0, Relaxed);
                return Err(error);
            }
        }
        Ok(())
    })
}

/// Has `listener` called when more memory is held than the
/// [soft limit](set_soft_limit), after free pages were given back and if that was not
/// enough; again every quarter of a second while it stays so. What the listener frees
/// goes back when it has returned, where whole spans came free by it; pages between blocks that are
/// in use go at a later look.
///
/// It runs on the thread that looks after the limit, which there is from the first limit that is
/// set on; a panic in it is caught and otherwise ignored. What it allocates is sampled as what
/// other threads do. Dropping the returned [`PressureListener`] ends this without waiting: a call
/// that has begun, or is about to, still comes to its end.
///
/// # Examples
///
/// A pool that lets go of what nobody has used of late:
///
/// ```
/// # #[cfg(feature = "collections")] {
/// use std::sync::Arc;
/// use spanalloc::pool::Pool;
///
/// let buffers: Arc<Pool<Vec<u8>>> = Arc::new(Pool::new(Vec::new));
/// let told = Arc::downgrade(&buffers);
/// let _listener = spanalloc::on_pressure(move |_| {
///     if let Some(buffers) = told.upgrade() {
///         buffers.advance();
///     }
/// });
/// # }
/// ```
pub fn on_pressure(listener: impl Fn(Pressure) + Send + Sync + 'static) -> PressureListener {
    quietly(|| {
        let listener: Arc<Call> = Arc::new(listener);
        lock().listeners.push(Arc::clone(&listener));
        PressureListener(listener)
    })
}

impl Drop for PressureListener {
    fn drop(&mut self) {
        // Dropped after the lock is left (invariant 2).
        let _ended = {
            let mut watch = lock();
            let place = watch.listeners.iter().position(|other| Arc::ptr_eq(other, &self.0));
            place.map(|place| watch.listeners.swap_remove(place))
        };
    }
}

impl fmt::Debug for PressureListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureListener").finish_non_exhaustive()
    }
}

fn lock() -> Guard<'static, Watch> {
    WATCH.lock()
}

/// Keeps the listeners as they are until [`after_fork`].
pub(super) fn before_fork() {
    WATCH.acquire();
}

/// In the parent.
pub(super) fn after_fork() {
    WATCH.release();
}

/// In the child, which has no limit: nobody looks after one.
pub(super) fn after_fork_in_child() {
    LIMIT.store(0, Relaxed);
    WATCH.release();
    // In a namespace of its own a child may have its parent's number.
    lock().watched_in = 0;
}

/// The limit that [`set_soft_limit`] has set, in bytes; 0 for none.
///
/// # Examples
///
/// ```
/// spanalloc::set_soft_limit(512 << 20)?;
/// assert_eq!(spanalloc::soft_limit(), 512 << 20);
/// # spanalloc::set_soft_limit(0)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn soft_limit() -> u64 {
    LIMIT.load(Relaxed)
}

/// Bytes that the allocator holds now: in use, free but not given back, its own records, and the
/// profiler's tables. This is what a [soft limit](set_soft_limit) is compared with, and what a
/// gauge of a service may show; [`stats`](crate::stats) tells what it is made of.
///
/// Cost: two locks that slow paths take, some tens of nanoseconds; allocates nothing.
///
/// # Examples
///
/// ```
/// # #[global_allocator]
/// # static GLOBAL: spanalloc::SpanAlloc = spanalloc::SpanAlloc::new();
/// let before = spanalloc::held_bytes();
/// let block = vec![1_u8; 100 << 20];
/// assert!(spanalloc::held_bytes() >= before + (100 << 20));
/// # drop(block);
/// ```
#[must_use]
pub fn held_bytes() -> u64 {
    HEAP.held_bytes() + profiler_bytes()
}

/// The thread, while there is a limit.
fn look_after() {
    let mut told: Option<Instant> = None;
    let (mut pause, mut limit_before) = (LOOK_EVERY, 0);
    loop {
        let limit = LIMIT.load(Relaxed);
        if limit != limit_before {
            (pause, limit_before) = (LOOK_EVERY, limit);
        }
        if limit == 0 {
            let mut watch = lock();
            if LIMIT.load(Relaxed) == 0 {
                watch.watched_in = 0;
                return;
            }
            continue;
        }
        let mut relief = quietly(|| relieve(limit));
        if relief == Relief::Enough {
            told = None;
        } else if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            tell(limit);
            relief = relief.and(quietly(|| relieve(limit)));
        }
        pause = relief.next_pause(pause);
        thread::sleep(pause);
    }
}

/// What became of memory that was above a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Relief {
    /// Not above it, or not any more.
    Enough,
    /// Above it, though so many bytes were given back.
    Above(usize),
}

impl Relief {
    /// Of two times, one after the other.
    fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Above(first), Self::Above(second)) => Self::Above(first + second),
            _ => next,
        }
    }

    /// How long until the next look, after `pause` before this one.
    fn next_pause(self, pause: Duration) -> Duration {
        match self {
            Self::Above(bytes) if bytes < WORTH_BYTES => (pause * 2).min(TELL_EVERY),
            Self::Above(_) | Self::Enough => LOOK_EVERY,
        }
    }
}

/// Gives free memory back if more is held than `limit`.
fn relieve(limit: u64) -> Relief {
    if held_bytes() <= limit {
        return Relief::Enough;
    }
    // What a listener has freed lies on this thread's lists.
    empty_lists();
    // This runs often while the limit is passed, so spans freed into since last time are skipped.
    let bytes = HEAP.release(false);
    if held_bytes() > limit { Relief::Above(bytes) } else { Relief::Enough }
}

fn tell(limit: u64) {
    let listeners = quietly(|| lock().listeners.clone());
    for listener in listeners {
        let pressure = Pressure { held: held_bytes(), limit };
        // What it panicked with was printed by the panic hook. If its registration has ended
        // meanwhile it is dropped here, and what it has may panic in that, too.
        let _ = catch_unwind(AssertUnwindSafe(move || listener(pressure)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a listener does, on the thread that looks after the limit. By preload the other tests'
    /// blocks of that size are ours, too.
    #[cfg(not(feature = "preload"))]
    #[test]
    fn what_the_thread_itself_has_freed_goes_back() {
        use std::alloc::{GlobalAlloc, Layout};
        // Spans hold no whole number of the batches in which blocks go home.
        const BYTES: usize = 112;
        static OURS: crate::SpanAlloc = crate::SpanAlloc::new();
        let layout = Layout::new::<[u8; BYTES]>();
        // Another thread's.
        let blocks = thread::spawn(move || {
            // SAFETY: the size is not zero.
            [(); 2000].map(|()| unsafe { OURS.alloc(layout) }.expose_provenance())
        });
        let blocks = blocks.join().unwrap();
        let of_size = || {
            let classes = crate::stats().classes;
            classes.iter().find(|class| class.block_bytes == BYTES as u64).unwrap().spans
        };
        assert!(of_size() >= 3);
        for block in blocks {
            // SAFETY: allocated above, by the same layout.
            unsafe { OURS.dealloc(std::ptr::with_exposed_provenance_mut(block), layout) };
        }
        assert!(of_size() >= 1, "some lie on lists");
        relieve(0);
        assert_eq!(of_size(), 0);
    }

    #[test]
    fn looks_are_rarer_while_they_give_little_back() {
        let (little, much) = (Relief::Above(WORTH_BYTES - 1), Relief::Above(WORTH_BYTES));
        let mut pause = LOOK_EVERY;
        let pauses = [(); 6].map(|()| {
            pause = little.next_pause(pause);
            pause.as_millis()
        });
        assert_eq!(pauses, [20, 40, 80, 160, 250, 250]);
        for relief in [much, Relief::Enough, little.and(much), much.and(Relief::Enough)] {
            assert_eq!(relief.next_pause(pause), LOOK_EVERY, "{relief:?}");
        }
        assert_eq!(much.and(little).next_pause(pause), LOOK_EVERY);
        assert_eq!(Relief::Above(0).and(Relief::Above(0)).next_pause(pause), TELL_EVERY);
    }
}
