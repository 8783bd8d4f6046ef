//! Operations on pools, against a ledger: no value is lost, doubled or handed out used, and the
//! counters equal what was done.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use spanalloc::pool::{AnyPool, BitmapPool, Keep, Pool, Prefault, SlicePool};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

#[derive(Arbitrary, Debug)]
enum Step {
    Take,
    Put(u8),
    Drop(u8),
    Advance,
    /// The same, from a thread that ends afterwards and keeps nothing.
    Elsewhere {
        puts: u8,
        takes: u8,
        advance: bool,
    },
    Slice {
        len: u16,
    },
    SlotTake,
    SlotDrop(u8),
    /// To the pool of any type: a boxed value, or one that it boxes.
    AnyPut {
        boxed: bool,
    },
    /// From there, as the type that was put or as another.
    AnyGet {
        same: bool,
    },
}

/// A value that is one of a kind while it lives.
struct Unique(u64, Arc<AtomicU64>);

impl Drop for Unique {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Relaxed);
    }
}

/// What was done with the pool of any type.
#[derive(Default, PartialEq, Eq, Debug)]
struct AnyCounts {
    puts: u64,
    boxed: u64,
    hits: u64,
    misses: u64,
}

fuzz_target!(|steps: Vec<Step>| {
    let (made, live) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let make = || {
        live.fetch_add(1, Relaxed);
        Unique(made.fetch_add(1, Relaxed), live.clone())
    };
    let pool = Pool::new(make);
    let any = AnyPool::new();
    let mut any_counts = AnyCounts::default();
    let slices = SlicePool::<u8>::default();
    let slots = BitmapPool::new(5, Prefault::OnUse, || Keep(0u64)).expect("a small mapping");
    let (mut held, mut slots_held) = (Vec::<Box<Unique>>::new(), Vec::new());
    let mut slots_taken = 0u64;
    let (mut gets, mut puts) = (0u64, 0u64);
    for step in steps {
        match step {
            Step::Take => {
                let value = pool.take();
                assert!(held.iter().all(|other| other.0 != value.0), "handed out twice");
                held.push(value);
                gets += 1;
            }
            Step::Put(pick) if !held.is_empty() => {
                pool.put(held.swap_remove(pick as usize % held.len()));
                puts += 1;
            }
            Step::Drop(pick) if !held.is_empty() => {
                drop(held.swap_remove(pick as usize % held.len()));
            }
            Step::Advance => drop(pool.advance()),
            Step::Elsewhere { puts: their_puts, takes, advance } => {
                let elsewhere = || {
                    (0..their_puts).for_each(|_| pool.put(Box::new(make())));
                    let taken: Vec<_> = (0..takes).map(|_| pool.take()).collect();
                    let ids: HashSet<u64> = taken.iter().map(|value| value.0).collect();
                    assert_eq!(ids.len(), taken.len(), "handed out twice");
                    if advance {
                        pool.advance();
                    }
                };
                // Joined by name: the end of a scope waits for closures, not for what a thread does
                // on its way out.
                thread::scope(|scope| scope.spawn(elsewhere).join()).expect("no panic there");
                gets += u64::from(takes);
                puts += u64::from(their_puts);
            }
            Step::Slice { len } => {
                let mut slice = slices.get();
                assert!(slice.is_empty() && (64..=128).contains(&slice.capacity()));
                slice.resize(len as usize, 1);
                // Another, while this one is out.
                let mut other = slices.get();
                other.resize(len as usize, 2);
                assert!(slice.iter().all(|byte| *byte == 1) && other.iter().all(|byte| *byte == 2));
            }
            Step::SlotTake => match slots.get() {
                Some(mut slot) => {
                    // A number that no other has: two who have one slot see it.
                    slots_taken += 1;
                    slot.0 = slots_taken;
                    slots_held.push((slot, slots_taken));
                }
                None => assert_eq!(slots_held.len(), 5),
            },
            Step::SlotDrop(pick) if !slots_held.is_empty() => {
                drop(slots_held.swap_remove(pick as usize % slots_held.len()));
            }
            Step::AnyPut { boxed } => {
                any_counts.puts += 1;
                any_counts.boxed += u64::from(!boxed);
                if boxed { any.put_box(Box::new(make())) } else { any.put(make()) }
            }
            Step::AnyGet { same } => {
                let held = any.stats().pool.held();
                let (unique, other) =
                    (same.then(|| any.get::<Unique>()), !same && any.get::<u32>().is_some());
                assert!(!other, "nobody put a u32");
                let hit = unique.flatten().is_some();
                assert_eq!(hit, same && held > 0);
                any_counts.hits += u64::from(hit);
                any_counts.misses += u64::from(!same && held > 0);
            }
            _ => {}
        }
        assert!(slots_held.iter().all(|(slot, id)| slot.0 == *id), "a slot was handed out twice");
        let other = any.stats();
        let counts = AnyCounts {
            puts: other.pool.puts,
            boxed: other.boxed,
            hits: other.type_hits,
            misses: other.type_misses,
        };
        assert_eq!(counts, any_counts);
        let stats = pool.stats();
        assert_eq!((stats.gets(), stats.puts), (gets, puts));
        assert_eq!(stats.puts, stats.reused() + stats.drops + stats.held());
        assert_eq!(live.load(Relaxed), stats.held() + other.pool.held() + held.len() as u64);
        assert_eq!(slots.stats().in_use, slots_held.len());
    }
    drop((pool, any, held));
    assert_eq!(live.load(Relaxed), 0);
});
