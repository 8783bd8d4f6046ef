//! When a ring that was unlinked from its chain may be freed.
//!
//! A thread *pins* itself before it walks the rings of chains. A ring that has been unlinked is
//! *retired*: no later pin reaches it, but an earlier one may. Time is cut into *phases*, and a pin
//! belongs to the one in which it began. What has been retired goes into *limbo* when a phase ends,
//! and is freed when none of that phase's pins is left; pins that came later do not matter. The
//! next phase ends only then, so two phases at most have pins, and two tallies do.
//!
//! ```text
//! phase      ── 1 ─────────┬── 2 ────────────┬── 3 ──
//! pins          ├────┤  ├──│─────────┤   ├───│────┤
//!                  ├───────│───┤  ├────┤     │
//! limbo                    └─ of 1 ──┘       └ of 2
//! ```
//!
//! Who ends phases has the *turn*. It passes from hand to hand: whoever ends a phase that has pins
//! leaves it to the last of these. Who does not get it does nothing, since who gives it back looks
//! again. To have it once, from taking what was retired until the freeing is done, is a *round*.
//!
//! # Bound
//!
//! Let P be the longest pin, and R the longest round. A ring is freed within 2 P + 3 R of being
//! retired: a round that began before may end a phase without it (R); its pins, or else the one
//! that retired the ring, end (P), and a round begins; that one ends a phase, with the ring (R);
//! the pins of this phase end (P); then a round frees it (R). So what waits is what was retired in
//! the last 2 P + 3 R, however many pins follow one another. A round is a few steps and the
//! freeing: it is long only where its thread is preempted, or has much to free. When nobody is
//! pinned or in a round, nothing waits.
//!
//! A thread that stays pinned holds up what is retired in its own phase and later, until it goes
//! on: nobody can tell which of those rings it looks at.
//!
//! # Invariants
//!
//! 1. A ring in the list at `retired` was unlinked before it came there, and came from
//!    `Box::into_raw`. The list, or the call of `reclaim` that has taken it, owns it and its
//!    `retired_next`. So for `limbo`.
//! 2. The turn is free, or one call of `reclaim` has it, or the pins of the phase before the
//!    current one have. Only who has it changes the phase and `limbo`. While it is free, `limbo`
//!    is empty.
//! 3. When a call of `reclaim` has the turn, or it is free, no pin of an earlier phase than the
//!    current one is left, and the tally of these is zero.
//! 4. Rings are reached only while pinned, and freed only by who had the turn and has taken them
//!    out of `limbo`.
//! 5. Nobody waits: a fork may leave the child without the thread that would be waited for.
//!
//! A phase's *tally* is the pins that have ended; once the phase has, less those that began. Then
//! it is zero or below, and the one that brings it to zero, be it the end of the phase or of a pin,
//! is the only one: that one has the turn, and the tally is as the phase after next needs it.
//!
//! Ordering: `begun` is changed by read-modify-writes alone, which have one order. Pins of later
//! phases come after the end of the phase in it; their Acquire reads what its Release has written,
//! or what others made of it since, so they see the chains without the rings that went into limbo
//! just before. Those of the phase, and of none earlier (invariant 3), are in the tally: the
//! Release of unpinning makes all their uses happen before the Acquire of who finds it at zero, and
//! that before the freeing, by the turn. The turn is handed on by the tally, or by swaps of `busy`,
//! which are Acquire and Release. The Release of retiring hands the ring, and that it was unlinked,
//! to the Acquire of taking the list. Nothing is left behind: who has retired swaps `busy` after
//! it. Either that gets the turn, or comes before the swap that gives it back, whose Acquire makes
//! the look at `retired` thereafter find the ring.

use super::ring::Ring;
use crate::base::sync::{AtomicBool, AtomicPtr, AtomicU64};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Of `begun`: the parity of the current phase. The rest of the word counts.
const PARITY: u64 = 1;
/// Added to `begun`, one pin more. 2⁶³ of them in one phase would take centuries.
const ONE_PIN: u64 = 2;

/// Who is looking at rings, and which rings wait until nobody is.
pub(super) struct Readers<T> {
    /// The pins that began in the current phase, and its parity.
    begun: AtomicU64,
    /// The tally of the current phase and that of the one before, by parity.
    tallies: [AtomicU64; 2],
    /// Whether the turn is taken.
    busy: AtomicBool,
    /// The first of the rings unlinked since the last phase ended, linked by `retired_next`.
    retired: AtomicPtr<Ring<T>>,
    /// The first of those that wait for the pins of the phase before the current one.
    limbo: AtomicPtr<Ring<T>>,
    /// Values pass from thread to thread, as through a mutex: they must be `Send`.
    values: PhantomData<Mutex<T>>,
}

impl<T> Readers<T> {
    pub(super) fn new() -> Self {
        Self {
            begun: AtomicU64::new(0),
            tallies: [AtomicU64::new(0), AtomicU64::new(0)],
            busy: AtomicBool::new(false),
            retired: AtomicPtr::new(ptr::null_mut()),
            limbo: AtomicPtr::new(ptr::null_mut()),
            values: PhantomData,
        }
    }

