//! The tables of one profiler, and what an allocation and a free do to them.
//!
//! # Invariants
//!
//! 1. A sample is of the *generation* that was current when it began, the number of resets so far.
//!    Each table has the number of its last reset under its own locks, and takes samples of that
//!    generation alone; the current one is published when all tables have it. So what is in
//!    flight while the tables are reset is added to and taken off each of them, or neither.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::classes::Classes;
use super::labels::Labels;
use super::live::{Inserted, Live, Sample};
use super::memory;
use super::peak::Peak;
use super::sites::{Origin, Refusal, Sites};
use super::stack::{Ending, Walker};
use super::sums::{Sums, Weight};
use crate::sys::lock::Lock;

/// A profiler. In this order, what every sample touches is in two pages; of what follows,
/// only the first part is in use in most programs.
#[repr(C)]
pub(super) struct Recorder {
    pub(super) walker: Walker,
    pub(super) sites: Sites,
    live: Live,
    pub(super) peak: Peak,
    pub(super) lost: Lost,
    pub(super) classes: Classes,
    generation: AtomicU32,
    resetting: Lock<()>,
    pub(super) threads: Labels,
    pub(super) spans: Labels,
}

/// A block that was sampled, and what is known of its allocation.
#[derive(Clone, Copy)]
pub(super) struct Birth {
    pub(super) weight: Weight,
    pub(super) requested_bytes: u64,
    pub(super) block_bytes: u64,
    pub(super) origin: Origin,
    pub(super) now_ns: u64,
}

/// What could not be recorded, or not as it should be; the fields of
/// [`Losses`](super::Losses).
#[derive(Default)]
pub(super) struct Lost {
    pub(super) reentrant: Counter,
    pub(super) out_of_memory: Counter,
    pub(super) frees: Counter,
    pub(super) without_unwinder: Counter,
    pub(super) broken_stacks: Counter,
    pub(super) truncated_stacks: Counter,
}

/// A number that any thread may raise.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Lost {
    pub(super) const fn new() -> Self {
        Self {
            reentrant: Counter::new(),
            out_of_memory: Counter::new(),
            frees: Counter::new(),
            without_unwinder: Counter::new(),
            broken_stacks: Counter::new(),
            truncated_stacks: Counter::new(),
        }
    }

    /// Counts how a walk ended, if not at the root.
    pub(super) fn note_ending(&self, ending: Ending) {
        match ending {
            Ending::Whole => {}
            Ending::Truncated => self.truncated_stacks.raise(),
            Ending::Broken => self.broken_stacks.raise(),
            Ending::Unavailable => self.without_unwinder.raise(),
        }
    }

    fn reset(&self) {
        // Without `..`: a counter more must be reset, too.
        let Self {
            reentrant,
            out_of_memory,
            frees,
            without_unwinder,
            broken_stacks,
            truncated_stacks,
        } = self;
        let walks = [without_unwinder, broken_stacks, truncated_stacks];
        [reentrant, out_of_memory, frees].into_iter().chain(walks).for_each(Counter::reset);
    }
}

impl Recorder {
    pub(super) const fn new() -> Self {
        Self {
            walker: Walker::new(),
            sites: Sites::new(),
            live: Live::new(),
            peak: Peak::new(),
            lost: Lost::new(),
            classes: Classes::new(),
            generation: AtomicU32::new(0),
            resetting: Lock::new(()),
            threads: Labels::new(),
            spans: Labels::new(),
        }
    }

