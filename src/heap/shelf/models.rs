//! What is proved: slots that the owner puts there and takes back beside a scavenger are taken
//! once, also where spans join and are divided or one makes room for another, and who takes them
//! sees what was done to them before; none is lost.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::*;

struct World {
    shelf: Shelf,
    /// What each of the slots from the first on holds: written by who has it.
    slots: [UnsafeCell<u32>; 5],
}

// SAFETY: loom's cells fail on a race, which is what is modelled.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self { shelf: Shelf::new(), slots: [0; 5].map(UnsafeCell::new) })
    }

    fn write(&self, start: *mut u8, count: usize) -> usize {
        let first = start.addr() / SLOT_BYTES - 1;
        for slot in &self.slots[first..first + count] {
            // SAFETY: loom's cell fails if anybody else uses it meanwhile.
            slot.with_mut(|word| unsafe { *word += 1 });
        }
        count
    }

    fn put(&self, number: usize, count: usize) -> usize {
        let mut gone = 0;
        self.write(slot(number), count);
        self.shelf.put(slot(number), count, |(start, count)| gone += self.write(start, count));
        gone
    }

    /// A scavenger beside the owner; the slots that it takes.
    fn scavenge(world: &Arc<Self>) -> thread::JoinHandle<usize> {
        let world = Arc::clone(world);
        thread::spawn(move || {
            world.shelf.age();
            let mut taken = 0;
            while let Some((start, count)) = world.shelf.take_aged() {
                taken += world.write(start, count);
            }
            taken
        })
    }

    fn take_all(&self) -> usize {
        let mut taken = 0;
        while let Some((start, count)) = self.shelf.take_any() {
            taken += self.write(start, count);
        }
        taken
    }
}

fn slot(number: usize) -> *mut u8 {
    ptr::without_provenance_mut(number * SLOT_BYTES)
}

#[test]
fn loom_a_shelf_gives_each_span_to_one() {
    loom::model(|| {
        let world = World::new();
        assert_eq!(world.put(1, 1), 0);
        let scavenger = World::scavenge(&world);
        let mut taken = 0;
        if let Some(start) = world.shelf.take(1) {
            taken += world.put(start.addr() / SLOT_BYTES, 1);
        }
        taken += world.put(3, 1);
        taken += scavenger.join().unwrap() + world.take_all();
        assert_eq!(taken, 2);
    });
}

#[test]
fn loom_spans_of_a_shelf_join_and_are_divided_beside_a_scavenger() {
    loom::model(|| {
        let world = World::new();
        assert_eq!(world.put(1, 2), 0);
        let scavenger = World::scavenge(&world);
        assert_eq!(world.put(3, 1), 0);
        let mut taken = 0;
        if let Some(start) = world.shelf.take(1) {
            taken += world.write(start, 1);
        }
        taken += scavenger.join().unwrap() + world.take_all();
        assert_eq!(taken, 3);
    });
}

/// The owner sends the oldest back for want of places, which the scavenger takes meanwhile.
#[test]
fn loom_a_span_that_makes_room_on_a_shelf_goes_to_one() {
    loom::model(|| {
        let world = World::new();
        assert_eq!(world.put(1, 1) + world.put(3, 1), 0);
        let scavenger = World::scavenge(&world);
        let mut taken = world.put(5, 1);
        taken += scavenger.join().unwrap() + world.take_all();
        assert_eq!(taken, 3);
    });
}
