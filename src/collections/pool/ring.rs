//! A bounded ring with one producer and many consumers.
//!
//! The *producer* (one thread at a time) pushes and pops at the *head*; any thread pops at the
//! *tail*. Both ends are 32-bit counters packed into one word, so that the race for the last value
//! is one compare-and-swap.
//!
//! ```text
//! slot:      tail ─────────▶ head
//!      [ . ][ v ][ v ][ v ][ . ][ . ]      len = head − tail, index = counter & (capacity − 1)
//! ```
//!
//! # Invariants
//!
//! 1. `head − tail ≤ capacity`, in wrapping arithmetic.
//! 2. The slots from `tail` to `head` hold values. Moving an end past a slot by compare-and-swap
//!    makes the mover that slot's only reader.
//! 3. A slot is written only by the producer, only at `head`, and only while its `full` flag is
//!    false. A consumer lowers the flag after it has moved the value out, so a slot that a consumer
//!    still holds makes the ring full.
//!
//! Ordering: the producer's Release on `ends` publishes the slot to the consumer's Acquire. Every
//! later change of `ends` is a read-modify-write, so it continues that release sequence. The
//! consumer's Release on `full` hands the slot back to the producer's Acquire.

use crate::base::sync::{AtomicBool, AtomicPtr, AtomicU64, UnsafeCell, Witness};
use crate::collections::rest::drop_rest;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// See the module's documentation.
pub(super) struct Ring<T> {
    ends: AtomicU64,
    /// The ring that took over when this one was full. Written once, by the producer; its Release
    /// publishes the next ring's contents.
    pub(super) next: AtomicPtr<Ring<T>>,
    /// Belongs to the `readers` module. Not `next`, which those who still look at an unlinked ring
    /// follow.
    pub(super) retired_next: AtomicPtr<Ring<T>>,
    slots: Box<[Slot<T>]>,
    witness: Witness,
}

