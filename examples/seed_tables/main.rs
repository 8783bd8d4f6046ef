//! Runs the experiments on what is said about maps, pools, arenas and allocators, and writes a
//! report of one HTML file.
//!
//! `cargo run --release --example seed_tables` runs all; `-- E7 E12` some, `--quick` for a short
//! run, `--out FILE` to choose the report's place, `--under "taskset -c 1"` to run each measurement
//! under a command.
//!
//! A process has one global allocator, so measurements run in children: this program, and
//! `seed_tables_system`, which differs in the allocator alone. Their repeats take turns.

mod program;

use program::Regrowth;
use spanalloc::SpanAlloc;
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: Regrowth<SpanAlloc> = Regrowth(SpanAlloc::new());

fn main() -> ExitCode {
    program::main(program::OURS)
}
