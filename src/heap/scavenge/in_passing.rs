//! Who ticks under a C program: frees that take a slow path, now and then.
//!
//! No thread is started there. The C library frees memory while it holds the lock that
//! starting a thread takes; and a program that counts its threads, as one does before it
//! enters a namespace of its own, would find one too many. Memory of an idle program
//! stays until its next free, or `malloc_trim`.

use core::sync::atomic::{AtomicU64, Ordering::*};

use super::{TICK_MS, WORTHWHILE_SLOTS};
use crate::heap::Heap;
use crate::sys::os::{Os, monotonic_ns};

/// When the last tick was.
#[derive(Debug)]
pub(super) struct Pace {
    ticked_ns: AtomicU64,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { ticked_ns: AtomicU64::new(0) }
    }
}

impl<O: Os> Heap<O> {
    /// A tick, if there was none for a while and no other thread is at one.
    #[cold]
    pub(super) fn pace(&self) {
        let scavenger = &self.scavenger;
        let (now, before) = (monotonic_ns(), scavenger.pace.ticked_ns.load(Relaxed));
        if now.saturating_sub(before) < u64::from(TICK_MS) * 1_000_000 {
            return;
        }
        if !scavenger.running.swap(true, Acquire) {
            scavenger.pace.ticked_ns.store(now, Relaxed);
            let left = self.scavenge_tick();
            scavenger.wanted.store(left >= WORTHWHILE_SLOTS, Relaxed);
            scavenger.running.store(false, Release);
        }
    }
}
