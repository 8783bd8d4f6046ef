//! Builds the workload binaries, one per program and allocator.
//!
//! All share one target directory: what does not depend on the allocator is
//! compiled once. A finished binary is copied to `target/bin/ALLOCATOR/PROGRAM`,
//! because the next allocator's takes its place under `target/release`, with a [`stamp`](Stamp)
//! that says what it was built from.
//!
//! Flags in the environment would change the code of some allocators and not of others: those for
//! rustc that of ours, those for C that of most rivals. Builds do without them ([`is_flag`]).

use crate::args::{Args, named};
use crate::catalog::{PROGRAMS, Program};
use crate::process;
use crate::stamp::{Stamp, Stamps, stamps, warning};
use harness::{Kind, Listing};
use std::env;
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

/// Makes sure that there are binaries of `programs` under every allocator asked for, by building
/// them unless told otherwise, and what runs them; returns what they were built from.
pub(crate) fn ready(args: &Args, programs: &[&str]) -> Result<Stamps, String> {
    process::is_possible()?;
    // Before, in case that somebody edits meanwhile.
    let here = Stamp::here(if args.quick { settings(env::vars()) } else { Vec::new() });
    for allocator in &args.allocators {
        if args.build {
            build(allocator, programs, &here)?;
        }
        for program in programs {
            let path = binary(allocator, program);
            if !path.exists() {
                return Err(format!("{} is not built: run without --no-build", path.display()));
            }
        }
    }
    let stamps = stamps(&args.allocators, programs);
    if let Some(text) = warning(&stamps, &here, args.quick).filter(|_| !args.build) {
        eprintln!("{text}");
    }
    Ok(stamps)
}

/// The workloads that `--only` lets through of `programs`, whose binaries are [ready](ready), in
/// the order of their programs.
pub(crate) fn workloads(args: &Args, programs: &[&'static str]) -> Result<Vec<Workload>, String> {
    let mut all = Vec::new();
    for program in programs {
        // Which allocator's does not matter: they differ in nothing else.
        let listings = process::list(&binary(args.allocators[0], program))?;
        all.extend(listings.into_iter().map(|listing| Workload { program, listing }));
    }
    all.retain(|workload| {
        let listing = &workload.listing;
        !matches!(listing.kind, Kind::Scaling | Kind::Loop)
            && args.wants(workload.program, &listing.name)
    });
    if all.is_empty() {
        let only = args.only.join(",");
        return Err(format!("the binaries have no workload like {only:?}: run without --no-build"));
    }
    Ok(all)
}

/// The programs that have what `--only` names. Each of its parts must name something, which is
/// said before anything is built.
pub(crate) fn needed(args: &Args) -> Result<Vec<&'static str>, String> {
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

/// The beginning of the variables that override the release profile.
const PROFILE: &str = "CARGO_PROFILE_RELEASE_";

/// Whether a variable of the environment would change the code of some of the binaries: flags for
/// rustc, a C or C++ compiler, and settings of jemalloc's build.
fn is_flag(name: &str) -> bool {
    ["RUSTFLAGS", "CFLAGS", "CXXFLAGS", "CPPFLAGS"].iter().any(|flags| name.contains(flags))
        || name.starts_with("JEMALLOC_SYS_")
}

/// The overrides of the release profile in `variables`, which `--quick` allows, as it measures
/// nothing and may be in a hurry.
fn settings(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut found: Vec<String> = variables
        .filter(|(name, _)| name.starts_with(PROFILE))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    found.sort_unstable();
    found
}

/// Builds `programs` for `allocator` from what is `here`; quick when nothing has changed.
fn build(allocator: &str, programs: &[&str], here: &Stamp) -> Result<(), String> {
    let start = Instant::now();
    eprintln!("building {} for {allocator}", programs.join(", "));
    let target = home().join("target");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]);
    cargo.arg(home().join("Cargo.toml")).arg("--target-dir").arg(&target);
    for program in programs {
        cargo.args(["--package", program]);
    }
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names {
        if is_flag(&name) || (name.starts_with(PROFILE) && here.settings.is_empty()) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.args(["--features", allocator]).status();
    let built = status.map_err(|error| format!("cannot start cargo: {error}"))?;
    if !built.success() {
        return Err(format!("cargo could not build {} for {allocator}", programs.join(", ")));
    }
    for program in programs {
        let to = binary(allocator, program);
        Stamp::remove(&to)?;
        keep(&target.join("release").join(program), &to)?;
        here.put(&to)?;
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
    use super::{binary, is_flag, needed, ready, settings};
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

    #[test]
    fn flags_of_the_environment_are_left_out_and_the_profile_is_named() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "CFLAGS",
            "CXXFLAGS_x86_64_unknown_linux_gnu",
        ] {
            assert!(is_flag(name), "{name}");
        }
        for name in ["PATH", "CARGO_HOME", "RUSTUP_TOOLCHAIN", "CC", "CARGO_BUILD_JOBS"] {
            assert!(!is_flag(name), "{name}");
        }
        let pairs = [("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_DEV_LTO", "off")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(settings(pairs.into_iter()), ["CARGO_PROFILE_RELEASE_LTO=off"]);
    }

    #[test]
    fn a_binary_that_is_missing_is_named() {
        let line = ["--no-build", "--alloc", "rpmalloc"].map(str::to_owned);
        let args = Args::parse(line.into_iter()).unwrap();
        let message = ready(&args, &["no such program"]).unwrap_err();
        let path = binary("rpmalloc", "no such program");
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
}
