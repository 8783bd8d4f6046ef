//! A thread's freed large blocks, for its next ones.
//!
//! The page heap and the counts of large blocks lie under locks that all threads share. A thread
//! that takes and gives back a buffer again and again would spend its time there, and several
//! would wait for each other. So the last few spans stay on the thread's *shelf*, a mebibyte of
//! them at most, and a request takes one of just its number of slots, the last one put there.
//! Whoever puts one there that does not fit sends the oldest back.
//!
//! What lies there is missing elsewhere: the scavenger gives back what stayed for a whole tick,
//! of threads that sleep, too, so each place is one atomic word.
//!
//! # Invariants
//!
//! 1. A span on a shelf has ended, is in use for the page heap, and is nobody else's.
//! 2. Its owner alone fills a place, and only an empty one; the others only empty or mark places.
//! 3. A place is emptied by compare-and-swap: who succeeds has the span.
//!
//! # Orderings
//!
//! Filling releases, emptying acquires: who takes a span sees all that was done to it before.

use core::ptr;

use crate::base::own::OwnU32;
use crate::base::sync::{AtomicPtr, Ordering::*};

/// Places of a shelf: one line of the processor's cache.
const PLACES: usize = 8;
/// Slots of all spans of a shelf, and of each.
pub(crate) const SHELF_SLOTS_MAX: usize = 16;
/// In a place's word, below the address of a slot: the span's slots, with room for the sum of two
/// shelves, and that it was there at the last tick.
const SLOTS_MASK: usize = 4 * SHELF_SLOTS_MAX - 1;
const AGED: usize = SLOTS_MASK + 1;

/// The shelf.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Shelf {
    places: [AtomicPtr<u8>; PLACES],
    /// The number of the place that is filled next; from there on, around the end, lie the oldest
    /// spans first.
    next: OwnU32,
}

/// A span that was on a shelf: its first byte, and its slots.
pub(crate) type Shelved = (*mut u8, usize);

