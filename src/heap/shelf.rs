//! A thread's freed large blocks, and slots taken ahead, for its next ones.
//!
//! The page heap lies under a lock that all threads share. A thread that takes and gives back
//! buffers again and again would spend its time there, and several would wait for each other. So
//! the last few spans stay on the thread's *shelf*. A request takes the last one put there if it
//! has just its number of slots, else the front of the shortest one that has enough. A span that
//! lies right beside the last one put there, or any where places are short, joins it: blocks freed
//! in order of their addresses become one span. Whoever puts one there that does not fit sends the
//! oldest back.
//!
//! There is *room* for a mebibyte at first. A thread that misses what it had to send back gets a
//! mebibyte more, up to four, and exchanges slots with the page heap in batches, until it misses
//! something after two ticks in which nothing was sent back. A thread that only frees what others
//! allocate misses nothing, so its room does not grow.
//!
//! What lies there is missing elsewhere: before a large block takes fresh memory or is moved to
//! grow, its thread's shelf is emptied (also before one of more than four mebibytes or aligned to
//! more than a slot, which are not looked for there), and the scavenger gives back what stayed for
//! a whole tick, of threads that sleep, too, so each place is one atomic word.
//!
//! # Invariants
//!
//! 1. A span on a shelf has ended or not begun, is in use for the page heap, and is nobody else's.
//! 2. Its owner alone puts slots into a place; the others only empty or mark places.
//! 3. A place that is not empty is changed by compare-and-swap: who succeeds has what is no longer
//!    in it.
//!
//! # Orderings
//!
//! Filling releases, emptying acquires: who takes a span sees all that was done to it before.
//! Joining does both. What is left of a span that was divided was filled before, and swaps in
//! between hide no release.

use core::ptr;

use super::geometry::SLOT_BYTES;
use crate::base::own::OwnU32;
use crate::base::sync::{AtomicPtr, AtomicU32, Ordering::*};

/// Places of a shelf: one line of the processor's cache.
pub(crate) const PLACES: usize = 1 << PLACES_SHIFT;
/// In models two places, so that all may be taken.
const PLACES_SHIFT: u32 = if cfg!(loom) { 1 } else { 3 };
/// Slots that a shelf has room for at first, what is added at a time, and at most.
const ROOM_MIN: usize = (1 << 20) / SLOT_BYTES;
pub(crate) const SHELF_SLOTS_MAX: usize = 4 * ROOM_MIN;
/// For a thread that got more room: slots at most that it takes from the page heap beside a
/// block's, and spans that it sends back at a time.
const BATCH_SLOTS: usize = ROOM_MIN / 2;
const BATCH_SPANS: usize = PLACES / 2;
/// Ticks without anything sent back, after which a miss ends a thread's having more room.
const CALM_TICKS: u32 = 2;
/// In a place's word, below the address of a slot: the span's slots, with room for the sum of all
/// places, and that it was there at the last tick.
const SLOTS_MASK: usize = 2 * PLACES * SHELF_SLOTS_MAX - 1;
const AGED: usize = SLOTS_MASK + 1;

const _: () = assert!(2 * AGED <= SLOT_BYTES);

/// The shelf.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Shelf {
    places: [AtomicPtr<u8>; PLACES],
    /// The number of the place behind the last one that was filled; from there on, around the
    /// end, lie about the oldest spans first.
    next: OwnU32,
    /// Slots that there is room for beyond [`ROOM_MIN`].
    more_room: OwnU32,
    /// Whether a span was sent back since the room grew.
    overflowed: OwnU32,
    /// The tick of the last one.
    overflowed_at: OwnU32,
    /// Ticks so far.
    ticks: AtomicU32,
}

/// A span that was on a shelf: its first byte, and its slots.
pub(crate) type Shelved = (*mut u8, usize);