    /// Keeps rings allocated until the result is dropped.
    pub(super) fn pin(&self) -> Pin<'_, T> {
        let phase = self.begun.fetch_add(ONE_PIN, Acquire) & PARITY;
        Pin { readers: self, tally: &self.tallies[phase as usize], has_retired: Cell::new(false) }
    }

    /// Rings retired and not yet freed, counted while nobody else is at work.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let count = |list: &AtomicPtr<Ring<T>>| {
            let mut at = list.load(Acquire);
            let next = || {
                // SAFETY: by invariant 1; nobody frees it meanwhile.
                let ring = unsafe { at.as_ref() }?;
                at = ring.retired_next.load(Relaxed);
                Some(())
            };
            std::iter::from_fn(next).count()
        };
        count(&self.retired) + count(&self.limbo)
    }

    /// Does a round, and others as long as somebody retires meanwhile and does not get the turn.
    /// The caller has it, or tries to get it.
    #[cold]
    #[inline(never)]
    fn reclaim(&self, mut has_turn: bool) {
        while has_turn || !self.busy.swap(true, AcqRel) {
            let earlier = self.limbo.load(Relaxed);
            let latest = self.retired.swap(ptr::null_mut(), Acquire);
            self.limbo.store(latest, Relaxed);
            let passed_on = !latest.is_null() && !self.end_phase();
            if !passed_on {
                self.limbo.store(ptr::null_mut(), Relaxed);
                self.busy.swap(false, AcqRel);
                // SAFETY: as below. The phase that has just been ended has no pins left, either.
                unsafe { Self::free(latest) };
            }
            // Without the turn: where one thread cannot free as fast as others retire, they do it
            // side by side.
            // SAFETY: by invariant 3 no pin is left that began before the end of the phase before
            // this one, and the rings were unlinked, and taken, before that. By invariant 1 the
            // list is this call's.
            unsafe { Self::free(earlier) };
            if passed_on || self.retired.load(Relaxed).is_null() {
                return;
            }
            has_turn = false;
        }
    }

    /// Begins the next phase, and returns whether none of the ended one's pins is left. Else these
    /// have the turn now, and with it what the caller, who has it, has put into limbo.
    fn end_phase(&self) -> bool {
        // Nobody else changes the parity.
        let phase = self.begun.load(Relaxed) & PARITY;
        let pins = self.begun.swap(phase ^ PARITY, AcqRel) / ONE_PIN;
        self.tallies[phase as usize].fetch_sub(pins, AcqRel) == pins
    }

    /// # Safety
    ///
    /// The caller has taken the list, and nobody can reach its rings.
    unsafe fn free(mut at: *mut Ring<T>) {
        while !at.is_null() {
            // SAFETY: the caller's contract; by invariant 1 it came from `Box::into_raw`.
            let ring = unsafe { Box::from_raw(at) };
            at = ring.retired_next.load(Relaxed);
        }
    }

    /// Puts a ring before those that are retired.
    ///
    /// # Safety
    ///
    /// The ring is the caller's, and as by invariant 1.
    unsafe fn push(&self, ring: *mut Ring<T>) {
        // SAFETY: by invariant 1 the ring is not freed as long as it is this call's. No more than
        // the link is borrowed: somebody may take the list and free the ring before the exchange
        // below returns.
        let link = unsafe { &(*ring).retired_next };
        let mut seen = self.retired.load(Relaxed);
        loop {
            link.store(seen, Relaxed);
            match self.retired.compare_exchange_weak(seen, ring, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

impl<T> Drop for Readers<T> {
    fn drop(&mut self) {
        for list in [&self.retired, &self.limbo] {
            let list = list.swap(ptr::null_mut(), Acquire);
            // SAFETY: `&mut self` excludes pins, those that a fork left behind, too.
            unsafe { Self::free(list) };
        }
    }
}

/// While it lives, no ring that could be reached when it began is freed.
pub(super) struct Pin<'a, T> {
    readers: &'a Readers<T>,
    /// Of the phase in which it began.
    tally: &'a AtomicU64,
    has_retired: Cell<bool>,
}

impl<T> Pin<'_, T> {
    /// Takes charge of a ring that the caller has unlinked.
    #[cold]
    pub(super) fn retire(&self, ring: *mut Ring<T>) {
        // SAFETY: it was unlinked, and only by this caller; rings come from `Box::into_raw`.
        unsafe { self.readers.push(ring) };
        self.has_retired.set(true);
    }
}

impl<T> Drop for Pin<'_, T> {
    fn drop(&mut self) {
        // The last of a phase that has ended, when there was one pin less to go.
        let has_turn = self.tally.fetch_add(1, Release) == u64::MAX;
        if has_turn {
            // Reads what was just written: before the next turn nobody changes it.
            self.tally.load(Acquire);
        }
        if has_turn || self.has_retired.get() {
            self.readers.reclaim(has_turn);
        }
    }
}

