//! Builds the workload binaries, one per program and allocator.
//!
//! All share one target directory: what does not depend on the allocator is
//! compiled once. A finished binary is copied to `target/bin/ALLOCATOR/PROGRAM`,
//! because the next allocator's takes its place under `target/release`.

use crate::args::{Args, named};
use crate::catalog::{PROGRAMS, Program};
use crate::process;
use harness::{Kind, Listing};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A workload and the program it is in.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) program: &'static str,
    pub(crate) listing: Listing,
}

/// The folder of the arena: its manifest, `target` and `results`.
pub(crate) fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the binary of `program` for `allocator` is once it is built.
pub(crate) fn binary(allocator: &str, program: &str) -> PathBuf {
    home().join("target/bin").join(allocator).join(program)
}

/// Builds what `--only` needs under every allocator asked for, and returns its workloads, in the
/// order of their programs. What nobody can mean is refused before anything is built.
pub(crate) fn workloads(args: &Args) -> Result<Vec<Workload>, String> {
    let programs = needed(args)?;
    for allocator in &args.allocators {
        if args.build {
            build(allocator, &programs)?;
        }
        for program in &programs {
            let path = binary(allocator, program);
            if !path.exists() {
                return Err(format!("{} is not built: run without --no-build", path.display()));
            }
        }
    }
    let mut all = Vec::new();
    for program in programs {
        // Which allocator's does not matter: they differ in nothing else.
        let listings = process::list(&binary(args.allocators[0], program))?;
        all.extend(listings.into_iter().map(|listing| Workload { program, listing }));
    }
    all.retain(|workload| {
        let listing = &workload.listing;
        listing.kind != Kind::Scaling && args.wants(workload.program, &listing.name)
    });
    if all.is_empty() {
        let only = args.only.join(",");
        return Err(format!("the binaries have no workload like {only:?}: run without --no-build"));
    }
    Ok(all)
}

/// The programs that have what `--only` names. Each of its parts must name something.
fn needed(args: &Args) -> Result<Vec<&'static str>, String> {
    let pairs = || {
        let of =
            |program: &'static Program| program.workloads.iter().map(|name| (program.name, *name));
        PROGRAMS.iter().flat_map(of)
    };
    let names = |part: &&String| pairs().any(|(program, name)| named(part, program, name));
    if let Some(part) = args.only.iter().find(|part| !names(part)) {
        let all: Vec<&str> = pairs().map(|(_, name)| name).collect();
        return Err(format!("--only {part:?} matches no workload; there are: {}", all.join(", ")));
    }
    let mut programs: Vec<&str> =
        pairs().filter(|(program, name)| args.wants(program, name)).map(|pair| pair.0).collect();
    programs.dedup();
    Ok(programs)
}

/// Builds `programs` for `allocator`; quick when nothing has changed.
pub(crate) fn build(allocator: &str, programs: &[&str]) -> Result<(), String> {
    let start = Instant::now();
    eprintln!("building {} for {allocator}", programs.join(", "));
    let target = home().join("target");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]);
    cargo.arg(home().join("Cargo.toml")).arg("--target-dir").arg(&target);
    for program in programs {
        cargo.args(["--package", program]);
    }
    let status = cargo.args(["--features", allocator]).status();
    let built = status.map_err(|error| format!("cannot start cargo: {error}"))?;
    if !built.success() {
        return Err(format!("cargo could not build {} for {allocator}", programs.join(", ")));
    }
    for program in programs {
        keep(&target.join("release").join(program), &binary(allocator, program))?;
    }
    eprintln!("built for {allocator} in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Copies by way of another name, so that an interrupted copy is no binary.
fn keep(from: &Path, to: &Path) -> Result<(), String> {
    let partial = to.with_extension("partial");
    let folder = to.parent().expect("a binary is in a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::copy(from, &partial))
        .and_then(|_| fs::rename(&partial, to))
        .map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::needed;
    use crate::args::Args;

    #[test]
    fn only_what_is_asked_for_is_built_and_what_nobody_has_is_refused() {
        let needed = |only: &str| {
            let line = ["--only", only].map(str::to_owned);
            needed(&Args::parse(line.into_iter()).unwrap())
        };
        assert_eq!(needed("pair64,live").unwrap(), ["micro"]);
        assert_eq!(needed("sql,gzip").unwrap(), ["real", "engines"]);
        assert_eq!(needed("engines").unwrap(), ["engines"]);
        let message = needed("pair64,pear").unwrap_err();
        assert!(message.contains("\"pear\" matches no workload; there are: pair64, "), "{message}");
    }
}
