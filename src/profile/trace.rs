//! The sites of one measurement: every allocation that is recorded, none sampled.
//!
//! Apart from the profile of the process, which it neither reads nor changes.
//!
//! # Invariants
//!
//! 1. A trace is of the process that made it. In a forked child nothing of it is touched: another
//!    thread of the parent may have been recording, and its locks are not taken at a fork.

use super::Busy;
use super::capture;
use super::frames::Frames;
use super::peak::Moment;
use super::recorder::Lost;
use super::sites::{Origin, Sites};
use super::snapshot::Profile;
use super::sums::{Sums, Weight};
use crate::base::forks;
use crate::sys::os;

/// Sites with exact sums.
pub(crate) struct Trace {
    sites: Sites,
    began_ns: u64,
    /// What it misses, not what the process's profile does.
    lost: Lost,
    /// Forks until it was made.
    forks: u32,
}

impl Trace {
    /// Without sites. Gets the unwinder ready, which allocates.
    pub(crate) fn new() -> Self {
        super::quietly(|| super::PROFILER.walker.unwinders.load_all());
        Self {
            sites: Sites::new(),
            began_ns: os::monotonic_ns(),
            lost: Lost::new(),
            forks: forks::count(),
        }
    }

    fn is_of_parent(&self) -> bool {
        self.forks != forks::count()
    }

    /// Records an allocation at the stack of the caller. No lock of the allocator
    /// may be held.
    #[cold]
    pub(crate) fn allocated(&self, requested_bytes: usize, block_bytes: usize) {
        if self.is_of_parent() {
            return;
        }
        let Some(_busy) = Busy::enter() else {
            return self.lost.reentrant.raise();
        };
        let mut frames = Frames::new();
        self.lost.note_ending(super::PROFILER.walker.walk(Busy::hint(), &mut frames));
        let every = Weight::new(block_bytes, 1);
        let sums = Sums::of(every, requested_bytes as u64, block_bytes as u64);
        let sums = sums.born(os::monotonic_ns());
        if self.sites.allocated(&frames, Origin::NONE, &sums, Moment::FIRST, 0).is_err() {
            self.lost.out_of_memory.raise();
        }
    }

    /// The sites as a profile. What was freed is not followed: everything counts
    /// as in use, and most is so at last. None in a forked child.
    pub(crate) fn profile(&self) -> Option<Profile> {
        let of_this = !self.is_of_parent();
        of_this.then(|| capture::of_trace(&self.sites, self.began_ns, &self.lost))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if self.is_of_parent() {
            return;
        }
        // Tables are given back under a lock of the profiler's: none of its handlers may wait.
        let _busy = Busy::enter();
        self.sites.reset(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_what_was_recorded_and_nothing_else() {
        let trace = Trace::new();
        for bytes in [24, 30] {
            trace.allocated(bytes, 32);
        }
        let profile = trace.profile().unwrap();
        let bytes: u64 = profile.sites.iter().map(|site| site.allocated.bytes).sum();
        assert_eq!((bytes, profile.interval_bytes), (54, 1));
        let sizes: u64 = profile.sites.iter().map(|site| site.allocated.samples).sum();
        assert_eq!(sizes, 2);
    }

    #[test]
    fn objects_of_a_trace_are_as_old_as_they_are_and_it_as_long_as_it_lasts() {
        let (before, trace) = (os::monotonic_ns(), Trace::new());
        trace.allocated(24, 32);
        std::thread::sleep(std::time::Duration::from_millis(2));
        let profile = trace.profile().unwrap();
        let most_us = (os::monotonic_ns() - before) / 1000;
        let age_us = profile.sites[0].in_use_ages_us;
        assert!((2000..=most_us).contains(&age_us), "{age_us} of {most_us} µs");
        let (lasted_us, peak_us) = (profile.duration_ns / 1000, profile.peak_after_ns / 1000);
        assert!((age_us..=most_us).contains(&lasted_us), "{lasted_us} of {most_us} µs");
        assert_eq!(peak_us, lasted_us);
    }

    #[test]
    fn what_is_missing_is_the_traces_own() {
        let trace = Trace::new();
        let busy = Busy::enter();
        trace.allocated(24, 32);
        drop(busy);
        trace.allocated(24, 32);
        let (profile, other) = (trace.profile().unwrap(), Trace::new());
        assert_eq!((profile.losses.reentrant, profile.sites.len()), (1, 1));
        assert_eq!(other.profile().unwrap().losses.reentrant, 0);
    }
}
