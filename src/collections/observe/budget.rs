//! Limits on the bytes of tags, exact to the byte.
//!
//! A *tag* is a key and a value, a *span* has tags, a *trace* has spans. Sizes are those of the
//! UTF-8 text, not of its characters. A breach also halves the part of the traces that is kept, and
//! calm brings it back, so that one talkative caller costs samples rather than memory.

use crate::base::random::GOLDEN;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The largest sizes allowed, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Key and value of one tag together.
    pub tag_bytes_max: usize,
    /// All tags of one span.
    pub span_bytes_max: usize,
    /// All tags of all spans of one trace.
    pub trace_bytes_max: usize,
}

impl Default for BudgetLimits {
    /// 10 KiB per tag, 50 KiB per span, 1 MiB per trace.
    fn default() -> Self {
        Self { tag_bytes_max: 10 << 10, span_bytes_max: 50 << 10, trace_bytes_max: 1 << 20 }
    }
}

/// Holds tags to limits and samples traces down when the limits are breached.
///
/// ```
/// use spanalloc::observe::{BudgetLimits, Limit, TagBudget};
///
/// let limits = BudgetLimits { tag_bytes_max: 8, span_bytes_max: 12, trace_bytes_max: 100 };
/// let budget = TagBudget::new(limits);
/// let mut trace = budget.trace();
/// let mut span = trace.span();
/// assert!(span.tag("id", "abcdef").is_ok()); // 8 bytes
/// let error = span.tag("id", "äääb").unwrap_err(); // 4 characters, 7 bytes, 9 with the key
/// assert_eq!((error.limit, error.bytes), (Limit::Tag, 9));
/// assert_eq!(span.fitting("id", "ää"), "ä"); // what a tag could still carry
/// assert_eq!(budget.keep_one_in(), 2);
/// ```
#[derive(Debug)]
pub struct TagBudget {
    limits: BudgetLimits,
    accepted: AtomicU64,
    accepted_bytes: AtomicU64,
    /// Breaches, by `Limit`.
    breaches: [AtomicU64; 3],
    refused: AtomicU64,
    /// One in two to this power of the traces is kept.
    halvings: AtomicU32,
    /// Traces begun since the last breach.
    calm: AtomicU32,
}

/// Not more than one in 1024 traces is dropped down to.
const HALVINGS_MAX: u32 = 10;
/// So many traces without a breach double the part that is kept.
const CALM_TRACES: u32 = 1000;

impl TagBudget {
    /// A budget with `limits`.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Self {
        Self {
            limits,
            accepted: AtomicU64::new(0),
            accepted_bytes: AtomicU64::new(0),
            breaches: [const { AtomicU64::new(0) }; 3],
            refused: AtomicU64::new(0),
            halvings: AtomicU32::new(0),
            calm: AtomicU32::new(0),
        }
    }

    /// Begins a trace.
    #[must_use]
    pub fn trace(&self) -> TraceBudget<'_> {
        // Each number is one caller's, so that each thousand counts once, without a reset that
        // others would come in between.
        if self.calm.fetch_add(1, Relaxed).wrapping_add(1).is_multiple_of(CALM_TRACES) {
            let fewer = |halvings: u32| halvings.checked_sub(1);
            // Failing means that all traces are kept already.
            let _ = self.halvings.fetch_update(Relaxed, Relaxed, fewer);
        }
        TraceBudget { budget: self, bytes: 0 }
    }

    /// Whether the trace with this identity is among those that are kept now. Equal identities get
    /// equal answers while [`keep_one_in`](Self::keep_one_in) stays, and what is kept at a lower
    /// rate is kept at every higher one.
    #[must_use]
    pub fn keeps(&self, trace_id: u64) -> bool {
        // Fibonacci hashing: the high bits depend on all bits of the identity.
        let hash = trace_id.wrapping_mul(GOLDEN);
        let kept = hash.leading_zeros() >= self.halvings.load(Relaxed);
        if !kept {
            self.refused.fetch_add(1, Relaxed);
        }
        kept
    }

    /// One of so many traces is kept: 1 at first, doubled by each breach up to 1024, halved after
    /// every 1000 traces without one.
    #[must_use]
    pub fn keep_one_in(&self) -> u32 {
        1 << self.halvings.load(Relaxed)
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> BudgetStats {
        let [tag, span, trace] = [0, 1, 2].map(|limit: usize| self.breaches[limit].load(Relaxed));
        BudgetStats {
            accepted: self.accepted.load(Relaxed),
            accepted_bytes: self.accepted_bytes.load(Relaxed),
            tag_breaches: tag,
            span_breaches: span,
            trace_breaches: trace,
            traces_refused: self.refused.load(Relaxed),
        }
    }

    fn breach(&self, limit: Limit, bytes: usize, bytes_max: usize) -> BudgetExceeded {
        self.breaches[limit as usize].fetch_add(1, Relaxed);
        self.calm.store(0, Relaxed);
        let more = |halvings: u32| (halvings < HALVINGS_MAX).then_some(halvings + 1);
        // Failing means that the lowest rate is reached.
        let _ = self.halvings.fetch_update(Relaxed, Relaxed, more);
        BudgetExceeded { limit, bytes, bytes_max }
    }
}

