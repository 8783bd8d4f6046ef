//! Tells a leak from a sawtooth.
//!
//! Memory in use goes up and comes down again: caches fill and are flushed, queues run full and are
//! drained. What leaks does not come down. So where the series falls back by a good part of its
//! range, only its *troughs* (the lowest points between two falls) are judged, and otherwise all of
//! its points, by a test that assumes nothing about how the values are distributed
//! (Mann-Kendall). The slope is the median of the slopes of all pairs (Theil-Sen): a few outliers
//! do not move it.
//!
//! A ramp that has not fallen yet cannot be told from a leak by its values alone. The detector
//! therefore judges full windows only; the window has to be longer than the longest time after
//! which the program is expected to give memory back.

use super::mann_kendall::p_rising;
use super::theil_sen::slope;
use std::collections::VecDeque;
use std::time::Duration;

/// The fewest points that a window may have.
const WINDOW_LEN_MIN: usize = 8;
/// A fall by this part of the range makes a sawtooth.
const FALL_OF_RANGE: f64 = 0.25;

/// Judges whether a series of snapshots rises.
///
/// The window has to be longer than the longest time after which the program is expected to give
/// memory back: a ramp that has not fallen yet cannot be told from a leak by its values alone.
///
/// Rising and falling are told from chance by the Mann-Kendall test, of all points, or of the
/// troughs where the series falls back by a quarter of its range or more. The slope is that of
/// Theil (1950), the median of (y₂ − y₁) / (t₂ − t₁) over all pairs of the points judged, and its
/// interval that of Sen (1968): the slopes whose ranks are z·σ/2 below and above the median's, σ²
/// the variance of the test's statistic.
///
/// ```
/// use spanalloc::observe::{Trend, TrendDetector};
/// use std::time::Duration;
///
/// let (mut leak, mut cache) = (TrendDetector::new(24, 0.99), TrendDetector::new(24, 0.99));
/// for step in 0..24u64 {
///     let at = Duration::from_secs(5 * step);
///     leak.record(at, 1_000_000 + 5_000 * step);
///     cache.record(at, 1_000_000 + 50_000 * (step % 6));
/// }
/// let Trend::Rising(slope) = leak.trend() else { panic!() };
/// assert_eq!(slope.per_second, 1000.0);
/// assert_eq!(leak.time_until(2_000_000), Some(Duration::from_secs(885)));
/// assert!(matches!(cache.trend(), Trend::Sawtooth { troughs: 3, .. }));
/// ```
#[derive(Clone, Debug)]
pub struct TrendDetector {
    /// Seconds and value, the oldest first.
    window: VecDeque<(Duration, f64)>,
    window_len: usize,
    confidence: f64,
}

/// What a [`TrendDetector`] has found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Trend {
    /// The window is not full yet.
    Undecided,
    /// Neither up nor down beyond chance.
    Steady,
    /// Up and down again, and the troughs do not rise beyond chance.
    Sawtooth {
        /// Falls after which the series rose again.
        troughs: usize,
    },
    /// Up for good.
    Rising(Slope),
    /// Down for good.
    Falling(Slope),
}

/// A slope with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Slope {
    /// Units per second.
    pub per_second: f64,
    /// The interval's lower end.
    pub per_second_low: f64,
    /// The interval's upper end.
    pub per_second_high: f64,
    /// The probability that a series without a trend looks like this.
    pub p_value: f64,
}

impl TrendDetector {
    /// A detector that judges the latest `window_len` snapshots and is wrong about a series without
    /// a trend about once in `1 / (1 − confidence)` times, in either direction.
    ///
    /// # Panics
    ///
    /// When `window_len` is below 8, or `confidence` is not between 0.5 and 1, exclusively.
    #[must_use]
    pub fn new(window_len: usize, confidence: f64) -> Self {
        assert!(
            window_len >= WINDOW_LEN_MIN,
            "window_len is {window_len}: a trend needs at least {WINDOW_LEN_MIN} snapshots"
        );
        assert!(
            confidence > 0.5 && confidence < 1.0,
            "confidence is {confidence}: it must be between 0.5 and 1, exclusively"
        );
        let window = VecDeque::with_capacity(window_len.min(1024));
        Self { window, window_len, confidence }
    }

    /// Adds a snapshot, taken `at` this time of whatever clock; the oldest one leaves a full
    /// window.
    ///
    /// # Panics
    ///
    /// When `at` is not later than the snapshot before.
    pub fn record(&mut self, at: Duration, value: u64) {
        if let Some(&(before, _)) = self.window.back() {
            assert!(at > before, "a snapshot at {at:?} came after one at {before:?}");
        }
        if self.window.len() == self.window_len {
            self.window.pop_front();
        }
        self.window.push_back((at, value as f64));
    }

    /// The trend of the window. Its time grows with the square of the window's length, since each
    /// pair of points is looked at, of a trend several times; its memory with the length, by some
    /// hundred bytes per point beside 256 KiB at most.
    #[must_use]
    pub fn trend(&self) -> Trend {
        if self.window.len() < self.window_len {
            return Trend::Undecided;
        }
        // From the first one on: the clock's own beginning may be decades away, and cost digits.
        let first = self.window.front().map_or(Duration::ZERO, |point| point.0);
        let since = |&(at, value): &(Duration, f64)| ((at - first).as_secs_f64(), value);
        let points: Vec<(f64, f64)> = self.window.iter().map(since).collect();
        let troughs = troughs(&points);
        let judged = if troughs.is_empty() { &points } else { &troughs };
        let values: Vec<f64> = judged.iter().map(|point| point.1).collect();
        let fallen: Vec<f64> = values.iter().map(|value| -value).collect();
        let alpha = 1.0 - self.confidence;
        let (up, down) = (p_rising(&values), p_rising(&fallen));
        // A trough may be the first of many: too few never reach `alpha`.
        if up.min(down) <= alpha {
            let slope = slope(judged, self.confidence, up.min(down));
            // One step in a level series is neither: most pairs have the same value.
            if slope.per_second > 0.0 {
                return Trend::Rising(slope);
            } else if slope.per_second < 0.0 {
                return Trend::Falling(slope);
            }
        }
        match troughs.len() {
            0 => Trend::Steady,
            troughs => Trend::Sawtooth { troughs },
        }
    }

    /// The time from the latest snapshot until the series reaches `limit` if it goes on rising as
    /// it does; zero when it is there already, `None` when it does not rise.
    #[must_use]
    pub fn time_until(&self, limit: u64) -> Option<Duration> {
        let Trend::Rising(slope) = self.trend() else { return None };
        let (_, latest) = self.window.back()?;
        let seconds = ((limit as f64 - latest) / slope.per_second).max(0.0);
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// The lowest points between a fall by a good part of the range and the next rise by as much.
fn troughs(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let values = points.iter().map(|point| point.1);
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    let turn = FALL_OF_RANGE * (high - low);
    let mut troughs = Vec::new();
    // The highest point since the last trough, or the lowest one since the last fall.
    let mut peak = f64::MIN;
    let mut trough: Option<(f64, f64)> = None;
    for &point in points {
        match trough {
            None if point.1 < peak - turn => trough = Some(point),
            None => peak = peak.max(point.1),
            Some(lowest) if point.1 < lowest.1 => trough = Some(point),
            Some(lowest) if point.1 > lowest.1 + turn => {
                troughs.push(lowest);
                (trough, peak) = (None, point.1);
            }
            Some(_) => {}
        }
    }
    troughs
}
