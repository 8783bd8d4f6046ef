//! Rules over snapshots: so much, or so fast, for so long.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A rule that a series of snapshots should not break.
///
/// A rule is a line of configuration: a name, what is measured, a limit, and how long it must be
/// exceeded before it counts.
///
/// ```text
/// NAME > SIZE [for TIME]              heap > 512MiB for 30s
/// NAME rate > SIZE/s [for TIME]       heap rate > 1MiB/s for 2min
/// ```
///
/// Sizes are numbers with B, KiB, MiB, GiB or nothing behind them, times end in ms, s or min.
///
/// ```
/// use spanalloc::observe::SloRule;
/// use std::time::Duration;
///
/// let mut rule: SloRule = "heap > 1KiB for 10s".parse()?;
/// let mut at = |seconds, bytes| rule.record(Duration::from_secs(seconds), bytes);
/// assert!(at(0, 2000).is_none()); // above, but not for long enough
/// assert!(at(5, 500).is_none()); // back again
/// assert!(at(10, 2000).is_none());
/// let breach = at(20, 3000).unwrap();
/// assert_eq!(breach.to_string(), "heap is 3000 bytes, above 1024 for 10 s");
/// assert!(at(25, 3000).is_none()); // told once
/// # Ok::<(), spanalloc::observe::SloRuleError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SloRule {
    name: String,
    threshold: Threshold,
    hold: Duration,
    last: Option<(Duration, u64)>,
    above_since: Option<Duration>,
    told: bool,
}

/// What a rule limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Threshold {
    /// The value, in bytes.
    Bytes(u64),
    /// Its rise from one snapshot to the next, in bytes per second.
    BytesPerSecond(u64),
}

impl SloRule {
    /// A rule that is broken when `threshold` is exceeded by all snapshots over `hold`.
    #[must_use]
    pub fn new(name: impl Into<String>, threshold: Threshold, hold: Duration) -> Self {
        Self { name: name.into(), threshold, hold, last: None, above_since: None, told: false }
    }

    /// Adds a snapshot and says whether the rule is broken by it. A breach is told once, and again
    /// only after the series was back below the limit.
    ///
    /// # Panics
    ///
    /// When `at` is not later than the snapshot before.
    pub fn record(&mut self, at: Duration, bytes: u64) -> Option<SloBreach> {
        if let Some((before, _)) = self.last {
            assert!(at > before, "a snapshot at {at:?} came after one at {before:?}");
        }
        let last = self.last.replace((at, bytes));
        let measured = match self.threshold {
            Threshold::Bytes(_) => bytes,
            Threshold::BytesPerSecond(_) => {
                let (before, fewer) = last?;
                // Up: half a byte a second is more than none. In integers, for a rate that is just
                // the limit is not above it.
                let byte_ns = u128::from(bytes.saturating_sub(fewer)) * 1_000_000_000;
                u64::try_from(byte_ns.div_ceil((at - before).as_nanos())).unwrap_or(u64::MAX)
            }
        };
        let (Threshold::Bytes(limit) | Threshold::BytesPerSecond(limit)) = self.threshold;
        if measured <= limit {
            (self.above_since, self.told) = (None, false);
            return None;
        }
        // A rate is that of the whole time since the snapshot before.
        let since = match (self.threshold, last) {
            (Threshold::BytesPerSecond(_), Some((before, _))) => before,
            _ => at,
        };
        let held = at - *self.above_since.get_or_insert(since);
        if held < self.hold || self.told {
            return None;
        }
        self.told = true;
        let (name, threshold) = (self.name.clone(), self.threshold);
        Some(SloBreach { name, threshold, measured, held })
    }
}

impl FromStr for SloRule {
    type Err = SloRuleError;

    fn from_str(text: &str) -> Result<Self, SloRuleError> {
        let error = |part: &str, accepted| SloRuleError { part: part.to_owned(), accepted };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (name, is_rate, rest) = match &words[..] {
            [name, "rate", ">", rest @ ..] => (*name, true, rest),
            [name, ">", rest @ ..] => (*name, false, rest),
            _ => {
                return Err(error(text, "NAME > SIZE [for TIME] or NAME rate > SIZE/s [for TIME]"));
            }
        };
        let (limit, hold) = match rest {
            [limit] => (*limit, Duration::ZERO),
            [limit, "for", time] => (
                *limit,
                duration(time).ok_or_else(|| error(time, "a time such as 500ms, 30s, 2min"))?,
            ),
            _ => return Err(error(&rest.join(" "), "SIZE or SIZE for TIME")),
        };
        let threshold = if is_rate {
            let per_second = limit.strip_suffix("/s").and_then(size);
            per_second
                .map(Threshold::BytesPerSecond)
                .ok_or_else(|| error(limit, "a rate such as 1MiB/s"))
        } else {
            size(limit)
                .map(Threshold::Bytes)
                .ok_or_else(|| error(limit, "a size such as 800, 64KiB, 512MiB, 2GiB"))
        };
        Ok(Self::new(name, threshold?, hold))
    }
}

fn size(text: &str) -> Option<u64> {
    scaled(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)])
}

fn duration(text: &str) -> Option<Duration> {
    scaled(text, &[("ms", 1), ("s", 1000), ("min", 60_000)]).map(Duration::from_millis)
}

/// A whole number times the factor of the first unit that `text` ends with.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut matching = units.iter().filter_map(|(unit, factor)| {
        let number = text.strip_suffix(unit)?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then_some((number, factor))
    });
    let (number, factor) = matching.next()?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A rule that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SloRuleError {
    part: String,
    accepted: &'static str,
}

impl fmt::Display for SloRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {:?} in a rule: accepted is {}", self.part, self.accepted)
    }
}

impl Error for SloRuleError {}

/// How a rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SloBreach {
    /// The rule's name.
    pub name: String,
    /// Its limit.
    pub threshold: Threshold,
    /// The bytes, or bytes per second, of the snapshot that broke it.
    pub measured: u64,
    /// How long the limit had been exceeded by then.
    pub held: Duration,
}

impl fmt::Display for SloBreach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, measured, held, .. } = self;
        let seconds = held.as_secs_f64();
        match self.threshold {
            Threshold::Bytes(limit) => {
                write!(f, "{name} is {measured} bytes, above {limit} for {seconds} s")
            }
            Threshold::BytesPerSecond(limit) => {
                write!(f, "{name} rises by {measured} bytes/s, above {limit} for {seconds} s")
            }
        }
    }
}
