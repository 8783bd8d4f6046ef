//! Realistic jobs before and after a collection of this crate takes over their memory.
//!
//! `cargo run --release --example before_after` runs all jobs; name some to run only those
//! (`-- requests`). Each job prints the time and the exact number of allocations per unit of work,
//! by size class, for both ways of doing it. `--dump PREFIX` writes the dump of the whole run,
//! whose flamegraphs show both ways side by side.

mod aggregate;
mod requests;
mod tree;

use spanalloc::{SpanAlloc, Stats};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// A job's name and what runs it.
const JOBS: [(&str, fn()); 3] =
    [("requests", requests::run), ("aggregate", aggregate::run), ("tree", tree::run)];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut wanted, mut prefix) = (Vec::new(), None);
    while let Some(argument) = arguments.next() {
        if argument == "--dump" {
            let Some(value) = arguments.next() else {
                eprintln!("--dump needs a prefix for the files, such as flamegraphs/before-after");
                return ExitCode::from(2);
            };
            prefix = Some(value);
        } else if JOBS.iter().any(|(name, _)| *name == argument) {
            wanted.push(argument);
        } else {
            let names = JOBS.map(|(name, _)| name).join(", ");
            eprintln!("unknown argument {argument:?}: accepted are {names} and --dump PREFIX");
            return ExitCode::from(2);
        }
    }
    if prefix.is_some() {
        sample();
    }
    for (name, run) in JOBS {
        if wanted.is_empty() || wanted.iter().any(|job| job == name) {
            run();
        }
    }
    if let Some(prefix) = prefix {
        match spanalloc::dump(&prefix) {
            Ok(paths) => paths.iter().for_each(|path| println!("wrote {}", path.display())),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Samples stacks for the flamegraphs, often enough for a run of a few seconds.
fn sample() {
    #[cfg(feature = "profile")]
    if let Err(error) = spanalloc::profile::start(64 * 1024) {
        eprintln!("no stacks: {error}");
    }
}

/// What one way of doing a job took.
struct Way {
    name: &'static str,
    time: Duration,
    before: Stats,
    after: Stats,
}

impl Way {
    fn measure(name: &'static str, work: impl FnOnce()) -> Self {
        let before = spanalloc::stats();
        let start = Instant::now();
        work();
        let time = start.elapsed();
        Self { name, time, before, after: spanalloc::stats() }
    }

    /// Allocations by block size.
    fn allocs(&self) -> BTreeMap<u64, u64> {
        let rows = |stats: &Stats| -> BTreeMap<u64, u64> {
            let rows = stats.classes.iter().chain(&stats.large);
            rows.map(|row| (row.block_bytes, row.allocs)).collect()
        };
        let before = rows(&self.before);
        let of = |(bytes, allocs)| (bytes, allocs - before.get(&bytes).unwrap_or(&0));
        rows(&self.after).into_iter().map(of).filter(|row| row.1 > 0).collect()
    }
}

/// Prints both ways of a job of `units` units side by side.
fn compare(title: &str, unit: &str, units: u64, ways: [Way; 2]) {
    let [before, after] = &ways;
    let (old, new) = (before.allocs(), after.allocs());
    println!("{title}: {units} {unit}s");
    println!("  {:<28} {:>16} {:>16}", "", before.name, after.name);
    let ns = |way: &Way| way.time.as_nanos() as f64 / units as f64;
    println!("  {:<28} {:>16.1} {:>16.1}", format!("ns per {unit}"), ns(before), ns(after));
    let total = |allocs: &BTreeMap<u64, u64>| allocs.values().sum::<u64>();
    println!("  {:<28} {:>16} {:>16}", "allocations", total(&old), total(&new));
    let sizes: BTreeMap<u64, ()> = old.keys().chain(new.keys()).map(|size| (*size, ())).collect();
    for size in sizes.into_keys() {
        let count = |allocs: &BTreeMap<u64, u64>| allocs.get(&size).copied().unwrap_or(0);
        let row = format!("  of up to {size} bytes");
        println!("  {row:<28} {:>16} {:>16}", count(&old), count(&new));
    }
}
