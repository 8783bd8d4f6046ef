//! Events aggregated by customer: a map of vectors that grows as it goes, or one made as large as
//! the day before was.

use crate::{Way, compare};
use spanalloc::arena::CapacityEstimator;
use spanalloc::map::Map;
use std::hint::black_box;

const EVENTS: u64 = 1_000_000;
const CUSTOMERS: u64 = 10_000;

#[derive(Clone, Copy)]
struct Event {
    at_ms: u64,
    product: u32,
    pieces: u32,
    cents: u64,
}

/// A day's events by customer.
type Day = Map<String, Vec<Event>>;

pub(crate) fn run() {
    let names: Vec<String> = (0..CUSTOMERS).map(|number| format!("customer-{number}")).collect();
    let yesterday = aggregate(&names, Map::new(), 0);
    let mut sizes = CapacityEstimator::new(yesterday.len(), 0.95);
    yesterday.values().for_each(|events| sizes.record(events.len()));
    let each = sizes.estimate().unwrap_or_default();
    let expected = yesterday.len();
    drop(yesterday);
    let mut totals = [0; 2];
    let grown = Way::measure("grown", || {
        totals[0] = turnover(&grow(&names));
    });
    let preallocated = Way::measure("preallocated", || {
        totals[1] = turnover(&preallocate(&names, expected, each));
    });
    assert_eq!(totals[0], totals[1], "both ways compute the same");
    compare("aggregate", "event", EVENTS, [grown, preallocated]);
    println!("  {expected} customers and {each} events of each were expected\n");
}

#[inline(never)]
fn grow(names: &[String]) -> Day {
    aggregate(names, Map::new(), 0)
}

#[inline(never)]
fn preallocate(names: &[String], expected: usize, each: usize) -> Day {
    aggregate(names, Map::with_capacity(expected), each)
}

fn aggregate(names: &[String], mut day: Day, each: usize) -> Day {
    for number in 0..EVENTS {
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        let name = &*names[(mixed % CUSTOMERS) as usize];
        let event = Event {
            at_ms: number * 86,
            product: (mixed >> 40) as u32,
            pieces: (mixed >> 60) as u32 + 1,
            cents: mixed >> 50,
        };
        match day.get_mut(name) {
            Some(events) => events.push(event),
            None => {
                let mut events = Vec::with_capacity(each);
                events.push(event);
                day.insert(name.to_owned(), events);
            }
        }
    }
    day
}

/// Cents earned in the afternoon, of products with even numbers.
fn turnover(day: &Day) -> u64 {
    let wanted = |event: &&Event| event.at_ms > 43_200_000 && event.product.is_multiple_of(2);
    let events = black_box(day).values().flatten().filter(wanted);
    events.map(|event| event.cents * u64::from(event.pieces)).sum()
}