struct Slot<T> {
    full: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: values move between threads, never references to them: by invariants 2 and 3 each slot
// has one reader or writer at a time.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    /// An empty ring for `capacity` values, a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two() && capacity <= 1 << 30);
        let slot =
            || Slot { full: AtomicBool::new(false), value: UnsafeCell::new(MaybeUninit::uninit()) };
        Self {
            ends: AtomicU64::new(Ends { head: 0, tail: 0 }.pack()),
            next: AtomicPtr::new(ptr::null_mut()),
            retired_next: AtomicPtr::new(ptr::null_mut()),
            slots: (0..capacity).map(|_| slot()).collect(),
            witness: Witness::new(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Adds `value` at the head, or hands it back when the ring is full.
    ///
    /// # Safety
    ///
    /// The calling thread is the ring's only producer.
    #[inline]
    pub(super) unsafe fn push_head(&self, value: T) -> Result<(), T> {
        let ends = Ends::unpack(self.ends.load(Relaxed));
        if ends.len() == self.slots.len() {
            return Err(value);
        }
        let slot = self.slot(ends.head);
        if slot.full.load(Acquire) {
            return Err(value);
        }
        slot.value.with_mut(|place| {
            // SAFETY: by invariant 3 the slot at the head is empty and this thread's to write.
            unsafe { &mut *place }.write(value);
        });
        slot.full.store(true, Relaxed);
        self.ends.fetch_add(Ends::HEAD_STEP, Release);
        Ok(())
    }

    /// Takes the youngest value.
    ///
    /// # Safety
    ///
    /// The calling thread is the ring's only producer.
    #[inline]
    pub(super) unsafe fn pop_head(&self) -> Option<T> {
        let mut seen = self.ends.load(Relaxed);
        loop {
            let Ends { head, tail } = Ends::unpack(seen);
            if head == tail {
                return None;
            }
            let taken = Ends { head: head.wrapping_sub(1), tail };
            match self.ends.compare_exchange_weak(seen, taken.pack(), Acquire, Relaxed) {
                Ok(_) => return Some(self.slot(taken.head).take()),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes the oldest value; any thread may call this.
    pub(super) fn pop_tail(&self) -> Option<T> {
        self.witness.used();
        let mut seen = self.ends.load(Relaxed);
        loop {
            let Ends { head, tail } = Ends::unpack(seen);
            if head == tail {
                return None;
            }
            let taken = Ends { head, tail: tail.wrapping_add(1) };
            match self.ends.compare_exchange_weak(seen, taken.pack(), Acquire, Relaxed) {
                Ok(_) => return Some(self.slot(tail).take()),
                Err(now) => seen = now,
            }
        }
    }

    #[inline]
    fn slot(&self, counter: u32) -> &Slot<T> {
        &self.slots[counter as usize & (self.slots.len() - 1)]
    }
}

impl<T> Slot<T> {
    /// Moves the value out and gives the slot back to the producer. Called only by the thread that
    /// has just moved an end past this slot.
    #[inline]
    fn take(&self) -> T {
        let value = self.value.with(|place| {
            // SAFETY: by invariant 2 the slot holds a value and this thread is its only reader.
            unsafe { ptr::read(place) }
        });
        self.full.store(false, Release);
        // SAFETY: by invariant 2 what was copied out is an initialized value, and lowering the flag
        // has made the slot's own copy dead.
        unsafe { value.assume_init() }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        drop_rest(|| self.pop_tail().is_some());
        self.witness.freed();
    }
}

/// The two ends of a ring.
#[derive(Clone, Copy)]
struct Ends {
    head: u32,
    tail: u32,
}

impl Ends {
    /// Added to the packed word, moves the head on by one; the overflow falls off the top.
    const HEAD_STEP: u64 = 1 << 32;

    #[inline]
    fn pack(self) -> u64 {
        u64::from(self.head) << 32 | u64::from(self.tail)
    }

    #[inline]
    fn unpack(word: u64) -> Self {
        Self { head: (word >> 32) as u32, tail: word as u32 }
    }

    #[inline]
    fn len(self) -> usize {
        self.head.wrapping_sub(self.tail) as usize
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::rc::Rc;

    #[test]
    fn agrees_with_a_deque_under_every_short_program() {
        // Each program is nine base-3 digits: push, pop at the head, pop at the tail.
        for program in 0..3u32.pow(9) {
            let ring = Ring::new(4);
            let mut model = VecDeque::new();
            let mut rest = program;
            for value in 0..9u32 {
                // SAFETY: one thread.
                let head_pop = |ring: &Ring<u32>| unsafe { ring.pop_head() };
                match rest % 3 {
                    0 => {
                        // SAFETY: one thread.
                        let pushed = unsafe { ring.push_head(value) };
                        assert_eq!(pushed.is_ok(), model.len() < 4);
                        if pushed.is_ok() {
                            model.push_back(value);
                        }
                    }
                    1 => assert_eq!(head_pop(&ring), model.pop_back()),
                    _ => assert_eq!(ring.pop_tail(), model.pop_front()),
                }
                rest /= 3;
            }
        }
    }

    #[test]
    fn counters_may_wrap() {
        let ring = Ring::new(2);
        let near_the_end = Ends { head: u32::MAX, tail: u32::MAX };
        ring.ends.store(near_the_end.pack(), Relaxed);
        for value in 0..6 {
            // SAFETY: one thread.
            unsafe { ring.push_head(value) }.unwrap();
            assert_eq!(ring.pop_tail(), Some(value));
        }
    }

    #[test]
    fn drops_what_is_left() {
        let witness = Rc::new(());
        let ring = Ring::new(8);
        for _ in 0..5 {
            // SAFETY: one thread.
            unsafe { ring.push_head(witness.clone()) }.unwrap();
        }
        assert_eq!(Rc::strong_count(&witness), 6);
        drop(ring);
        assert_eq!(Rc::strong_count(&witness), 1);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Every value pushed is popped exactly once, whoever pops it.
    #[test]
    fn loom_ring_hands_each_value_out_once() {
        loom::model(|| {
            let ring = Arc::new(Ring::new(2));
            let thief = {
                let ring = ring.clone();
                thread::spawn(move || [ring.pop_tail(), ring.pop_tail()])
            };
            let mut seen = Vec::new();
            for value in [1, 2, 3] {
                // SAFETY: only this thread produces.
                seen.extend(unsafe { ring.push_head(Box::new(value)) }.err());
            }
            // SAFETY: only this thread produces.
            seen.extend(unsafe { ring.pop_head() });
            seen.extend(thief.join().unwrap().into_iter().flatten());
            seen.extend(std::iter::from_fn(|| ring.pop_tail()));
            seen.sort();
            assert_eq!(seen, [1, 2, 3].map(Box::new));
        });
    }

    /// Two thieves and the producer fight over one value; the slot is then used again.
    #[test]
    fn loom_ring_last_value_has_one_winner() {
        loom::model(|| {
            let ring = Arc::new(Ring::new(1));
            // SAFETY: only this thread produces.
            unsafe { ring.push_head(Box::new(1)) }.unwrap();
            let thieves = [(); 2].map(|()| {
                let ring = ring.clone();
                thread::spawn(move || ring.pop_tail())
            });
            // SAFETY: only this thread produces.
            let mine = unsafe { ring.pop_head() };
            // SAFETY: only this thread produces.
            let back = unsafe { ring.push_head(Box::new(2)) }.err();
            let mut seen: Vec<_> = mine.into_iter().chain(back).collect();
            seen.extend(thieves.into_iter().filter_map(|thief| thief.join().unwrap()));
            seen.extend(ring.pop_tail());
            seen.sort();
            assert_eq!(seen, [1, 2].map(Box::new));
        });
    }
}
