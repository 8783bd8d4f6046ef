//! Medians over the rounds, ratios to the best rival, geometric means.
//!
//! A *rival* of an allocator is one of another family that is not ours: what is
//! asked of ours is to be ahead of the best of the others in each row, and the
//! others are measured the same way against each other.
//!
//! On a machine that others share, a row may take twice as long in one minute as in the
//! next. The ratio *in turn* is steadier than that of two medians: the runs of one round follow
//! each other within seconds, so it is the median over the rounds of the ratio within the round,
//! to that rival to which it is greatest.

use crate::catalog::{family, is_ours};
use crate::results::{Results, Row, Taken};
use harness::{Kind, Record};
use std::collections::BTreeMap;

/// What a table shows of each record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) title: &'static str,
    pub(crate) of: fn(&Record) -> f64,
    /// The amount below which a difference is not one, added to both sides of a
    /// ratio.
    pub(crate) floor: f64,
    /// The amount by which a row may be behind without being the worst.
    pub(crate) slack: f64,
}

/// Wall time of an operation.
pub(crate) const TIME: Metric =
    Metric { title: "time, ns per operation", of: |run| run.ns_per_op, floor: 0.0, slack: 0.0 };

/// Processor time of an operation: what other programs disturb less.
pub(crate) const PROCESSOR: Metric = Metric {
    title: "processor time, ns per operation",
    of: |run| run.cpu_ns_per_op,
    floor: 0.0,
    slack: 0.0,
};

/// The most memory that was resident; a MiB more is small.
pub(crate) const MEMORY: Metric = Metric {
    title: "peak RSS, MiB",
    of: |run| run.peak_rss_bytes as f64 / f64::from(1 << 20),
    floor: 0.0,
    slack: 1.0,
};

/// What the kernel did for it.
pub(crate) const KERNEL: [Metric; 3] = [
    Metric {
        title: "page faults, thousands",
        of: |run| run.minor_faults as f64 / 1e3,
        floor: 0.1,
        slack: 0.0,
    },
    Metric { title: "system time, ms", of: |run| run.system_ms, floor: 5.0, slack: 0.0 },
    Metric { title: "user time, ms", of: |run| run.user_ms, floor: 5.0, slack: 0.0 },
];

/// A metric over the rows it applies to.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) time: Vec<Line>,
    pub(crate) processor: Vec<Line>,
    pub(crate) memory: Vec<Line>,
    pub(crate) kernel: Vec<(Metric, Vec<Line>)>,
}

/// A row of one metric.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) workload: String,
    pub(crate) medians: BTreeMap<String, f64>,
    /// By allocator, the ratio to its best rival.
    pub(crate) ratios: BTreeMap<String, f64>,
    /// By allocator, the ratio in turn.
    pub(crate) in_turn: BTreeMap<String, f64>,
    /// By allocator, the ratio of the least of its runs to the least of any rival's.
    pub(crate) least: BTreeMap<String, f64>,
    /// By allocator, the greatest of its runs over the least.
    pub(crate) spread: BTreeMap<String, f64>,
}

/// Ratios of a line, by allocator.
pub(crate) type Ratios = fn(&Line) -> &BTreeMap<String, f64>;

/// The column of an allocator seen as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Overall {
    pub(crate) geomean: f64,
    pub(crate) worst: f64,
    pub(crate) worst_workload: String,
    /// Rows in which it is at least level with its best rival.
    pub(crate) won: usize,
    /// Rows in which it has a ratio: fewer than there are where it or all its rivals failed.
    pub(crate) rows: usize,
}

impl Overall {
    /// Over rows and their ratios, of which there is one at least.
    fn new(ratios: &[(&str, f64)], worst: (&str, f64)) -> Self {
        let logs: f64 = ratios.iter().map(|(_, ratio)| ratio.ln()).sum();
        Self {
            geomean: (logs / ratios.len() as f64).exp(),
            worst: worst.1,
            worst_workload: worst.0.to_owned(),
            won: ratios.iter().filter(|(_, ratio)| *ratio <= 1.0).count(),
            rows: ratios.len(),
        }
    }
}

impl Summary {
    /// The summary of `results`.
    pub(crate) fn new(results: &Results) -> Self {
        let rows: Vec<&Row> = results.rows.iter().filter(|row| row.kind == Kind::Time).collect();
        let lines = |metric: Metric| rows.iter().map(|row| Line::new(row, metric)).collect();
        Self {
            time: lines(TIME),
            processor: lines(PROCESSOR),
            memory: lines(MEMORY),
            kernel: KERNEL.map(|metric| (metric, lines(metric))).to_vec(),
        }
    }
}

