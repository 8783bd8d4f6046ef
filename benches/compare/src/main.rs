//! The arena: every allocator, every workload, one command, one table.
//!
//! *Allocator*: a feature of the crate `peer`. *Program*: a workload binary,
//! built once per allocator. *Workload*: a row of the table. *Round*: every
//! workload once under every allocator, each in a fresh process, allocators in
//! turn, so that what disturbs the machine disturbs all of them alike.
//!
//! 1. [`args`] reads the command line.
//! 2. [`builds`] builds the binaries that are missing, each with its [`stamp`], and lists their
//!    workloads.
//! 3. [`rounds`] runs them; [`process`] is one run.
//! 4. [`results`] holds every record, with [`machine`] beside it, as JSON.
//! 5. [`summary`] takes medians and ratios; [`table`] and [`chart`] render them.
//!
//! Three other modes: [`patterns`] looks for weak spots, [`scaling`] draws curves,
//! [`instructions`] counts, and looks for [`strays`].

mod args;
mod builds;
mod catalog;
mod chart;
mod curves;
mod instructions;
mod machine;
mod patterns;
mod process;
mod results;
mod rounds;
mod scaling;
mod stamp;
mod strays;
mod summary;
mod svg;
mod table;

use args::{Args, Mode};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(message) => {
            eprintln!("{message}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    if args.help {
        println!("{}", args::USAGE);
        return ExitCode::SUCCESS;
    }
    let done = match args.mode {
        Mode::Table => compare(&args),
        Mode::Again => again(&args),
        Mode::Patterns => patterns::run(&args),
        Mode::Scaling => scaling::run(&args),
        Mode::Instructions => instructions::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<(), String> {
    let programs = builds::needed(args)?;
    let built = builds::ready(args, &programs)?;
    let workloads = builds::workloads(args, &programs)?;
    let mut results = results::Results::new(args, &workloads, built);
    let place = results::Place::new(&results.machine.date, "compare")?;
    rounds::run(args, &workloads, &mut results, &place)?;
    let summary = summary::Summary::new(&results);
    println!("{}", table::render(&results, &summary, args.details));
    let chart = chart::render(&results, &summary);
    place.write(&results, &chart)?;
    results.verdict()
}

fn again(args: &Args) -> Result<(), String> {
    let results = results::Results::read(&args.from)?;
    let summary = summary::Summary::new(&results);
    println!("{}", table::render(&results, &summary, args.details));
    results.verdict()
}
