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
use crate::results::Row;
use harness::Kind;
use std::time::Instant;

/// Runs everything and returns a row per workload.
pub(crate) fn run(args: &Args, workloads: &[Workload]) -> Result<Vec<Row>, String> {
    let mut rows: Vec<Row> = workloads.iter().map(|workload| Row::new(&workload.listing)).collect();
    let start = Instant::now();
    for round in 0..args.rounds {
        for (index, (workload, row)) in workloads.iter().zip(&mut rows).enumerate() {
            eprint!(
                "\r\x1b[Kround {}/{}  {}/{}  {}  {:.0} s",
                round + 1,
                args.rounds,
                index + 1,
                workloads.len(),
                workload.listing.name,
                start.elapsed().as_secs_f64(),
            );
            let mut order = args.allocators.clone();
            let first = (round + index) % order.len();
            order.rotate_left(first);
            if round % 2 == 1 {
                order.reverse();
            }
            one(args, workload, &order, row)?;
        }
    }
    eprintln!("\r\x1b[K{} rounds in {:.0} s", args.rounds, start.elapsed().as_secs_f64());
    for row in &rows {
        row.agree();
    }
    Ok(rows)
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
