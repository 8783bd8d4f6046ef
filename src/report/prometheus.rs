//! The counts as Prometheus reads them: its [text format], version 0.0.4.
//!
//! Two histograms by the size of a block, as Go's `runtime/metrics` has them
//! (`/gc/heap/allocs-by-size:bytes`), gauges of what is in use, and where memory is.
//!
//! # Invariants
//!
//! 1. What is called a counter never falls from one text to the next, and the buckets of a
//!    histogram are the same in all: `rate` and `histogram_quantile` rest on both.
//!
//! [text format]: https://prometheus.io/docs/instrumenting/exposition_formats/

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::ops::RangeInclusive;

use super::stats::{ClassStats, Stats};

/// The rows of large blocks that a histogram has from the start, in powers of two: from 64 KiB to
/// all that a process may address.
const LARGE_ROWS: RangeInclusive<u32> = 16..=48;

/// Writes the counts for a scrape by [Prometheus](https://prometheus.io).
///
/// While threads allocate, a figure of one snapshot may fall behind that of an earlier one (see
/// [`stats`](crate::stats())), which Prometheus would take for a start from zero. So this remembers
/// the most that it wrote of each counter, and a program should have one only.
///
/// | metric | kind | what |
/// | --- | --- | --- |
/// | `spanalloc_allocs_by_size_bytes` | histogram | blocks allocated, by their size; the bounds `le` are the size classes, and powers of two |
/// | `spanalloc_frees_by_size_bytes` | histogram | blocks freed |
/// | `spanalloc_in_use_blocks`, `spanalloc_in_use_bytes` | gauges | blocks in use; `block_bytes` is their size, of large ones rounded up to a power of two |
/// | `spanalloc_spans` | gauge | spans in use |
/// | `spanalloc_refills_total`, `spanalloc_remote_frees_total`, `spanalloc_lock_waits_total` | counters | as in [`ClassStats`] |
/// | `spanalloc_memory_bytes` | gauge | where memory is, by `part`: the figures of [`Memory`](super::Memory) |
/// | `spanalloc_resident_bytes` | gauge | resident memory of the process, where the system tells it |
///
/// A block counts with the bytes that it has, rounded up to its size class. What a snapshot counted
/// twice stays in a counter until as much more has come. The allocations of the last minute that
/// were above 1 KiB, say, are
/// `increase(spanalloc_allocs_by_size_bytes_count[1m]) -
/// ignoring(le) increase(spanalloc_allocs_by_size_bytes_bucket{le="1024.0"}[1m])`.
///
/// # Examples
///
/// ```
/// use spanalloc::report::Prometheus;
/// use std::sync::Mutex;
///
/// static METRICS: Mutex<Prometheus> = Mutex::new(Prometheus::new());
///
/// // What a service answers to `GET /metrics`, with `Prometheus::CONTENT_TYPE`:
/// let mut body = Vec::new();
/// METRICS.lock().unwrap().write(&spanalloc::stats(), &mut body)?;
/// assert!(body.starts_with(b"# HELP spanalloc_allocs_by_size_bytes "));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Prometheus {
    /// By the size of a block: the most that was seen of each counter.
    rows: BTreeMap<u64, Counters>,
}

/// What only grows of a row.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    allocs: u64,
    allocated_bytes: u64,
    frees: u64,
    freed_bytes: u64,
    refills: u64,
    remote_frees: u64,
    lock_waits: u64,
}

