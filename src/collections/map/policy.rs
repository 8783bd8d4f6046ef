//! How a map grows: how full, how much at a time, and whether to tidy chains.

use std::error::Error;
use std::fmt;

use super::tops::CELLS;

/// How the work of growing is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Growth {
    /// Each insert and remove evacuates some chains of the old array. Go's way: the
    /// worst insert is short, and both arrays live for a while.
    #[default]
    Incremental,
    /// The insert that starts a growth finishes it.
    AtOnce,
    /// The number of buckets stays what it is; chains grow instead. Only `reserve`,
    /// `try_reserve`, `shrink_to` and `shrink_to_fit` change it, which ask for just that.
    Never,
}

/// How full a map gets before its buckets double, in entries per bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadFactor(f64);

/// A load factor outside [`LoadFactor::MIN`] to [`LoadFactor::MAX`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadFactorError(f64);

impl LoadFactor {
    /// Go's: 6.5 of 8 cells.
    pub const GO: Self = Self(6.5);
    /// The smallest that is accepted.
    pub const MIN: f64 = 0.125;
    /// The largest that is accepted: chains of eight buckets.
    pub const MAX: f64 = 64.0;

    /// A load factor of `per_bucket` entries per bucket of eight cells.
    ///
    /// # Errors
    ///
    /// When it is not a number from [`LoadFactor::MIN`] to [`LoadFactor::MAX`].
    ///
    /// ```
    /// use spanalloc::map::LoadFactor;
    ///
    /// assert_eq!(LoadFactor::new(6.5), Ok(LoadFactor::GO));
    /// assert!(LoadFactor::new(0.0).is_err());
    /// ```
    pub fn new(per_bucket: f64) -> Result<Self, LoadFactorError> {
        if (Self::MIN..=Self::MAX).contains(&per_bucket) {
            Ok(Self(per_bucket))
        } else {
            Err(LoadFactorError(per_bucket))
        }
    }

    /// Entries per bucket.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for LoadFactorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (LoadFactor::MIN, LoadFactor::MAX);
        write!(f, "load factor {} is not accepted: give a number from {min} to {max}", self.0)
    }
}

impl Error for LoadFactorError {}

/// No array for as many entries could be had: see [`Map::try_reserve`](super::Map::try_reserve).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReserveError {
    pub(super) entries: usize,
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no memory for a map of {} entries", self.entries)
    }
}

impl Error for ReserveError {}

/// When and how a map grows. The default is Go's.
///
/// ```
/// use spanalloc::map::{Growth, LoadFactor, Map, Policy};
///
/// let policy = Policy { growth: Growth::AtOnce, ..Policy::default() };
/// let mut map = Map::new().with_policy(policy);
/// map.insert(1, "one");
/// assert_eq!(map.policy().load_factor, LoadFactor::GO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How full the map gets before its buckets double.
    pub load_factor: LoadFactor,
    /// How the work is spread.
    pub growth: Growth,
    /// Whether a map with as many overflow buckets as main ones, times an eighth of the
    /// load factor where that is above one (rounded up), is evacuated into an array of the
    /// same size, which packs its chains.
    pub same_size: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { load_factor: LoadFactor::GO, growth: Growth::Incremental, same_size: true }
    }
}

/// No map doubles below this many entries: one bucket is always filled.
const ENTRIES_MIN: usize = CELLS;

impl Policy {
    /// The most entries that `2^log2` buckets hold before they double.
    pub(super) fn entries_max(&self, log2: u8) -> usize {
        let buckets = 2f64.powi(i32::from(log2));
        ((self.load_factor.0 * buckets) as usize).max(ENTRIES_MIN)
    }

    /// The smallest array for `entries`.
    pub(super) fn log2_for(&self, entries: usize) -> u8 {
        self.log2_if_any(entries)
            .unwrap_or_else(|| panic!("map: no array has room for {entries} entries"))
    }

    /// As `log2_for`, or `None` when no array has room.
    pub(super) fn log2_if_any(&self, entries: usize) -> Option<u8> {
        (0..usize::BITS as u8).find(|&log2| entries <= self.entries_max(log2))
    }

    /// The number of entries at which an insert starts doubling.
    pub(super) fn double_at(&self, log2: u8) -> usize {
        if self.growth == Growth::Never { usize::MAX } else { self.entries_max(log2) }
    }

    /// The number of overflow buckets at which an insert starts same-size growth. Packed
    /// chains have fewer than an eighth of the entries, so they never reach it, whatever
    /// the hasher. Go's limit stays at 2^15 in larger arrays; but what it holds against it
    /// there is an estimate, and our exact count would be at the limit again at once.
    pub(super) fn tidy_at(&self, log2: u8) -> usize {
        if self.same_size && self.growth != Growth::Never {
            let per_bucket = (self.load_factor.0 / CELLS as f64).ceil() as usize;
            per_bucket << log2
        } else {
            usize::MAX
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_just_large_enough() {
        let policy = Policy::default();
        for entries in [0, 1, 8, 9, 13, 14, 26, 27, 52, 53, 1_000_000] {
            let log2 = policy.log2_for(entries);
            assert!(entries <= policy.entries_max(log2));
            assert!(log2 == 0 || entries > policy.entries_max(log2 - 1), "{entries}");
        }
        assert_eq!(policy.entries_max(1), 13);
        assert_eq!(policy.entries_max(4), 104);
    }

    #[test]
    fn packed_chains_are_tidy() {
        for per_bucket in [LoadFactor::MIN, 1.0, 6.5, 8.0, 8.5, 13.0, 16.0, LoadFactor::MAX] {
            let policy =
                Policy { load_factor: LoadFactor::new(per_bucket).unwrap(), ..Policy::default() };
            for log2 in 0..40 {
                // One chain with all entries: no packed map has more overflow buckets.
                let overflow = policy.entries_max(log2).div_ceil(CELLS) - 1;
                assert!(overflow < policy.tidy_at(log2), "{per_bucket}, {log2}");
            }
        }
    }

    #[test]
    fn a_refused_load_factor_is_named() {
        for bad in [f64::NAN, 0.0, -1.0, 64.5, f64::INFINITY] {
            let message = LoadFactor::new(bad).unwrap_err().to_string();
            assert!(message.contains(&bad.to_string()), "{message}");
            assert!(message.contains("0.125") && message.contains("64"), "{message}");
        }
    }
}
