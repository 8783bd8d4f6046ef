//! Every record of a comparison, as it is written to `results/`.

use crate::args::Args;
use crate::builds::{Workload, home};
use crate::catalog::{ALLOCATORS, PROGRAMS, is_ours};
use crate::machine::Machine;
use crate::stamp::{Stamps, line};
use harness::{Kind, Listing, Record};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A comparison: where, when, what, and what came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// The rounds that are in it: fewer than were asked for if it was interrupted.
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    /// What `--only` let through; empty: everything.
    pub(crate) only: Vec<String>,
    /// In the order of the table's columns.
    pub(crate) allocators: Vec<String>,
    /// What the binaries were built from. Files of before it was kept do not say it.
    #[serde(default)]
    pub(crate) built: Stamps,
    pub(crate) rows: Vec<Row>,
}

/// A workload and its records, by allocator, a record per round in which it did not fail.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) kind: Kind,
    pub(crate) about: String,
    pub(crate) records: BTreeMap<String, Vec<Taken>>,
    /// How runs ended that gave no record.
    pub(crate) failures: BTreeMap<String, Vec<String>>,
}

/// A record and the round it is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// From 0. Files of before it was kept do not say it.
    #[serde(default)]
    pub(crate) round: Option<usize>,
    #[serde(flatten)]
    pub(crate) record: Record,
}

impl Results {
    /// A comparison that begins, of `workloads` in binaries of these stamps.
    pub(crate) fn new(args: &Args, workloads: &[Workload], built: Stamps) -> Self {
        Self {
            machine: Machine::here(),
            rounds: 0,
            quick: args.quick,
            only: args.only.clone(),
            allocators: args.allocators.iter().map(|&name| name.to_owned()).collect(),
            built,
            rows: workloads.iter().map(|workload| Row::new(&workload.listing)).collect(),
        }
    }

    /// The comparison that was written to `path`.
    pub(crate) fn read(path: &str) -> Result<Self, String> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let mut results: Self = serde_json::from_str(&text).map_err(|error| {
            format!("{path} is not a comparison's results/*-compare.json: {error}")
        })?;
        let rounds = results.rounds;
        let runs = results.rows.iter_mut().flat_map(|row| row.records.values_mut());
        // Who failed in none has a record of each; of the others nobody knows whose they are.
        for runs in runs.filter(|runs| runs.len() == rounds) {
            for (round, run) in runs.iter_mut().enumerate() {
                run.round.get_or_insert(round);
            }
        }
        Ok(results)
    }

    /// Machine and binaries, for the head of a table or chart.
    pub(crate) fn head(&self) -> String {
        format!("{}\n{}", self.machine.line(), line(&self.built, &self.allocators))
    }

    /// What was left out, in words; empty if nothing was.
    pub(crate) fn left_out(&self) -> String {
        let mut text = String::new();
        let all: usize = PROGRAMS.iter().map(|program| program.workloads.len()).sum();
        if self.rows.len() < all {
            let (rows, only) = (self.rows.len(), self.only.join(","));
            text += &format!("; {rows} of {all} workloads (--only {only})");
        }
        let here = |name: &&str| !self.allocators.iter().any(|allocator| allocator == name);
        let missing: Vec<&str> = ALLOCATORS.into_iter().filter(here).collect();
        if !missing.is_empty() {
            text += &format!("; without {}", missing.join(", "));
        }
        if self.quick {
            text += "; small sizes (--quick): no measurement";
        }
        text
    }

    /// An error if ours failed in a row, or if runs of one computed different things. A rival
    /// that fails is in the table.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        verdict(&self.rows)
    }
}

/// The [verdict](Results::verdict) on `rows`.
pub(crate) fn verdict(rows: &[Row]) -> Result<(), String> {
    let failed = rows.iter().flat_map(|row| {
        let ours = row.failures.keys().filter(|name| is_ours(name));
        ours.map(|name| format!("{} failed under {name}", row.workload))
    });
    let differ = rows.iter().filter_map(Row::difference);
    let problems: Vec<String> = failed.chain(differ).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
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

    /// Adds the outcome of one run in the round of this number.
    pub(crate) fn add(&mut self, allocator: &str, round: usize, outcome: Result<Record, String>) {
        let allocator = allocator.to_owned();
        match outcome {
            Ok(record) => {
                let taken = Taken { round: Some(round), record };
                self.records.entry(allocator).or_default().push(taken);
            }
            Err(why) => {
                eprintln!("\r\x1b[K{} under {allocator}: {why}", self.workload);
                self.failures.entry(allocator).or_default().push(why);
            }
        }
    }

    /// The records of all allocators.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values().flatten().map(|run| &run.record)
    }

    /// The most that any run had resident; none before the first.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        self.records().map(|record| record.peak_rss_bytes).max()
    }

    /// What there is to say where runs computed different things: they are no comparison then.
    pub(crate) fn difference(&self) -> Option<String> {
        let mut sums: Vec<u64> = self.records().map(|record| record.checksum).collect();
        sums.sort_unstable();
        sums.dedup();
        let differ = sums.len() > 1;
        differ.then(|| format!("{}: the runs computed different sums: {sums:?}", self.workload))
    }
}

