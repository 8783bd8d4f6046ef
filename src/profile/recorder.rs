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
mod tests;