impl Shelf {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self { places: [const { AtomicPtr::new(ptr::null_mut()) }; PLACES], next: OwnU32::new(0) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            places: core::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            next: OwnU32::new(0),
        }
    }

    /// Slots of all spans there. To others than the owner one may be there twice.
    #[inline(always)]
    pub(crate) fn slots(&self) -> usize {
        // The words' low bits add up without a carry into those above.
        let mut sum = 0usize;
        for place in &self.places {
            sum = sum.wrapping_add(place.load(Relaxed).addr());
        }
        sum & SLOTS_MASK
    }

    /// Takes a span of `slots` slots, the last one put there. By the owner.
    #[inline]
    pub(crate) fn take(&self, slots: usize) -> Option<*mut u8> {
        let last = self.next.get().wrapping_sub(1);
        if slots_of(self.place(last).load(Relaxed)) == slots
            && let Some(start) = self.take_from(last, slots)
        {
            self.next.set(last);
            return Some(start);
        }
        self.take_older(last, slots)
    }

    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    fn take_older(&self, last: u32, slots: usize) -> Option<*mut u8> {
        (1..PLACES as u32).find_map(|back| self.take_from(last.wrapping_sub(back), slots))
    }

    #[inline(always)]
    fn take_from(&self, number: u32, slots: usize) -> Option<*mut u8> {
        let place = self.place(number);
        let mut word = place.load(Relaxed);
        // Again if the scavenger has marked it meanwhile.
        while slots_of(word) == slots {
            match place.compare_exchange(word, ptr::null_mut(), Acquire, Relaxed) {
                Ok(_) => return Some(start_of(word)),
                Err(now) => word = now,
            }
        }
        None
    }

    /// Puts a span of `slots` slots there, [`SHELF_SLOTS_MAX`] at most; those for which there is
    /// no more room go to `give`, the oldest first. Returns the slots of all spans. By the owner.
    #[inline]
    pub(crate) fn put(&self, start: *mut u8, slots: usize, give: impl FnMut(Shelved)) -> usize {
        let next = self.next.get();
        let mut all = self.slots() + slots;
        if !self.place(next).load(Relaxed).is_null() || all > SHELF_SLOTS_MAX {
            all = self.make_room(slots, give);
        }
        self.place(next).store(start.map_addr(|address| address | slots), Release);
        self.next.set(next.wrapping_add(1));
        all
    }

    /// Has the oldest spans go until one of `slots` slots has room; the slots of all with it.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    fn make_room(&self, slots: usize, mut give: impl FnMut(Shelved)) -> usize {
        let next = self.next.get();
        for ahead in 0..PLACES as u32 {
            empty(self.place(next.wrapping_add(ahead)), 0).map(&mut give);
            let all = self.slots() + slots;
            if all <= SHELF_SLOTS_MAX {
                return all;
            }
        }
        // Not come to: all places are empty now.
        slots
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
        for place in &self.places {
            let word = place.load(Relaxed);
            if !word.is_null() {
                let aged = word.map_addr(|address| address | AGED);
                // If it fails it is in use.
                let _ = place.compare_exchange(word, aged, Relaxed, Relaxed);
            }
        }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A slot that is never read.
    fn slot(number: usize) -> *mut u8 {
        ptr::without_provenance_mut(number << 16)
    }

    /// Puts a span there; the numbers of those that go.
    fn put(shelf: &Shelf, number: usize, slots: usize) -> Vec<usize> {
        let mut gone = Vec::new();
        let all = shelf.put(slot(number), slots, |(start, _)| gone.push(start.addr() >> 16));
        assert_eq!(all, shelf.slots());
        gone
    }

    #[test]
    fn the_last_one_of_just_that_length_is_taken() {
        let shelf = Shelf::new();
        for (number, slots) in [(1, 2), (2, 3), (3, 2), (4, 1)] {
            assert!(put(&shelf, number, slots).is_empty());
        }
        assert_eq!(shelf.slots(), 8);
        assert_eq!(shelf.take(2), Some(slot(3)));
        assert_eq!(shelf.take(2), Some(slot(1)));
        assert_eq!(shelf.take(2), None);
        assert_eq!(shelf.take(1), Some(slot(4)));
        assert_eq!(shelf.slots(), 3);
        assert_eq!((shelf.take_any(), shelf.take_any()), (Some((slot(2), 3)), None));
    }

    #[test]
    fn the_oldest_go_by_number_and_by_length() {
        let shelf = Shelf::new();
        for number in 1..=PLACES {
            assert!(put(&shelf, number, 1).is_empty());
        }
        assert_eq!(put(&shelf, 9, 1), [1], "there is no place");
        assert_eq!(put(&shelf, 10, 10), [2, 3], "there would be more than a mebibyte");
        assert_eq!(shelf.slots(), SHELF_SLOTS_MAX);
        assert_eq!(put(&shelf, 11, SHELF_SLOTS_MAX), [4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn a_pair_in_turn_stays_in_its_place() {
        let shelf = Shelf::new();
        assert!(put(&shelf, 1, 4).is_empty());
        for _ in 0..3 * PLACES {
            assert!(put(&shelf, 2, 2).is_empty());
            assert_eq!(shelf.take(2), Some(slot(2)));
        }
        assert_eq!(shelf.take(4), Some(slot(1)));
    }

    #[test]
    fn what_was_there_for_a_tick_goes_and_marks_hide_nothing() {
        let shelf = Shelf::new();
        assert!(put(&shelf, 1, 2).is_empty());
        shelf.age();
        assert!(put(&shelf, 2, 3).is_empty());
        assert_eq!(shelf.slots(), 5);
        assert_eq!((shelf.take_aged(), shelf.take_aged()), (Some((slot(1), 2)), None));
        shelf.age();
        assert_eq!(shelf.take(3), Some(slot(2)), "marked, and the owner's all the same");
        assert!(put(&shelf, 2, 3).is_empty());
        assert_eq!(shelf.take_aged(), None, "new again");
    }
}

#[cfg(all(test, loom))]
mod models {
    //! What is proved: a span that the owner puts there and takes back beside a scavenger is taken
    //! once, and who takes it sees what was done to it before; none is lost.

    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    struct World {
        shelf: Shelf,
        /// What each of two spans holds: written by who has it.
        spans: [UnsafeCell<u32>; 2],
    }

    // SAFETY: loom's cells fail on a race, which is what is modelled.
    unsafe impl Sync for World {}
    // SAFETY: as above.
    unsafe impl Send for World {}

    impl World {
        fn write(&self, start: *mut u8) {
            // SAFETY: loom's cell fails if anybody else uses it meanwhile.
            self.spans[(start.addr() >> 16) - 1].with_mut(|word| unsafe { *word += 1 });
        }
    }

    fn slot(number: usize) -> *mut u8 {
        ptr::without_provenance_mut(number << 16)
    }

    #[test]
    fn loom_a_shelf_gives_each_span_to_one() {
        loom::model(|| {
            let world = World { shelf: Shelf::new(), spans: [0, 0].map(UnsafeCell::new) };
            let world = Arc::new(world);
            world.write(slot(1));
            assert_eq!(world.shelf.put(slot(1), 2, |_| unreachable!()), 2);
            let scavenger = {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    world.shelf.age();
                    let mut taken = 0;
                    while let Some((start, slots)) = world.shelf.take_aged() {
                        world.write(start);
                        taken += slots;
                    }
                    taken
                })
            };
            let mut taken = 0;
            if let Some(start) = world.shelf.take(2) {
                world.write(start);
                taken += 2;
                world.shelf.put(start, 2, |_| unreachable!());
                taken -= 2;
            }
            world.write(slot(2));
            world.shelf.put(slot(2), 15, |(start, slots)| {
                world.write(start);
                taken += slots;
            });
            taken += scavenger.join().unwrap();
            while let Some((start, slots)) = world.shelf.take_any() {
                world.write(start);
                taken += slots;
            }
            assert_eq!(taken, 17);
        });
    }
}
