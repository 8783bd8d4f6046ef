//! Weights and the sums of weighted samples.
//!
//! A *weight* is how many objects one sample stands for: a block of `s` bytes is
//! sampled with probability `p = 1 - exp(-s / interval)`, so it stands for
//! `1 / p` objects. Rounding weights to integers would lose up to 30 %, so they
//! are fixed point.

use crate::base::math::one_minus_exp_neg;
use crate::base::zeroed::Zeroed;

/// Fractional bits of a weight.
const FRACTION_BITS: u32 = 16;
/// The weight of a block that is always sampled.
const ONE: u64 = 1 << FRACTION_BITS;

/// How many objects one sample stands for, in fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight(u64);

impl Weight {
    /// The weight of a block of `block_bytes` sampled at `interval` bytes. At an
    /// interval of 1 every block is sampled and stands for itself.
    pub(crate) fn new(block_bytes: usize, interval: u64) -> Self {
        if interval <= 1 {
            return Self(ONE);
        }
        let ratio = block_bytes.max(1) as f64 / interval as f64;
        let weight = 1.0 / one_minus_exp_neg(ratio);
        // A block of one byte at the largest interval still fits (`as` saturates).
        Self((weight * ONE as f64).round() as u64)
    }

    /// The weight in its fixed point.
    pub(crate) fn fixed(self) -> u64 {
        self.0
    }
}

/// Sums over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Samples, each counted once.
    pub(crate) samples: u64,
    /// Objects, in the fixed point of weights.
    objects: u128,
    /// Bytes asked for, in the fixed point of weights.
    requested: u128,
    /// Bytes of the blocks handed out, in the fixed point of weights.
    block: u128,
    /// Variance of the objects, in the fixed point of weights.
    objects_variance: u128,
    /// Variance of the bytes asked for, in the fixed point of weights.
    requested_variance: u128,
    /// Objects times the moment when each came to be, in nanoseconds and the fixed point of
    /// weights.
    births: u128,
}

// SAFETY: integers.
unsafe impl Zeroed for Sums {}

impl Sums {
    pub(crate) const ZERO: Self = Self {
        samples: 0,
        objects: 0,
        requested: 0,
        block: 0,
        objects_variance: 0,
        requested_variance: 0,
        births: 0,
    };

    /// One sample's worth.
    pub(crate) fn of(weight: Weight, requested_bytes: u64, block_bytes: u64) -> Self {
        let objects = u128::from(weight.0);
        // Each block is sampled on its own, with probability 1/w. The variance of
        // the sum is then (w - 1) v² for each block there was, and w (w - 1) v² for
        // each one sampled estimates that without bias (Horvitz and Thompson, 1952).
        let variance = (objects * objects.saturating_sub(u128::from(ONE))) >> FRACTION_BITS;
        let bytes = u128::from(requested_bytes);
        Self {
            objects_variance: variance,
            requested_variance: variance.wrapping_mul(bytes.wrapping_mul(bytes)),
            samples: 1,
            objects,
            requested: objects * u128::from(requested_bytes),
            block: objects * u128::from(block_bytes),
            births: 0,
        }
    }

    /// The same objects, allocated at that moment.
    pub(crate) fn born(self, born_ns: u64) -> Self {
        Self { births: self.objects.wrapping_mul(u128::from(born_ns)), ..self }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.samples = self.samples.wrapping_add(other.samples);
        self.objects = self.objects.wrapping_add(other.objects);
        self.requested = self.requested.wrapping_add(other.requested);
        self.block = self.block.wrapping_add(other.block);
        self.objects_variance = self.objects_variance.wrapping_add(other.objects_variance);
        self.requested_variance = self.requested_variance.wrapping_add(other.requested_variance);
        self.births = self.births.wrapping_add(other.births);
    }

    /// Takes back what was added before.
    pub(crate) fn subtract(&mut self, other: &Self) {
        // Wrapping: subtraction and addition commute, so an intermediate result
        // below zero is made good by the addition that follows it.
        self.samples = self.samples.wrapping_sub(other.samples);
        self.objects = self.objects.wrapping_sub(other.objects);
        self.requested = self.requested.wrapping_sub(other.requested);
        self.block = self.block.wrapping_sub(other.block);
        self.objects_variance = self.objects_variance.wrapping_sub(other.objects_variance);
        self.requested_variance = self.requested_variance.wrapping_sub(other.requested_variance);
        self.births = self.births.wrapping_sub(other.births);
    }

