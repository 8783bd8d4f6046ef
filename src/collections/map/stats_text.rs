//! A map's statistics as text, for people.

use std::fmt;

use super::stats::Stats;
use crate::base::counted::counted;

/// Numbers of overflow buckets that have a line of their own.
const CHAINS_SHOWN: usize = 4;

impl fmt::Display for Stats {
    /// Some ten lines of at most 100 characters, as long as no count has more than seven digits:
    /// inserts by what they took, chains by length, growth, bytes.
    ///
    /// ```
    /// let map: spanalloc::map::Map<u32, u32> = (0..100).map(|n| (n, n)).collect();
    /// assert!(map.stats().to_string().starts_with("100 entries in 16 buckets, 6.25 of 6.50 each"));
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, buckets, load, load_limit, overflow_buckets, .. } = self;
        let entries = counted(*len as u64, "entry", "entries");
        let buckets = counted(*buckets as u64, "bucket", "buckets");
        let overflow = counted(*overflow_buckets as u64, "overflow bucket", "overflow buckets");
        writeln!(f, "{entries} in {buckets}, {load:.2} of {load_limit:.2} each; {overflow}")?;
        let inserts = &self.inserts;
        writeln!(f, "{:<20} {:>14} {:>8}", "insert", "count", "%")?;
        rows(
            f,
            [
                ("end of a chain".into(), inserts.empty_rest),
                ("hole in a chain".into(), inserts.empty_one),
                ("new overflow bucket".into(), inserts.new_overflow),
                ("update".into(), inserts.update),
            ],
            inserts.total(),
        )?;
        writeln!(f, "{:<20} {:>14} {:>8}", "overflow of a chain", "chains", "%")?;
        let (shown, longer) = self.chains.split_at(self.chains.len().min(CHAINS_SHOWN));
        let longer = (!longer.is_empty())
            .then(|| (format!("{CHAINS_SHOWN} or more"), longer.iter().sum::<u64>()));
        let shown = shown.iter().enumerate().map(|(number, &chains)| (number.to_string(), chains));
        rows(f, shown.chain(longer), self.chains.iter().sum())?;
        let growth = &self.growth;
        writeln!(
            f,
            "{}, {} at the same size, {}; {} moved; {}",
            counted(growth.doublings, "doubling", "doublings"),
            growth.same_size,
            counted(growth.resizes, "resize", "resizes"),
            counted(growth.entries_moved, "entry", "entries"),
            counted(self.reseeds, "reseed", "reseeds")
        )?;
        if let Some(old) = &self.old {
            writeln!(f, "growing: {} of {} chains evacuated", old.evacuated, old.buckets)?;
        }
        write!(
            f,
            "{} bytes, at most {} so far; {} in blocks of large keys and values",
            self.bytes, self.bytes_peak, self.indirect_bytes
        )
    }
}

/// A line for each count, with its share of `whole`.
fn rows(
    f: &mut fmt::Formatter<'_>,
    counts: impl IntoIterator<Item = (String, u64)>,
    whole: u64,
) -> fmt::Result {
    for (name, count) in counts {
        let share = 100.0 * count as f64 / whole.max(1) as f64;
        writeln!(f, "{name:<20} {count:>14} {share:>8.2}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_is_no_plural() {
        let map: crate::collections::map::Map<u32, u32> = [(1, 1)].into_iter().collect();
        let text = map.stats().to_string();
        assert!(text.starts_with("1 entry in 1 bucket, 1.00 of "), "{text}");
    }
}
