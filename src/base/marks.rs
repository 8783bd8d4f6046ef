//! Which blocks are sampled: a Poisson process over the bytes handed out.
//!
//! Every byte that a thread's heap hands out is *marked* with a small, equal and
//! independent probability, so that marks lie `interval` bytes apart on average
//! and a block of `s` bytes carries at least one with probability
//! `1 − e^(−s/interval)`. A marked block is sampled; its weight is the inverse of
//! that probability, whatever the block's size or class (the scheme of tcmalloc
//! and of Go's `mprof`).
//!
//! Gaps between marks are exponential and therefore memoryless. This is what lets
//! one countdown serve all size classes, lets a run of blocks be charged before
//! any of them is allocated, and lets blocks that come back unused be charged
//! again: the marks of a block that nobody received bias nothing.
//!
//! # Invariants
//!
//! 1. `gap ≥ 1` while `interval > 0`: the next mark is on the `gap`-th byte from
//!    here, the byte just ahead being the first.
//! 2. A gap is `⌈X⌉` with `X` exponential of mean `interval`, so that
//!    `P(gap > s) = e^(−s/interval)` for whole `s`: the weight formula is exact.

use super::math::ln;
use super::random;

/// A countdown to the next mark, with its own random numbers.
#[derive(Debug)]
pub(crate) struct Marks {
    gap: u64,
    interval: u64,
    random: u64,
}

impl Marks {
    /// Marks nothing until it is first charged.
    pub(crate) const fn new() -> Self {
        Self { gap: 0, interval: 0, random: 0 }
    }

    /// Seeds the random numbers; equal seeds give equal marks. Seeds may differ by little, or by
    /// multiples of [`GOLDEN`](random::GOLDEN), as those of times do: taken as they are, the
    /// numbers of one would be those of another a few further on.
    pub(crate) fn seed(&mut self, seed: u64) {
        self.random = random::mixed(seed);
        self.interval = 0;
    }

    /// Whether the last charge was made at this interval.
    #[inline]
    pub(crate) fn are_for(&self, interval: u64) -> bool {
        interval == self.interval
    }

    /// Whether the last charge was made at this interval, and it marks at all.
    pub(crate) fn in_force(&self, interval: u64) -> bool {
        interval != 0 && interval == self.interval
    }

    /// Charges `blocks` blocks of `block_bytes` each and returns the index of the
    /// first marked one, if any.
    ///
    /// Blocks behind the marked one are not charged: hand out what lies before it,
    /// sample it, and charge the rest when they are handed out. An `interval` of 0
    /// marks nothing, of 1 every block. Cost: a subtraction, and a logarithm when
    /// a mark is met.
    #[inline]
    pub(crate) fn charge(&mut self, block_bytes: u64, blocks: u64, interval: u64) -> Option<u64> {
        if interval != self.interval {
            self.interval = interval;
            self.draw();
        }
        match interval {
            0 => None,
            1 => Some(0),
            _ => {
                let bytes = block_bytes * blocks;
                if self.gap > bytes {
                    self.gap -= bytes;
                    return None;
                }
                let marked = (self.gap - 1) / block_bytes.max(1);
                self.draw();
                Some(marked)
            }
        }
    }

    #[cold]
    #[unsafe(link_section = ".spanalloc.sample")]
    fn draw(&mut self) {
        if self.interval == 0 {
            return;
        }
        // 53 random bits in (0, 1]: the logarithm is finite.
        let unit =
            ((random::next(&mut self.random) >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64);
        let gap = (-ln(unit) * self.interval as f64).ceil();
        // The cast saturates; a gap of 0 comes only from `unit == 1`.
        self.gap = (gap as u64).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::{Marks, random};

    /// Marked share of `runs` runs of `blocks` blocks, with its expectation.
    fn marked_share(seed: u64, block: u64, blocks: u64, interval: u64) -> (f64, f64) {
        let mut marks = Marks::new();
        marks.seed(seed);
        let (mut charged, mut marked) = (0u64, 0u64);
        while charged < 2_000_000 {
            let mut left = blocks;
            while left > 0 {
                match marks.charge(block, left, interval) {
                    None => {
                        charged += left;
                        left = 0;
                    }
                    Some(index) => {
                        charged += index + 1;
                        marked += 1;
                        left -= index + 1;
                    }
                }
            }
        }
        let expected = 1.0 - (-(block as f64) / interval as f64).exp();
        (marked as f64 / charged as f64, expected)
    }

    #[test]
    fn blocks_are_marked_with_the_probability_of_the_weight_formula() {
        for (block, blocks, interval) in
            [(8, 512, 4096), (64, 1024, 1000), (4096, 16, 4096), (100_000, 1, 4096), (48, 7, 50)]
        {
            let mut error = 0.0;
            for seed in 0..20 {
                let (share, expected) = marked_share(seed, block, blocks, interval);
                let deviation = (expected * (1.0 - expected) / 2e6).sqrt();
                error += (share - expected) / deviation.max(1e-9);
            }
            // The mean of 20 standard normals stays within ±4/√20.
            let mean = error / 20.0;
            assert!(mean.abs() < 0.9, "{block} × {blocks} at {interval}: mean z {mean}");
        }
    }

    #[test]
    fn seeds_of_times_near_each_other_share_no_numbers() {
        // As `Os::entropy` makes them of the nanosecond.
        let drawn = |time_ns: u64| {
            let mut marks = Marks::new();
            marks.seed(time_ns.wrapping_mul(random::GOLDEN));
            (0..1000)
                .map(|_| random::next(&mut marks.random))
                .collect::<std::collections::HashSet<_>>()
        };
        let first = drawn(1_000_000);
        for later_ns in [1, 7, 500] {
            assert!(first.is_disjoint(&drawn(1_000_000 + later_ns)), "{later_ns} ns later");
        }
    }

    /// A thread takes over the heap of an ended one, and what was left of its gap must not count.
    #[test]
    fn a_seed_that_is_given_again_begins_the_same_marks_anew() {
        let mut marks = Marks::new();
        let mut drawn = || {
            marks.seed(7);
            (0..100).map(|_| marks.charge(64, 500, 4096)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(), drawn());
    }

    #[test]
    fn an_interval_of_one_marks_every_block_and_zero_none() {
        let mut marks = Marks::new();
        marks.seed(1);
        assert_eq!(marks.charge(64, 10, 1), Some(0));
        assert_eq!(marks.charge(64, 10, 1), Some(0));
        assert_eq!(marks.charge(u64::MAX / 2, 1, 0), None);
    }
}
