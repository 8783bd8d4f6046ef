//! Readings, and what can be said about them: medians with confidence intervals.
//!
//! A *series* is a metric of a variant under an allocator, at an `x` where the experiment sweeps
//! one. It has one reading per round.
//!
//! The interval of a median is that of order statistics, which assumes no distribution: of `n`
//! sorted readings the `k`-th and the `k`-th from the end, with the largest `k` that covers the
//! median with 95 % or more.

use std::fmt;

/// What was measured, as opposed to what was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) metric: String,
    pub(crate) variant: String,
    pub(crate) allocator: &'static str,
    pub(crate) x: Option<f64>,
}

/// All readings of an experiment.
#[derive(Default)]
pub(crate) struct Data {
    /// In the order in which series first came.
    pub(crate) series: Vec<(Key, Vec<f64>)>,
}

/// A median and its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
    pub(crate) readings: usize,
}

impl Data {
    pub(crate) fn add(&mut self, key: Key, value: f64) {
        match self.series.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => self.series.push((key, vec![value])),
        }
    }

    /// Adds a line that a child printed; see [`Probe`](super::Probe).
    pub(crate) fn add_line(&mut self, allocator: &'static str, line: &str) -> Result<(), String> {
        let bad = || format!("a measurement printed {line:?}, which is no reading");
        let parts: Vec<&str> = line.split('\t').collect();
        let &[metric, variant, x, value] = &parts[..] else { return Err(bad()) };
        let x = if x == "-" { None } else { Some(x.parse().map_err(|_| bad())?) };
        let value = value.parse().map_err(|_| bad())?;
        let (metric, variant) = (metric.to_owned(), variant.to_owned());
        self.add(Key { metric, variant, allocator, x }, value);
        Ok(())
    }

    /// The estimate under our allocator.
    pub(crate) fn ours(&self, metric: &str, variant: &str) -> Option<Estimate> {
        self.find(super::OURS, metric, variant, None)
    }

    /// The estimate under our allocator at `x`.
    pub(crate) fn ours_at(&self, metric: &str, variant: &str, x: f64) -> Option<Estimate> {
        self.find(super::OURS, metric, variant, Some(x))
    }

    /// In how many rounds under our allocator the reading was not 0, and of how many: for what must
    /// not happen even once, which a median would hide.
    pub(crate) fn rounds_with(&self, metric: &str, variant: &str) -> Option<(usize, usize)> {
        let fits = |key: &Key| {
            key.allocator == super::OURS && key.metric == metric && key.variant == variant
        };
        let (_, values) = self.series.iter().find(|(key, _)| fits(key))?;
        Some((values.iter().filter(|value| **value != 0.0).count(), values.len()))
    }

    /// All estimates of a sweep under our allocator, by `x`.
    pub(crate) fn sweep(&self, metric: &str, variant: &str) -> Vec<(f64, Estimate)> {
        let fits = |key: &Key| {
            key.allocator == super::OURS && key.metric == metric && key.variant == variant
        };
        let all = self.series.iter().filter(|(key, _)| fits(key));
        let point = |(key, values): &(Key, Vec<f64>)| Some((key.x?, Estimate::of(values)?));
        let mut points: Vec<_> = all.filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }

    pub(crate) fn find(
        &self,
        allocator: &str,
        metric: &str,
        variant: &str,
        x: Option<f64>,
    ) -> Option<Estimate> {
        let fits = |key: &Key| {
            key.allocator == allocator
                && key.metric == metric
                && key.variant == variant
                && key.x == x
        };
        let (_, values) = self.series.iter().find(|(key, _)| fits(key))?;
        Estimate::of(values)
    }

    /// The different values of a part of the keys, in the order in which they first came.
    pub(crate) fn distinct<'d>(&'d self, part: impl Fn(&'d Key) -> &'d str) -> Vec<&'d str> {
        let mut seen = Vec::new();
        for (key, _) in &self.series {
            let value = part(key);
            if !seen.contains(&value) {
                seen.push(value);
            }
        }
        seen
    }
}

impl Estimate {
    /// Of the readings that are finite. What a round may fail to find is counted apart: see
    /// [`Data::rounds_with`].
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let readings = sorted.len();
        let last = readings.checked_sub(1)?;
        let median = f64::midpoint(sorted[last / 2], sorted[readings / 2]);
        let rank = rank(readings);
        Some(Self { low: sorted[rank], median, high: sorted[last - rank], readings })
    }

    /// The ratio to `other`, at the ends the widest that both intervals allow.
    pub(crate) fn over(self, other: Self) -> Self {
        let readings = self.readings.min(other.readings);
        let (low, high) = (self.low / other.high, self.high / other.low);
        Self { low, median: self.median / other.median, high, readings }
    }

    /// Whether the whole interval lies below `other`'s.
    pub(crate) fn below(self, other: Self) -> bool {
        self.high < other.low
    }
}

/// From each end, the index of the interval's end.
fn rank(readings: usize) -> usize {
    // P(fewer than k of n readings lie below the median) = Σ C(n, i) / 2^n for i < k.
    let mut term = 0.5_f64.powi(readings as i32);
    let (mut tail, mut k) = (term, 0);
    while tail <= 0.025 && k < readings / 2 {
        term *= (readings - k) as f64 / (k + 1) as f64;
        tail += term;
        k += 1;
    }
    k.saturating_sub(1)
}

/// A figure with about three digits.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    match value {
        _ if size >= 1e7 || (size < 0.001 && size > 0.0) => format!("{value:.2e}"),
        _ if value.fract() == 0.0 || size >= 1000.0 => format!("{value:.0}"),
        _ if size >= 100.0 => format!("{value:.1}"),
        _ if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&figure(self.median))?;
        if self.low != self.high {
            write!(f, " [{}–{}]", figure(self.low), figure(self.high))?;
        }
        Ok(())
    }
}
