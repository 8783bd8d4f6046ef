//! The tables, as text.

use crate::catalog::is_ours;
use crate::results::{Results, Row};
use crate::summary::{KERNEL, Line, MEMORY, Metric, Overall, Ratios, Summary, TIME};
use crate::summary::{median, overall, overall_by};
use harness::{Kind, Record};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Everything there is to say about a comparison, for a terminal; with `details`
/// also a row per workload for what the kernel did.
pub(crate) fn render(results: &Results, summary: &Summary, details: bool) -> String {
    let mut text = results.head();
    let crates: Vec<String> =
        results.machine.crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let _ = writeln!(text, "{}", crates.join(", "));
    let (rounds, left_out) = (results.rounds, results.left_out());
    let _ =
        writeln!(text, "medians of {rounds} rounds; × is the ratio to the best rival{left_out}");
    if !summary.time.is_empty() {
        metric(&mut text, &TIME, &summary.time, &results.allocators);
        let by = [("", &summary.time), (", by processor time", &summary.processor)];
        for (what, lines) in by {
            let _ = writeln!(text, "  in turn{what}, by the median of the ratios within a round:");
            for name in &results.allocators {
                stands(&mut text, name, overall_by(lines, |line| &line.in_turn, name));
            }
        }
        if details {
            let ratios: [(&str, Ratios); 2] = [
                ("in turn, time", |line| &line.in_turn),
                ("least of the rounds", |line| &line.least),
            ];
            for (title, ratios) in ratios {
                matrix(&mut text, title, &summary.time, ratios, &results.allocators);
                for name in &results.allocators {
                    stands(&mut text, name, overall_by(&summary.time, ratios, name));
                }
            }
            let spread: Ratios = |line| &line.spread;
            matrix(&mut text, "greatest over least", &summary.time, spread, &results.allocators);
        }
        metric(&mut text, &MEMORY, &summary.memory, &results.allocators);
        if details {
            for (other, lines) in &summary.kernel {
                metric(&mut text, other, lines, &results.allocators);
            }
        }
        sums(&mut text, summary, &results.allocators);
    }
    for row in &results.rows {
        figures(&mut text, row, &results.allocators);
    }
    failures(&mut text, results);
    text
}

/// A line per workload and a column per allocator, ours with their ratios; then
/// how each allocator stands over all of them.
fn metric(text: &mut String, metric: &Metric, lines: &[Line], allocators: &[String]) {
    let _ = write!(text, "\n{:24}", metric.title);
    for name in allocators {
        let _ = write!(text, "{:>12}", short(name));
        if is_ours(name) {
            text.push_str("      ×");
        }
    }
    text.push_str("  best rival\n");
    for line in lines {
        let _ = write!(text, "{:24}", line.workload);
        for name in allocators {
            let value = line.medians.get(name).map_or("-".to_owned(), |&value| number(value));
            let _ = write!(text, "{value:>12}");
            if is_ours(name) {
                let ratio = line.ratios.get(name);
                let _ = write!(text, "{:>7}", ratio.map_or("-".to_owned(), |r| format!("{r:.2}")));
            }
        }
        let rivals = line.medians.iter().filter(|(name, _)| !is_ours(name));
        let best = rivals.min_by(|a, b| a.1.total_cmp(b.1));
        let _ = writeln!(text, "  {}", best.map_or("-", |(name, _)| short(name)));
    }
    let _ = writeln!(text, "  against the best rival in each row:");
    for name in allocators {
        stands(text, name, overall(lines, name, metric.slack));
    }
}

/// A ratio for each workload and allocator.
fn matrix(text: &mut String, title: &str, lines: &[Line], ratios: Ratios, allocators: &[String]) {
    head(text, title, allocators);
    for line in lines {
        let _ = write!(text, "{:24}", line.workload);
        for name in allocators {
            let ratio = ratios(line).get(name).map_or("-".to_owned(), |r| format!("{r:.2}"));
            let _ = write!(text, "{ratio:>12}");
        }
        text.push('\n');
    }
}

/// A line on how an allocator stands over the rows that it finished.
pub(crate) fn stands(text: &mut String, name: &str, overall: Option<Overall>) {
    if let Some(all) = overall {
        let _ = writeln!(
            text,
            "  {name:18} geomean {:.3}   best or level in {:2} of {:2}   worst {:.2} ({})",
            all.geomean, all.won, all.rows, all.worst, all.worst_workload,
        );
    }
}

