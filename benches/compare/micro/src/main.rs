//! Synthetic workloads: each is one pattern of allocation and nothing else.
//!
//! A family is a file, a workload a function; each family lists its own.

peer::install!();

mod batch;
mod fragmentation;
mod growth;
mod handover;
mod idle;
mod large;
mod live;
mod pair;
mod pattern;
mod scaling;
mod threads;
mod tree;

use std::process::ExitCode;

fn main() -> ExitCode {
    let families = [
        pair::WORKLOADS,
        live::WORKLOADS,
        batch::WORKLOADS,
        tree::WORKLOADS,
        threads::WORKLOADS,
        handover::WORKLOADS,
        growth::WORKLOADS,
        large::WORKLOADS,
        fragmentation::WORKLOADS,
        idle::WORKLOADS,
        scaling::WORKLOADS,
        pattern::WORKLOADS,
    ];
    harness::main(&families.concat())
}
