//! What a shelf takes, joins, divides and sends back, by its owner alone.

use super::*;

/// A slot that is never read.
fn slot(number: usize) -> *mut u8 {
    ptr::without_provenance_mut(number * SLOT_BYTES)
}

/// Puts a span there; the numbers of those that go.
fn put(shelf: &Shelf, number: usize, slots: usize) -> Vec<usize> {
    let mut gone = Vec::new();
    let all = shelf.put(slot(number), slots, |(start, _)| gone.push(start.addr() / SLOT_BYTES));
    assert_eq!(all, shelf.slots());
    gone
}

#[test]
fn the_last_one_of_just_that_length_is_taken_or_the_shortest_ones_front() {
    let shelf = Shelf::new();
    for (number, slots) in [(10, 2), (20, 4), (30, 2), (40, 1)] {
        assert!(put(&shelf, number, slots).is_empty());
    }
    assert_eq!(shelf.slots(), 9);
    assert_eq!(shelf.take(1), Some(slot(40)));
    assert_eq!(shelf.take(2), Some(slot(30)));
    assert_eq!(shelf.take(5), None);
    assert_eq!(shelf.take(1), Some(slot(10)), "the shorter one of two");
    assert_eq!(shelf.take(2), Some(slot(20)));
    assert_eq!(shelf.take(3), None);
    assert_eq!(shelf.slots(), 3);
    assert_eq!((shelf.take_any(), shelf.take_any()), (Some((slot(11), 1)), Some((slot(22), 2))));
    assert_eq!(shelf.take_any(), None);
}

#[test]
fn neighbours_of_the_last_one_join_it() {
    let shelf = Shelf::new();
    for (number, slots) in [(10, 2), (12, 1), (7, 3), (20, 1), (13, 2)] {
        assert!(put(&shelf, number, slots).is_empty());
    }
    assert_eq!(shelf.take(6), Some(slot(7)), "both sides have joined");
    assert_eq!(shelf.take(2), Some(slot(13)), "what lies beside an older one has not");
    assert_eq!(shelf.slots(), 1);
    for number in 21..=35 {
        assert!(put(&shelf, number, 1).is_empty(), "{number}");
    }
    assert_eq!(put(&shelf, 36, 1), [20], "all sixteen as one");
}

#[test]
fn the_oldest_go_by_number_and_by_length() {
    let shelf = Shelf::new();
    for number in 1..=PLACES {
        assert!(put(&shelf, 10 * number, 1).is_empty());
    }
    assert_eq!(put(&shelf, 90, 1), [10], "there is no place");
    assert_eq!(put(&shelf, 100, 10), [20, 30], "there would be more than a mebibyte");
    assert_eq!(shelf.slots(), ROOM_MIN);
    assert_eq!(put(&shelf, 200, ROOM_MIN), [40, 50, 60, 70, 80, 90, 100]);
    assert_eq!(put(&shelf, 300, ROOM_MIN + 1), [300], "nothing goes for what has no room");
    assert_eq!(shelf.slots(), ROOM_MIN);
}

#[test]
fn a_place_that_is_empty_is_filled_wherever_it_is() {
    let shelf = Shelf::new();
    for number in 1..PLACES {
        assert!(put(&shelf, 10 * number, 1).is_empty());
    }
    assert!(put(&shelf, 80, 2).is_empty());
    assert_eq!(shelf.take(1), Some(slot(10)));
    assert_eq!(shelf.take(1), Some(slot(20)));
    for number in [90, 100] {
        assert!(put(&shelf, number, 1).is_empty());
    }
    assert_eq!(put(&shelf, 110, 1), [30]);
}

#[test]
fn who_misses_what_was_sent_back_gets_more_room() {
    let shelf = Shelf::new();
    for round in 0..3 {
        assert_eq!(shelf.take(ROOM_MIN), None, "{round}");
        assert_eq!(shelf.room(), ROOM_MIN, "nothing was sent back");
    }
    for rooms in 1..=5 {
        let room = shelf.room();
        assert_eq!(room, ROOM_MIN * rooms.min(4));
        assert!(put(&shelf, 1000 * rooms, room).is_empty());
        assert_eq!(put(&shelf, 1000 * rooms + 500, room), [1000 * rooms]);
        assert_eq!(put(&shelf, 1000 * rooms, room), [1000 * rooms + 500], "and never a miss");
        assert_eq!(shelf.room(), room);
        assert_eq!(shelf.take_any(), Some((slot(1000 * rooms), room)));
        assert_eq!((shelf.take(1), shelf.take(1)), (None, None));
    }
}

