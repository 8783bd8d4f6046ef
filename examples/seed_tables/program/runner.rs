//! Runs the measurements in child processes that take turns, and writes the report.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Data, Experiment, OURS, Options, RECORDER, SYSTEM, machine, page};

/// Repeats of each measurement; the interval is that of the ranks 6 to 15. A round of all
/// experiments takes half a minute of processor time.
const ROUNDS: usize = 20;
const ROUNDS_QUICK: usize = 6;

/// A program of this example and the allocator it runs on.
struct Program {
    path: PathBuf,
    allocator: &'static str,
}

pub(super) fn run(allocator: &'static str, options: &Options) -> Result<(), String> {
    let cannot = |error| format!("cannot write {}: {error}", options.out.display());
    // Now, and not after an hour of measurements. What is there stays until then.
    OpenOptions::new().create(true).append(true).open(&options.out).map_err(cannot)?;
    let programs = programs(allocator)?;
    let rounds = if options.quick { ROUNDS_QUICK } else { ROUNDS };
    // Now, since the sources may change and the machine's load will.
    let facts = machine::facts();
    let mut results = Vec::new();
    for (number, experiment) in options.wanted.iter().enumerate() {
        eprint!("{}/{} {}: ", number + 1, options.wanted.len(), experiment.id);
        let data = measure(experiment, &programs, rounds, options)?;
        let finding = experiment.judge(&data);
        eprintln!(" {}", finding.verdict.words(experiment.about));
        results.push((*experiment, data, finding));
    }
    let html = page::render(&facts, rounds, options.quick, &results);
    std::fs::write(&options.out, html).map_err(cannot)?;
    println!("wrote {}", options.out.display());
    Ok(())
}

/// All rounds of an experiment, the programs taking turns.
fn measure(
    experiment: &Experiment,
    programs: &[Program],
    rounds: usize,
    options: &Options,
) -> Result<Data, String> {
    let mut data = Data::default();
    for round in 0..rounds {
        let mut turns: Vec<&Program> = programs.iter().collect();
        turns.rotate_left(round % programs.len());
        for program in turns {
            let lines = child(program, experiment.id, round, options)?;
            for line in lines.lines() {
                data.add_line(program.allocator, line)?;
            }
            eprint!(".");
        }
    }
    // The order of the first round, whichever program came first.
    data.series.sort_by_key(|(key, _)| key.allocator != OURS);
    Ok(data)
}

fn child(program: &Program, id: &str, round: usize, options: &Options) -> Result<String, String> {
    let mut words = options.under.iter().map(PathBuf::from).chain([program.path.clone()]);
    let first = words.next().unwrap_or_default();
    let size = if options.quick { "quick" } else { "full" };
    let output = Command::new(&first)
        .args(words)
        .args(["--worker", id, &round.to_string(), size])
        // It would change one of the two programs.
        .env_remove("SPANALLOC")
        .output()
        .map_err(|error| format!("cannot run {}: {error}", first.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{id} under {} ended with {}: {said}",
            program.allocator, output.status
        ));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{id} printed what is no text"))
}

/// This program and its sibling on the other allocator. Cargo is asked for that and for the
/// recorder if either is missing or older.
fn programs(allocator: &'static str) -> Result<Vec<Program>, String> {
    let own = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
    let folder = own.parent().map(Path::to_owned).unwrap_or_default();
    let (name, other) =
        if allocator == OURS { ("seed_tables_system", SYSTEM) } else { ("seed_tables", OURS) };
    let (sibling, recorder) = (folder.join(name), folder.join(RECORDER));
    let time = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    if time(&sibling).min(time(&recorder)) < time(&own)
        && let Some(cargo) = std::env::var_os("CARGO")
    {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--example", name, "--example", RECORDER]);
        if folder.parent().is_some_and(|profile| profile.ends_with("release")) {
            build.arg("--release");
        }
        let status = build.status().map_err(|error| format!("cannot run cargo: {error}"))?;
        if !status.success() {
            return Err(format!("cargo could not build {name} and {RECORDER}"));
        }
    }
    let mut programs = vec![Program { path: own, allocator }];
    if sibling.exists() {
        programs.push(Program { path: sibling, allocator: other });
    } else {
        eprintln!("{name} is missing, so there is no baseline: cargo build --release --examples");
    }
    if !recorder.exists() {
        eprintln!("{RECORDER} is missing, so E14 has no traces: cargo build --release --examples");
    }
    Ok(programs)
}