impl Prometheus {
    /// The type of what is written, for the header `Content-Type`.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// One that has written nothing yet. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: BTreeMap::new() }
    }

    /// Writes `stats` of this program to `out`, in one piece, and flushes it: some 16 KiB. Costs a
    /// few tens of microseconds; taking the snapshot may cost more: see [`stats`](crate::stats()).
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&mut self, stats: &Stats, mut out: impl Write) -> io::Result<()> {
        self.advance(stats);
        let mut text = String::with_capacity(24 << 10);
        self.render(stats, &mut text).expect("a string takes what is written to it");
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn advance(&mut self, stats: &Stats) {
        for doublings in LARGE_ROWS {
            self.rows.entry(1 << doublings).or_default();
        }
        for row in stats.classes.iter().chain(&stats.large) {
            self.rows.entry(row.block_bytes).or_default().advance(row);
        }
    }

    fn render(&self, stats: &Stats, out: &mut String) -> fmt::Result {
        let allocated = |row: &Counters| (row.allocs, row.allocated_bytes);
        let freed = |row: &Counters| (row.frees, row.freed_bytes);
        self.histogram(out, "allocs_by_size_bytes", "Blocks allocated, by their size.", allocated)?;
        self.histogram(out, "frees_by_size_bytes", "Blocks freed, by their size.", freed)?;
        in_use(out, stats, "in_use_blocks", "Blocks in use.", |row| row.live_blocks)?;
        in_use(out, stats, "in_use_bytes", "Bytes of blocks in use.", |row| row.live_bytes)?;
        let total = stats.total();
        single(out, "spans", "gauge", "Spans in use.", total.spans)?;
        let sum = |of: fn(&Counters) -> u64| self.rows.values().map(of).sum();
        let help = "Times that a thread's list was filled again, and large blocks allocated.";
        single(out, "refills_total", "counter", help, sum(|row| row.refills))?;
        let help = "Blocks that came home to their span from elsewhere.";
        single(out, "remote_frees_total", "counter", help, sum(|row| row.remote_frees))?;
        let help = "Times that a thread waited for the lock of another.";
        single(out, "lock_waits_total", "counter", help, sum(|row| row.lock_waits))?;
        memory(out, stats)
    }

    fn histogram(
        &self,
        out: &mut String,
        name: &str,
        help: &str,
        of: impl Fn(&Counters) -> (u64, u64),
    ) -> fmt::Result {
        head(out, name, "histogram", help)?;
        let (mut blocks, mut bytes) = (0_u64, 0_u64);
        for (block_bytes, row) in &self.rows {
            let (more_blocks, more_bytes) = of(row);
            blocks += more_blocks;
            bytes = bytes.saturating_add(more_bytes);
            let bound = Bound(*block_bytes);
            writeln!(out, "spanalloc_{name}_bucket{{le=\"{bound}\"}} {blocks}")?;
        }
        writeln!(out, "spanalloc_{name}_bucket{{le=\"+Inf\"}} {blocks}")?;
        writeln!(out, "spanalloc_{name}_sum {bytes}")?;
        writeln!(out, "spanalloc_{name}_count {blocks}")
    }
}

impl Counters {
    fn advance(&mut self, row: &ClassStats) {
        let freed_bytes = row.allocated_bytes.saturating_sub(row.live_bytes);
        for (most, now) in [
            (&mut self.allocs, row.allocs),
            (&mut self.allocated_bytes, row.allocated_bytes),
            (&mut self.frees, row.frees),
            (&mut self.freed_bytes, freed_bytes),
            (&mut self.refills, row.refills),
            (&mut self.remote_frees, row.remote_frees),
            (&mut self.lock_waits, row.lock_waits),
        ] {
            *most = now.max(*most);
        }
    }
}

/// A bound of a histogram, as Prometheus stores it from version 3 on, and before as it was written:
/// a query by it finds it in both. That is Go's shortest form of a float, with `.0` where it would
/// look like a whole number.
struct Bound(u64);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = self.0 as f64;
        if self.0 < 1_000_000 {
            return write!(f, "{bound:.1}");
        }
        let exponent = format!("{bound:e}");
        let (digits, exponent) = exponent.split_once('e').expect("the form has an exponent");
        write!(f, "{digits}e+{exponent:0>2}")
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP spanalloc_{name} {help}")?;
    writeln!(out, "# TYPE spanalloc_{name} {kind}")
}

fn single(out: &mut String, name: &str, kind: &str, help: &str, value: u64) -> fmt::Result {
    head(out, name, kind, help)?;
    writeln!(out, "spanalloc_{name} {value}")
}

