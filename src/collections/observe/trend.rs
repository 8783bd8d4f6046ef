//! Tells a leak from a sawtooth.
//!
//! Memory in use goes up and comes down again: caches fill and are flushed, queues run full and are
//! drained. What leaks does not come down. So where the series falls back by a good part of its
//! range, its *troughs* (the lowest points between two falls) are judged, and otherwise all of its
//! points, by a test that assumes nothing about how the values are distributed (Mann-Kendall). The
//! slope is the median of the slopes of all pairs (Theil-Sen): a few outliers do not move it.
//!
//! `n` troughs come in `n!` orders, so few of them can tell nothing: not even all of them in a row
//! are unlikely enough. And troughs of long ago say nothing about a rise that has gone on since. So
//! where they tell nothing, the *end* of the series is judged too: what lies beyond all that was
//! before the latest trough, and only where that is half the window ago. Independent values have a
//! trough every few points and hardly ever such an end, so the second test does not make the
//! detector wrong more often.
//!
//! A ramp that has not fallen yet cannot be told from a leak by its values alone. The detector
//! therefore judges full windows only; the window has to be longer than the longest time after
//! which the program is expected to give memory back.

use super::mann_kendall::p_rising;
use super::theil_sen::{self, Point};
use std::collections::VecDeque;
use std::time::Duration;

/// The fewest points that a window may have.
const WINDOW_LEN_MIN: usize = 8;
/// A fall by more than this part of the range makes a sawtooth.
const FALL_OF_RANGE: f64 = 0.25;

/// Judges whether a series of snapshots rises.
///
/// The window has to be longer than the longest time after which the program is expected to give
/// memory back: a ramp that has not fallen yet cannot be told from a leak by its values alone.
///
/// Rising and falling are told from chance by the two-sided Mann-Kendall test. What it judges:
///
/// 1. Where the series never falls back by more than a quarter of its range, all points.
/// 2. Where it does, the troughs between such falls and the next rises by as much. To be told from
///    chance takes five of them at a confidence of 0.95, six at 0.99, and seven at 0.999: of `n`,
///    all in a row have a p-value of 2/n!.
/// 3. Where the troughs tell nothing, the end of the series, if it has not fallen back for half the
///    window or more and has come further than all that was before, by more than a quarter of the
///    range: the points beyond. So a cache that is emptied every half a window is no leak, however
///    uneven its teeth, and a leak of few teeth is found when the window has seen enough of the
///    last one. The same holds upside down, for a decline.
///
/// The slope is that of Theil (1950), the median of (y₂ − y₁) / (t₂ − t₁) over all pairs of the
/// points judged, and its interval that of Sen (1968): the slopes whose ranks are z·σ/2 below and
/// above the median's, σ² the variance of the test's statistic; of few points that may be the
/// flattest and the steepest pair, which then cover the confidence.
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
    /// The probability that a series without a trend looks like this, or like this upside down.
    pub p_value: f64,
}

