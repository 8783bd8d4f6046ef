//! [`Stats`] as text in at most 100 columns.

use std::fmt;

use super::stats::{ClassStats, Memory, Stats};
use super::units::{Bytes, count, percent};

/// Headings with the width of their columns; two blanks separate columns.
const COLUMNS: [(&str, usize); 11] = [
    ("block", 9),
    ("allocs", 10),
    ("frees", 10),
    ("live", 8),
    ("live bytes", 10),
    ("refills", 8),
    ("hits", 6),
    ("spans", 6),
    ("remote", 7),
    ("asked", 9),
    ("waste", 6),
];
/// One blank between two columns.
const WIDTH: usize = {
    let (mut width, mut at) = (COLUMNS.len() - 1, 0);
    while at < COLUMNS.len() {
        width += COLUMNS[at].1;
        at += 1;
    }
    width
};
const _: () = assert!(WIDTH <= 100);

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, COLUMNS.map(|(heading, _)| heading.to_owned()))?;
        for class in self.classes.iter().filter(|class| class.allocs != 0) {
            row(f, Bytes(class.block_bytes).to_string(), class)?;
        }
        for large in self.large.iter().filter(|large| large.allocs != 0) {
            row(f, format!("≤{}", Bytes(large.block_bytes)), large)?;
        }
        writeln!(f, "{}", "-".repeat(WIDTH))?;
        let total = self.total();
        row(f, "total".to_owned(), &total)?;
        allocated(f, &total)?;
        if total.allocs == 0 {
            // One that is installed served an allocation before `main`.
            f.write_str("nothing was ever allocated from this allocator: ")?;
            writeln!(f, "is it the program's #[global_allocator]?")?;
        }
        sampled(f, self)?;
        percentiles(f, self)?;
        waits(f, self)?;
        memory(f, &self.memory)
    }
}

fn line(f: &mut fmt::Formatter<'_>, cells: [String; COLUMNS.len()]) -> fmt::Result {
    for (at, (cell, (_, width))) in cells.iter().zip(COLUMNS).enumerate() {
        let gap = if at == 0 { "" } else { " " };
        write!(f, "{gap}{cell:>width$}")?;
    }
    writeln!(f)
}

fn row(f: &mut fmt::Formatter<'_>, name: String, class: &ClassStats) -> fmt::Result {
    let requested = class.requested;
    let estimate = |text: String, exact| if exact { text } else { format!("~{text}") };
    line(
        f,
        [
            name,
            count(class.allocs, COLUMNS[1].1),
            count(class.frees, COLUMNS[2].1),
            count(class.live_blocks, COLUMNS[3].1),
            Bytes(class.live_bytes).to_string(),
            count(class.refills, COLUMNS[5].1),
            percent(class.hit_rate()),
            count(class.spans, COLUMNS[7].1),
            count(class.remote_frees, COLUMNS[8].1),
            requested.map_or_else(
                || "-".into(),
                |r| estimate(Bytes(r.mean_bytes.round() as u64).to_string(), r.exact),
            ),
            requested.map_or_else(
                || "-".into(),
                |r| estimate(format!("{:.0}%", r.waste * 100.0), r.exact),
            ),
        ],
    )
}

fn allocated(f: &mut fmt::Formatter<'_>, total: &ClassStats) -> fmt::Result {
    // None in what was written before it was counted.
    if total.allocated_bytes == 0 {
        return Ok(());
    }
    writeln!(f, "all blocks ever allocated: {}", Bytes(total.allocated_bytes))
}

fn sampled(f: &mut fmt::Formatter<'_>, stats: &Stats) -> fmt::Result {
    let rows = || stats.classes.iter().chain(&stats.large).filter_map(|class| class.requested);
    if rows().next().is_none() {
        return writeln!(f, "asked, waste: not sampled; everything else is exact");
    }
    let mark = if rows().all(|requested| requested.exact) {
        "exact (every allocation was sampled)"
    } else {
        "estimated from samples (~)"
    };
    writeln!(f, "asked (mean bytes requested), waste: {mark}; everything else is exact")
}

#[cfg(feature = "profile")]
fn percentiles(f: &mut fmt::Formatter<'_>, stats: &Stats) -> fmt::Result {
    /// Sizes above this count as this.
    const LARGEST_BYTES: u64 = 1 << 47;
    let Ok(mut sizes) = hdrhistogram::Histogram::<u64>::new_with_max(LARGEST_BYTES, 3) else {
        return Ok(());
    };
    for class in stats.classes.iter().chain(&stats.large).filter(|class| class.allocs != 0) {
        sizes.saturating_record_n(class.block_bytes, class.allocs);
    }
    if sizes.is_empty() {
        return Ok(());
    }
    // The histogram's own bounds are near the blocks' sizes, and not below.
    let rows = || stats.classes.iter().chain(&stats.large).map(|class| class.block_bytes);
    let at = |quantile| {
        let found = sizes.value_at_quantile(quantile);
        Bytes(rows().filter(|bytes| *bytes <= found).max().unwrap_or(found))
    };
    write!(f, "block size by allocations: p50 {}, p90 {}", at(0.5), at(0.9))?;
    writeln!(f, ", p99 {}, max {}", at(0.99), at(1.0))
}