impl Shelf {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self::of([const { AtomicPtr::new(ptr::null_mut()) }; PLACES], AtomicU32::new(0))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self::of(core::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())), AtomicU32::new(0))
    }

    const fn of(places: [AtomicPtr<u8>; PLACES], ticks: AtomicU32) -> Self {
        Self {
            places,
            next: OwnU32::new(0),
            more_room: OwnU32::new(0),
            overflowed: OwnU32::new(0),
            overflowed_at: OwnU32::new(0),
            ticks,
        }
    }

    /// The next thread begins with as little room as the first one did. By the owner.
    pub(crate) fn begin(&self) {
        self.more_room.set(0);
        self.overflowed.set(0);
    }

    /// Slots of all spans there. To others than the owner some may be there twice.
    #[inline(always)]
    pub(crate) fn slots(&self) -> usize {
        // The words' low bits add up without a carry into those above.
        let mut sum = 0usize;
        for place in &self.places {
            sum = sum.wrapping_add(place.load(Relaxed).addr());
        }
        sum & SLOTS_MASK
    }

    /// Takes a span of `slots` slots: the last one put there, or of the shortest one. By the
    /// owner.
    #[inline]
    pub(crate) fn take(&self, slots: usize) -> Option<*mut u8> {
        let last = self.next.get().wrapping_sub(1);
        let place = self.place(last);
        let word = place.load(Relaxed);
        if slots_of(word) == slots
            && place.compare_exchange(word, ptr::null_mut(), Acquire, Relaxed).is_ok()
        {
            self.next.set(last);
            return Some(start_of(word));
        }
        self.take_front(slots)
    }

    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    fn take_front(&self, slots: usize) -> Option<*mut u8> {
        loop {
            // What would be left of a span, and its place, in one word: lengths at random would
            // mislead branches. Of a span that is too short all but everything is left.
            let key = |number: usize| {
                let slots_there = slots_of(self.places[number].load(Relaxed));
                slots_there.wrapping_sub(slots) << PLACES_SHIFT | number
            };
            let least = (1..PLACES).fold(key(0), |least, number| least.min(key(number)));
            let (left, number) = (least >> PLACES_SHIFT, least % PLACES);
            if left > SHELF_SLOTS_MAX {
                self.miss();
                return None;
            }
            let place = &self.places[number];
            let word = place.load(Relaxed);
            // If not, the scavenger has marked or taken it meanwhile.
            if slots_of(word) == slots + left && take_front_of(place, word, slots) {
                return Some(start_of(word));
            }
        }
    }

    /// Takes the `slots` slots from `start` on, if a span begins there that has so many. By the
    /// owner.
    pub(crate) fn take_at(&self, start: *mut u8, slots: usize) -> bool {
        self.places.iter().any(|place| {
            let word = place.load(Relaxed);
            start_of(word) == start && slots_of(word) >= slots && take_front_of(place, word, slots)
        })
    }

    /// There is more room from now on if a span was sent back that might do now.
    fn miss(&self) {
        if self.overflowed.get() != 0 {
            self.overflowed.set(0);
            let room = (self.room() + ROOM_MIN).min(SHELF_SLOTS_MAX);
            self.more_room.set((room - ROOM_MIN) as u32);
        } else if self.ticks.load(Relaxed).wrapping_sub(self.overflowed_at.get()) > CALM_TICKS {
            self.more_room.set(0);
        }
    }

    /// Slots that it pays to take from the page heap with a span that was missed, to lie here.
    pub(crate) fn slots_wanted(&self) -> usize {
        // Nothing is to go for what nobody has asked for.
        if self.more_room.get() == 0 || !self.place(self.next.get()).load(Relaxed).is_null() {
            return 0;
        }
        self.room().saturating_sub(self.slots()).min(BATCH_SLOTS)
    }

    #[inline(always)]
    fn room(&self) -> usize {
        ROOM_MIN + self.more_room.get() as usize
    }

    /// Puts a span of `slots` slots there, [`SHELF_SLOTS_MAX`] at most; those for which there is
    /// no more room go to `give`, the oldest first. Returns the slots of all spans. By the owner.
    #[inline]
    pub(crate) fn put(&self, start: *mut u8, slots: usize, give: impl FnMut(Shelved)) -> usize {
        let next = self.next.get();
        let all = self.slots() + slots;
        if all <= self.room() {
            if join(self.place(next.wrapping_sub(1)), (start, slots)) {
                return all;
            }
            if self.place(next).load(Relaxed).is_null() {
                self.fill(next, start, slots);
                return all;
            }
        }
        self.put_in_place_of_others(start, slots, give)
    }

    /// As [`put`](Self::put), where no place or too little room is left.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    fn put_in_place_of_others(
        &self,
        start: *mut u8,
        slots: usize,
        mut give: impl FnMut(Shelved),
    ) -> usize {
        let room = self.room();
        let fits = || self.slots() + slots <= room;
        let numbers = (0..PLACES as u32).map(|ahead| self.next.get().wrapping_add(ahead));
        if fits() {
            if self.places.iter().any(|place| join(place, (start, slots))) {
                return self.slots();
            }
            let mut empties = numbers.clone().filter(|&at| self.place(at).load(Relaxed).is_null());
            if let Some(number) = empties.next() {
                self.fill(number, start, slots);
                return self.slots();
            }
        }
        self.overflowed.set(1);
        self.overflowed_at.set(self.ticks.load(Relaxed));
        if slots > room {
            give((start, slots));
            return self.slots();
        }
        let spans_min = if self.more_room.get() == 0 { 1 } else { BATCH_SPANS };
        let mut sent = 0;
        for number in numbers {
            sent += usize::from(empty(self.place(number), 0).map(&mut give).is_some());
            if sent >= spans_min && fits() {
                break;
            }
        }
        self.fill(self.next.get(), start, slots);
        self.slots()
    }

    /// Fills an empty place.
    #[inline(always)]
    fn fill(&self, number: u32, start: *mut u8, slots: usize) {
        self.place(number).store(word_of((start, slots)), Release);
        self.next.set(number.wrapping_add(1));
    }

    /// Empties the shelf. By anybody.
    pub(crate) fn take_any(&self) -> Option<Shelved> {
        self.places.iter().find_map(|place| empty(place, 0))
    }

    /// Takes a span that was there at the last [`age`](Self::age). By anybody.
    pub(crate) fn take_aged(&self) -> Option<Shelved> {
        self.places.iter().find_map(|place| empty(place, AGED))
    }

    /// A tick. By anybody.
    pub(crate) fn age(&self) {
        self.ticks.fetch_add(1, Relaxed);
        for place in &self.places {
            let word = place.load(Relaxed);
            if !word.is_null() {
                let aged = word.map_addr(|address| address | AGED);
                // If it fails it is in use.
                let _ = place.compare_exchange(word, aged, Relaxed, Relaxed);
            }
        }
    }

    /// The spans that are there. Nobody uses the shelf meanwhile.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn each(&self) -> impl Iterator<Item = Shelved> {
        let words = self.places.iter().map(|place| place.load(Relaxed));
        words.filter(|word| !word.is_null()).map(|word| (start_of(word), slots_of(word)))
    }

    /// The place of a number, which goes around the end.
    #[inline(always)]
    fn place(&self, number: u32) -> &AtomicPtr<u8> {
        &self.places[number as usize % PLACES]
    }
}