    /// An object of these, of everything that was allocated, changed its size; before and after
    /// with the most that it was ever asked for. What that grew by was allocated, too.
    pub(crate) fn grow(&mut self, before: &Self, after: &Self) {
        if after.requested > before.requested {
            self.subtract(before);
            self.add(after);
        }
    }

    pub(crate) fn objects(&self) -> u64 {
        Self::rounded(self.objects)
    }

    /// How old the objects are, summed, in microseconds. Less than nothing if some came to be
    /// after `now_ns` was read: that is 0.
    pub(crate) fn ages_us(&self, now_ns: u64) -> u64 {
        let ages = self.objects.wrapping_mul(u128::from(now_ns)).wrapping_sub(self.births);
        let ages_us = ages.cast_signed().max(0) as u128 / 1000;
        u64::try_from(ages_us >> FRACTION_BITS).unwrap_or(u64::MAX)
    }

    /// Objects, not rounded.
    pub(crate) fn weight(&self) -> f64 {
        self.objects as f64 / ONE as f64
    }

    /// Bytes asked for, not rounded.
    pub(crate) fn bytes_weight(&self) -> f64 {
        self.requested as f64 / ONE as f64
    }

    pub(crate) fn requested_bytes(&self) -> u64 {
        Self::rounded(self.requested)
    }

    pub(crate) fn block_bytes(&self) -> u64 {
        Self::rounded(self.block)
    }

    /// Standard error of the objects.
    pub(crate) fn objects_error(&self) -> u64 {
        deviation(self.objects_variance)
    }

    /// Standard error of the bytes asked for.
    pub(crate) fn requested_error(&self) -> u64 {
        deviation(self.requested_variance)
    }

    /// The squares of both errors, not rounded.
    pub(crate) fn variances(&self) -> (f64, f64) {
        let float = |variance: u128| variance as f64 / ONE as f64;
        (float(self.objects_variance), float(self.requested_variance))
    }

    /// Bytes asked for, in the fixed point of weights.
    pub(crate) fn weighted_bytes(&self) -> u128 {
        self.requested
    }

    fn rounded_down(fixed: u128) -> u64 {
        u64::try_from(fixed >> FRACTION_BITS).unwrap_or(u64::MAX)
    }

    fn rounded_up(fixed: u128) -> u64 {
        Self::rounded_down(fixed + u128::from(ONE - 1))
    }

    /// A whole number from the fixed point of weights.
    pub(crate) fn rounded(fixed: u128) -> u64 {
        u64::try_from((fixed + u128::from(ONE / 2)) >> FRACTION_BITS).unwrap_or(u64::MAX)
    }
}

/// Not 0 unless the variance is: that says that every object was sampled.
fn deviation(variance: u128) -> u64 {
    let deviation = (variance as f64 / ONE as f64).sqrt().round() as u64;
    deviation.max(u64::from(variance != 0))
}

/// Rounds objects so that whole numbers add up to the whole of a sum: what is left of one is
/// carried on to the next.
#[derive(Default)]
pub(crate) struct Rounding(u128);

impl Rounding {
    /// The objects of `sums`, of which there are at most `most`. None where none was sampled,
    /// though `most` had others carry a whole one on: an object of nobody's has no size.
    pub(crate) fn objects(&mut self, sums: &Sums, most: u64) -> u64 {
        if sums.samples == 0 { 0 } else { self.part(sums.objects, most) }
    }

