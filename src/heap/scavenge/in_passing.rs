//! Who ticks under a C program: frees that take a slow path, now and then.
//!
//! No thread is started there. The C library frees memory while it holds the lock that
//! starting a thread takes; and a program that counts its threads, as one does before it
//! enters a namespace of its own, would find one too many. Memory of an idle program
//! stays until its next free, or `malloc_trim`; but a program whose threads all end but
//! one has most likely done what it needed memory for, so the last of them gives back
//! what is free.

use core::sync::atomic::{AtomicU64, Ordering::*};

use super::{WORTHWHILE_SLOTS, has_passed};
use crate::heap::Heap;
use crate::sys::os::{Os, monotonic_ns};

/// Milliseconds between ticks unless set: half as many as where a thread sees to it, for here
/// ticks come late (peak memory of clang++ was 2.5 % less, its time the same).
pub(super) const TICK_MS: u32 = 250;

/// How many free slots a tick gives back, or a run of them more, which is 64 MiB: a free of the
/// program's waits for it. The next tick has the others.
pub(super) const SLOTS_MAX: usize = 1024;

/// Whether a tick thins spans: not in a free of the program's, which would wait for it.
pub(super) const THINS: bool = false;

/// Whether it ticks, too, while all threads sleep.
pub(super) const TICKS_WHILE_ALL_SLEEP: bool = false;

/// When the last tick was.
#[derive(Debug)]
pub(super) struct Pace {
    ticked_ns: AtomicU64,
    /// When the last thread but one gave memory back for the last time.
    released_ns: AtomicU64,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { ticked_ns: AtomicU64::new(0), released_ns: AtomicU64::new(0) }
    }
}

impl<O: Os> Heap<O> {
    /// A tick, if there was none for a while and no other thread is at one.
    #[cold]
    #[unsafe(link_section = ".spanalloc.text")]
    pub(super) fn pace(&self) {
        let scavenger = &self.scavenger;
        if scavenger.is_off() {
            return scavenger.wanted.store(false, Relaxed);
        }
        // The clock last: what another thread notes meanwhile is not ahead of it.
        let (before, now) = (scavenger.pace.ticked_ns.load(Relaxed), monotonic_ns());
        if !has_passed(now, before, u64::from(scavenger.tick_ms()) * 1_000_000) {
            return;
        }
        if !scavenger.running.swap(true, Acquire) {
            scavenger.pace.ticked_ns.store(now, Relaxed);
            let left = self.scavenge_tick();
            scavenger.wanted.store(left >= WORTHWHILE_SLOTS, Relaxed);
            scavenger.running.store(false, Release);
        }
    }

    /// A thread has ended: gives all that is free back if one other is left, once a tick
    /// at most.
    pub(crate) fn thread_ended(&self) {
        let free_dirty = || self.space.lock().counts().free_dirty;
        if self.scavenger.is_off()
            || self.threads_open() > 1
            || free_dirty() < WORTHWHILE_SLOTS && !self.is_sparse()
        {
            return;
        }
        let scavenger = &self.scavenger;
        let (before, now) = (scavenger.pace.released_ns.load(Relaxed), monotonic_ns());
        if has_passed(now, before, u64::from(scavenger.tick_ms()) * 1_000_000) {
            scavenger.pace.released_ns.store(now, Relaxed);
            self.release_free();
        }
    }
}
