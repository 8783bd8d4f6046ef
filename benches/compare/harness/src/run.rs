//! One run of one workload: its size, its clock, its record; and `main`.

use crate::record::{Kind, Listing, PARKED, Record};
use crate::usage::{Usage, peak_resident_bytes};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// An entry of a binary's table of workloads.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The argument that runs it. Stable: records are compared by it.
    pub name: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// What it does, in one line.
    pub about: &'static str,
    /// The workload itself.
    pub run: fn(&mut Run),
}

/// The state of a run, handed to the workload.
#[derive(Debug)]
pub struct Run {
    quick: bool,
    share: usize,
    size: Option<usize>,
    ops: u64,
    wall: Duration,
    cpu_ns: u64,
    checksum: u64,
    figures: BTreeMap<String, f64>,
}

impl Run {
    /// How many of something: `full`, or the share of it (at least one) that
    /// `--share` or `--quick` asks for.
    pub fn count(&self, full: usize) -> usize {
        (full / self.share).max(1)
    }

    /// `full`, or `quick` in a quick run: for what does not scale by a factor.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The value of `--size`, or `default`.
    pub fn size(&self, default: usize) -> usize {
        self.size.unwrap_or(default)
    }

    /// Runs `work` on the clock as `ops` operations. May be called repeatedly.
    pub fn time<R>(&mut self, ops: usize, work: impl FnOnce() -> R) -> R {
        let before = Usage::now();
        let start = Instant::now();
        let result = work();
        self.wall += start.elapsed();
        let after = Usage::now();
        self.cpu_ns += after.user_ns + after.system_ns - before.user_ns - before.system_ns;
        self.ops += ops as u64;
        result
    }

    /// Adds `value` to the checksum, which must not depend on the allocator.
    pub fn check(&mut self, value: u64) {
        self.checksum = self.checksum.rotate_left(5).wrapping_add(value);
    }

    /// Records a figure under `name`, which ends in its unit (`worst_free_us`).
    pub fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }

    /// Tells the driver that everything is freed and only waiting is left.
    pub fn parked(&self) {
        println!("{PARKED}");
    }

    fn record(self, workload: &str) -> Record {
        let usage = Usage::now();
        let ops = self.ops.max(1) as f64;
        Record {
            workload: workload.to_owned(),
            ops: self.ops,
            ns_per_op: self.wall.as_nanos() as f64 / ops,
            cpu_ns_per_op: self.cpu_ns as f64 / ops,
            peak_rss_bytes: peak_resident_bytes(),
            minor_faults: usage.minor_faults,
            user_ms: usage.user_ns as f64 / 1e6,
            system_ms: usage.system_ns as f64 / 1e6,
            checksum: self.checksum,
            figures: self.figures,
        }
    }
}

/// The `main` of a workload binary: lists `workloads`, or runs the one named.
pub fn main(workloads: &[Workload]) -> ExitCode {
    match parse(workloads, std::env::args().skip(1)) {
        Ok(None) => {
            let listings: Vec<Listing> = workloads.iter().map(listing).collect();
            println!("{}", serde_json::to_string(&listings).expect("plain data serializes"));
            ExitCode::SUCCESS
        }
        Ok(Some((workload, mut run))) => {
            (workload.run)(&mut run);
            let record = run.record(workload.name);
            println!("{}", serde_json::to_string(&record).expect("plain data serializes"));
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// The share that a quick run does of what is counted.
const QUICK_SHARE: usize = 20;

type Choice<'a> = Option<(&'a Workload, Run)>;

fn parse(
    workloads: &[Workload],
    mut args: impl Iterator<Item = String>,
) -> Result<Choice<'_>, String> {
    let mut workload = None;
    let mut quick = false;
    let mut share = None;
    let mut size = None;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--list" => return Ok(None),
            "--quick" => quick = true,
            "--size" => size = Some(positive("--size", args.next())?),
            "--share" => share = Some(positive("--share", args.next())?),
            name => {
                let found = workloads.iter().find(|workload| workload.name == name);
                workload = Some(found.ok_or_else(|| unknown(workloads, name))?);
            }
        }
    }
    let workload = workload.ok_or("name a workload to run, or --list for their names")?;
    let run = Run {
        quick,
        share: share.unwrap_or(if quick { QUICK_SHARE } else { 1 }),
        size,
        ops: 0,
        wall: Duration::ZERO,
        cpu_ns: 0,
        checksum: 0,
        figures: BTreeMap::new(),
    };
    Ok(Some((workload, run)))
}

fn positive(option: &str, value: Option<String>) -> Result<usize, String> {
    let value = value.unwrap_or_default();
    match value.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("{option} {value:?}: expected a whole number from 1, such as 64")),
    }
}

fn unknown(workloads: &[Workload], name: &str) -> String {
    let names: Vec<&str> = workloads.iter().map(|workload| workload.name).collect();
    format!("no workload is called {name:?}; there are: {}", names.join(", "))
}

fn listing(workload: &Workload) -> Listing {
    Listing {
        name: workload.name.to_owned(),
        kind: workload.kind,
        about: workload.about.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Workload, parse};

    const WORKLOADS: &[Workload] =
        &[Workload { name: "tree", kind: Kind::Time, about: "", run: |_| {} }];

    fn count(line: &str) -> Result<usize, String> {
        let parsed = parse(WORKLOADS, line.split_whitespace().map(str::to_owned));
        parsed.map(|chosen| chosen.expect("a workload was named").1.count(1000))
    }

    #[test]
    fn a_quick_run_and_a_share_count_less() {
        assert_eq!(count("tree"), Ok(1000));
        assert_eq!(count("tree --quick"), Ok(50));
        assert_eq!(count("tree --share 100"), Ok(10));
        assert_eq!(count("tree --share 5000"), Ok(1));
    }

    #[test]
    fn bad_arguments_are_named_with_what_is_accepted() {
        assert!(count("tre").unwrap_err().contains("\"tre\"; there are: tree"));
        assert!(count("tree --share 0").unwrap_err().contains("\"0\": expected a whole number"));
        assert!(count("--quick").unwrap_err().contains("--list"));
    }
}
