//! Real engines: a search index and a SQL database, both in memory. Apart from
//! the other real programs because they take long to link.

peer::install!();

mod search;
mod sql;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&[search::WORKLOADS, sql::WORKLOADS].concat())
}
