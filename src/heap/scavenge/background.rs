//! Who ticks in a Rust program: a thread, while there is something to give back.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{WORTHWHILE_BYTES, WORTHWHILE_SLOTS};
use crate::heap::Heap;
use crate::sys::background::{sleep_ms, spawn};
use crate::sys::os::Os;

/// Milliseconds between ticks unless set.
pub(super) const TICK_MS: u32 = 500;
/// Whether a tick thins spans.
pub(super) const THINS: bool = true;
/// Ticks to stay for after there is nothing left.
const LINGER_TICKS: u32 = 4;
const REFUSALS_MAX: u32 = 8;
/// The most milliseconds slept at a time: a shorter tick is noticed after that.
const NAP_MS: u32 = 100;

/// What starting the thread came to.
#[derive(Debug)]
pub(super) struct Pace {
    /// Starts that the system refused; after so many, none is tried any more.
    refused: AtomicU32,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { refused: AtomicU32::new(0) }
    }
}

impl<O: Os> Heap<O> {
    /// Starts the thread, unless it runs.
    #[cold]
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(super) fn pace(&self) {
        let scavenger = &self.scavenger;
        scavenger.wanted.store(false, Relaxed);
        if scavenger.running.swap(true, Relaxed) {
            return;
        }
        let refused = scavenger.pace.refused.load(Relaxed);
        let argument = ptr::from_ref(self).cast_mut().cast::<c_void>();
        if refused >= REFUSALS_MAX || !spawn(scavenge::<O>, argument) {
            // Without a thread the memory stays; the program runs on.
            scavenger.pace.refused.store(refused.saturating_add(1), Relaxed);
            scavenger.running.store(refused >= REFUSALS_MAX, Relaxed);
        }
    }

    /// A thread has ended: the scavenger sees to it in its time.
    pub(crate) fn thread_ended(&self) {}

    #[unsafe(link_section = ".spanalloc.rare")]
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

    fn sleep_for_a_tick(&self) {
        let mut slept_ms = 0;
        while let Some(left_ms) =
            self.scavenger.tick_ms().checked_sub(slept_ms).filter(|left| *left > 0)
        {
            sleep_ms(left_ms.min(NAP_MS));
            slept_ms += left_ms.min(NAP_MS);
        }
    }

    /// Ends if there is nothing to do still: who frees more after this was decided
    /// finds nothing running (invariant 1).
    fn rest(&self) -> bool {
        let space = self.space.lock();
        if space.counts().free_dirty >= WORTHWHILE_SLOTS {
            return false;
        }
        self.scavenger.running.store(false, Relaxed);
        drop(space);
        // Who puts more aside after this look finds nothing running, by the depots' locks. Of
        // spans found to be sparse the same is true unless it comes at this very moment; then
        // the next one starts the thread.
        !self.is_sparse() && self.kept_bytes_most() < WORTHWHILE_BYTES
            || self.scavenger.running.swap(true, Relaxed)
    }
}

#[unsafe(link_section = ".spanalloc.rare")]
extern "C" fn scavenge<O: Os>(heap: *mut c_void) -> *mut c_void {
    // SAFETY: `tend` is called on a heap that is never dropped.
    let heap = unsafe { &*heap.cast::<Heap<O>>() };
    heap.scavenge_until_clean();
    ptr::null_mut()
}