#[cfg(not(feature = "profile"))]
fn percentiles(_f: &mut fmt::Formatter<'_>, _stats: &Stats) -> fmt::Result {
    Ok(())
}

fn waits(f: &mut fmt::Formatter<'_>, stats: &Stats) -> fmt::Result {
    let most = stats.classes.iter().max_by_key(|class| class.lock_waits);
    let Some(most) = most.filter(|class| class.lock_waits > 0) else { return Ok(()) };
    let (all, size) = (stats.total().lock_waits, Bytes(most.block_bytes));
    writeln!(f, "waits for locks: {all}, of these {} for blocks of {size}", most.lock_waits)
}

fn memory(f: &mut fmt::Formatter<'_>, memory: &Memory) -> fmt::Result {
    match memory.not_resident() {
        _ if !memory.is_known() => writeln!(f, "resident: not known; the allocator's own:")?,
        0 => writeln!(f, "resident {}:", Bytes(memory.resident))?,
        bytes => {
            write!(f, "resident {}; of what follows {}", Bytes(memory.resident), Bytes(bytes))?;
            writeln!(f, " are not, being untouched:")?;
        }
    }
    let all: u64 = memory.parts().map(|(_, bytes)| bytes).sum();
    for (name, bytes) in memory.parts() {
        let share = (all != 0).then(|| bytes as f64 / all as f64);
        writeln!(f, "  {name:<18} {:>10} {:>7}", Bytes(bytes).to_string(), percent(share))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Requested;

    fn stats(scale: u64) -> Stats {
        let class = |block_bytes, allocs: u64| ClassStats {
            block_bytes,
            span_bytes: 65_536,
            blocks_per_span: 65_536 / block_bytes.max(1),
            allocs,
            frees: allocs / 2,
            live_blocks: allocs - allocs / 2,
            allocated_bytes: allocs.saturating_mul(block_bytes),
            live_bytes: (allocs - allocs / 2).saturating_mul(block_bytes),
            refills: allocs / 9,
            first_uses: allocs / 10,
            spans: allocs / 1000,
            remote_frees: allocs / 3,
            lock_waits: u64::from(block_bytes == 32) * scale,
            requested: Some(Requested {
                samples: 9,
                mean_bytes: 20.4,
                waste: 0.36,
                ..Requested::default()
            }),
        };
        let memory = Memory { resident: 1 << 30, live: 1 << 29, ..Memory::default() };
        Stats {
            classes: vec![class(32, 1000 * scale), class(48, 0), class(32_768, 7 * scale)],
            large: vec![class(1 << 20, 3)],
            memory,
        }
    }

    #[test]
    fn every_line_fits_100_columns() {
        for scale in [1, 1_000_000, 10_000_000_000_000] {
            let text = stats(scale).to_string();
            for line in text.lines() {
                assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
            }
        }
    }

    #[test]
    fn unused_classes_are_left_out_and_estimates_marked() {
        let text = stats(1).to_string();
        assert!(!text.contains("48 B"), "{text}");
        let row = text.lines().find(|line| line.trim_start().starts_with("32 B")).unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells[2..5], ["1000", "500", "500"], "{row}");
        assert_eq!(cells[cells.len() - 3..], ["~20", "B", "~36%"]);
    }

    #[cfg(feature = "profile")]
    #[test]
    fn percentiles_are_by_count_of_allocations() {
        let text = stats(1).to_string();
        assert!(text.contains("p50 32 B, p90 32 B, p99 32 B, max 1.00 MiB"), "{text}");
    }

    #[test]
    fn what_is_counted_and_not_resident_is_said() {
        let mut stats = stats(1);
        let line = |stats: &Stats| {
            let text = stats.to_string();
            text.lines().find(|line| line.starts_with("resident")).unwrap().to_owned()
        };
        assert_eq!(line(&stats), "resident 1.00 GiB:");
        stats.memory.profiler = 3 << 29;
        assert_eq!(
            line(&stats),
            "resident 1.00 GiB; of what follows 1.00 GiB are not, being untouched:"
        );
        let shares = stats.to_string();
        assert!(shares.contains("75.0%") && shares.contains("25.0%"), "{shares}");
    }

    #[test]
    fn what_is_resident_may_not_be_known() {
        let mut stats = stats(1);
        stats.memory.resident = 0;
        let text = stats.to_string();
        assert!(text.contains("\nresident: not known; the allocator's own:\n"), "{text}");
        let live = text.lines().find(|line| line.contains("live blocks")).unwrap();
        assert!(live.ends_with("100.0%") && !text.contains("elsewhere"), "{text}");
        assert_eq!((stats.memory.elsewhere(), stats.memory.not_resident()), (0, 0));
    }

    #[test]
    fn an_allocator_that_nobody_installed_is_told() {
        let told = |stats: &Stats| stats.to_string().contains("is it the program's #[global_alloc");
        assert!(told(&Stats::default()) && !told(&stats(1)));
        assert!(Stats::default().to_string().lines().all(|line| line.chars().count() <= 100));
    }

    #[test]
    fn all_that_was_allocated_is_told_where_it_was_counted() {
        let mut stats = stats(1);
        assert!(stats.to_string().contains("\nall blocks ever allocated: 3.25 MiB\n"), "{stats}");
        stats.classes.iter_mut().chain(&mut stats.large).for_each(|row| row.allocated_bytes = 0);
        assert!(!stats.to_string().contains("ever allocated"), "{stats}");
    }

    #[test]
    fn waits_are_told_where_there_were_any() {
        let text = stats(3).to_string();
        assert!(text.contains("waits for locks: 3, of these 3 for blocks of 32 B\n"), "{text}");
        assert!(!stats(0).to_string().contains("waits"));
    }

    #[test]
    fn what_is_not_ours_is_elsewhere() {
        let text = stats(1).to_string();
        let line = text.lines().find(|line| line.contains("elsewhere")).unwrap();
        assert!(line.contains("512 MiB") && line.contains("50.0%"), "{line}");
    }

    #[test]
    fn each_cell_is_of_its_column() {
        let text = stats(1).to_string();
        let cells = |first: &str| {
            let mut lines = text.lines().filter(|line| line.trim_start().starts_with(first));
            let line = lines.next().unwrap_or_else(|| panic!("no {first} in {text}"));
            assert_eq!(lines.next(), None, "{first}");
            // A figure and its unit are one cell.
            let line = [" B", " KiB", " MiB"].iter().fold(format!("{line} "), |line, unit| {
                line.replace(&format!("{unit} "), &format!("{} ", unit.trim_start()))
            });
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            cells("block  "),
            "block allocs frees live live bytes refills hits spans remote asked waste"
        );
        assert_eq!(cells("32 B"), "32B 1000 500 500 15.6KiB 111 88.9% 1 333 ~20B ~36%");
        assert_eq!(cells("32.0 KiB"), "32.0KiB 7 3 4 128KiB 0 100.0% 0 2 ~20B ~36%");
        assert_eq!(cells("≤1.00 MiB"), "≤1.00MiB 3 1 2 2.00MiB 0 100.0% 0 1 ~20B ~36%");
        assert_eq!(cells("total"), "total 1010 504 506 2.14MiB 111 89.0% 1 336 - -");
    }

    #[test]
    fn one_row_that_is_estimated_makes_no_table_exact() {
        let mut stats = stats(1);
        let said = |stats: &Stats| {
            let text = stats.to_string();
            text.lines().find(|line| line.starts_with("asked")).unwrap().to_owned()
        };
        let estimated = "asked (mean bytes requested), waste: estimated from samples (~); \
                         everything else is exact";
        assert_eq!(said(&stats), estimated);
        let exact = |row: &mut ClassStats| {
            row.requested = Some(Requested { exact: true, ..row.requested.unwrap() });
        };
        stats.classes.iter_mut().for_each(exact);
        assert_eq!(said(&stats), estimated, "the large ones are not");
        stats.large.iter_mut().for_each(exact);
        let all = "asked (mean bytes requested), waste: exact (every allocation was sampled); \
                   everything else is exact";
        assert_eq!(said(&stats), all);
        assert!(!stats.to_string().contains('~'), "{stats}");
        stats.classes.iter_mut().chain(&mut stats.large).for_each(|row| row.requested = None);
        assert_eq!(said(&stats), "asked, waste: not sampled; everything else is exact");
    }

    #[cfg(feature = "profile")]
    #[test]
    fn each_percentile_is_the_size_of_a_row() {
        let class = |block_bytes, allocs| ClassStats { block_bytes, allocs, ..<_>::default() };
        // The histogram's bound above the largest would show as 1.01 MiB.
        let stats = Stats {
            classes: vec![class(16, 500), class(32, 400), class(64, 90)],
            large: vec![class(1_053_800, 10)],
            ..Stats::default()
        };
        let line = "\nblock size by allocations: p50 16 B, p90 32 B, p99 64 B, max 1.00 MiB\n";
        assert!(stats.to_string().contains(line), "{stats}");
    }

    #[test]
    fn the_class_with_the_most_waits_is_named() {
        let mut stats = stats(5);
        (stats.classes[1].lock_waits, stats.classes[2].lock_waits) = (9, 2);
        let line = "\nwaits for locks: 16, of these 9 for blocks of 48 B\n";
        assert!(stats.to_string().contains(line), "{stats}");
    }
}
