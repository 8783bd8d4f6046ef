//! What a pool has done, in numbers.

use crate::base::counted::counted;
use std::fmt;

/// A snapshot of a pool's exact counters, from [`Pool::stats`](super::Pool::stats).
///
/// Each get is counted once, by where its value was. What a get took along from a chain is private
/// from then on. While other threads work with the pool, the counters are read one after the other
/// and may be a few operations apart; at a quiet point they satisfy
/// `puts == reused() + drops + held()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Gets served by the calling thread's private values.
    pub private: u64,
    /// Gets served by the calling thread's own chain.
    pub local: u64,
    /// Gets served by another thread's chain.
    pub steal: u64,
    /// Gets served by what the calling thread put back in the epoch before.
    pub victim: u64,
    /// Gets served by what another thread put back in the epoch before.
    pub victim_steal: u64,
    /// Gets for which a value was constructed.
    pub new: u64,
    /// Values given to the pool.
    pub puts: u64,
    /// Values the pool dropped: by an epoch, or because a thread gave them while it was being torn
    /// down or was one too many to have a place for them.
    pub drops: u64,
    /// Values that did not go back because [`Reset::keep`](super::Reset::keep) said no; neither
    /// `puts` nor `drops` counts them.
    pub discards: u64,
    /// Epochs begun since the pool was made.
    pub epochs: u64,
}

impl PoolStats {
    /// Gets served without constructing a value.
    #[must_use]
    pub fn reused(&self) -> u64 {
        self.private + self.local + self.steal + self.victim + self.victim_steal
    }

    /// All gets.
    #[must_use]
    pub fn gets(&self) -> u64 {
        self.reused() + self.new
    }

    /// The part of the gets that was served without constructing a value, from 0 to 1; 0 before the
    /// first get.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        if self.gets() == 0 { 0.0 } else { self.reused() as f64 / self.gets() as f64 }
    }

    /// Values inside the pool.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.puts.saturating_sub(self.reused() + self.drops)
    }
}

impl fmt::Display for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gets = self.gets().max(1) as f64;
        writeln!(f, "{:<14} {:>14} {:>8}", "source", "gets", "%")?;
        for (source, count) in [
            ("private", self.private),
            ("local", self.local),
            ("steal", self.steal),
            ("victim", self.victim),
            ("victim steal", self.victim_steal),
            ("new", self.new),
        ] {
            writeln!(f, "{source:<14} {count:>14} {:>8.2}", 100.0 * count as f64 / gets)?;
        }
        write!(
            f,
            "{}, {:.2} % reused; {}, {}, {}, {} held, {}",
            counted(self.gets(), "get", "gets"),
            100.0 * self.hit_rate(),
            counted(self.puts, "put", "puts"),
            counted(self.drops, "drop", "drops"),
            counted(self.discards, "discard", "discards"),
            self.held(),
            counted(self.epochs, "epoch", "epochs")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let stats =
            PoolStats { new: 1, puts: 1, drops: 1, discards: 1, epochs: 1, ..PoolStats::default() };
        let text = stats.to_string();
        let last = "1 get, 0.00 % reused; 1 put, 1 drop, 1 discard, 0 held, 1 epoch";
        assert_eq!(text.lines().last(), Some(last));
    }
}
