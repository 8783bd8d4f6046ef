//! The scavenger: free slots that nobody has used for a while go back to the OS.
//!
//! A background thread exists only while there is something to give back. Who
//! frees enough slots starts it; it ticks, gives back what was free and dirty for
//! a whole tick, and ends when nothing is left. How long a tick is, is the *decay*
//! setting. So memory of an idle program returns within two ticks, memory that a busy one is about to reuse stays, and
//! nobody's `free` ever waits for the kernel: the slots being purged are out of
//! the page heap meanwhile, and its lock is not held.
//!
//! # Invariants
//!
//! 1. `running` is true from the decision to start the thread until it has decided,
//!    under the space lock, to end; so there is one at most.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use super::Heap;
use super::geometry::SLOT_BYTES;
use crate::sys::os::Os;
use crate::sys::thread;

/// Milliseconds between ticks unless set.
const TICK_MS: u32 = 500;
/// The most milliseconds slept at a time: a shorter tick is noticed after that.
const NAP_MS: u32 = 100;
/// Dirty free slots that are worth a thread: 1 MiB.
const WORTHWHILE_SLOTS: usize = 16;
/// Slots given back by one call: bounds what is out of the page heap at a time.
const BATCH_SLOTS: usize = 128;
/// Ticks to stay for after there is nothing left.
const LINGER_TICKS: u32 = 4;

/// The scavenger's state.
#[derive(Debug)]
pub(crate) struct Scavenger {
    running: AtomicBool,
    /// Somebody freed enough; to be started where no lock is held.
    wanted: AtomicBool,
    /// Starts that the system refused; each doubles the wait for the next try.
    refused: AtomicU32,
    tick_ms: AtomicU32,
}

impl Scavenger {
    pub(crate) const fn new() -> Self {
        Self {
            running: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            refused: AtomicU32::new(0),
            tick_ms: AtomicU32::new(TICK_MS),
        }
    }

    /// In a forked child the thread is gone.
    pub(crate) fn forked(&self) {
        self.running.store(false, Relaxed);
    }
}

impl<O: Os> Heap<O> {
    /// Notes that `free_dirty` slots are free. The space lock is held.
    #[inline]
    pub(crate) fn note_free(&self, free_dirty: usize) {
        if free_dirty >= WORTHWHILE_SLOTS && !self.scavenger.running.load(Relaxed) {
            self.scavenger.wanted.store(true, Relaxed);
        }
    }

    /// Starts the scavenger if that was found worthwhile. No lock is held. Cost
    /// when it was not: one load.
    ///
    /// # Safety
    ///
    /// The heap is never dropped.
    #[inline]
    pub(crate) unsafe fn tend(&self) {
        if self.scavenger.wanted.load(Relaxed) {
            self.start_scavenger();
        }
    }

    #[cold]
    fn start_scavenger(&self) {
        let scavenger = &self.scavenger;
        scavenger.wanted.store(false, Relaxed);
        if scavenger.running.swap(true, Relaxed) {
            return;
        }
        let refused = scavenger.refused.load(Relaxed);
        let argument = ptr::from_ref(self).cast_mut().cast::<c_void>();
        if refused >= REFUSALS_MAX || !thread::spawn(scavenge::<O>, argument) {
            // Without a thread the memory stays; the program runs on.
            scavenger.refused.store(refused.saturating_add(1), Relaxed);
            scavenger.running.store(refused >= REFUSALS_MAX, Relaxed);
        }
    }

    /// One tick. Returns the slots that are still dirty and free.
    pub(crate) fn scavenge_tick(&self) -> usize {
        for which in 0..2 {
            while let Some((taken, start, bytes)) = {
                let mut space = self.space.lock();
                space.each()[which].scavenge(&self.os, BATCH_SLOTS)
            } {
                // SAFETY: the slots are in no span and out of the page heap.
                let clean = unsafe { self.os.purge(start, bytes) };
                self.space.lock().each()[which].scavenged(taken, clean);
            }
        }
        let mut space = self.space.lock();
        space.each().into_iter().for_each(|pages| pages.age(&self.os));
        space.counts().free_dirty
    }

    /// Gives all free slots back at once; their bytes.
    pub(crate) fn release_free(&self) -> usize {
        let before = self.space.lock().counts().scavenged_total;
        self.scavenge_tick();
        self.scavenge_tick();
        let after = self.space.lock().counts().scavenged_total;
        (after - before) as usize * SLOT_BYTES
    }

    /// Sets the time between ticks, a millisecond at least.
    pub(crate) fn set_decay_ms(&self, decay_ms: u32) {
        self.scavenger.tick_ms.store(decay_ms.max(1), Relaxed);
    }

    /// Bytes that the heap holds: slots in use or free with old contents, mappings
    /// of large blocks, records.
    pub(crate) fn held_bytes(&self) -> u64 {
        let mapped_bytes = self.large.lock().mapped_bytes;
        let space = self.space.lock();
        let counts = space.counts();
        let slots = counts.in_use + counts.free_dirty;
        (slots * SLOT_BYTES + space.records_bytes()) as u64 + mapped_bytes
    }

    fn sleep_for_a_tick(&self) {
        let mut slept_ms = 0;
        while let Some(left_ms) =
            self.scavenger.tick_ms.load(Relaxed).checked_sub(slept_ms).filter(|left| *left > 0)
        {
            thread::sleep_ms(left_ms.min(NAP_MS));
            slept_ms += left_ms.min(NAP_MS);
        }
    }

    fn scavenge_until_clean(&self) {
        let mut idle_ticks = 0;
        loop {
            self.sleep_for_a_tick();
            let left = self.scavenge_tick();
            idle_ticks = if left < WORTHWHILE_SLOTS { idle_ticks + 1 } else { 0 };
            if idle_ticks >= LINGER_TICKS && self.rest() {
                return;
            }
        }
    }

    /// Ends if there is nothing to do still: who frees more after this was decided
    /// finds nothing running (invariant 1).
    fn rest(&self) -> bool {
        let space = self.space.lock();
        let idle = space.counts().free_dirty < WORTHWHILE_SLOTS;
        if idle {
            self.scavenger.running.store(false, Relaxed);
        }
        idle
    }
}

const REFUSALS_MAX: u32 = 8;

extern "C" fn scavenge<O: Os>(heap: *mut c_void) -> *mut c_void {
    // SAFETY: `tend` is called on a heap that is never dropped.
    let heap = unsafe { &*heap.cast::<Heap<O>>() };
    heap.scavenge_until_clean();
    ptr::null_mut()
}
