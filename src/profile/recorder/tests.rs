//! What allocations, frees and resets do to the tables of a profiler.

use super::super::memory::Table;
use super::super::peak::Moment;
use super::*;
use crate::sys::alone::alone;

fn totals(recorder: &Recorder) -> (Sums, Sums) {
    let (mut alloc, mut live) = (Sums::ZERO, Sums::ZERO);
    recorder.sites.for_each(Moment::FIRST, |_, _, figures| {
        alloc.add(&figures.alloc);
        live.add(&figures.live);
    });
    let (mut class_alloc, mut class_live) = (Sums::ZERO, Sums::ZERO);
    recorder.classes.for_each(|row| {
        class_alloc.add(&row.alloc);
        class_live.add(&row.live);
    });
    assert_eq!((alloc, live), (class_alloc, class_live));
    (alloc, live)
}

fn birth(interval: u64, requested_bytes: u64, block_bytes: u64) -> Birth {
    Birth {
        weight: Weight::new(block_bytes as usize, interval),
        requested_bytes,
        block_bytes,
        origin: Origin::NONE,
        now_ns: 0,
    }
}

#[test]
fn what_is_freed_is_no_longer_live() {
    let recorder = Recorder::new();
    let weight = Weight::new(32, 4096);
    recorder.allocated(16, &birth(4096, 20, 32), &[1, 2]);
    recorder.allocated(48, &birth(4096, 30, 32), &[1, 3]);
    recorder.resized(48, 32, 1);
    recorder.freed(16, 1);
    recorder.freed(1024, 1);
    let (alloc, live) = totals(&recorder);
    assert_eq!((alloc.samples, live.samples), (2, 1));
    assert_eq!(live, Sums::of(weight, 32, 32));
}

#[test]
fn a_class_is_told_of_the_most_that_a_block_was_asked_for() {
    let recorder = Recorder::new();
    recorder.allocated(16, &birth(1, 41, 48), &[1, 2]);
    for _ in 0..1000 {
        recorder.resized(16, 48, 1);
        recorder.resized(16, 41, 1);
    }
    let (mut asked, mut held) = (0, 0);
    recorder.classes.for_each(|row| {
        (asked, held) = (row.alloc.requested_bytes(), row.live.requested_bytes());
    });
    assert_eq!((asked, held), (48, 41));
    // The site as the class, which `totals` compares; an estimate with its error, too.
    assert_eq!(totals(&recorder).0.requested_bytes(), 48);
    let estimated = Recorder::new();
    estimated.allocated(16, &birth(4096, 41, 48), &[1, 2]);
    for _ in 0..10 {
        estimated.resized(16, 48, 1);
        estimated.resized(16, 41, 1);
    }
    assert_eq!(totals(&estimated).0, Sums::of(Weight::new(48, 4096), 48, 48));
    recorder.freed(16, 2);
    recorder.classes.for_each(|row| assert_eq!(row.live, Sums::ZERO));
}

#[test]
fn one_stack_is_a_site_for_each_origin() {
    let recorder = Recorder::new();
    let thread = recorder.threads.of(b"worker");
    let of_worker = Birth { origin: Origin { thread, ..Origin::NONE }, ..birth(1, 20, 32) };
    recorder.allocated(16, &of_worker, &[1, 2]);
    recorder.allocated(48, &birth(1, 30, 32), &[1, 2]);
    recorder.allocated(80, &of_worker, &[1, 2]);
    recorder.freed(16, 5000);
    let mut found = Vec::new();
    recorder.sites.for_each(Moment::FIRST, |_, origin, figures| {
        found.push((origin.thread, figures.alloc.objects(), figures.live.objects()));
    });
    found.sort_by_key(|(_, objects, _)| *objects);
    assert_eq!(found, [(Origin::NONE.thread, 1, 1), (thread, 2, 1)]);
    // A free is told to the size it was of, with its age.
    recorder.classes.for_each(|row| assert_eq!(row.lifetimes.objects(), [0, 0, 1]));
}

#[test]
fn a_reused_address_ends_the_sample_before() {
    let recorder = Recorder::new();
    recorder.allocated(16, &birth(1, 20, 32), &[1, 2]);
    recorder.allocated(16, &birth(1, 25, 32), &[1, 3]);
    let (alloc, live) = totals(&recorder);
    assert_eq!((alloc.samples, live.samples), (2, 1));
    assert_eq!(live.requested_bytes(), 25);
    assert_eq!(recorder.peak.in_use(), live.weighted_bytes());
    // How long that block lived nobody knows, and its stack is the other's no more.
    recorder.classes.for_each(|row| assert!(row.lifetimes.objects().is_empty()));
    recorder.sites.for_each(Moment::FIRST, |frames, _, figures| {
        assert!(figures.lifetimes.objects().is_empty());
        assert_eq!(figures.live.samples, u64::from(frames == [1, 3]));
    });
}