impl Default for TagBudget {
    fn default() -> Self {
        Self::new(BudgetLimits::default())
    }
}

/// A trace's account with a [`TagBudget`].
#[derive(Debug)]
pub struct TraceBudget<'a> {
    budget: &'a TagBudget,
    bytes: usize,
}

impl<'a> TraceBudget<'a> {
    /// Begins a span.
    pub fn span(&mut self) -> SpanBudget<'_, 'a> {
        SpanBudget { trace: self, bytes: 0 }
    }

    /// Bytes accepted so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A span's account with its trace.
#[derive(Debug)]
pub struct SpanBudget<'t, 'a> {
    trace: &'t mut TraceBudget<'a>,
    bytes: usize,
}

impl SpanBudget<'_, '_> {
    /// Accepts a tag and charges its bytes, or says which limit it would breach.
    ///
    /// # Errors
    ///
    /// The first limit breached, of tag, span and trace in this order. Nothing is charged then.
    pub fn tag(&mut self, key: &str, value: &str) -> Result<(), BudgetExceeded> {
        let budget = self.trace.budget;
        let bytes = key.len() + value.len();
        let limits = &budget.limits;
        for (limit, wanted, bytes_max) in [
            (Limit::Tag, bytes, limits.tag_bytes_max),
            (Limit::Span, self.bytes + bytes, limits.span_bytes_max),
            (Limit::Trace, self.trace.bytes + bytes, limits.trace_bytes_max),
        ] {
            if wanted > bytes_max {
                return Err(budget.breach(limit, wanted, bytes_max));
            }
        }
        self.bytes += bytes;
        self.trace.bytes += bytes;
        budget.accepted.fetch_add(1, Relaxed);
        budget.accepted_bytes.fetch_add(bytes as u64, Relaxed);
        Ok(())
    }

    /// The longest beginning of `value`, cut between characters, that a tag with `key` could carry
    /// now; empty also when the key alone is too long.
    #[must_use]
    pub fn fitting<'v>(&self, key: &str, value: &'v str) -> &'v str {
        let limits = &self.trace.budget.limits;
        let room = limits
            .tag_bytes_max
            .min(limits.span_bytes_max - self.bytes)
            .min(limits.trace_bytes_max - self.trace.bytes);
        &value[..value.floor_char_boundary(room.saturating_sub(key.len()))]
    }

    /// Bytes accepted so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What a limit is a limit of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// One tag.
    Tag,
    /// All tags of a span.
    Span,
    /// All tags of a trace.
    Trace,
}

/// A tag was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetExceeded {
    /// The limit it would have breached.
    pub limit: Limit,
    /// The bytes that the tag, the span or the trace would have had.
    pub bytes: usize,
    /// The bytes allowed.
    pub bytes_max: usize,
}

impl fmt::Display for BudgetExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.limit {
            Limit::Tag => "the tag",
            Limit::Span => "the span's tags",
            Limit::Trace => "the trace's tags",
        };
        write!(f, "{what} would have {} bytes; {} are allowed", self.bytes, self.bytes_max)
    }
}

impl Error for BudgetExceeded {}

/// Counters of a [`TagBudget`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetStats {
    /// Tags accepted.
    pub accepted: u64,
    /// Their bytes.
    pub accepted_bytes: u64,
    /// Tags too large by themselves.
    pub tag_breaches: u64,
    /// Tags too large for what their span had already.
    pub span_breaches: u64,
    /// Tags too large for what their trace had already.
    pub trace_breaches: u64,
    /// Traces not kept.
    pub traces_refused: u64,
}
