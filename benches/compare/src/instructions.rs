//! Instructions per operation, counted by valgrind's callgrind.
//!
//! Each workload runs at two lengths; the difference of the counts over the
//! difference of the operations is the *net* count: without start, setup and
//! end, but with the loop around the calls; for the pairs of 64 bytes, of which the bars speak,
//! that loop is counted alone, too, and what is left shown. Unlike time it is the same on a busy
//! machine, so it can guard a build.
//!
//! The same runs show which functions of ours lie among other code ([`strays`](crate::strays)):
//! an error, too.
//!
//! `instructions.json` holds what is allowed, by allocator and workload; a count
//! above it by more than [`TOLERANCE`] is an error, one below is a reason to
//! lower the figure.

use crate::args::Args;
use crate::builds::{binary, home, ready};
use crate::catalog::{COUNTED, LOOPS, UNCOUNTED, is_ours};
use crate::process::command;
use crate::stamp::line;
use crate::strays::strays;
use crate::table::head;
use harness::Record;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The share of a full run that the longer and the shorter run do.
const SHARES: [usize; 2] = [200, 400];
const SHARE_UNCOUNTED: usize = 100;

/// A difference that is none: relative, as slow paths and samples fall differently
/// from run to run.
const TOLERANCE: f64 = 0.04;

type Allowed = BTreeMap<String, BTreeMap<String, f64>>;

/// Counts, prints, and compares with what is allowed.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    let wanted = |names: &[&'static str]| -> Vec<&str> {
        names.iter().copied().filter(|name| args.wants("micro", name)).collect()
    };
    let (counted, uncounted) = (wanted(&COUNTED), wanted(&UNCOUNTED));
    if counted.is_empty() && uncounted.is_empty() {
        let only = args.only.join(",");
        return Err(format!(
            "--only {only:?} matches none of: {}",
            [COUNTED.as_slice(), &UNCOUNTED].concat().join(", ")
        ));
    }
    let allowed = allowed()?;
    let mut problems = Vec::new();
    let mut missing = BTreeMap::new();
    let names: Vec<String> = args.allocators.iter().map(|&name| name.to_owned()).collect();
    let built = ready(args, &["micro"])?;
    let mut text = line(&built, &names);
    head(&mut text, "instructions per op", &names);
    print!("{text}");
    for workload in counted {
        print!("{workload:24}");
        let mut nets = Vec::new();
        for &allocator in &args.allocators {
            let limit = allowed.get(allocator).and_then(|limits| limits.get(workload));
            match net(allocator, workload) {
                Ok((net, strays)) => {
                    print!("{net:>12.1}");
                    nets.push((allocator, net));
                    problems.extend(verdict(allocator, workload, net, limit.copied()));
                    problems.extend(strays);
                }
                // A rival that cannot run under valgrind has no count.
                Err(why) => {
                    print!("{:>12}", "-");
                    if limit.is_some() || is_ours(allocator) {
                        problems.push(why);
                    } else {
                        missing.entry(allocator).or_insert(why);
                    }
                }
            }
        }
        println!();
        problems.extend(without_loop(workload, &args.allocators, &nets).err());
    }
    for &allocator in args.allocators.iter().filter(|name| is_ours(name)) {
        for workload in &uncounted {
            match count(&binary(allocator, "micro"), workload, SHARE_UNCOUNTED) {
                Ok((profile, _)) => problems.extend(astray(&profile, allocator, workload)),
                Err(why) => problems.push(why),
            }
        }
    }
    for why in missing.values() {
        eprintln!("no count: {why}");
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// Prints what is left of the `nets` of `workload`, of the allocators that have one, without the
/// instructions of its loop, if that can be run alone.
fn without_loop(workload: &str, all: &[&str], nets: &[(&str, f64)]) -> Result<(), String> {
    let Some((_, alone)) = LOOPS.into_iter().find(|(of, _)| *of == workload) else {
        return Ok(());
    };
    let mut row = format!("{:24}", "  without its loop");
    for name in all {
        match nets.iter().find(|(of, _)| of == name) {
            Some((_, all)) => row += &format!("{:>12.1}", all - net(name, alone)?.0),
            None => row += &format!("{:>12}", "-"),
        }
    }
    println!("{row}");
    Ok(())
}

/// What there is to say of a count that may be `limit`, which each of ours has.
fn verdict(allocator: &str, workload: &str, net: f64, limit: Option<f64>) -> Option<String> {
    let here = format!("{workload} under {allocator}: {net:.1} instructions");
    match limit {
        Some(limit) => {
            (net > limit * (1.0 + TOLERANCE)).then(|| format!("{here}, allowed {limit:.1}"))
        }
        None => is_ours(allocator).then(|| format!("{here}, and instructions.json has no limit")),
    }
}

fn allowed() -> Result<Allowed, String> {
    let path = home().join("instructions.json");
    let text = fs::read_to_string(&path).map_err(|error| error.to_string());
    let parsed = text.and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string()));
    parsed.map_err(|error| format!("{}: {error}", path.display()))
}

