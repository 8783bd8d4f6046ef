//! The pool and the arena beside their peers.
//!
//! `cargo run --release` runs every row over all contenders, interleaved: one round gives each
//! contender one turn, and a round is repeated many times. A row prints each contender's least
//! time in nanoseconds per operation and its ratio to ours, below 1 where a peer is faster than we
//! are; and the median.
//! `-- pool` or `-- arena` runs one half; `--quick` takes fewer rounds.

mod arenas;
mod pools;
mod race;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut rounds = 41;
    let mut wanted = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => rounds = 7,
            "pool" | "arena" => wanted.push(argument),
            _ => {
                eprintln!("unknown argument {argument:?}: accepted are pool, arena and --quick");
                return ExitCode::from(2);
            }
        }
    }
    let wants = |half: &str| wanted.is_empty() || wanted.iter().any(|name| name == half);
    if wants("pool") {
        pools::run(rounds);
    }
    if wants("arena") {
        arenas::run(rounds);
    }
    ExitCode::SUCCESS
}
