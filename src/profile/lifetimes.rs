//! How long objects lived, in buckets.
//!
//! Bucket 0 holds lifetimes below [`FIRST_BOUND_NS`]; each next bucket's bound is
//! four times the one before; the last has none.

use super::sums::{Rounding, Sums, Weight};
use crate::base::zeroed::Zeroed;

/// The last begins at 12 days.
pub(super) const BUCKETS: usize = 22;
const FIRST_BOUND_NS: u64 = 1000;

/// Weights of the objects freed, by bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lifetimes([u64; BUCKETS]);

// SAFETY: integers.
unsafe impl Zeroed for Lifetimes {}

impl Lifetimes {
    pub(super) const NONE: Self = Self([0; BUCKETS]);

    pub(super) fn add(&mut self, weight: Weight, lived_ns: u64) {
        let bucket = &mut self.0[bucket(lived_ns)];
        *bucket = bucket.saturating_add(weight.fixed());
    }

    /// Objects by bucket, up to the last bucket that has any.
    pub(super) fn objects(&self) -> Vec<u64> {
        self.used().iter().map(|weight| Sums::rounded(u128::from(*weight))).collect()
    }

    /// The same of one of many, so rounded that those of all add up: `roundings` is one for each
    /// bucket, which goes from one to the next.
    pub(super) fn parts(&self, roundings: &mut [Rounding; BUCKETS]) -> Vec<u64> {
        let each = self.used().iter().zip(roundings);
        each.map(|(weight, rounding)| rounding.part(u128::from(*weight), u64::MAX)).collect()
    }

    fn used(&self) -> &[u64] {
        let used = self.0.iter().rposition(|weight| *weight != 0).map_or(0, |last| last + 1);
        &self.0[..used]
    }
}

/// The bound of a bucket; none for the last.
pub(super) fn bound_ns(bucket: usize) -> Option<u64> {
    (bucket < BUCKETS - 1).then(|| FIRST_BOUND_NS << (2 * bucket))
}

fn bucket(lived_ns: u64) -> usize {
    let quotient = lived_ns / FIRST_BOUND_NS;
    let steps = quotient.checked_ilog2().map_or(0, |doublings| doublings as usize / 2 + 1);
    steps.min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_ends_at_its_bound() {
        assert_eq!(bucket(0), 0);
        for at in 0..BUCKETS - 1 {
            let bound = bound_ns(at).unwrap();
            assert_eq!((bucket(bound - 1), bucket(bound)), (at, at + 1));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bound_ns(BUCKETS - 1), None);
    }

    #[test]
    fn weights_add_up() {
        let mut lifetimes = Lifetimes::default();
        lifetimes.add(Weight::new(8, 1), 999);
        lifetimes.add(Weight::new(8, 1), 5000);
        lifetimes.add(Weight::new(8, 1), 5000);
        assert_eq!(lifetimes.objects(), [1, 0, 2]);
    }
}