#[test]
fn a_sample_that_a_reset_overtakes_leaves_no_trace() {
    let recorder = Recorder::new();
    // As far as a reset has come that began after the sample.
    recorder.live.reset(1);
    recorder.sites.reset(1);
    recorder.allocated(16, &birth(1, 20, 32), &[1, 2]);
    assert_eq!(recorder.peak.in_use(), 0);
    assert_eq!(totals(&recorder), (Sums::ZERO, Sums::ZERO));
    assert!(!recorder.remembers(16));
    assert_eq!(recorder.lost.out_of_memory.get(), 0, "nothing that a profile misses");
}

#[test]
fn what_there_is_no_memory_for_is_told_and_neither_live_nor_at_the_peak() {
    if !alone(concat!(
        "profile::recorder::tests::",
        "what_there_is_no_memory_for_is_told_and_neither_live_nor_at_the_peak"
    )) {
        return;
    }
    let recorder = Recorder::new();
    recorder.allocated(16, &birth(1, 20, 32), &[1, 2]);
    // All that is left of the profiler's memory.
    let mut taken = Vec::new();
    for bytes in (6..=28).rev().map(|doublings| 1 << doublings) {
        taken.extend(std::iter::from_fn(|| Table::<u64>::zeroed(bytes / size_of::<u64>())));
    }
    // New stacks, and new blocks of the one that is known.
    (1..=200).for_each(|n| recorder.allocated(n << 12, &birth(1, 20, 32), &[n as u64, 7]));
    let (alloc, live) = totals(&recorder);
    assert_eq!((alloc, live.samples), (live, 201 - recorder.lost.out_of_memory.get()));
    assert!(live.samples < 20, "{live:?}");
    assert_eq!(recorder.peak.in_use(), live.weighted_bytes());
    let before = recorder.lost.out_of_memory.get();
    let new = (1..=200).map(|n| (n << 12) + 64);
    new.clone().for_each(|at| recorder.allocated(at, &birth(1, 20, 32), &[1, 2]));
    let refused = recorder.lost.out_of_memory.get() - before;
    assert!(refused > 100, "{refused}");
    let (alloc_before, live_before) = (alloc.samples, live.samples);
    let (alloc, live) = totals(&recorder);
    assert_eq!(alloc.samples, alloc_before + 200, "allocated they were");
    assert_eq!(live.samples, live_before + 200 - refused);
    assert_eq!(new.filter(|at| recorder.remembers(*at)).count() as u64, 200 - refused);
    assert_eq!(recorder.peak.in_use(), live.weighted_bytes());
    // Of none it was seen how long it lived.
    recorder.classes.for_each(|row| assert!(row.lifetimes.objects().is_empty()));
    drop(taken);
    recorder.allocated(8, &birth(1, 20, 32), &[9, 9]);
    assert!(recorder.remembers(8));
}

#[test]
fn each_end_of_a_walk_has_its_counter_and_a_reset_begins_all_anew() {
    let recorder = Recorder::new();
    let lost = &recorder.lost;
    let counts = || {
        [
            lost.reentrant.get(),
            lost.out_of_memory.get(),
            lost.frees.get(),
            lost.without_unwinder.get(),
            lost.broken_stacks.get(),
            lost.truncated_stacks.get(),
        ]
    };
    for (ending, times) in
        [(Ending::Whole, 1), (Ending::Unavailable, 2), (Ending::Broken, 3), (Ending::Truncated, 4)]
    {
        (0..times).for_each(|_| lost.note_ending(ending));
    }
    assert_eq!(counts(), [0, 0, 0, 2, 3, 4]);
    for (counter, times) in [(&lost.reentrant, 5), (&lost.out_of_memory, 6), (&lost.frees, 7)] {
        (0..times).for_each(|_| counter.raise());
    }
    assert_eq!(counts(), [5, 6, 7, 2, 3, 4]);
    recorder.allocated(16, &birth(1, 20, 32), &[1, 2]);
    assert_eq!(recorder.peak.in_use(), totals(&recorder).1.weighted_bytes());
    recorder.reset();
    assert_eq!(counts(), [0; 6]);
    assert_eq!((recorder.peak.in_use(), recorder.peak.times(9)), (0, (0, 0)));
    assert!(!recorder.remembers(16));
    // What comes after it is of the new generation in every table.
    recorder.allocated(48, &birth(1, 30, 32), &[1, 3]);
    let (alloc, live) = totals(&recorder);
    assert_eq!((alloc.samples, live.requested_bytes()), (1, 30));
    assert_eq!(recorder.peak.in_use(), live.weighted_bytes());
    assert!(recorder.remembers(48));
}