#[cfg(test)]
impl<T> Readers<T> {
    /// Puts an empty ring at `place` and retires the one that was there.
    fn replace(&self, place: &AtomicPtr<Ring<T>>) {
        let pin = self.pin();
        let ring = Box::into_raw(Box::new(Ring::new(1)));
        pin.retire(place.swap(ring, AcqRel));
    }
}

/// Frees the ring that was left at a place.
///
/// # Safety
///
/// It is one of `replace`, and nobody else reaches it any more.
#[cfg(test)]
unsafe fn free_at<T>(place: &AtomicPtr<Ring<T>>) {
    // SAFETY: the caller's contract.
    unsafe { Readers::free(place.load(Acquire)) };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn later_pins_hold_nothing_up() {
        let readers = Readers::<u8>::new();
        let place = AtomicPtr::new(Box::into_raw(Box::new(Ring::new(1))));
        let first = readers.pin();
        readers.replace(&place);
        let second = readers.pin();
        readers.replace(&place);
        assert_eq!(readers.waiting(), 2);
        // Frees the first ring, and ends the second phase.
        drop(first);
        assert_eq!(readers.waiting(), 1);
        let third = readers.pin();
        drop(second);
        assert_eq!(readers.waiting(), 0);
        drop(third);
        readers.replace(&place);
        assert_eq!(readers.waiting(), 0);
        // SAFETY: one thread.
        unsafe { free_at(&place) };
    }

    #[test]
    fn pins_that_overlap_for_ever_leave_little_waiting() {
        let readers = Readers::<u8>::new();
        let place = AtomicPtr::new(Box::into_raw(Box::new(Ring::new(1))));
        let mut pin = readers.pin();
        for _ in 0..100 {
            readers.replace(&place);
            readers.replace(&place);
            pin = readers.pin();
            assert!(readers.waiting() <= 4);
        }
        drop(pin);
        assert_eq!(readers.waiting(), 0);
        // SAFETY: one thread.
        unsafe { free_at(&place) };
    }

    #[test]
    fn what_waits_goes_with_the_readers() {
        let readers = Readers::<u8>::new();
        let place = AtomicPtr::new(Box::into_raw(Box::new(Ring::new(1))));
        // As in a child of a fork.
        std::mem::forget(readers.pin());
        for _ in 0..3 {
            readers.replace(&place);
        }
        assert_eq!(readers.waiting(), 3);
        // SAFETY: one thread.
        unsafe { free_at(&place) };
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    type Shared = (Readers<u8>, AtomicPtr<Ring<u8>>);

    fn shared() -> Arc<Shared> {
        Arc::new((Readers::new(), AtomicPtr::new(Box::into_raw(Box::new(Ring::new(1))))))
    }

    /// Uses the ring that is at the place.
    fn look((readers, place): &Shared) {
        let _pin = readers.pin();
        // SAFETY: a ring reached while pinned stays allocated: that is what the models are for.
        let ring = unsafe { &*place.load(Acquire) };
        assert_eq!(ring.pop_tail(1, drop), 0);
    }

    /// Nobody else is at work any more: nothing waits.
    fn end((readers, place): &Shared) {
        assert_eq!(readers.waiting(), 0);
        // SAFETY: nobody else is at work.
        unsafe { free_at(place) };
    }

    fn check(model: impl Fn() + Sync + Send + 'static) {
        let mut bounds = loom::model::Builder::new();
        bounds.preemption_bound = Some(3);
        bounds.check(model);
    }

    /// One thread looks through several phases, which another one ends.
    #[test]
    fn loom_readers_free_nothing_under_a_look_of_any_phase() {
        check(|| {
            let shared = shared();
            let other = {
                let shared = shared.clone();
                thread::spawn(move || (0..3).for_each(|_| look(&shared)))
            };
            for _ in 0..3 {
                shared.0.replace(&shared.1);
            }
            other.join().unwrap();
            end(&shared);
        });
    }

    /// Two threads retire, each while the other ends a phase or gives the turn back.
    #[test]
    fn loom_readers_leave_nothing_behind() {
        check(|| {
            let shared = shared();
            let others = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || shared.0.replace(&shared.1))
            });
            look(&shared);
            for other in others {
                other.join().unwrap();
            }
            end(&shared);
        });
    }

    /// A pin from before the others hands the turn on while they begin and retire.
    #[test]
    fn loom_readers_pass_the_turn_on() {
        check(|| {
            let shared = shared();
            let pin = shared.0.pin();
            shared.0.replace(&shared.1);
            let others = [look, |(readers, place): &Shared| readers.replace(place)].map(|work| {
                let shared = shared.clone();
                thread::spawn(move || work(&shared))
            });
            drop(pin);
            for other in others {
                other.join().unwrap();
            }
            end(&shared);
        });
    }
}
