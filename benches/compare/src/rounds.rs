//! The rounds: every workload once under every allocator, in turn.
//!
//! The order of the allocators is rotated from workload to workload and from
//! round to round, so that none always runs first or after the same one.
//!
//! In a virtual machine the first process for a while to touch much memory also
//! pays for what the host has to find first: it has been seen five times as slow as
//! the next one. So before a workload that needs much, memory is [warmed].
//!
//! [warmed]: warm

use crate::args::Args;
use crate::builds::{Workload, binary};
use crate::process::{self, Running};
use crate::results::Row;
use harness::Kind;
use std::hint::black_box;
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
            if !args.quick {
                warm(row.peak_bytes());
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

/// Touches as much memory as two runs of a workload hold and gives it back, so that
/// the machine's host has it at hand. `peak_bytes` is none before the first run.
fn warm(peak_bytes: Option<u64>) {
    const UNKNOWN_BYTES: u64 = 1 << 30;
    const FEW_BYTES: u64 = 32 << 20;
    let peak_bytes = peak_bytes.unwrap_or(UNKNOWN_BYTES);
    if peak_bytes > FEW_BYTES {
        black_box(vec![1_u8; 2 * peak_bytes as usize]);
    }
}

fn one(args: &Args, workload: &Workload, order: &[&str], row: &mut Row) -> Result<(), String> {
    let mut waiting: Vec<(&str, Running)> = Vec::new();
    let options: Vec<String> = args.quick.then(|| "--quick".to_owned()).into_iter().collect();
    for &allocator in order {
        let path = binary(allocator, workload.program);
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