fn slots_of(word: *mut u8) -> usize {
    word.addr() & SLOTS_MASK
}

fn start_of(word: *mut u8) -> *mut u8 {
    word.map_addr(|address| address & !(SLOTS_MASK | AGED))
}

fn word_of((start, slots): Shelved) -> *mut u8 {
    start.map_addr(|address| address | slots)
}

/// Puts a span into a place whose own lies right before or behind it. Whether it does.
#[inline(always)]
fn join(place: &AtomicPtr<u8>, (start, slots): Shelved) -> bool {
    let word = place.load(Relaxed);
    let (other, others) = (start_of(word), slots_of(word));
    let first = if other.wrapping_add(others * SLOT_BYTES) == start {
        other
    } else if start.wrapping_add(slots * SLOT_BYTES) == other {
        start
    } else {
        return false;
    };
    // As old as the longer part, or a block that comes and goes would keep all beside it new.
    let marks = if others > slots { word.addr() & AGED } else { 0 };
    let joined = word_of((first, others + slots)).map_addr(|address| address | marks);
    place.compare_exchange(word, joined, AcqRel, Relaxed).is_ok()
}

/// Takes the first `slots` slots of the span in a place, whose word is `word`; what is left stays
/// as old as it was. Whether nobody else has changed it meanwhile.
#[inline(always)]
fn take_front_of(place: &AtomicPtr<u8>, word: *mut u8, slots: usize) -> bool {
    let rest = word.wrapping_add(slots * SLOT_BYTES - slots);
    let rest = if slots_of(word) == slots { ptr::null_mut() } else { rest };
    place.compare_exchange(word, rest, Acquire, Relaxed).is_ok()
}

/// Empties a place if there is a span in it with these `marks`.
fn empty(place: &AtomicPtr<u8>, marks: usize) -> Option<Shelved> {
    let mut word = place.load(Relaxed);
    while !word.is_null() && word.addr() & marks == marks {
        match place.compare_exchange(word, ptr::null_mut(), Acquire, Relaxed) {
            Ok(_) => return Some((start_of(word), slots_of(word))),
            Err(now) => word = now,
        }
    }
    None
}

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, not(loom)))]
mod tests;
