//! The tables of one profiler, and what an allocation and a free do to them.

use core::sync::atomic::{AtomicU64, Ordering};

use super::classes::Classes;
use super::live::{Inserted, Live, Sample};
use super::sites::Sites;
use super::stack::{Ending, Walker};
use super::sums::Weight;
use crate::sys::lock::Lock;

/// A profiler.
pub(super) struct Recorder {
    pub(super) walker: Walker,
    pub(super) sites: Sites,
    live: Live,
    pub(super) classes: Classes,
    pub(super) lost: Lost,
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
}

impl Lost {
    const fn new() -> Self {
        Self {
            reentrant: Counter::new(),
            out_of_memory: Counter::new(),
            frees: Counter::new(),
            without_unwinder: Counter::new(),
            broken_stacks: Counter::new(),
            truncated_stacks: Counter::new(),
        }
    }
}

impl Recorder {
    pub(super) const fn new() -> Self {
        Self {
            walker: Walker::new(),
            sites: Sites::new(),
            live: Live::new(),
            classes: Classes::new(),
            lost: Lost::new(),
        }
    }

    /// Counts how a walk ended, if not at the root.
    pub(super) fn note_ending(&self, ending: Ending) {
        match ending {
            Ending::Whole => {}
            Ending::Truncated => self.lost.truncated_stacks.raise(),
            Ending::Broken => self.lost.broken_stacks.raise(),
            Ending::Unavailable => self.lost.without_unwinder.raise(),
        }
    }

    /// Records the sampled block at `address`, allocated at the stack `frames`.
    pub(super) fn allocated(
        &self,
        address: usize,
        weight: Weight,
        requested_bytes: u64,
        block_bytes: u64,
        frames: &[u64],
    ) {
        let sample = |site| Sample { weight, requested_bytes, block_bytes, site };
        let sums = super::sums::Sums::of(weight, requested_bytes, block_bytes);
        let Some(site) = self.sites.allocated(frames, &sums) else {
            return self.lost.out_of_memory.raise();
        };
        self.classes.update(block_bytes as usize, |row| {
            row.alloc.add(&sums);
            row.live.add(&sums);
        });
        match self.live.insert(address, sample(site)) {
            Inserted::New => {}
            Inserted::Replaced(before) => self.forget(&before),
            Inserted::Refused => {
                // Its free would go unnoticed: better allocated and not live.
                self.forget(&sample(site));
                self.lost.out_of_memory.raise();
            }
        }
    }

    /// Records that the block at `address` is free; one that was never recorded
    /// changes nothing.
    pub(super) fn freed(&self, address: usize) {
        if let Some(sample) = self.live.remove(address) {
            self.forget(&sample);
        }
    }

    /// Records that the block at `address` now holds `requested_bytes`.
    pub(super) fn resized(&self, address: usize, requested_bytes: u64) {
        let Some(before) = self.live.resize(address, requested_bytes) else { return };
        let after = Sample { requested_bytes, ..before };
        self.sites.resized(before.site, &before.sums(), &after.sums());
        self.classes.update(before.block_bytes as usize, |row| {
            row.live.subtract(&before.sums());
            row.live.add(&after.sums());
        });
    }

    /// Takes a sample off what is live.
    fn forget(&self, sample: &Sample) {
        let sums = sample.sums();
        self.sites.freed(sample.site, &sums);
        self.classes.update(sample.block_bytes as usize, |row| row.live.subtract(&sums));
    }

    /// Takes every lock, until [`release_all`](Self::release_all).
    pub(super) fn hold_all(&self) {
        hold(self.walker.unwinders.locks());
        hold(self.sites.locks());
        hold(self.live.locks());
        hold(self.classes.locks());
    }

    /// Ends what [`hold_all`](Self::hold_all) began.
    pub(super) fn release_all(&self) {
        release(self.walker.unwinders.locks());
        release(self.sites.locks());
        release(self.live.locks());
        release(self.classes.locks());
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
    use super::super::sums::Sums;
    use super::*;

    fn totals(recorder: &Recorder) -> (Sums, Sums) {
        let (mut alloc, mut live) = (Sums::ZERO, Sums::ZERO);
        recorder.sites.for_each(|_, site_alloc, site_live| {
            alloc.add(site_alloc);
            live.add(site_live);
        });
        let (mut class_alloc, mut class_live) = (Sums::ZERO, Sums::ZERO);
        recorder.classes.for_each(|row| {
            class_alloc.add(&row.alloc);
            class_live.add(&row.live);
        });
        assert_eq!((alloc, live), (class_alloc, class_live));
        (alloc, live)
    }

    #[test]
    fn what_is_freed_is_no_longer_live() {
        let recorder = Recorder::new();
        let weight = Weight::new(32, 4096);
        recorder.allocated(16, weight, 20, 32, &[1, 2]);
        recorder.allocated(48, weight, 30, 32, &[1, 3]);
        recorder.resized(48, 32);
        recorder.freed(16);
        recorder.freed(1024);
        let (alloc, live) = totals(&recorder);
        assert_eq!((alloc.samples, live.samples), (2, 1));
        assert_eq!(live, Sums::of(weight, 32, 32));
    }

    #[test]
    fn a_reused_address_ends_the_sample_before() {
        let recorder = Recorder::new();
        let weight = Weight::new(32, 1);
        recorder.allocated(16, weight, 20, 32, &[1, 2]);
        recorder.allocated(16, weight, 25, 32, &[1, 3]);
        let (alloc, live) = totals(&recorder);
        assert_eq!((alloc.samples, live.samples), (2, 1));
        assert_eq!(live.requested_bytes(), 25);
    }

    #[test]
    fn locks_held_for_a_fork_can_be_used_after_it() {
        let recorder = Recorder::new();
        recorder.hold_all();
        assert!(recorder.sites.locks().all(|lock| lock.try_lock().is_none()));
        recorder.release_all();
        recorder.allocated(16, Weight::new(8, 1), 8, 8, &[1]);
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
                        recorder.allocated(address, Weight::new(16, 1), 10, 16, &frames);
                        if n % 2 == 0 {
                            recorder.freed(address);
                        }
                    }
                });
            }
        });
        let (alloc, live) = totals(&recorder);
        assert_eq!((alloc.objects(), live.objects()), (20_000, 10_000));
        assert_eq!(recorder.sites.size().0, 50);
    }
}