fn in_use(
    out: &mut String,
    stats: &Stats,
    name: &str,
    help: &str,
    of: impl Fn(&ClassStats) -> u64,
) -> fmt::Result {
    head(out, name, "gauge", help)?;
    for row in stats.classes.iter().chain(&stats.large) {
        writeln!(out, "spanalloc_{name}{{block_bytes=\"{}\"}} {}", row.block_bytes, of(row))?;
    }
    Ok(())
}

fn memory(out: &mut String, stats: &Stats) -> fmt::Result {
    let memory = &stats.memory;
    let help = "Where memory is; of free pages and tables not all was touched.";
    head(out, "memory_bytes", "gauge", help)?;
    for (part, bytes) in [
        ("live", memory.live),
        ("cached", memory.cached),
        ("spare", memory.spare),
        ("free_pages", memory.free_pages),
        ("metadata", memory.metadata),
        ("profiler", memory.profiler),
    ] {
        writeln!(out, "spanalloc_memory_bytes{{part=\"{part}\"}} {bytes}")?;
    }
    if memory.is_known() {
        single(out, "resident_bytes", "gauge", "Resident memory.", memory.resident)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &mut Prometheus, stats: &Stats) -> String {
        let mut text = Vec::new();
        metrics.write(stats, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// The value of the series that is written so; panics without exactly one.
    fn value(text: &str, series: &str) -> u64 {
        let mut lines =
            text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = lines.next().unwrap_or_else(|| panic!("no {series} in {text}"));
        assert_eq!(lines.next(), None, "{series}");
        value.parse().unwrap()
    }

    fn row(block_bytes: u64, allocs: u64, frees: u64) -> ClassStats {
        ClassStats {
            block_bytes,
            allocs,
            frees,
            allocated_bytes: allocs * block_bytes,
            live_blocks: allocs - frees,
            live_bytes: (allocs - frees) * block_bytes,
            ..ClassStats::default()
        }
    }

    #[test]
    fn buckets_hold_all_blocks_up_to_their_bound() {
        let stats = Stats {
            classes: vec![row(16, 5, 1), row(32, 7, 7)],
            large: vec![ClassStats { allocated_bytes: 100_000, ..row(1 << 17, 1, 0) }],
            ..Stats::default()
        };
        let text = text(&mut Prometheus::new(), &stats);
        for (name, [at_16, at_32, at_64k, all], bytes) in [
            ("allocs", [5, 12, 12, 13], 5 * 16 + 7 * 32 + 100_000),
            ("frees", [1, 8, 8, 8], 16 + 7 * 32),
        ] {
            let series =
                |rest: &str| value(&text, &format!("spanalloc_{name}_by_size_bytes{rest}"));
            assert_eq!(series("_bucket{le=\"16.0\"}"), at_16);
            assert_eq!(series("_bucket{le=\"32.0\"}"), at_32);
            assert_eq!(series("_bucket{le=\"65536.0\"}"), at_64k);
            for rest in ["_bucket{le=\"131072.0\"}", "_bucket{le=\"+Inf\"}", "_count"] {
                assert_eq!(series(rest), all, "{name}{rest}");
            }
            assert_eq!(series("_sum"), bytes);
        }
        assert_eq!(value(&text, "spanalloc_in_use_blocks{block_bytes=\"16\"}"), 4);
        assert_eq!(value(&text, "spanalloc_in_use_bytes{block_bytes=\"131072\"}"), 1 << 17);
        // Where the system does not tell, there is no figure rather than 0.
        assert!(!text.contains("spanalloc_resident_bytes"));
    }

    #[test]
    fn bounds_are_written_as_they_are_stored() {
        let stored = [
            (8, "8.0"),
            (1024, "1024.0"),
            (1 << 19, "524288.0"),
            (1 << 20, "1.048576e+06"),
            (1 << 34, "1.7179869184e+10"),
            (1 << 48, "2.81474976710656e+14"),
        ];
        for (bound, text) in stored {
            assert_eq!(Bound(bound).to_string(), text);
        }
    }

    #[test]
    fn counters_never_fall_and_gauges_do() {
        let mut metrics = Prometheus::new();
        let stats = |allocs| Stats {
            classes: vec![ClassStats { refills: allocs, ..row(16, allocs, 1) }],
            ..Stats::default()
        };
        text(&mut metrics, &stats(1000));
        let text = text(&mut metrics, &stats(990));
        assert_eq!(value(&text, "spanalloc_allocs_by_size_bytes_count"), 1000);
        assert_eq!(value(&text, "spanalloc_frees_by_size_bytes_sum"), 16);
        assert_eq!(value(&text, "spanalloc_refills_total"), 1000);
        assert_eq!(value(&text, "spanalloc_in_use_blocks{block_bytes=\"16\"}"), 989);
    }

    #[test]
    fn a_size_that_is_new_brings_no_new_bucket() {
        let names = |text: &str| -> Vec<String> {
            let buckets = text.lines().filter(|line| line.contains("_bucket{"));
            buckets.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        let mut metrics = Prometheus::new();
        let mut stats = Stats { classes: vec![row(16, 5, 1)], ..Stats::default() };
        let before = names(&text(&mut metrics, &stats));
        stats.large = vec![row(1 << 16, 1, 0), row(1 << 41, 1, 1)];
        assert_eq!(names(&text(&mut metrics, &stats)), before);
        assert_eq!(before.len(), 2 * (1 + 33 + 1));
    }

    #[test]
    fn each_series_is_of_its_own_figure() {
        let row = |block_bytes, times: u64| ClassStats {
            block_bytes,
            span_bytes: 2 * times,
            blocks_per_span: 3 * times,
            allocs: 1000 * times,
            frees: 300 * times,
            allocated_bytes: 50_000 * times,
            live_blocks: 700 * times,
            live_bytes: 20_000 * times,
            refills: 11 * times,
            first_uses: 13 * times,
            spans: 17 * times,
            remote_frees: 19 * times,
            lock_waits: 23 * times,
            requested: None,
        };
        let memory = crate::report::Memory {
            resident: 1001,
            live: 102,
            cached: 103,
            spare: 104,
            free_pages: 105,
            metadata: 106,
            profiler: 107,
        };
        let stats = Stats { classes: vec![row(16, 1)], large: vec![row(1 << 17, 10)], memory };
        let text = text(&mut Prometheus::new(), &stats);
        for (series, expected) in [
            ("allocs_by_size_bytes_sum", 550_000),
            ("allocs_by_size_bytes_count", 11_000),
            ("frees_by_size_bytes_sum", 330_000),
            ("frees_by_size_bytes_count", 3300),
            ("in_use_blocks{block_bytes=\"16\"}", 700),
            ("in_use_blocks{block_bytes=\"131072\"}", 7000),
            ("in_use_bytes{block_bytes=\"16\"}", 20_000),
            ("in_use_bytes{block_bytes=\"131072\"}", 200_000),
            ("spans", 187),
            ("refills_total", 121),
            ("remote_frees_total", 209),
            ("lock_waits_total", 253),
            ("memory_bytes{part=\"live\"}", 102),
            ("memory_bytes{part=\"cached\"}", 103),
            ("memory_bytes{part=\"spare\"}", 104),
            ("memory_bytes{part=\"free_pages\"}", 105),
            ("memory_bytes{part=\"metadata\"}", 106),
            ("memory_bytes{part=\"profiler\"}", 107),
            ("resident_bytes", 1001),
        ] {
            assert_eq!(value(&text, &format!("spanalloc_{series}")), expected, "{series}");
        }
        for kind in ["spans gauge", "refills_total counter", "resident_bytes gauge"] {
            assert!(text.contains(&format!("# TYPE spanalloc_{kind}\n")), "{kind}");
        }
    }

    #[test]
    fn what_is_written_reaches_what_is_behind_a_buffer() {
        let mut out = io::BufWriter::with_capacity(1 << 20, Vec::new());
        Prometheus::new().write(&Stats::default(), &mut out).unwrap();
        assert!(out.get_ref().ends_with(b"spanalloc_memory_bytes{part=\"profiler\"} 0\n"));
    }
}