/// What there is to say of functions without a section.
fn astray(profile: &str, allocator: &str, workload: &str) -> Vec<String> {
    if !is_ours(allocator) {
        return Vec::new();
    }
    let say = |name| format!("{workload} under {allocator} runs {name}, which has no section");
    match strays(profile, &binary(allocator, "micro")) {
        Ok(names) => names.into_iter().map(say).collect(),
        Err(why) => vec![format!("{workload} under {allocator}: {why}")],
    }
}

/// The net count of one operation, and what there is to say of functions.
fn net(allocator: &str, workload: &str) -> Result<(f64, Vec<String>), String> {
    let path = binary(allocator, "micro");
    let [long, short] = SHARES.map(|share| count(&path, workload, share));
    let ((long_profile, long_ops), (short_profile, short_ops)) = (long?, short?);
    let none = || format!("{workload} under {allocator}: no total in callgrind's output");
    let counts = total(&long_profile).zip(total(&short_profile)).ok_or_else(none)?;
    let net = (counts.0 - counts.1) / (long_ops - short_ops);
    if !is_count(net) {
        return Err(format!("{workload} under {allocator}: {net} instructions per operation"));
    }
    Ok((net, astray(&long_profile, allocator, workload)))
}

/// Whether a net count can be one: it is not where the shorter run did as much as the longer one.
fn is_count(net: f64) -> bool {
    net.is_finite() && net > 0.0
}

/// The profile and the operations of one run.
fn count(path: &Path, workload: &str, share: usize) -> Result<(String, f64), String> {
    let profile = home().join("target/callgrind.out");
    let output = command("valgrind")
        .args(["--tool=callgrind", "--dump-instr=yes", "--quiet"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(path)
        .args([workload, "--share", &share.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind: {error}"))?;
    let failed = |why: &str| {
        let log = String::from_utf8_lossy(&output.stderr);
        let first = log.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        format!("{workload} in {} under valgrind: {why}: {first}", path.display())
    };
    if !output.status.success() {
        return Err(failed(&output.status.to_string()));
    }
    let record: Record =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(&error.to_string()))?;
    let profile = fs::read_to_string(&profile).map_err(|error| failed(&error.to_string()))?;
    Ok((profile, record.ops as f64))
}

/// The total of a profile in callgrind's format.
fn total(profile: &str) -> Option<f64> {
    let line = |key| profile.lines().find_map(|line| line.strip_prefix(key));
    line("totals:").or_else(|| line("summary:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{TOLERANCE, allowed, is_count, total, verdict};
    use crate::catalog::{ALLOCATORS, COUNTED, is_ours};

    #[test]
    fn the_total_is_found() {
        assert_eq!(total("version: 1\nevents: Ir\n\nfn=(1)\n1 2\ntotals: 123\n"), Some(123.0));
        assert_eq!(total("version: 1\n"), None);
    }

    #[test]
    fn only_more_than_allowed_is_a_problem() {
        let of = |net| verdict("spanalloc", "pair64", net, Some(100.0));
        assert_eq!(of(20.0), None);
        assert_eq!(of(100.0 * (1.0 + TOLERANCE) - 0.1), None);
        assert!(of(100.0 * (1.0 + TOLERANCE) + 0.1).unwrap().contains("allowed 100.0"));
    }

    #[test]
    fn ours_without_a_limit_is_a_problem_and_a_rival_without_one_is_not() {
        let of = |allocator| verdict(allocator, "pair64", 20.0, None);
        assert!(of("spanalloc-sampled").unwrap().contains("has no limit"));
        assert_eq!(of("mimalloc"), None);
    }

    #[test]
    fn nothing_and_less_are_no_counts() {
        assert!(is_count(0.5));
        assert!(![0.0, -3.0, f64::NAN, f64::INFINITY].map(is_count).contains(&true));
    }

    #[test]
    fn each_of_ours_has_a_limit_for_each_workload_that_is_counted() {
        let allowed = allowed().unwrap();
        for allocator in ALLOCATORS.iter().filter(|name| is_ours(name)) {
            for workload in COUNTED {
                let limit = allowed.get(*allocator).and_then(|limits| limits.get(workload));
                assert!(limit.is_some_and(|&limit| is_count(limit)), "{allocator} {workload}");
            }
        }
    }

    #[test]
    fn what_is_allowed_is_of_known_allocators_and_workloads() {
        for (allocator, limits) in allowed().unwrap() {
            assert!(ALLOCATORS.contains(&allocator.as_str()), "{allocator}");
            for workload in limits.keys() {
                assert!(COUNTED.contains(&workload.as_str()), "{workload}");
            }
        }
    }
}