#[test]
fn who_has_more_room_sends_back_and_takes_many_at_a_time() {
    let shelf = Shelf::new();
    assert!(put(&shelf, 1000, ROOM_MIN).is_empty());
    assert_eq!(put(&shelf, 2000, 1), [1000]);
    assert_eq!(shelf.slots_wanted(), 0, "it has missed nothing yet");
    assert_eq!(shelf.take(2), None);
    assert_eq!(shelf.slots_wanted(), BATCH_SLOTS);
    for number in 1..PLACES {
        assert!(put(&shelf, 10 * number, 1).is_empty());
    }
    assert_eq!(put(&shelf, 3000, 1), [2000, 10, 20, 30], "half of the places");
    for number in [3002, 3004, 3006] {
        assert_eq!(shelf.slots_wanted(), BATCH_SLOTS);
        assert!(put(&shelf, number, 1).is_empty());
    }
    assert_eq!(shelf.slots_wanted(), 0, "all places are full");
    assert_eq!(put(&shelf, 4000, 2 * ROOM_MIN - 3), [40, 50, 60, 70, 3000]);
    assert_eq!(shelf.slots_wanted(), 0, "there is no room");
    assert_eq!(shelf.take(1), Some(slot(3002)));
    assert_eq!(shelf.slots_wanted(), 1);
}

#[test]
fn who_sends_nothing_back_for_two_ticks_has_no_more_room() {
    let shelf = Shelf::new();
    for rounds in 1..=2 {
        assert!(put(&shelf, 1000, ROOM_MIN).is_empty());
        assert_eq!(put(&shelf, 2000, ROOM_MIN), [1000]);
        assert_eq!((shelf.take(ROOM_MIN), shelf.take(1)), (Some(slot(2000)), None));
        for ticks in 1..=CALM_TICKS + 1 {
            assert_eq!(shelf.room(), 2 * ROOM_MIN, "{rounds}, {ticks}");
            shelf.age();
            assert_eq!(shelf.take(1), None);
        }
        assert_eq!(shelf.room(), ROOM_MIN, "{rounds}");
    }
}

#[test]
fn what_begins_at_a_place_is_taken_if_it_is_long_enough() {
    let shelf = Shelf::new();
    assert!(put(&shelf, 10, 2).is_empty());
    assert!(put(&shelf, 20, 3).is_empty());
    assert!(!shelf.take_at(slot(20), 4) && !shelf.take_at(slot(21), 1));
    assert!(shelf.take_at(slot(20), 2));
    assert_eq!(shelf.slots(), 3);
    assert!(shelf.take_at(slot(22), 1) && shelf.take_at(slot(10), 2));
    assert_eq!(shelf.slots(), 0);
}

#[test]
fn a_pair_in_turn_stays_in_its_place() {
    let shelf = Shelf::new();
    assert!(put(&shelf, 10, 4).is_empty());
    for _ in 0..3 * PLACES {
        assert!(put(&shelf, 20, 2).is_empty());
        assert_eq!(shelf.take(2), Some(slot(20)));
    }
    assert_eq!(shelf.take(4), Some(slot(10)));
}

#[test]
fn what_was_there_for_a_tick_goes_and_marks_hide_nothing() {
    let shelf = Shelf::new();
    assert!(put(&shelf, 10, 2).is_empty());
    shelf.age();
    assert!(put(&shelf, 20, 3).is_empty());
    assert_eq!(shelf.slots(), 5);
    assert_eq!((shelf.take_aged(), shelf.take_aged()), (Some((slot(10), 2)), None));
    shelf.age();
    assert_eq!(shelf.take(3), Some(slot(20)), "marked, and the owner's all the same");
    assert!(put(&shelf, 20, 3).is_empty());
    assert_eq!(shelf.take_aged(), None, "new again");
    shelf.age();
    assert_eq!(shelf.take(1), Some(slot(20)));
    assert_eq!(shelf.take_aged(), Some((slot(21), 2)), "the rest is as old as it was");
    assert!(put(&shelf, 20, 3).is_empty());
    shelf.age();
    assert!(put(&shelf, 23, 1).is_empty());
    assert_eq!(shelf.take_aged(), Some((slot(20), 4)), "as old as the longer part");
    assert!(put(&shelf, 20, 1).is_empty());
    shelf.age();
    assert!(put(&shelf, 21, 1).is_empty());
    assert_eq!(shelf.take_aged(), None, "and as new as that");
}
