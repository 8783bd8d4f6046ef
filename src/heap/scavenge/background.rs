//! Who ticks in a Rust program: a thread, while there is something to give back.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{WORTHWHILE_BYTES, WORTHWHILE_SLOTS, has_passed};
use crate::heap::Heap;
use crate::sys::background::{SMALL_STACK_BYTES, sleep_ms, spawn};
use crate::sys::os::{Os, monotonic_ns};
use crate::sys::starts::may_start;
use crate::sys::thread::settle;

/// Milliseconds between ticks unless set.
pub(super) const TICK_MS: u32 = 500;
/// How many free slots a tick gives back at most: nobody waits for it.
pub(super) const SLOTS_MAX: usize = usize::MAX;
/// Whether a tick thins spans.
pub(super) const THINS: bool = true;
/// Whether it ticks, too, while all threads sleep.
pub(super) const TICKS_WHILE_ALL_SLEEP: bool = true;
/// Ticks to stay for after there is nothing left, and milliseconds at least: a program that needs
/// it now and then does not start threads all the time, however short a tick is.
const LINGER_TICKS: u32 = 4;
const LINGER_MS_MIN: u32 = 1000;
/// Nanoseconds without another start after one that the system refused.
const PATIENCE_NS: u64 = 1_000_000_000;
/// The most milliseconds slept at a time: a shorter tick is noticed after that.
const NAP_MS: u32 = 100;

/// What starting the thread came to.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the system refused the last start; 0 if it did not.
    refused_ns: AtomicU64,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { refused_ns: AtomicU64::new(0) }
    }

    /// Whether a start may be tried: a system that just refused would refuse again, and be asked
    /// by every free.
    fn may_start(&self, now_ns: u64) -> bool {
        let refused_ns = self.refused_ns.load(Relaxed);
        refused_ns == 0 || has_passed(now_ns, refused_ns, PATIENCE_NS)
    }

    fn refused(&self, now_ns: u64) {
        self.refused_ns.store(now_ns.max(1), Relaxed);
    }
}

impl<O: Os> Heap<O> {
    /// Starts the thread, unless it runs.
    #[cold]
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(super) fn pace(&self) {
        let scavenger = &self.scavenger;
        if !may_start() {
            // It stays wanted.
            return;
        }
        scavenger.wanted.store(false, Relaxed);
        if scavenger.is_off() || scavenger.running.swap(true, Relaxed) {
            return;
        }
        let argument = ptr::from_ref(self).cast_mut().cast::<c_void>();
        let now_ns = monotonic_ns();
        if !scavenger.pace.may_start(now_ns) {
            scavenger.running.store(false, Relaxed);
            return;
        }
        // SAFETY: heaps with a thread are static.
        if !unsafe { spawn(scavenge::<O>, argument, SMALL_STACK_BYTES) } {
            // Without a thread the memory stays for now; the program runs on.
            scavenger.pace.refused(now_ns);
            scavenger.running.store(false, Relaxed);
        }
    }

    /// A thread has ended: the scavenger sees to it in its time.
    pub(crate) fn thread_ended(&self) {}

    #[unsafe(link_section = ".spanalloc.rare")]
    fn scavenge_until_clean(&self) {
        let mut idle_ticks = 0_u32;
        loop {
            self.sleep_for_a_tick();
            if self.scavenger.is_off() {
                self.scavenger.running.store(false, Relaxed);
                // Who has set another decay meanwhile may have found this thread still running.
                if self.scavenger.is_off() || self.scavenger.running.swap(true, Relaxed) {
                    return;
                }
            }
            let left = self.scavenge_tick();
            idle_ticks = if left < WORTHWHILE_SLOTS { idle_ticks.saturating_add(1) } else { 0 };
            let idle_ms = idle_ticks.saturating_mul(self.scavenger.tick_ms());
            if idle_ticks >= LINGER_TICKS && idle_ms >= LINGER_MS_MIN && self.rest() {
                return;
            }
        }
    }

    fn sleep_for_a_tick(&self) {
        let mut slept_ms = 0;
        while let Some(left_ms) =
            self.scavenger.tick_ms().checked_sub(slept_ms).filter(|left| *left > 0)
        {
            if self.scavenger.is_off() {
                return;
            }
            sleep_ms(left_ms.min(NAP_MS));
            slept_ms += left_ms.min(NAP_MS);
        }
    }

    /// Whether there is more put aside, or free inside spans, than may stay.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn is_needed(&self) -> bool {
        let kept_bytes = self.large.lock().kept.bytes();
        self.is_sparse() || self.put_aside_bytes() + kept_bytes >= WORTHWHILE_BYTES
    }

    /// Ends if there is nothing to do still: who frees more after this was decided
    /// finds nothing running (invariant 1).
    fn rest(&self) -> bool {
        if self.is_needed() {
            return false;
        }
        let space = self.space.lock();
        let refused = self.scavenger.refused.load(Relaxed);
        if space.counts().free_dirty.saturating_sub(refused) >= WORTHWHILE_SLOTS {
            return false;
        }
        self.scavenger.running.store(false, Relaxed);
        drop(space);
        // Who puts more aside after this look finds nothing running: by the depots' locks, and in
        // practice for shelves and spans found to be sparse, which have none, since after the nap
        // no processor has a store of before it still to make.
        sleep_ms(1);
        !self.is_needed() || self.scavenger.running.swap(true, Relaxed)
    }
}

#[unsafe(link_section = ".spanalloc.rare")]
extern "C" fn scavenge<O: Os>(heap: *mut c_void) -> *mut c_void {
    settle(c"spanalloc-idle");
    // SAFETY: `tend` is called on a heap that is never dropped.
    let heap = unsafe { &*heap.cast::<Heap<O>>() };
    heap.scavenge_until_clean();
    ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_put_a_start_off_and_do_not_end_it() {
        let pace = Pace::new();
        for now_ns in [1, 5 * PATIENCE_NS, 900 * PATIENCE_NS] {
            assert!(pace.may_start(now_ns));
            for _ in 0..20 {
                pace.refused(now_ns);
            }
            assert!(!pace.may_start(now_ns) && !pace.may_start(now_ns + PATIENCE_NS / 2));
            assert!(pace.may_start(now_ns + PATIENCE_NS + 1));
            // A clock that went back, as after a restore on another machine.
            assert!(pace.may_start(now_ns - 1));
        }
    }
}
