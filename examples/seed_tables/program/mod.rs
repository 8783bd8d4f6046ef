//! The program, whichever allocator it runs on: parse, measure in children, judge, report.

mod data;
mod experiments;
mod machine;
mod page;
mod perf;
mod plot;
mod probe;
mod regrowth;
mod rows;
mod runner;
mod scavenges;

use std::path::PathBuf;
use std::process::ExitCode;

use data::Data;
use experiments::{Experiment, experiments};
use probe::Probe;
pub(crate) use regrowth::Regrowth;

/// The name of a program on this project's allocator.
pub(crate) const OURS: &str = "spanalloc";
/// The name of a program on the system's allocator.
pub(crate) const SYSTEM: &str = "system";
/// The program that records the traces of E14.
pub(crate) const RECORDER: &str = "seed_tables_trace";

/// What the command line asks for.
pub(crate) struct Options {
    /// Experiments to run, in the order of the table.
    pub(crate) wanted: Vec<&'static Experiment>,
    pub(crate) quick: bool,
    pub(crate) out: PathBuf,
    /// Words of a command to run measurements under.
    pub(crate) under: Vec<String>,
}

pub(crate) fn main(allocator: &'static str) -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == "--worker").is_some() {
        return worker(arguments.collect());
    }
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    match runner::run(allocator, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Takes one round of measurements of one experiment and prints them.
fn worker(arguments: Vec<String>) -> ExitCode {
    let [id, round, size] = &arguments[..] else {
        eprintln!("--worker needs an experiment, a round and `quick` or `full`: {arguments:?}");
        return ExitCode::from(2);
    };
    let experiment = experiments().find(|experiment| experiment.id == id);
    let (Some(experiment), Ok(round)) = (experiment, round.parse()) else {
        eprintln!("--worker {arguments:?}: no such experiment, or the round is no number");
        return ExitCode::from(2);
    };
    let mut probe = Probe::new(round, size == "quick");
    (experiment.measure)(&mut probe);
    print!("{}", probe.finish());
    ExitCode::SUCCESS
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut named = Vec::new();
    let (mut quick, mut out, mut under) = (false, PathBuf::from("seed_tables.html"), Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = |what: &str| {
            arguments.next().ok_or_else(|| format!("{argument} needs {what} after it"))
        };
        match &*argument {
            "--quick" => quick = true,
            "--out" => out = value("the report's path")?.into(),
            "--under" => {
                let command = value("a command such as \"taskset -c 1\"")?;
                under = command.split_whitespace().map(str::to_owned).collect();
            }
            id if experiments().any(|experiment| experiment.id.eq_ignore_ascii_case(id)) => {
                named.push(id.to_ascii_uppercase());
            }
            other => {
                let ids: Vec<_> = experiments().map(|experiment| experiment.id).collect();
                return Err(format!(
                    "unknown argument {other:?}: accepted are --quick, --out FILE, --under \
                     COMMAND and the experiments {}",
                    ids.join(", ")
                ));
            }
        }
    }
    let all = named.is_empty();
    let wanted = experiments().filter(|one| all || named.iter().any(|id| id == one.id)).collect();
    Ok(Options { wanted, quick, out, under })
}