/// What the kernel did, summed over the medians of all workloads.
fn sums(text: &mut String, summary: &Summary, allocators: &[String]) {
    head(text, "sums over all rows", allocators);
    for (metric, lines) in &summary.kernel {
        let _ = write!(text, "  {:22}", metric.title);
        for name in allocators {
            let sum: f64 = lines.iter().filter_map(|line| line.medians.get(name)).sum();
            let _ = write!(text, "{:>12}", number(sum));
        }
        text.push('\n');
    }
}

/// A head line: a title and the names of the columns.
pub(crate) fn head(text: &mut String, title: &str, allocators: &[String]) {
    let _ = write!(text, "\n{title:24}");
    for name in allocators {
        let _ = write!(text, "{:>12}", short(name));
    }
    text.push('\n');
}

/// How the figures begin that are the worst of a run: the worst of several runs is another.
const WORST: &str = "worst_";

/// The figures that only some workloads have, by their medians; of those that are the worst of a
/// run also the greatest.
fn figures(text: &mut String, row: &Row, allocators: &[String]) {
    let keys: BTreeSet<&String> = row.records().flat_map(|run| run.figures.keys()).collect();
    if keys.is_empty() {
        return;
    }
    head(text, &row.workload, allocators);
    let mut line = |title: &str, take: Take, of: &dyn Fn(&Record) -> Option<f64>| {
        let _ = write!(text, "  {title:22}");
        for name in allocators {
            let runs = row.records.get(name).into_iter().flatten();
            let value = take(runs.filter_map(|run| of(&run.record)).collect());
            let _ = write!(text, "{:>12}", value.map_or("-".to_owned(), number));
        }
        text.push('\n');
    };
    for key in keys {
        let of = |run: &Record| run.figures.get(key).copied();
        line(key, median, &of);
        if key.starts_with(WORST) {
            line("  greatest of a round", greatest, &of);
        }
    }
    if row.kind != Kind::Time {
        for metric in KERNEL.iter().chain([&MEMORY]) {
            line(metric.title, median, &|run| Some((metric.of)(run)));
        }
    }
}

/// One value of those of the rounds.
type Take = fn(Vec<f64>) -> Option<f64>;

fn greatest(values: Vec<f64>) -> Option<f64> {
    values.into_iter().max_by(f64::total_cmp)
}

fn failures(text: &mut String, results: &Results) {
    for row in &results.rows {
        for (name, whys) in &row.failures {
            let times = whys.len();
            let _ =
                writeln!(text, "FAILED {} under {name}, {times} times: {}", row.workload, whys[0]);
        }
        if let Some(difference) = row.difference() {
            let _ = writeln!(text, "DIFFER {difference}");
        }
    }
}

/// A name that fits a column.
fn short(name: &str) -> &str {
    match name {
        "spanalloc-sampled" => "sampled",
        "stoolap-profiled" => "stoolap-p",
        name => name,
    }
}

/// Three significant digits, without an exponent.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{figures, number};
    use crate::results::{Row, tests::record_of};
    use harness::{Kind, Listing, Record};

    #[test]
    fn three_digits() {
        assert_eq!([1234.4, 99.94, 9.994, 0.0].map(number), ["1234", "99.9", "9.99", "0.00"]);
    }

    #[test]
    fn of_the_worst_of_each_run_the_greatest_is_shown_too() {
        let listing = Listing { name: "free".into(), kind: Kind::Figures, about: String::new() };
        let mut row = Row::new(&listing);
        for (round, us) in [7.0, 900.0, 8.0].into_iter().enumerate() {
            let figures = [("worst_us".to_owned(), us), ("slow".to_owned(), us)].into();
            row.add("system", round, Ok(Record { figures, ..record_of(1.0) }));
        }
        let mut text = String::new();
        figures(&mut text, &row, &["system".to_owned(), "mimalloc".to_owned()]);
        let words: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(words.contains(&vec!["worst_us", "8.00", "-"]), "{text}");
        assert!(words.contains(&vec!["greatest", "of", "a", "round", "900", "-"]), "{text}");
        assert!(words.contains(&vec!["slow", "8.00", "-"]), "{text}");
        assert_eq!(text.matches("greatest").count(), 1, "{text}");
    }
}
