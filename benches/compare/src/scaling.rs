//! The other mode: curves of the cost as something grows.

use crate::args::Args;
use crate::builds::{binary, build};
use crate::machine::{Machine, memory_bytes};
use crate::results::Place;
use crate::rounds::order;
use crate::summary::median;
use crate::{curves, process};
use harness::Record;
use serde::Serialize;
use std::collections::BTreeMap;

/// A curve per allocator over each of several quantities.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Curves {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) allocators: Vec<String>,
    pub(crate) panels: Vec<Panel>,
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

/// Runs every sweep that `--only` asks for, prints the medians and writes them.
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
    if args.build {
        for allocator in &args.allocators {
            build(allocator, &["micro"])?;
        }
    }
    let mut curves = Curves {
        machine: Machine::here(),
        rounds: args.rounds,
        allocators: args.allocators.iter().map(|&name| name.to_owned()).collect(),
        panels: Vec::new(),
    };
    let place = Place::new(&curves.machine.date, "scaling")?;
    for sweep in &sweeps {
        curves.panels.push(panel(args, sweep)?);
        place.keep(&curves)?;
    }
    for panel in &curves.panels {
        print(panel);
    }
    place.write(&curves, &curves::render(&curves))
}

fn panel(args: &Args, sweep: &Sweep) -> Result<Panel, String> {
    let mut values: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    for (number, &size) in sweep.sizes.iter().enumerate() {
        let mut seen: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for round in 0..args.rounds {
            eprint!("\r\x1b[K{}  {size}  round {}/{}", sweep.workload, round + 1, args.rounds);
            for allocator in order(&args.allocators, number, round) {
                seen.entry(allocator).or_default().extend(point(args, sweep, size, allocator)?);
            }
        }
        for (allocator, runs) in seen {
            values.entry(allocator.to_owned()).or_default().push(median(runs));
        }
    }
    eprintln!("\r\x1b[K{} done", sweep.workload);
    Ok(Panel { title: sweep.title.to_owned(), sizes: sweep.sizes.clone(), values })
}

/// One run; none if it failed, which is said.
fn point(args: &Args, sweep: &Sweep, size: usize, allocator: &str) -> Result<Option<f64>, String> {
    let mut options = vec!["--size".to_owned(), size.to_string()];
    options.extend(args.quick.then(|| "--quick".to_owned()));
    if !args.quick {
        harness::touch(TOUCHED_BYTES);
    }
    let running = process::start(&binary(allocator, "micro"), sweep.workload, &options)?;
    let outcome = running.record();
    if let Err(why) = &outcome {
        eprintln!("\r\x1b[K{} of {size} under {allocator}: {why}", sweep.workload);
    }
    Ok(outcome.ok().and_then(|record| (sweep.value)(&record)))
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
