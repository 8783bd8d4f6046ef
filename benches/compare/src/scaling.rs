//! The other mode: curves of the cost as something grows.

use crate::args::Args;
use crate::builds::{binary, ready};
use crate::machine::{Machine, memory_bytes};
use crate::process::Running;
use crate::results::{Place, Row, verdict};
use crate::rounds::order;
use crate::stamp::{Stamps, line};
use crate::summary::median;
use crate::{curves, process};
use harness::{Kind, Listing, Record};
use serde::Serialize;
use std::collections::BTreeMap;

/// A curve per allocator over each of several quantities.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Curves {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) allocators: Vec<String>,
    /// What the binaries were built from.
    pub(crate) built: Stamps,
    pub(crate) panels: Vec<Panel>,
}

impl Curves {
    /// Machine and binaries, for the head of tables and pictures.
    pub(crate) fn head(&self) -> String {
        format!("{}\n{}", self.machine.line(), line(&self.built, &self.allocators))
    }
}

/// The curves over one quantity.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) sizes: Vec<usize>,
    /// By allocator, the median at each size; none where every run failed.
    pub(crate) values: BTreeMap<String, Vec<Option<f64>>>,
}

/// What is varied and what is measured.
struct Sweep {
    title: &'static str,
    workload: &'static str,
    sizes: Vec<usize>,
    value: fn(&Record) -> Option<f64>,
}

fn sweeps(quick: bool) -> Vec<Sweep> {
    // A heap of live blocks also has slack and an index; half of what is free
    // leaves room for both.
    let heap_bytes_max = if quick { 64 << 20 } else { memory_bytes("MemAvailable") as usize / 2 };
    let threads_max = if quick { 4 } else { 64 };
    let idle_max = if quick { 10 } else { 1000 };
    vec![
        Sweep {
            title: "ns per operation over live heap",
            workload: "scale_heap",
            sizes: up_to((0..14).map(|i| 1 << (20 + i)), heap_bytes_max),
            value: |run| Some(run.ns_per_op),
        },
        Sweep {
            title: "ns per operation over threads",
            workload: "scale_threads",
            sizes: up_to((0..7).map(|i| 1 << i), threads_max),
            value: |run| Some(run.ns_per_op),
        },
        Sweep {
            title: "resident KiB per idle thread over threads",
            workload: "idle_threads",
            sizes: up_to([1, 3, 10, 30, 100, 300, 1000].into_iter(), idle_max),
            value: |run| run.figures.get("resident_per_thread_kib").copied(),
        },
    ]
}

fn up_to(sizes: impl Iterator<Item = usize>, max: usize) -> Vec<usize> {
    sizes.filter(|&size| size <= max).collect()
}

/// What is touched before each run. The largest heaps are larger, and wait for the host all
/// the same.
const TOUCHED_BYTES: usize = 2 << 30;

/// Runs every sweep that `--only` asks for, prints the medians and writes them; an error if runs
/// of ours failed or runs of one size computed different sums.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    let sweeps: Vec<Sweep> = sweeps(args.quick)
        .into_iter()
        .filter(|sweep| args.wants("micro", sweep.workload))
        .collect();
    if sweeps.is_empty() {
        let only = args.only.join(",");
        return Err(format!(
            "--only {only:?} matches no curve; there are: scale_heap, scale_threads, idle_threads"
        ));
    }
    let built = ready(args, &["micro"])?;
    let mut curves = Curves {
        machine: Machine::here(),
        rounds: args.rounds,
        allocators: args.allocators.iter().map(|&name| name.to_owned()).collect(),
        built,
        panels: Vec::new(),
    };
    let place = Place::new(&curves.machine.date, "scaling")?;
    let mut rows = Vec::new();
    for sweep in &sweeps {
        let of_the_sweep = measured(args, sweep)?;
        curves.panels.push(panel(sweep, &args.allocators, &of_the_sweep));
        rows.extend(of_the_sweep);
        place.keep(&curves)?;
    }
    print!("{}", curves.head());
    for panel in &curves.panels {
        print(panel);
    }
    place.write(&curves, &curves::render(&curves))?;
    verdict(&rows)
}

/// A row per size of the sweep, every allocator in every round.
fn measured(args: &Args, sweep: &Sweep) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (number, &size) in sweep.sizes.iter().enumerate() {
        let mut row = Row::new(&Listing {
            name: format!("{} of {size}", sweep.workload),
            kind: Kind::Scaling,
            about: sweep.title.to_owned(),
        });
        for round in 0..args.rounds {
            eprint!("\r\x1b[K{}  {size}  round {}/{}", sweep.workload, round + 1, args.rounds);
            for allocator in order(&args.allocators, number, round) {
                row.add(allocator, round, point(args, sweep, size, allocator)?.record());
            }
        }
        rows.push(row);
    }
    eprintln!("\r\x1b[K{} done", sweep.workload);
    Ok(rows)
}

/// Starts one run.
fn point(args: &Args, sweep: &Sweep, size: usize, allocator: &str) -> Result<Running, String> {
    let mut options = vec!["--size".to_owned(), size.to_string()];
    options.extend(args.quick.then(|| "--quick".to_owned()));
    if !args.quick {
        harness::touch(TOUCHED_BYTES);
    }
    process::start(&binary(allocator, "micro"), sweep.workload, &options)
}

/// The medians of the rows of a sweep.
fn panel(sweep: &Sweep, allocators: &[&str], rows: &[Row]) -> Panel {
    let value = |row: &Row, name: &str| {
        let runs = row.records.get(name).into_iter().flatten();
        median(runs.filter_map(|run| (sweep.value)(&run.record)).collect())
    };
    let values = allocators.iter().map(|&name| {
        (name.to_owned(), rows.iter().map(|row| value(row, name)).collect::<Vec<_>>())
    });
    Panel { title: sweep.title.to_owned(), sizes: sweep.sizes.clone(), values: values.collect() }
}

fn print(panel: &Panel) {
    println!("\n{}", panel.title);
    print!("{:18}", "");
    for size in &panel.sizes {
        print!("{:>12}", curves::label(*size));
    }
    println!();
    for (name, values) in &panel.values {
        print!("{name:18}");
        for value in values {
            print!("{:>12}", value.map_or("-".to_owned(), |value| format!("{value:.1}")));
        }
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::{panel, sweeps};
    use crate::results::{Row, tests::record_of, verdict};
    use harness::{Kind, Listing};

    #[test]
    fn a_size_at_which_all_runs_failed_has_no_median_and_ours_must_not_fail() {
        let sweep = &sweeps(true)[1];
        let listing = Listing { name: "1".into(), kind: Kind::Scaling, about: String::new() };
        let mut rows = [Row::new(&listing), Row::new(&listing)];
        for (round, ns) in [1.0, 3.0, 2.0].into_iter().enumerate() {
            rows[0].add("spanalloc", round, Ok(record_of(ns)));
            rows[1].add("spanalloc", round, Ok(record_of(ns)));
            rows[1].add("system", round, Err("signal: 9".to_owned()));
        }
        rows[0].add("system", 2, Ok(record_of(5.0)));
        let panel = panel(sweep, &["spanalloc", "system"], &rows);
        assert_eq!(panel.values["spanalloc"], [Some(2.0), Some(2.0)]);
        assert_eq!(panel.values["system"], [Some(5.0), None]);
        assert_eq!(verdict(&rows), Ok(()));
        rows[1].add("spanalloc", 3, Err("signal: 11".to_owned()));
        assert_eq!(verdict(&rows).unwrap_err(), "1 failed under spanalloc");
    }
}
