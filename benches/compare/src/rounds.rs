//! The rounds: every workload once under every allocator, in turn.
//!
//! The order of the allocators is rotated from workload to workload and from
//! round to round, and turned around in every other round, so that none always runs
//! first or after the same one.
//!
//! What memory the process before has left, in huge pages or in small ones, and what of it a
//! virtual machine's host has taken back, decides how long the next one waits for pages, in
//! large rows up to seven times as long as for the work itself. So memory is touched before
//! each run (see [`harness::touch`]), and where a workload holds much, each run follows one
//! of the same that is not recorded.

use crate::args::Args;
use crate::builds::{Workload, binary};
use crate::process::{self, Running};
use crate::results::{Place, Results, Row};
use harness::Kind;
use std::time::Instant;

/// Runs everything and adds it to `results`, which have a row per workload; what there is after
/// each round is kept in `place`.
pub(crate) fn run(
    args: &Args,
    workloads: &[Workload],
    results: &mut Results,
    place: &Place,
) -> Result<(), String> {
    let start = Instant::now();
    for round in 0..args.rounds {
        for (index, (workload, row)) in workloads.iter().zip(&mut results.rows).enumerate() {
            eprint!(
                "\r\x1b[Kround {}/{}  {}/{}  {}  {:.0} s",
                round + 1,
                args.rounds,
                index + 1,
                workloads.len(),
                workload.listing.name,
                start.elapsed().as_secs_f64(),
            );
            one(args, workload, &order(&args.allocators, index, round), row)?;
        }
        results.rounds = round + 1;
        place.keep(results)?;
    }
    eprintln!("\r\x1b[K{} rounds in {:.0} s", args.rounds, start.elapsed().as_secs_f64());
    Ok(())
}

/// The order in which allocators take their turns at the row `index` in this round.
pub(crate) fn order<'a>(allocators: &[&'a str], index: usize, round: usize) -> Vec<&'a str> {
    let mut order = allocators.to_vec();
    order.rotate_left((round + index) % allocators.len());
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// What is touched before each run: more than any workload's blocks take at one time.
const TOUCHED_BYTES: usize = 1 << 30;

/// A workload that holds more than this is run twice.
const MUCH_BYTES: u64 = 32 << 20;

fn one(args: &Args, workload: &Workload, order: &[&str], row: &mut Row) -> Result<(), String> {
    let mut waiting: Vec<(&str, Running)> = Vec::new();
    let options: Vec<String> = args.quick.then(|| "--quick".to_owned()).into_iter().collect();
    let much = row.peak_bytes().is_none_or(|bytes| bytes > MUCH_BYTES);
    let rehearse = !args.quick && much && workload.listing.kind == Kind::Time;
    for &allocator in order {
        let path = binary(allocator, workload.program);
        if rehearse {
            // Should it fail, so does the one that counts.
            let _ = process::start(&path, &workload.listing.name, &options)?.record();
        }
        if !args.quick {
            harness::touch(TOUCHED_BYTES);
        }
        let mut running = process::start(&path, &workload.listing.name, &options)?;
        if workload.listing.kind == Kind::Idle {
            running.parked()?;
            waiting.push((allocator, running));
        } else {
            row.add(allocator, running.record());
        }
    }
    for (allocator, running) in waiting {
        row.add(allocator, running.record());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::order;
    use std::collections::BTreeSet;

    #[test]
    fn none_is_always_first_or_always_after_the_same_one() {
        let all = ["a", "b", "c", "d"];
        let orders: Vec<_> = (0..8).map(|round| order(&all, 3, round)).collect();
        for name in all {
            let before = |order: &Vec<&'static str>| {
                let at = order.iter().position(|other| *other == name).unwrap();
                at.checked_sub(1).map(|at| order[at])
            };
            let before: BTreeSet<_> = orders.iter().filter_map(before).collect();
            assert!(before.len() > 1, "{name} is always first, or always after {before:?}");
        }
    }
}
