//! Real programs: code that others wrote for other ends, given work to do.
//!
//! The inputs are generated or are this crate's own source, so that every
//! machine measures the same.

peer::install!();

mod codec;
mod json;
mod maps;
mod script;
mod syntax;
mod tasks;

use std::process::ExitCode;

fn main() -> ExitCode {
    let families = [
        json::WORKLOADS,
        syntax::WORKLOADS,
        maps::WORKLOADS,
        tasks::WORKLOADS,
        script::WORKLOADS,
        codec::WORKLOADS,
    ];
    harness::main(&families.concat())
}
