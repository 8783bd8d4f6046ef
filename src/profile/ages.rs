//! How long sampled objects lived, as plain data.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::lifetimes::{BUCKETS, bound_ns};

/// Lifetimes of objects that were freed, as counts by bucket: below 1 µs, below
/// 4 µs, and so on by factors of 4. Estimates, like every figure of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lifetimes {
    /// Objects by bucket, up to the last one that has any.
    pub objects: Vec<u64>,
}

impl Lifetimes {
    pub(crate) fn of(objects: Vec<u64>) -> Self {
        Self { objects }
    }

    /// The upper bound of the lifetimes in bucket `bucket`, counted from 0, itself not among them:
    /// 1 µs, 4 µs, 16 µs and so on. `None` for the last bucket, which has no end, and behind it.
    pub fn bound(bucket: usize) -> Option<Duration> {
        bound_ns(bucket).map(Duration::from_nanos)
    }

    /// How many buckets there are.
    #[must_use]
    pub const fn buckets() -> usize {
        BUCKETS
    }

    /// Objects of all buckets.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.objects.iter().sum()
    }

    /// Objects that lived less than [`bound(bucket)`](Self::bound): `within(4)` are those below
    /// 256 µs. All of them from the last bucket on.
    #[must_use]
    pub fn within(&self, bucket: usize) -> u64 {
        self.objects.iter().take(bucket.saturating_add(1)).sum()
    }

    /// The lifetime that a share of the objects, `0.0..=1.0`, did not outlive, as
    /// closely as buckets tell; none if none was freed.
    ///
    /// # Examples
    ///
    /// ```
    /// let profile = spanalloc::profile::capture();
    /// for site in &profile.sites {
    ///     println!("median {:?}", site.lifetimes.quantile(0.5));
    /// }
    /// ```
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let mut histogram = Histogram::<u64>::new(2).ok()?;
        for (bucket, objects) in self.objects.iter().enumerate() {
            // The last bucket has no end; its beginning is what is known.
            let last = bucket.checked_sub(1).and_then(bound_ns).unwrap_or(1);
            histogram.record_n(bound_ns(bucket).unwrap_or(last), *objects).ok()?;
        }
        // The histogram's own bounds are near ours, and not below.
        // What is a hair above a whole number of objects is not taken for one more, as 0.55 of 100,
        // which is 55.00000000000001.
        let found = histogram.value_at_quantile(share.next_down());
        let bound = (0..BUCKETS).filter_map(bound_ns).rev().find(|bound| *bound <= found);
        bound.filter(|_| !histogram.is_empty()).map(Duration::from_nanos)
    }

    /// Whether [`quantile`](Self::quantile) lies in the last bucket, so that what it gives is no
    /// upper bound but where that bucket begins.
    pub(crate) fn is_beyond(&self, share: f64) -> bool {
        (self.within(BUCKETS - 2) as f64) < share * self.total() as f64
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.objects.resize(self.objects.len().max(other.objects.len()), 0);
        self.objects.iter_mut().zip(&other.objects).for_each(|(sum, more)| *sum += more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_bounds_of_their_buckets() {
        let lifetimes = Lifetimes::of(vec![0, 90, 0, 0, 10]);
        let at = |share| lifetimes.quantile(share).unwrap();
        assert_eq!((at(0.5), at(0.95)), (Duration::from_micros(4), Duration::from_micros(256)));
        let split = Lifetimes::of(vec![0, 55, 0, 0, 45]);
        assert_eq!(split.quantile(0.55), Some(Duration::from_micros(4)));
        assert_eq!((split.quantile(0.0), split.quantile(1.0)), (Some(at(0.5)), Some(at(1.0))));
        let mut last = Lifetimes::of(vec![0; BUCKETS]);
        last.objects[BUCKETS - 1] = 1;
        assert_eq!(last.quantile(0.5), Lifetimes::bound(BUCKETS - 2));
        assert!(last.is_beyond(0.5) && !lifetimes.is_beyond(1.0));
        assert!(!Lifetimes::default().is_beyond(0.5));
        assert_eq!((lifetimes.total(), lifetimes.within(1)), (100, 90));
        assert_eq!((lifetimes.within(usize::MAX), Lifetimes::bound(usize::MAX)), (100, None));
        assert_eq!(Lifetimes::default().quantile(0.5), None);
    }
}
