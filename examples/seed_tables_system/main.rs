//! The same program as `seed_tables` on the system's allocator, which is its baseline.

#[path = "../seed_tables/program/mod.rs"]
mod program;

use program::Regrowth;
use std::alloc::System;
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: Regrowth<System> = Regrowth(System);

fn main() -> ExitCode {
    program::main(program::SYSTEM)
}
