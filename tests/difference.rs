//! How far the difference of two captures of one run is from the truth, over many seeds: its error
//! bar covers the truth as often as it says, and is that of what changed, not of all that is held.
#![cfg(feature = "profile")]
#![allow(clippy::vec_box, reason = "the boxes are what is measured")]

use std::hint::black_box;
use std::thread;

use spanalloc::profile::{self, Profile};
use spanalloc::report::{DiffRow, Weight};
use spanalloc::{SpanAlloc, report};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const INTERVAL_BYTES: u64 = 4096;
const BYTES: usize = 640;
const HELD: usize = 20_000;
/// A twentieth is allocated more, and half as much freed.
const MORE: usize = HELD / 20;
const FREED: usize = MORE / 2;
const ROUNDS: usize = 100;

#[inline(never)]
fn allocate(objects: usize) -> Vec<Box<[u8; BYTES]>> {
    (0..objects).map(|_| black_box(Box::new([1; BYTES]))).collect()
}

/// The captures around the change, on a thread whose sampler is seeded anew.
fn captures() -> (Profile, Profile) {
    profile::reset();
    profile::start(INTERVAL_BYTES).unwrap();
    let work = || {
        // One call, and so one site.
        let mut held = Vec::new();
        let mut captures = Vec::new();
        for objects in [HELD, MORE] {
            held.push(allocate(objects));
            if objects == MORE {
                held[0].truncate(HELD - FREED);
            }
            captures.push(ours(profile::capture()));
        }
        captures
    };
    let mut captures = thread::spawn(work).join().unwrap();
    profile::stop();
    let after = captures.pop().unwrap();
    (captures.pop().unwrap(), after)
}

/// The sites of the objects alone, as one, and without what names are found by.
fn ours(mut profile: Profile) -> Profile {
    profile.modules.clear();
    profile.sites.retain(|site| {
        let (objects, bytes) = (site.allocated.objects as f64, site.allocated.bytes as f64);
        (bytes / objects / BYTES as f64 - 1.0).abs() < 0.02
    });
    profile.sites.iter_mut().for_each(|site| site.frames = vec![1]);
    profile
}

struct Score {
    covered: usize,
    off: f64,
    errors: f64,
}

impl Score {
    const ZERO: Self = Self { covered: 0, off: 0.0, errors: 0.0 };

    fn enter(&mut self, rows: &[DiffRow<'_>], truth: i64) {
        let [row] = rows else { panic!("{rows:?}") };
        let off = row.after as i64 - row.before as i64 - truth;
        self.covered += usize::from(off.unsigned_abs() <= row.error);
        self.off += (off * off) as f64;
        self.errors += row.error as f64;
    }

    fn check(&self, what: &str, slack: f64) {
        let covers = self.covered as f64 / ROUNDS as f64;
        let deviation = (self.off / ROUNDS as f64).sqrt();
        let bar = self.errors / ROUNDS as f64 / 1.96;
        println!("{what}: covers {covers}, off by {deviation:.0}, bars of {bar:.0}");
        // Of a hundred rounds 95 are expected; a seed in a hundred thousand has fewer than these.
        assert!(covers >= 0.84, "{what}: covers {covers}");
        assert!(bar <= slack * deviation, "{what}: bars of {bar}, off by {deviation}");
    }
}

#[test]
fn the_bar_of_a_difference_is_that_of_what_changed() {
    let [mut allocated, mut in_use] = [const { Score::ZERO }; 2];
    for _ in 0..ROUNDS {
        let (before, after) = captures();
        let each = |weight, score: &mut Score, objects: usize| {
            let diff: report::Diff = after.diff(&before, weight);
            score.enter(&diff.rows().collect::<Vec<_>>(), (objects * BYTES) as i64);
        };
        each(Weight::AllocatedBytes, &mut allocated, MORE);
        each(Weight::InUseBytes, &mut in_use, MORE - FREED);
    }
    allocated.check("allocated", 1.3);
    in_use.check("in use", 1.3);
}
