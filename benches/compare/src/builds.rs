//! Builds the workload binaries, one per program and allocator.
//!
//! All share one target directory: what does not depend on the allocator is
//! compiled once. A finished binary is copied to `target/bin/ALLOCATOR/PROGRAM`,
//! because the next allocator's takes its place under `target/release`.

use crate::args::Args;
use crate::catalog::{LISTER, PROGRAMS};
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

/// The workloads that `--only` asks for, in the order of their programs; of the
/// mode asked for.
pub(crate) fn workloads(args: &Args) -> Result<Vec<Workload>, String> {
    if args.build {
        build(LISTER, &PROGRAMS)?;
    }
    let mut all = Vec::new();
    for program in PROGRAMS {
        let listings: Vec<Listing> = process::list(&binary(LISTER, program))?;
        all.extend(listings.into_iter().map(|listing| Workload { program, listing }));
    }
    let names: Vec<String> = all.iter().map(|workload| workload.listing.name.clone()).collect();
    all.retain(|workload| workload.listing.kind != Kind::Scaling);
    all.retain(|workload| args.wants(&workload.listing.name));
    if all.is_empty() {
        let (only, names) = (args.only.join(","), names.join(", "));
        return Err(format!("--only {only:?} matches no workload; there are: {names}"));
    }
    Ok(all)
}

/// Builds what `workloads` need under every allocator asked for.
pub(crate) fn allocators(args: &Args, workloads: &[Workload]) -> Result<(), String> {
    let needed: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|&program| workloads.iter().any(|workload| workload.program == program))
        .collect();
    for allocator in &args.allocators {
        if args.build {
            build(allocator, &needed)?;
        }
        for program in &needed {
            let path = binary(allocator, program);
            if !path.exists() {
                return Err(format!("{} is not built: run without --no-build", path.display()));
            }
        }
    }
    Ok(())
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