impl TrendDetector {
    /// A detector that judges the latest `window_len` snapshots and is wrong about a series without
    /// a trend about once in `1 / (1 − confidence)` times, whichever trend it then tells.
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
        let points = self.points();
        self.trend_of(&points, &troughs(&points)).0
    }

    /// The time from the latest snapshot until the series first reaches `limit` if it goes on
    /// rising as it does; zero when it is there already, `None` when it does not rise.
    ///
    /// A series whose troughs rise is taken to bring its last tooth again and again, each time
    /// higher by what the troughs rise from one to the next: it reaches the limit by a peak, long
    /// before its troughs do. Teeth differ, so that this is no more exact than the last one is like
    /// the next. Any other series is taken to go straight on from the latest snapshot.
    ///
    /// ```
    /// use spanalloc::observe::TrendDetector;
    /// use std::time::Duration;
    ///
    /// let mut detector = TrendDetector::new(101, 0.99);
    /// for step in 0..=100 {
    ///     detector.record(Duration::from_secs(step), 1000 + step + 100 * (step % 10));
    /// }
    /// // At 1100 now, and at 1000 + 108 + 800 in 8 seconds.
    /// assert_eq!(detector.time_until(1900), Some(Duration::from_secs(8)));
    /// ```
    #[must_use]
    pub fn time_until(&self, limit: u64) -> Option<Duration> {
        if self.window.len() < self.window_len {
            return None;
        }
        let points = self.points();
        let troughs = troughs(&points);
        let (Trend::Rising(slope), judged) = self.trend_of(&points, &troughs) else { return None };
        let (&(now, latest), limit) = (points.last()?, limit as f64);
        if latest >= limit {
            return Some(Duration::ZERO);
        }
        let per_second = slope.per_second;
        let seconds = match (judged, &troughs[..]) {
            (Judged::Troughs, [first, .., last]) => {
                let period = (last.0 - first.0) / (troughs.len() - 1) as f64;
                let tooth = points.iter().filter(|point| point.0 > now - period);
                let again = tooth.map(|&(at, value)| {
                    let periods = ((limit - value) / (per_second * period)).ceil().max(1.0);
                    at + periods * period - now
                });
                again.fold(f64::MAX, f64::min)
            }
            _ => (limit - latest) / per_second,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// The window, in seconds from its first point on: the clock's own beginning may be decades
    /// away, and cost digits.
    fn points(&self) -> Vec<Point> {
        let first = self.window.front().map_or(Duration::ZERO, |point| point.0);
        self.window.iter().map(|&(at, value)| ((at - first).as_secs_f64(), value)).collect()
    }

    /// The trend of a full window with these troughs, and which of its points told it.
    fn trend_of(&self, points: &[Point], troughs: &[Point]) -> (Trend, Judged) {
        if troughs.is_empty() {
            return (self.test(points).unwrap_or(Trend::Steady), Judged::Points);
        }
        if let Some(trend) = self.test(troughs) {
            return (trend, Judged::Troughs);
        }
        let fallen: Vec<Point> = points.iter().map(|&(at, value)| (at, -value)).collect();
        let up = self.test(&points[beyond(points)..]);
        let down = || self.test(&points[beyond(&fallen)..]);
        let end = up.or_else(down).unwrap_or(Trend::Sawtooth { troughs: troughs.len() });
        (end, Judged::Points)
    }

    /// Rising or falling, where these points do so beyond chance.
    fn test(&self, points: &[Point]) -> Option<Trend> {
        let values: Vec<f64> = points.iter().map(|point| point.1).collect();
        let fallen: Vec<f64> = values.iter().map(|value| -value).collect();
        // Two chances to be wrong: a trend up and a trend down.
        let p_value = 2.0 * p_rising(&values).min(p_rising(&fallen));
        if p_value > 1.0 - self.confidence {
            return None;
        }
        let slope = theil_sen::slope(points, self.confidence, p_value);
        // One step in a level series is neither: most pairs have the same value.
        if slope.per_second > 0.0 {
            Some(Trend::Rising(slope))
        } else if slope.per_second < 0.0 {
            Some(Trend::Falling(slope))
        } else {
            None
        }
    }
}

/// The points that a trend was told by.
#[derive(Clone, Copy)]
enum Judged {
    /// All, or those of the end.
    Points,
    Troughs,
}

/// A turn is a fall, or a rise, by more than this.
fn turn(points: &[Point]) -> f64 {
    let values = points.iter().map(|point| point.1);
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    FALL_OF_RANGE * (high - low)
}

/// Where the points begin that are all higher than what was up to the latest trough; their number
/// if there is none, or one less than half of them ago, or the last point is not higher by a turn.
fn beyond(points: &[Point]) -> usize {
    let Some(&(trough, _)) = troughs(points).last() else { return points.len() };
    let before = points.partition_point(|point| point.0 <= trough);
    let high = points[..before].iter().map(|point| point.1).fold(f64::MIN, f64::max);
    let risen = points.last().is_some_and(|point| point.1 > high + turn(points));
    if 2 * before > points.len() || !risen {
        return points.len();
    }
    points.iter().rposition(|point| point.1 <= high).map_or(0, |last| last + 1)
}

/// The lowest points between a turn down and the next turn up.
fn troughs(points: &[Point]) -> Vec<Point> {
    let turn = turn(points);
    let mut troughs = Vec::new();
    // The highest point since the last trough, or the lowest one since the last fall.
    let mut peak = f64::MIN;
    let mut trough: Option<Point> = None;
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
