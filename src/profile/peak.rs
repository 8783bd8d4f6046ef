//! The highest point of what was in use, and what each site held then.
//!
//! Nothing is copied at a new high. Its state *is* the peak until the first change
//! that leads away from it; from there on each site, before its own first change,
//! puts aside what it held. Peaks that are left are numbered, so that a site can
//! tell whether what it put aside is of the last one: this number is the *era*.
//!
//! # Invariants
//!
//! 1. Unless `falling`, nothing was in use above what is in use now, and what a site
//!    holds is its share of the peak.
//! 2. Otherwise a site whose era is the current one has its share of the peak put
//!    aside, and any other has not changed since the peak.
//!
//! Several threads' changes reach the sites in another order than this lock, so a
//! peak may be off by the samples in flight at that moment.

use super::sums::Sums;
use crate::sys::lock::Lock;

pub(super) struct Peak(Lock<State>);

struct State {
    /// Bytes asked for, in the fixed point of weights.
    in_use: u128,
    highest: u128,
    /// When the first change came; 0 before it.
    first_ns: u64,
    highest_ns: u64,
    moment: Moment,
    /// Of which samples are taken: see [`recorder`](super::recorder).
    generation: u32,
}

impl State {
    const NEW: Self = Self {
        in_use: 0,
        highest: 0,
        first_ns: 0,
        highest_ns: 0,
        moment: Moment::FIRST,
        generation: 0,
    };
}

/// Where the peak lies in time, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// How many peaks were left.
    pub(super) era: u64,
    /// Whether the peak is behind.
    pub(super) falling: bool,
}

impl Moment {
    pub(super) const FIRST: Self = Self { era: 0, falling: false };
}

impl Peak {
    pub(super) const fn new() -> Self {
        Self(Lock::new(State::NEW))
    }

    /// What is in use is about to change by so much less and so much more.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn change(&self, less: &Sums, more: &Sums, now_ns: u64, generation: u32) -> Moment {
        let (less, more) = (less.weighted_bytes(), more.weighted_bytes());
        let mut state = self.0.lock();
        if state.generation != generation {
            return state.moment;
        }
        if state.first_ns == 0 {
            state.first_ns = now_ns;
        }
        if !state.moment.falling && more < less {
            state.moment.era += 1;
            state.moment.falling = true;
        }
        state.in_use = state.in_use.wrapping_sub(less).wrapping_add(more);
        let in_use = state.in_use;
        // What is below zero while changes overtake each other is above half.
        if in_use > state.highest && in_use < u128::MAX / 2 {
            state.highest = in_use;
            state.highest_ns = now_ns;
            state.moment.falling = false;
        }
        state.moment
    }

    /// How long ago the first change was, and how long after it the peak.
    pub(super) fn times(&self, now_ns: u64) -> (u64, u64) {
        let state = self.0.lock();
        match state.first_ns {
            0 => (0, 0),
            first => (now_ns.saturating_sub(first), state.highest_ns.saturating_sub(first)),
        }
    }

    pub(super) fn moment(&self) -> Moment {
        self.0.lock().moment
    }

    /// Begins afresh with nothing in use.
    pub(super) fn reset(&self, generation: u32) {
        *self.0.lock() = State { generation, ..State::NEW };
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> u128 {
        self.0.lock().in_use
    }

    pub(super) fn locks(&self) -> impl Iterator<Item = &Lock<impl Sized>> {
        std::iter::once(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sums::Weight;
    use super::*;

    #[test]
    fn the_peak_is_the_first_of_equal_heights_and_has_its_time() {
        let peak = Peak::new();
        let ten = Sums::of(Weight::new(16, 1), 10, 16);
        let at = |era, falling| Moment { era, falling };
        assert_eq!(peak.times(90), (0, 0));
        assert_eq!(peak.change(&Sums::ZERO, &ten, 100, 0), at(0, false));
        assert_eq!(peak.change(&Sums::ZERO, &ten, 130, 0), at(0, false));
        assert_eq!(peak.times(150), (50, 30));
        // What changes its place and not its size leads nowhere.
        assert_eq!(peak.change(&ten, &ten, 135, 0), at(0, false));
        assert_eq!(peak.change(&ten, &Sums::ZERO, 140, 0), at(1, true));
        assert_eq!(peak.change(&ten, &Sums::ZERO, 141, 0), at(1, true));
        assert_eq!(peak.change(&Sums::ZERO, &ten, 142, 0), at(1, true));
        assert_eq!(peak.change(&Sums::ZERO, &ten, 145, 0), at(1, true), "as high, not higher");
        assert_eq!(peak.times(150), (50, 30));
        assert_eq!(peak.change(&Sums::ZERO, &ten, 150, 0), at(1, false));
        assert_eq!((peak.times(160), peak.moment()), ((60, 50), at(1, false)));
        // Of another generation.
        assert_eq!(peak.change(&ten, &Sums::ZERO, 170, 1), at(1, false));
        assert_eq!((peak.times(180), peak.in_use()), ((80, 50), 3 * ten.weighted_bytes()));
    }

    #[test]
    fn a_free_that_overtakes_its_allocation_is_no_peak() {
        let peak = Peak::new();
        let ten = Sums::of(Weight::new(16, 1), 10, 16);
        peak.change(&ten, &Sums::ZERO, 100, 0);
        peak.change(&Sums::ZERO, &ten, 110, 0);
        assert_eq!((peak.in_use(), peak.times(115)), (0, (15, 0)));
        assert!(!peak.change(&Sums::ZERO, &ten, 120, 0).falling);
        assert_eq!(peak.times(130), (30, 20));
    }
}