/// Where a result goes: `results/DATE-NAME` with an ending each.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// The place of the result that begins at `date`. Nobody measures for an hour to hear then
    /// that it cannot be written: that is an error now.
    pub(crate) fn new(date: &str, name: &str) -> Result<Self, String> {
        // Runs that begin in the same minute do not overwrite each other.
        let stems = (1..).map(|number| match number {
            1 => format!("{date}-{name}"),
            _ => format!("{date}-{name}-{number}"),
        });
        let mut places = stems.map(|stem| Self(home().join("results").join(stem)));
        let place = places.find(|place| !place.data().exists()).expect("numbers do not end");
        fs::create_dir_all(home().join("results"))
            .and_then(|()| fs::write(place.data(), ""))
            .map_err(|error| format!("cannot write {}: {error}", place.data().display()))?;
        Ok(place)
    }

    /// Where [`keep`](Self::keep) writes.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.with_extension("json")
    }

    /// Writes what there is so far.
    pub(crate) fn keep(&self, results: &impl Serialize) -> Result<(), String> {
        let json = serde_json::to_string(results).expect("plain data serializes");
        fs::write(self.data(), json)
            .map_err(|error| format!("cannot write {}: {error}", self.data().display()))
    }

    /// Writes all of it, with its picture, and says where.
    pub(crate) fn write(&self, results: &impl Serialize, chart: &str) -> Result<(), String> {
        self.keep(results)?;
        let picture = self.0.with_extension("svg");
        fs::write(&picture, chart)
            .map_err(|error| format!("cannot write {}: {error}", picture.display()))?;
        println!("{}\n{}", self.data().display(), picture.display());
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Results, Row};
    use crate::args::Args;
    use crate::builds::Workload;
    use crate::catalog::PROGRAMS;
    use crate::stamp::Stamps;
    use harness::{Kind, Listing, Record};

    fn results(line: &str) -> Results {
        let args = Args::parse(line.split_whitespace().map(str::to_owned)).unwrap();
        let listing = Listing { name: "tree".into(), kind: Kind::Time, about: String::new() };
        Results::new(&args, &[Workload { program: "micro", listing }], Stamps::new())
    }

    pub(crate) fn record_of(ns_per_op: f64) -> Record {
        Record {
            workload: "tree".into(),
            ops: 1,
            ns_per_op,
            cpu_ns_per_op: 1.0,
            peak_rss_bytes: 1,
            minor_faults: 0,
            user_ms: 0.0,
            system_ms: 0.0,
            checksum: 0,
            figures: Default::default(),
        }
    }

    fn record(checksum: u64) -> Result<Record, String> {
        Ok(Record { checksum, ..record_of(1.0) })
    }

    #[test]
    fn what_was_left_out_is_said() {
        let text = results("--only tree --alloc spanalloc,mimalloc").left_out();
        let all: usize = PROGRAMS.iter().map(|program| program.workloads.len()).sum();
        let rows = format!("1 of {all} workloads (--only tree)");
        assert!(text.contains(&rows), "{text}");
        assert!(text.contains("without spanalloc-sampled, system, jemalloc"), "{text}");
        assert!(!text.contains("mimalloc"), "{text}");
    }

    #[test]
    fn ours_must_not_fail_and_sums_must_not_differ() {
        fn crash() -> Result<Record, String> {
            Err("signal: 11".to_owned())
        }
        let with = |fill: fn(&mut Row)| {
            let mut results = results("");
            fill(&mut results.rows[0]);
            results.verdict()
        };
        assert_eq!(with(|row| row.add("mimalloc", 0, record(1))), Ok(()));
        assert_eq!(with(|row| row.add("rpmalloc", 0, crash())), Ok(()));
        let failed = with(|row| row.add("spanalloc-sampled", 0, crash()));
        assert!(failed.unwrap_err().contains("tree failed under spanalloc-sampled"));
        let differ = with(|row| {
            row.add("system", 0, record(1));
            row.add("spanalloc", 0, record(2));
        });
        assert!(differ.unwrap_err().contains("different sums: [1, 2]"));
    }

    #[test]
    fn rounds_survive_the_file_and_an_older_one_has_them_where_none_failed() {
        let mut results = results("");
        results.rounds = 2;
        let row = &mut results.rows[0];
        row.add("spanalloc", 0, record(1));
        row.add("spanalloc", 1, record(1));
        row.add("rpmalloc", 0, Err("signal: 11".to_owned()));
        row.add("rpmalloc", 1, record(1));
        let rounds = |text: &str| {
            let path = std::env::temp_dir().join(format!("compare-{}.json", std::process::id()));
            std::fs::write(&path, text).unwrap();
            let read = Results::read(path.to_str().unwrap());
            std::fs::remove_file(&path).unwrap();
            let read = read.unwrap();
            ["spanalloc", "rpmalloc"].map(|name| {
                read.rows[0].records[name].iter().map(|run| run.round).collect::<Vec<_>>()
            })
        };
        let text = serde_json::to_string(&results).unwrap();
        assert_eq!(rounds(&text), [vec![Some(0), Some(1)], vec![Some(1)]]);
        let older = text
            .replace("\"round\":0,", "")
            .replace("\"round\":1,", "")
            .replace("\"built\":{},", "");
        assert_ne!(older, text);
        assert_eq!(rounds(&older), [vec![Some(0), Some(1)], vec![None]]);
    }
}