impl Line {
    pub(crate) fn new(row: &Row, metric: Metric) -> Self {
        let of_runs = |take: fn(Vec<f64>) -> Option<f64>| -> BTreeMap<String, f64> {
            let of = |runs: &[Taken]| runs.iter().map(|run| (metric.of)(&run.record)).collect();
            let each = row.records.iter();
            each.filter_map(|(name, runs)| Some((name.clone(), take(of(runs))?))).collect()
        };
        let to_best = |values: &BTreeMap<String, f64>| {
            let ratio = |(name, value): (&String, &f64)| {
                let best = best_rival(name, values)?;
                Some((name.clone(), (value + metric.floor) / (best + metric.floor)))
            };
            values.iter().filter_map(ratio).collect()
        };
        let medians = of_runs(median);
        let ratios = to_best(&medians);
        let least = to_best(&of_runs(|runs| runs.into_iter().min_by(f64::total_cmp)));
        let spread = of_runs(|runs| {
            let (least, most) = runs.iter().fold((f64::MAX, 0.0_f64), |(least, most), &value| {
                (least.min(value), most.max(value))
            });
            (least > 0.0 && least <= most).then(|| most / least)
        });
        let in_turn = row
            .records
            .keys()
            .filter_map(|name| Some((name.clone(), in_turn(row, metric, name)?)))
            .collect();
        Self { workload: row.workload.clone(), medians, ratios, in_turn, least, spread }
    }
}

/// The ratio in turn of `allocator`. A rival that shares fewer than half of its rounds with it, as
/// one or the other failed, is left out: the largest of few ratios is mostly chance.
fn in_turn(row: &Row, metric: Metric, allocator: &str) -> Option<f64> {
    let own = row.records.get(allocator)?;
    let to = |rival: &[Taken]| {
        let ratios: Vec<f64> = own
            .iter()
            .filter_map(|run| Some((run, rival.iter().find(|other| other.round == run.round)?)))
            .filter(|(run, _)| run.round.is_some())
            .map(|(run, other)| [run, other].map(|run| (metric.of)(&run.record) + metric.floor))
            // Processor time that the kernel did not see is no time.
            .filter(|values| values.iter().all(|&value| value > 0.0))
            .map(|[own, rival]| own / rival)
            .collect();
        if 2 * ratios.len() >= own.len() { median(ratios) } else { None }
    };
    row.records
        .iter()
        .filter(|(name, _)| is_rival(name, allocator))
        .filter_map(|(_, runs)| to(runs))
        .max_by(f64::total_cmp)
}

/// Whether `name` is a rival of `allocator`.
fn is_rival(name: &str, allocator: &str) -> bool {
    !is_ours(name) && family(name) != family(allocator)
}

/// The least value among the rivals of `allocator`.
fn best_rival(allocator: &str, medians: &BTreeMap<String, f64>) -> Option<f64> {
    medians
        .iter()
        .filter(|(name, _)| is_rival(name, allocator))
        .map(|(_, &value)| value)
        .min_by(f64::total_cmp)
}

