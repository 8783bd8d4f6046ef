//! How figures are written: binary units with three significant digits, counts
//! exact where they fit.

use std::fmt;
#[cfg(feature = "profile")]
use std::time::Duration;

/// Bytes as `512 B`, `1.50 KiB`, `12.0 MiB`.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        f.pad(&scaled(self.0 as f64, 1024.0, &UNITS, " "))
    }
}

/// A count: exact if it has no more digits than `digits`, else as `12.3M`.
pub(crate) fn count(value: u64, digits: usize) -> String {
    let exact = value.to_string();
    if exact.len() <= digits {
        return exact;
    }
    scaled(value as f64, 1000.0, &["k", "M", "G", "T", "P", "E"], "")
}

/// A share, `0.0..=1.0`, as a percentage; `-` for none.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |share| format!("{:.1}%", share * 100.0))
}

/// A time as `4.0µs`, `41 min`, `3.2 h`, `12.0 d`.
#[cfg(feature = "profile")]
pub(crate) fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 119.5 => format!("{time:.1?}"),
        seconds if seconds < 119.5 * 60.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 47.95 * 3600.0 => format!("{:.1} h", seconds / 3600.0),
        seconds => format!("{:.1} d", seconds / 86_400.0),
    }
}

/// `value` divided by `base` until three digits before the point suffice.
fn scaled(mut value: f64, base: f64, units: &[&str], space: &str) -> String {
    let mut unit = "";
    for next in units {
        // What would be written as 1000 goes to the next unit.
        if value < 999.5 {
            break;
        }
        value /= base;
        unit = next;
    }
    let decimals = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{space}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_three_digits() {
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!(text(0), "0 B");
        assert_eq!(text(1023), "1023 B");
        assert_eq!(text(1536), "1.50 KiB");
        assert_eq!(text(512 << 10), "512 KiB");
        assert_eq!(text((1 << 20) - 1), "1.00 MiB");
        assert_eq!(text(12 << 30), "12.0 GiB");
        assert_eq!(text(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn counts_are_exact_while_they_fit() {
        assert_eq!(count(1_234_567, 7), "1234567");
        assert_eq!(count(1_234_567, 6), "1.23M");
        assert_eq!(count(999_999, 5), "1.00M");
    }

    #[cfg(feature = "profile")]
    #[test]
    fn times_are_in_what_they_have_some_of() {
        let text = |millis| time(Duration::from_millis(millis));
        let texts = [7, 90_000, 2_460_000, 11_520_000, 1_036_800_000].map(text);
        assert_eq!(texts, ["7.0ms", "90.0s", "41 min", "3.2 h", "12.0 d"]);
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!(percent(Some(0.1234)), "12.3%");
        assert_eq!(percent(None), "-");
    }
}