    /// Records the sampled block at `address`, allocated at the stack `frames`.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn allocated(&self, address: usize, birth: &Birth, frames: &[u64]) {
        let Birth { weight, requested_bytes, block_bytes, origin, now_ns } = *birth;
        let sums = Sums::of(weight, requested_bytes, block_bytes).born(now_ns);
        let generation = self.generation.load(Ordering::Acquire);
        let moment = self.peak.change(&Sums::ZERO, &sums, now_ns, generation);
        let site = match self.sites.allocated(frames, origin, &sums, moment, generation) {
            Ok(site) => site,
            Err(refusal) => {
                self.peak.change(&sums, &Sums::ZERO, now_ns, generation);
                if refusal == Refusal::OutOfMemory {
                    self.lost.out_of_memory.raise();
                }
                return;
            }
        };
        self.classes.update(block_bytes, generation, |row| {
            row.alloc.add(&sums);
            row.live.add(&sums);
        });
        let (born_ns, shrunk_bytes) = (now_ns, 0);
        let sample =
            Sample { weight, requested_bytes, block_bytes, site, origin, born_ns, shrunk_bytes };
        self.put_back(address, sample, now_ns);
    }

    /// Remembers the block at `address`, which is counted already, for live.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn put_back(&self, address: usize, sample: Sample, now_ns: u64) {
        match self.live.insert(address, sample) {
            Inserted::New | Inserted::Outlived => {}
            Inserted::Replaced(before) => self.forget(&before, now_ns, None),
            Inserted::Refused => {
                // Its free would go unnoticed: better allocated and not live.
                self.forget(&sample, now_ns, None);
                self.lost.out_of_memory.raise();
            }
        }
    }

    /// Takes the block at `address` out of those that are remembered, and counts it still.
    pub(super) fn take(&self, address: usize) -> Option<Sample> {
        self.live.remove(address)
    }

    /// Records that a block which was taken out is free.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn taken_is_free(&self, sample: &Sample, now_ns: u64) {
        let lived_ns = now_ns.saturating_sub(sample.born_ns);
        self.forget(sample, now_ns, Some(lived_ns));
    }

    /// Records that the block at `address` is free; one that was never recorded
    /// changes nothing.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn freed(&self, address: usize, now_ns: u64) {
        if let Some(sample) = self.live.remove(address) {
            self.taken_is_free(&sample, now_ns);
        }
    }

    /// Whether the block at `address` was allocated and not freed.
    pub(super) fn remembers(&self, address: usize) -> bool {
        self.live.contains(address)
    }

    /// Records that the block at `address` now holds `requested_bytes`.
    pub(super) fn resized(&self, address: usize, requested_bytes: u64, now_ns: u64) {
        let Some((before, after)) = self.live.resize(address, requested_bytes) else { return };
        let (less, more) = (before.sums(), after.sums());
        let moment = self.peak.change(&less, &more, now_ns, before.site.generation);
        self.sites.resized(&before, &after, moment);
        self.classes.update(before.block_bytes, before.site.generation, |row| {
            row.live.subtract(&less);
            row.live.add(&more);
            // Of the size asked for, not of how often: a block that shrinks and grows is one.
            row.alloc.grow(&before.sums_at_most(), &after.sums_at_most());
        });
    }

    /// Takes a sample off what is live, with how long it lived if its free was seen.
    #[unsafe(link_section = ".spanalloc.sample")]
    fn forget(&self, sample: &Sample, now_ns: u64, lived_ns: Option<u64>) {
        let sums = sample.sums();
        let generation = sample.site.generation;
        let moment = self.peak.change(&sums, &Sums::ZERO, now_ns, generation);
        let lived = lived_ns.map(|lived_ns| (sample.weight, lived_ns));
        self.sites.freed(sample.site, &sums, lived, moment);
        self.classes.update(sample.block_bytes, generation, |row| {
            row.live.subtract(&sums);
            if let Some((weight, lived_ns)) = lived {
                row.lifetimes.add(weight, lived_ns);
            }
        });
    }

    /// Forgets everything that was gathered and gives the tables' memory back. What
    /// is recorded meanwhile is forgotten, too.
    pub(super) fn reset(&self) {
        let _one_at_a_time = self.resetting.lock();
        let generation = self.generation.load(Ordering::Relaxed).wrapping_add(1);
        self.live.reset(generation);
        self.sites.reset(generation);
        self.classes.reset(generation);
        self.peak.reset(generation);
        self.lost.reset();
        self.generation.store(generation, Ordering::Release);
    }

    /// Takes every lock, until [`release_all`](Self::release_all).
    pub(super) fn hold_all(&self) {
        self.resetting.acquire();
        hold(self.walker.unwinders.locks());
        hold(self.sites.locks());
        hold(self.live.locks());
        hold(self.classes.locks());
        hold(self.peak.locks());
        hold(self.threads.locks());
        hold(self.spans.locks());
        hold(memory::locks());
    }

    /// Ends what [`hold_all`](Self::hold_all) began.
    pub(super) fn release_all(&self) {
        release(memory::locks());
        release(self.walker.unwinders.locks());
        release(self.sites.locks());
        release(self.live.locks());
        release(self.classes.locks());
        release(self.peak.locks());
        release(self.threads.locks());
        release(self.spans.locks());
        self.resetting.release();
    }
}

fn hold<'a, T: 'a>(locks: impl Iterator<Item = &'a Lock<T>>) {
    locks.for_each(Lock::acquire);
}

fn release<'a, T: 'a>(locks: impl Iterator<Item = &'a Lock<T>>) {
    locks.for_each(Lock::release);
}

#[cfg(test)]
mod tests {
    use super::super::peak::Moment;
    use super::*;

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
}