/// How `allocator` stands over all `lines` it has a ratio in. Rows in which it is
/// behind by `slack` or less, in the metric's unit, are not its worst.
pub(crate) fn overall(lines: &[Line], allocator: &str, slack: f64) -> Option<Overall> {
    let ratios: Vec<(&str, f64)> = lines
        .iter()
        .filter_map(|line| Some((line.workload.as_str(), *line.ratios.get(allocator)?)))
        .collect();
    let excused = |line: &&Line| {
        let behind = || Some(line.medians.get(allocator)? - best_rival(allocator, &line.medians)?);
        behind().is_none_or(|behind| behind > 0.0 && behind <= slack)
    };
    let blamed = lines.iter().filter(|line| !excused(line));
    let worst = blamed
        .filter_map(|line| Some((line.workload.as_str(), *line.ratios.get(allocator)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or(("none", 1.0));
    if ratios.is_empty() {
        return None;
    }
    Some(Overall::new(&ratios, worst))
}

/// How `allocator` stands by these `ratios`, such as those in turn.
pub(crate) fn overall_by(lines: &[Line], ratios: Ratios, allocator: &str) -> Option<Overall> {
    let ratios: Vec<(&str, f64)> = lines
        .iter()
        .filter_map(|line| Some((line.workload.as_str(), *ratios(line).get(allocator)?)))
        .collect();
    let worst = *ratios.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(Overall::new(&ratios, worst))
}

/// The median; of an even count, the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, PROCESSOR, TIME, best_rival, median, overall, overall_by};
    use crate::results::{Row, tests::record_of};
    use harness::{Kind, Listing, Record};
    use std::collections::BTreeMap;

    fn medians(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn the_median_of_few() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn nobody_is_its_own_rival_and_ours_is_nobodys() {
        let row = medians(&[
            ("spanalloc", 1.0),
            ("stoolap", 2.0),
            ("stoolap-profiled", 3.0),
            ("system", 9.0),
        ]);
        assert_eq!(best_rival("spanalloc-sampled", &row), Some(2.0));
        assert_eq!(best_rival("stoolap", &row), Some(9.0));
        assert_eq!(best_rival("system", &row), Some(2.0));
    }

    #[test]
    fn in_turn_is_within_rounds_to_the_rival_that_is_hardest() {
        let listing = Listing { name: "tree".into(), kind: Kind::Time, about: String::new() };
        let mut row = Row::new(&listing);
        let none = f64::NAN;
        for (name, times) in [
            // Each round takes twice as long as the one before.
            ("spanalloc", [1.0, 2.0, 4.0, 8.0, 16.0]),
            ("mimalloc", [2.0, 4.0, 8.0, 16.0, 32.0]),
            ("system", [0.8, 1.6, 3.2, 6.4, 12.8]),
            // It failed in the first two rounds. Paired by place it would be the hardest.
            ("rpmalloc", [none, none, 5.0, 10.0, 20.0]),
            // It has too few rounds to say.
            ("snmalloc", [0.1, 0.1, none, none, none]),
        ] {
            for (round, &ns) in times.iter().enumerate().filter(|(_, ns)| !ns.is_nan()) {
                row.add(name, round, Ok(record_of(ns)));
            }
        }
        let line = Line::new(&row, TIME);
        let expect = medians(&[
            ("mimalloc", 2.5),
            ("rpmalloc", 1.5625),
            ("spanalloc", 1.25),
            ("system", 0.64),
        ]);
        for (name, ratio) in &expect {
            assert!((line.in_turn[name] - ratio).abs() < 1e-12, "{name}: {}", line.in_turn[name]);
        }
        let lines = [line];
        let overall = overall_by(&lines, |line| &line.in_turn, "spanalloc").unwrap();
        assert_eq!((overall.won, overall.rows, overall.worst_workload.as_str()), (0, 1, "tree"));
        assert!((overall.geomean - 1.25).abs() < 1e-12);
    }

    #[test]
    fn overall_is_geometric_and_names_the_worst_row() {
        let line = |workload: &str, ratio| Line {
            workload: workload.to_owned(),
            medians: medians(&[("spanalloc", ratio), ("system", 1.0)]),
            ratios: medians(&[("spanalloc", ratio)]),
            in_turn: BTreeMap::new(),
            least: BTreeMap::new(),
            spread: BTreeMap::new(),
        };
        let lines = [line("a", 0.5), line("b", 2.0)];
        assert_eq!(overall(&lines, "spanalloc", 1.0).unwrap().worst_workload, "a");
        assert_eq!(overall(&lines, "mimalloc", 0.0), None);
        let overall = overall(&lines, "spanalloc", 0.0).unwrap();
        assert!((overall.geomean - 1.0).abs() < 1e-12);
        assert_eq!((overall.worst, overall.worst_workload.as_str()), (2.0, "b"));
        assert_eq!((overall.won, overall.rows), (1, 2));
    }

    #[test]
    fn the_least_are_held_against_the_least_and_the_spread_is_of_each() {
        let listing = Listing { name: "tree".into(), kind: Kind::Time, about: String::new() };
        let mut row = Row::new(&listing);
        for (name, times) in [("spanalloc", [3.0, 2.0, 8.0]), ("system", [4.0, 5.0, 6.0])] {
            for (round, ns) in times.into_iter().enumerate() {
                row.add(name, round, Ok(record_of(ns)));
            }
        }
        let line = Line::new(&row, TIME);
        // Ours has no rival of its own in the other direction: ours is nobody's.
        assert_eq!(line.least, medians(&[("spanalloc", 0.5)]));
        assert_eq!(line.spread, medians(&[("spanalloc", 4.0), ("system", 1.5)]));
    }

    #[test]
    fn a_time_of_zero_gives_no_ratio() {
        let listing = Listing { name: "tree".into(), kind: Kind::Time, about: String::new() };
        let mut row = Row::new(&listing);
        for (name, times) in [("spanalloc", [2.0, 0.0, 3.0]), ("system", [1.0, 1.0, 0.0])] {
            for (round, ns) in times.into_iter().enumerate() {
                row.add(name, round, Ok(Record { cpu_ns_per_op: ns, ..record_of(1.0) }));
            }
        }
        // Of three rounds one can be compared: fewer than half.
        assert!(Line::new(&row, PROCESSOR).in_turn.is_empty());
        row.add("spanalloc", 3, Ok(Record { cpu_ns_per_op: 4.0, ..record_of(1.0) }));
        row.add("system", 3, Ok(Record { cpu_ns_per_op: 1.0, ..record_of(1.0) }));
        assert_eq!(Line::new(&row, PROCESSOR).in_turn["spanalloc"], 3.0);
    }
}