#[test]
fn locks_held_for_a_fork_can_be_used_after_it() {
    let recorder = Recorder::new();
    fn is_held<'a, T: 'a>(locks: impl Iterator<Item = &'a Lock<T>>) -> bool {
        let (mut all, mut held) = (0, 0);
        locks.for_each(|lock| {
            (all, held) = (all + 1, held + u32::from(lock.try_lock().is_none()));
        });
        held > 0 && held == all
    }
    recorder.hold_all();
    let held = [
        ("resetting", recorder.resetting.try_lock().is_none()),
        ("unwinders", is_held(recorder.walker.unwinders.locks())),
        ("sites", is_held(recorder.sites.locks())),
        ("live", is_held(recorder.live.locks())),
        ("classes", is_held(recorder.classes.locks())),
        ("peak", is_held(recorder.peak.locks())),
        ("threads", is_held(recorder.threads.locks())),
        ("spans", is_held(recorder.spans.locks())),
        ("memory", is_held(memory::locks())),
    ];
    recorder.release_all();
    assert!(held.iter().all(|(_, held)| *held), "{held:?}");
    recorder.allocated(16, &birth(1, 8, 8), &[1]);
    assert_eq!(totals(&recorder).0.samples, 1);
}

#[test]
fn threads_agree_on_the_totals() {
    let recorder = Recorder::new();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let recorder = &recorder;
            scope.spawn(move || {
                for n in 0..5000_usize {
                    let address = (thread * 5000 + n + 1) * 16;
                    let frames = [n as u64 % 50, 7];
                    recorder.allocated(address, &birth(1, 10, 16), &frames);
                    if n % 2 == 0 {
                        recorder.freed(address, 1);
                    }
                }
            });
        }
    });
    let (alloc, live) = totals(&recorder);
    assert_eq!((alloc.objects(), live.objects()), (20_000, 10_000));
    assert_eq!(recorder.sites.size().0, 50);
}

#[test]
fn a_reset_leaves_nothing_of_what_is_in_flight() {
    use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
    let recorder = Recorder::new();
    for _ in 0..300 {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3_usize {
                let (recorder, stop) = (&recorder, &stop);
                scope.spawn(move || {
                    while !stop.load(Relaxed) {
                        for n in 0..20_usize {
                            let address = (thread * 20 + n + 1) * 16;
                            recorder.allocated(address, &birth(1, 10, 16), &[n as u64 + 1]);
                            recorder.resized(address, 12, 1);
                        }
                        (0..20).for_each(|n| recorder.freed((thread * 20 + n + 1) * 16, 1));
                    }
                });
            }
            (0..5).for_each(|_| recorder.reset());
            stop.store(true, Relaxed);
        });
        assert_eq!(totals(&recorder).1, Sums::ZERO);
        assert_eq!(recorder.peak.in_use(), 0);
    }
}

#[test]
fn the_peak_is_what_each_site_held_at_the_highest_point() {
    let recorder = Recorder::new();
    // A model keeps every state; the peak is the highest of them.
    let (mut held, mut highest, mut at_peak) = ([0_u64; 4], 0, [0; 4]);
    let (mut blocks, mut state) = (Vec::new(), 7_u64);
    for step in 0..20_000_usize {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let grows = (state >> 40) % 100 < if step % 400 < 200 { 60 } else { 40 };
        if grows || blocks.is_empty() {
            let (site, bytes) = ((state >> 33) % 4, (state >> 20) % 100 + 1);
            let address = (step + 1) * 16;
            recorder.allocated(address, &birth(1, bytes, 128), &[site + 1]);
            blocks.push((address, site, bytes));
            held[site as usize] += bytes;
        } else {
            let at = (state >> 33) as usize % blocks.len();
            let (address, site, bytes) = blocks.swap_remove(at);
            recorder.freed(address, 0);
            held[site as usize] -= bytes;
        }
        if held.iter().sum::<u64>() > highest {
            (highest, at_peak) = (held.iter().sum(), held);
        }
        if step % 37 == 0 {
            let mut found = [0; 4];
            recorder.sites.for_each(recorder.peak.moment(), |frames, _, figures| {
                found[frames[0] as usize - 1] = figures.peak.requested_bytes();
            });
            assert_eq!(found, at_peak, "step {step}");
        }
    }
    recorder.reset();
    assert_eq!(recorder.sites.size(), (0, 0));
    assert_eq!(totals(&recorder), (Sums::ZERO, Sums::ZERO));
}
