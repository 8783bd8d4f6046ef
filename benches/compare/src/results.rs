//! Every record of a comparison, as it is written to `results/`.

use crate::args::Args;
use crate::builds::home;
use crate::machine::Machine;
use harness::{Kind, Listing, Record};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

/// A comparison: where, when, what, and what came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    /// In the order of the table's columns.
    pub(crate) allocators: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// A workload and its records, by allocator, a record per round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) kind: Kind,
    pub(crate) about: String,
    pub(crate) records: BTreeMap<String, Vec<Record>>,
    /// How runs ended that gave no record.
    pub(crate) failures: BTreeMap<String, Vec<String>>,
}

impl Results {
    /// The results of a comparison that has just ended.
    pub(crate) fn new(args: &Args, rows: Vec<Row>) -> Self {
        Self {
            machine: Machine::here(),
            rounds: args.rounds,
            quick: args.quick,
            allocators: args.allocators.iter().map(|&name| name.to_owned()).collect(),
            rows,
        }
    }
}

impl Row {
    /// A row without records.
    pub(crate) fn new(listing: &Listing) -> Self {
        Self {
            workload: listing.name.clone(),
            kind: listing.kind,
            about: listing.about.clone(),
            records: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Adds the outcome of one run.
    pub(crate) fn add(&mut self, allocator: &str, outcome: Result<Record, String>) {
        let allocator = allocator.to_owned();
        match outcome {
            Ok(record) => self.records.entry(allocator).or_default().push(record),
            Err(why) => {
                eprintln!("\r\x1b[K{} under {allocator}: {why}", self.workload);
                self.failures.entry(allocator).or_default().push(why);
            }
        }
    }

    /// The most that any run had resident; none before the first.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        self.records.values().flatten().map(|run| run.peak_rss_bytes).max()
    }

    /// Warns when runs computed different things: they are no comparison then.
    pub(crate) fn agree(&self) {
        let mut sums: Vec<u64> = self.records.values().flatten().map(|run| run.checksum).collect();
        sums.sort_unstable();
        sums.dedup();
        if sums.len() > 1 {
            eprintln!("{}: the runs computed different sums: {sums:?}", self.workload);
        }
    }
}

/// Writes `results/DATE-NAME.json` and `.svg` and says where.
pub(crate) fn write(results: &impl Dated, chart: &str, name: &str) -> Result<(), String> {
    let folder = home().join("results");
    let stem = folder.join(format!("{}-{name}", results.date()));
    let json = serde_json::to_string(results).expect("plain data serializes");
    let (data, picture) = (stem.with_extension("json"), stem.with_extension("svg"));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&data, json))
        .and_then(|()| fs::write(&picture, chart))
        .map_err(|error| format!("cannot write {}: {error}", stem.display()))?;
    println!("{}\n{}", data.display(), picture.display());
    Ok(())
}

/// What can be filed under its date.
pub(crate) trait Dated: Serialize {
    /// The date and time, fit for a file name.
    fn date(&self) -> &str;
}

impl Dated for Results {
    fn date(&self) -> &str {
        &self.machine.date
    }
}
