//! How large the next collection should be, from the sizes of the last ones.

use crate::collections::quantile::{log_normal_quantile, poisson_quantile};
use std::collections::VecDeque;

/// Which distribution sizes are taken to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SizeModel {
    /// The sizes seen, and no other: the nearest-rank quantile of the window.
    #[default]
    Observed,
    /// A Poisson distribution with the window's mean: counts of independent events.
    Poisson,
    /// A log-normal distribution fitted to the window: sizes that arise by multiplication, such as
    /// those of documents. Sizes of zero count as one.
    LogNormal,
}

/// A factor before rounding up: what is a hair above a whole number is not taken for the next one,
/// as 0.55 · 100, which is 55.00000000000001.
const LAST_DIGITS_OFF: f64 = 1.0 - 1e-12;

/// Suggests a capacity that a given part of the sizes to come will not exceed, from a window of the
/// latest sizes.
///
/// It also keeps score of its suggestions: every size recorded is held against the estimate that
/// was in force.
///
/// ```
/// use spanalloc::arena::{CapacityEstimator, SizeModel};
///
/// let mut sizes = CapacityEstimator::new(10, 0.95).model(SizeModel::Poisson);
/// assert_eq!(sizes.estimate(), None);
/// for _ in 0..10 {
///     sizes.record(16);
/// }
/// assert_eq!(sizes.estimate(), Some(23));
/// assert_eq!(sizes.round_to_power_of_two().estimate(), Some(32));
/// ```
#[derive(Clone, Debug)]
pub struct CapacityEstimator {
    window: VecDeque<usize>,
    window_len_max: usize,
    quantile: f64,
    model: SizeModel,
    power_of_two: bool,
    overflows: u64,
    judged: u64,
    unused: u128,
}

impl CapacityEstimator {
    /// An estimator of the `quantile` of sizes, over the latest `window_len` of them.
    ///
    /// # Panics
    ///
    /// When `window_len` is zero, or `quantile` is not between 0 and 1, exclusively.
    #[must_use]
    pub fn new(window_len: usize, quantile: f64) -> Self {
        assert!(window_len > 0, "window_len is 0: an estimate needs at least one size");
        assert!(
            quantile > 0.0 && quantile < 1.0,
            "quantile is {quantile}: it must be between 0 and 1, exclusively"
        );
        Self {
            window: VecDeque::with_capacity(window_len.min(1024)),
            window_len_max: window_len,
            quantile,
            model: SizeModel::Observed,
            power_of_two: false,
            overflows: 0,
            judged: 0,
            unused: 0,
        }
    }

    /// Takes sizes to follow `model`.
    #[must_use]
    pub fn model(mut self, model: SizeModel) -> Self {
        self.model = model;
        self
    }

    /// Rounds estimates up to a power of two.
    #[must_use]
    pub fn round_to_power_of_two(mut self) -> Self {
        self.power_of_two = true;
        self
    }

    /// Adds a size; the oldest one leaves a full window. Costs an estimate, for the score.
    pub fn record(&mut self, size: usize) {
        if let Some(estimate) = self.estimate() {
            self.judged += 1;
            self.overflows += u64::from(size > estimate);
            self.unused += estimate.saturating_sub(size) as u128;
        }
        if self.window.len() == self.window_len_max {
            self.window.pop_front();
        }
        self.window.push_back(size);
    }

    /// The capacity to choose now, or `None` before the first size. Costs a pass over the window,
    /// for [`SizeModel::Observed`] with a selection, for [`SizeModel::Poisson`] with what
    /// [`poisson_quantile`] costs for the mean.
    #[must_use]
    pub fn estimate(&self) -> Option<usize> {
        if self.window.is_empty() {
            return None;
        }
        let estimate = match self.model {
            SizeModel::Observed => self.observed(),
            SizeModel::Poisson => poisson_quantile(self.mean(|size| size), self.quantile) as usize,
            SizeModel::LogNormal => self.log_normal(),
        };
        Some(if self.power_of_two {
            estimate.checked_next_power_of_two().unwrap_or(estimate)
        } else {
            estimate
        })
    }

    /// The part of the sizes that exceeded the estimate in force when they were recorded; 0 before
    /// the second size.
    #[must_use]
    pub fn overflow_rate(&self) -> f64 {
        self.overflows as f64 / self.judged.max(1) as f64
    }

    /// The mean number of places left unused, per size that was held against an estimate.
    #[must_use]
    pub fn mean_unused(&self) -> f64 {
        self.unused as f64 / self.judged.max(1) as f64
    }

    /// The smallest size in the window that at least the wanted part of it does not exceed.
    fn observed(&self) -> usize {
        let mut sizes: Vec<usize> = self.window.iter().copied().collect();
        let rank = (self.quantile * sizes.len() as f64 * LAST_DIGITS_OFF).ceil() as usize;
        *sizes.select_nth_unstable(rank.clamp(1, self.window.len()) - 1).1
    }

    fn log_normal(&self) -> usize {
        let log = |size: f64| size.max(1.0).ln();
        let mu = self.mean(log);
        let variance = self.mean(|size| (log(size) - mu).powi(2));
        // Logarithms and back cost the last digits: equal sizes of 8 would ask for 9.
        let quantile = log_normal_quantile(mu, variance.sqrt(), self.quantile);
        (quantile * LAST_DIGITS_OFF).ceil() as usize
    }

    fn mean(&self, of: impl Fn(f64) -> f64) -> f64 {
        let sum: f64 = self.window.iter().map(|&size| of(size as f64)).sum();
        sum / self.window.len() as f64
    }
}
