//! A bounded ring with one producer and many consumers.
//!
//! The *producer* (one thread at a time) pushes and pops at the *head*; any thread pops at the
//! *tail*. Both ends are 32-bit counters packed into one word, so that the race for the last values
//! is one compare-and-swap, of however many.
//!
//! ```text
//! slot:      tail ─────────▶ head
//!      [ . ][ v ][ v ][ v ][ . ][ . ]      len = head − tail, index = counter & (capacity − 1)
//! ```
//!
//! # Invariants
//!
//! 1. `head − tail ≤ capacity`, in wrapping arithmetic.
//! 2. The slots from `tail` to `head` hold values. Moving an end past slots by compare-and-swap
//!    makes the mover their only reader.
//! 3. A slot is written only by the producer, only from `head` on and less than `capacity` beyond
//!    `tail`, and only while its `full` flag is false. A consumer lowers the flag after it has
//!    moved the value out, so a slot that a consumer still holds makes the ring full.
//!
//! Ordering: the producer's Release on `ends` publishes the slots to the consumer's Acquire. Every
//! later change of `ends` is a read-modify-write, so it continues that release sequence. The
//! consumer's Release on `full` hands the slot back to the producer's Acquire.

use crate::base::sync::{AtomicBool, AtomicPtr, AtomicU64, UnsafeCell, Witness};
use crate::collections::rest::drop_rest;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// A bounded queue: one producer, many consumers.
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

    /// Adds `values` at the head, as many as there is room for; the others stay in the iterator,
    /// which does not panic.
    ///
    /// # Safety
    ///
    /// The calling thread is the ring's only producer.
    pub(super) unsafe fn push_head(&self, values: &mut impl Iterator<Item = T>) {
        let ends = Ends::unpack(self.ends.load(Relaxed));
        let mut head = ends.head;
        while (Ends { head, ..ends }).len() < self.slots.len() {
            let slot = self.slot(head);
            if slot.full.load(Acquire) {
                break;
            }
            let Some(value) = values.next() else { break };
            slot.value.with_mut(|place| {
                // SAFETY: by invariant 3 the slot is empty and this thread's to write.
                unsafe { &mut *place }.write(value);
            });
            slot.full.store(true, Relaxed);
            head = head.wrapping_add(1);
        }
        let pushed = head.wrapping_sub(ends.head);
        if pushed > 0 {
            self.ends.fetch_add(u64::from(pushed) * Ends::HEAD_STEP, Release);
        }
    }

    /// Takes up to `most` of the youngest values, the oldest of them first, and returns how many.
    /// Of more than one, the others would be lost if `each` panicked.
    ///
    /// # Safety
    ///
    /// The calling thread is the ring's only producer.
    pub(super) unsafe fn pop_head(&self, most: u32, mut each: impl FnMut(T)) -> u32 {
        let mut seen = self.ends.load(Relaxed);
        loop {
            let ends = Ends::unpack(seen);
            let count = most.min(ends.len() as u32);
            if count == 0 {
                return 0;
            }
            let taken = Ends { head: ends.head.wrapping_sub(count), ..ends };
            match self.ends.compare_exchange_weak(seen, taken.pack(), Acquire, Relaxed) {
                Ok(_) => {
                    (0..count).for_each(|at| each(self.slot(taken.head.wrapping_add(at)).take()));
                    return count;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Takes up to `most` of the oldest values, but no more than half of them, the odd one
    /// included; the oldest first. Returns how many. Of more than one, the others would be lost if
    /// `each` panicked. Any thread may call this.
    pub(super) fn pop_tail(&self, most: u32, mut each: impl FnMut(T)) -> u32 {
        self.witness.used();
        let mut seen = self.ends.load(Relaxed);
        loop {
            let ends = Ends::unpack(seen);
            let count = most.min((ends.len() as u32).div_ceil(2));
            if count == 0 {
                return 0;
            }
            let taken = Ends { tail: ends.tail.wrapping_add(count), ..ends };
            match self.ends.compare_exchange_weak(seen, taken.pack(), Acquire, Relaxed) {
                Ok(_) => {
                    (0..count).for_each(|at| each(self.slot(ends.tail.wrapping_add(at)).take()));
                    return count;
                }
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
        drop_rest(|| self.pop_tail(1, drop) > 0);
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

    /// Pushes the numbers from `first` on, `count` of them, and returns how many had no room.
    fn push(ring: &Ring<u32>, first: u32, count: u32) -> u32 {
        let mut values = first..first + count;
        // SAFETY: one thread.
        unsafe { ring.push_head(&mut values) };
        values.len() as u32
    }

    /// What `pop` gives to the closure, which must be as many as it says.
    fn popped(pop: impl FnOnce(&mut dyn FnMut(u32)) -> u32) -> Vec<u32> {
        let mut values = Vec::new();
        let count = pop(&mut |value| values.push(value));
        assert_eq!(values.len() as u32, count);
        values
    }

    #[test]
    fn agrees_with_a_deque_under_every_short_program() {
        // Each program is seven base-6 digits: one or three are pushed, popped at the head, popped
        // at the tail.
        for program in 0..6u32.pow(7) {
            let ring = Ring::new(4);
            let mut model = VecDeque::new();
            let mut rest = program;
            for step in 0..7u32 {
                let most = if rest % 2 == 0 { 1 } else { 3 };
                let len = model.len();
                match rest / 2 % 3 {
                    0 => {
                        let left = push(&ring, 3 * step, most);
                        assert_eq!(left, most.saturating_sub(4 - len as u32));
                        model.extend(3 * step..3 * step + most - left);
                    }
                    1 => {
                        // SAFETY: one thread.
                        let values = popped(|each| unsafe { ring.pop_head(most, each) });
                        let from = len.saturating_sub(most as usize);
                        assert_eq!(values, Vec::from(model.split_off(from)));
                    }
                    _ => {
                        let values = popped(|each| ring.pop_tail(most, each));
                        let count = len.div_ceil(2).min(most as usize);
                        assert_eq!(values, Vec::from_iter(model.drain(..count)));
                    }
                }
                rest /= 6;
            }
        }
    }

    #[test]
    fn counters_may_wrap() {
        let ring = Ring::new(2);
        let near_the_end = Ends { head: u32::MAX, tail: u32::MAX };
        ring.ends.store(near_the_end.pack(), Relaxed);
        for value in 0..6 {
            assert_eq!(push(&ring, value, 1), 0);
            assert_eq!(popped(|each| ring.pop_tail(1, each)), [value]);
        }
    }

    #[test]
    fn drops_what_is_left() {
        let witness = Rc::new(());
        let ring = Ring::new(8);
        // SAFETY: one thread.
        unsafe { ring.push_head(&mut std::iter::repeat_n(witness.clone(), 5)) };
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

    /// Pushes as many of `values` as there is room for and returns the others.
    ///
    /// # Safety
    ///
    /// As [`Ring::push_head`].
    unsafe fn push<const N: usize>(ring: &Ring<Box<u32>>, values: [u32; N]) -> Vec<Box<u32>> {
        let mut values = values.into_iter().map(Box::new);
        // SAFETY: the caller's contract.
        unsafe { ring.push_head(&mut values) };
        values.collect()
    }

    fn steal(ring: &Ring<Box<u32>>, most: u32) -> Vec<Box<u32>> {
        let mut values = Vec::new();
        ring.pop_tail(most, |value| values.push(value));
        values
    }

    /// What was `seen` so far and what is left in the ring, in order.
    fn all(mut seen: Vec<Box<u32>>, ring: &Ring<Box<u32>>) -> Vec<Box<u32>> {
        while ring.pop_tail(1, |value| seen.push(value)) > 0 {}
        seen.sort();
        seen
    }

    /// Every value pushed is popped exactly once, whoever pops it.
    #[test]
    fn loom_ring_hands_each_value_out_once() {
        loom::model(|| {
            let ring = Arc::new(Ring::new(2));
            let thief = {
                let ring = ring.clone();
                thread::spawn(move || [steal(&ring, 1), steal(&ring, 1)].concat())
            };
            let mut seen = Vec::new();
            for value in [1, 2, 3] {
                // SAFETY: only this thread produces.
                seen.extend(unsafe { push(&ring, [value]) });
            }
            // SAFETY: only this thread produces.
            unsafe { ring.pop_head(1, |value| seen.push(value)) };
            seen.extend(thief.join().unwrap());
            assert_eq!(all(seen, &ring), [1, 2, 3].map(Box::new));
        });
    }

    /// As above, with two and three values at once, from a ring that goes round.
    #[test]
    fn loom_ring_hands_each_value_of_a_batch_out_once() {
        loom::model(|| {
            let ring = Arc::new(Ring::new(4));
            // SAFETY: only this thread produces.
            assert!(unsafe { push(&ring, [1, 2, 3]) }.is_empty());
            let thief = {
                let ring = ring.clone();
                thread::spawn(move || [steal(&ring, 2), steal(&ring, 2)].concat())
            };
            // SAFETY: only this thread produces.
            let mut seen = unsafe { push(&ring, [4, 5]) };
            // SAFETY: only this thread produces.
            unsafe { ring.pop_head(2, |value| seen.push(value)) };
            seen.extend(thief.join().unwrap());
            assert_eq!(all(seen, &ring), [1, 2, 3, 4, 5].map(Box::new));
        });
    }

    /// Two thieves and the producer fight over one value; the slot is then used again.
    #[test]
    fn loom_ring_last_value_has_one_winner() {
        loom::model(|| {
            let ring = Arc::new(Ring::new(1));
            // SAFETY: only this thread produces.
            assert!(unsafe { push(&ring, [1]) }.is_empty());
            let thieves = [(); 2].map(|()| {
                let ring = ring.clone();
                thread::spawn(move || steal(&ring, 2))
            });
            let mut seen = Vec::new();
            // SAFETY: only this thread produces.
            unsafe { ring.pop_head(2, |value| seen.push(value)) };
            // SAFETY: only this thread produces.
            seen.extend(unsafe { push(&ring, [2]) });
            seen.extend(thieves.into_iter().flat_map(|thief| thief.join().unwrap()));
            assert_eq!(all(seen, &ring), [1, 2].map(Box::new));
        });
    }
}
