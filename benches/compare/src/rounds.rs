//! The rounds: every workload once under every allocator, in turn.
//!
//! The order of the allocators is another one in each round, and none is always first or after
//! the same one: see [`order`].
//!
//! What memory the process before has left, in huge pages or in small ones, and what of it a
//! virtual machine's host has taken back, decides how long the next one waits for pages, in
//! large rows up to seven times as long as for the work itself. So memory is touched before
//! each run (see [`harness::touch`]), and where a workload holds much, each run follows one
//! of the same that is not recorded: first that one, then the touch, then the run that counts.

use crate::args::Args;
use crate::builds::{Workload, binary};
use crate::process::{self, Running};
use crate::results::{Place, Results, Row};
use harness::{Kind, Rng};
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
            one(args, workload, round, &order(&args.allocators, index, round), row)?;
        }
        results.rounds = round + 1;
        place.keep(results)?;
    }
    eprintln!("\r\x1b[K{} rounds in {:.0} s", args.rounds, start.elapsed().as_secs_f64());
    Ok(())
}

/// The order in which allocators take their turns in this round at the row number `row`.
///
/// The row draws who is who. Its rounds are a Latin square after Williams: in as many rounds as
/// there are allocators each is first once and directly after each other one once. Of an odd count
/// there is no such square; every other round is turned around, and in twice as many rounds each is
/// first twice and directly after each other one twice.
pub(crate) fn order<'a>(allocators: &[&'a str], row: usize, round: usize) -> Vec<&'a str> {
    let count = allocators.len();
    let mut names = allocators.to_vec();
    Rng::of_small(row as u64).shuffle(&mut names);
    // 0, 1, n - 1, 2, n - 2 and so on: no two neighbours are equally far apart.
    let step = |at: usize| if at % 2 == 1 { at.div_ceil(2) } else { (count - at / 2) % count };
    let mut order: Vec<&str> = (0..count).map(|at| names[(step(at) + round) % count]).collect();
    if count % 2 == 1 && round % 2 == 1 {
        order.reverse();
    }
    order
}

/// What is touched before each run: more than any workload's blocks take at one time.
const TOUCHED_BYTES: usize = 1 << 30;

/// A workload that holds more than this is run twice.
const MUCH_BYTES: u64 = 32 << 20;

fn one(
    args: &Args,
    workload: &Workload,
    round: usize,
    order: &[&str],
    row: &mut Row,
) -> Result<(), String> {
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
            row.add(allocator, round, running.record());
        }
    }
    for (allocator, running) in waiting {
        row.add(allocator, round, running.record());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::order;
    use crate::catalog::ALLOCATORS;
    use std::collections::BTreeMap;

    type Firsts<'a> = BTreeMap<&'a str, usize>;
    type Afters<'a> = BTreeMap<(&'a str, &'a str), usize>;

    /// How often each is first, and how often directly after each other one.
    fn counts<'a>(orders: impl Iterator<Item = Vec<&'a str>>) -> (Firsts<'a>, Afters<'a>) {
        let (mut first, mut after) = (BTreeMap::new(), BTreeMap::new());
        for order in orders {
            *first.entry(order[0]).or_default() += 1;
            order.windows(2).for_each(|pair| *after.entry((pair[1], pair[0])).or_default() += 1);
        }
        (first, after)
    }

    #[test]
    fn over_the_rounds_each_is_first_and_after_each_other_one_equally_often() {
        for (count, rounds, times) in [(1, 2, 2), (2, 2, 1), (3, 6, 2), (7, 14, 2), (10, 10, 1)] {
            let all = &ALLOCATORS[..count];
            for row in 0..50 {
                let (first, after) = counts((0..rounds).map(|round| order(all, row, round)));
                assert_eq!((first.len(), after.len()), (count, count * (count - 1)), "{count}");
                assert!(first.values().all(|&n| n == times), "{count}: {first:?}");
                assert!(after.values().all(|&n| n == times), "{count}: {after:?}");
            }
        }
    }

    #[test]
    fn over_the_rows_of_one_round_too_about() {
        for count in [2, 3, 10] {
            let all = &ALLOCATORS[..count];
            for round in 0..6 {
                let (first, after) = counts((0..4000).map(|row| order(all, row, round)));
                let near = |n: usize, mean: usize| (mean * 7 / 10..=mean * 13 / 10).contains(&n);
                assert!(first.values().all(|&n| near(n, 4000 / count)), "{count}: {first:?}");
                assert_eq!(after.len(), count * (count - 1));
                assert!(after.values().all(|&n| near(n, 4000 / count)), "{count}: {after:?}");
            }
        }
    }
}