    /// A whole number for one in the fixed point of weights: at most `most`, and no more than that
    /// rounded up, however much was held back before.
    pub(crate) fn part(&mut self, fixed: u128, most: u64) -> u64 {
        let all = fixed + self.0;
        let whole = Sums::rounded_down(all).min(most).min(Sums::rounded_up(fixed));
        self.0 = all - (u128::from(whole) << FRACTION_BITS);
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_the_sampling_probability() {
        let weight = |bytes, interval| Weight::new(bytes, interval).0 as f64 / ONE as f64;
        assert_eq!(Weight::new(8, 1).0, ONE);
        assert!((weight(512 << 10, 512 << 10) - 1.581_976_7).abs() < 1e-4);
        assert!((weight(8, 512 << 10) / 65_536.5 - 1.0).abs() < 1e-6);
        assert!((weight(1 << 40, 512 << 10) - 1.0).abs() < 1e-9);
        assert!(weight(0, u64::MAX) > 1e14);
    }

    #[test]
    fn ages_are_those_of_the_objects_that_are_left() {
        let weight = Weight(ONE * 5);
        let born = |ns| Sums::of(weight, 24, 32).born(ns);
        let mut live = Sums::default();
        for ns in [1_000_000, 3_000_000, 4_000_000] {
            live.add(&born(ns));
        }
        assert_eq!(live.ages_us(6_000_000), 5 * (5000 + 3000 + 2000));
        live.subtract(&born(1_000_000));
        assert_eq!(live.ages_us(6_000_000), 5 * (3000 + 2000));
        assert_eq!(live.ages_us(3_500_000), 0, "read before the last was born");
        live.subtract(&born(4_000_000));
        live.subtract(&born(3_000_000));
        assert_eq!(live, Sums::default());
    }

    #[test]
    fn rounded_parts_add_up_to_the_rounded_whole() {
        for weight in [ONE, ONE * 5 / 4 + 7, ONE * 3 / 2, ONE * 158 / 100, ONE * 13] {
            let (mut all, mut live) = (Rounding::default(), Rounding::default());
            let (mut total, mut parts, mut live_parts) = (Sums::default(), 0, 0);
            for _ in 0..2048 {
                let sample = Sums::of(Weight(weight), 24, 32);
                let objects = all.objects(&sample, u64::MAX);
                assert!(objects.abs_diff(sample.objects()) <= 1);
                parts += objects;
                live_parts += live.objects(&sample, objects);
                total.add(&sample);
            }
            assert!(parts.abs_diff(total.objects()) <= 1, "{parts} of {}", total.objects());
            assert_eq!(live_parts, parts);
            assert_eq!(total.objects_error() == 0, weight == ONE);
            assert_eq!(Sums::of(Weight(weight), 24, 32).objects_error() == 0, weight == ONE);
        }
    }

    #[test]
    fn what_is_carried_on_does_not_go_to_a_site_without_samples() {
        let (mut all, mut live) = (Rounding::default(), Rounding::default());
        let mut live_of = |is_live: bool| {
            let sample = Sums::of(Weight(ONE * 3 / 2), 24, 32);
            let allocated = all.objects(&sample, u64::MAX);
            let kept = if is_live { sample } else { Sums::default() };
            live.objects(&kept, allocated)
        };
        // 1, 2, 1 and 2 were allocated; of the third, two would be in use.
        let sites = [false, true, true, false].map(&mut live_of);
        assert_eq!(sites, [0, 1, 1, 0]);
        assert_eq!(live_of(true), 1, "carried on behind what has none");
    }

    #[test]
    fn what_is_held_back_is_not_paid_to_one_site() {
        let (half, one) = (Sums::of(Weight(ONE * 3 / 2), 24, 32), Sums::of(Weight(ONE), 24, 32));
        let mut live = Rounding::default();
        // Of each one object was allocated, so that a half is held back each time.
        let sites: u64 = (0..100).map(|_| live.objects(&half, 1)).sum();
        assert_eq!(sites, 100);
        assert_eq!(live.objects(&one, 1_000_000), 1, "one object is one");
        assert_eq!(live.objects(&half, 1_000_000), 2);
    }

    #[test]
    fn sums_round_once() {
        let mut sums = Sums::default();
        let sample = Sums::of(Weight(ONE + ONE / 3), 24, 32);
        for _ in 0..3 {
            sums.add(&sample);
        }
        assert_eq!((sums.samples, sums.objects()), (3, 4));
        assert_eq!((sums.requested_bytes(), sums.block_bytes()), (96, 128));
        // w = 4/3: w (w - 1) = 4/9 each, 4/3 for three.
        assert_eq!((sums.objects_error(), sums.requested_error()), (1, 28));
        for _ in 0..3 {
            sums.subtract(&sample);
        }
        assert_eq!(sums, Sums::default());
    }
}
