//! What passes between a workload binary and the driver, as JSON.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The line an idle workload prints once it has freed everything and parks. The
/// driver starts the next process then, so that the waiting of all overlaps.
pub const PARKED: &str = "parked";

/// What a workload is a measure of, and so which table it is a row of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nanoseconds per operation, peak memory, faults.
    Time,
    /// What remains resident; parks for seconds after printing [`PARKED`].
    Idle,
    /// Other figures, named in [`Record::figures`].
    Figures,
    /// A point of a curve: takes `--size`, not part of the table.
    Scaling,
    /// The loop of another workload without its calls, for counts of instructions; not part of the
    /// table.
    Loop,
}

/// A workload as `--list` names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listing {
    /// Its name, the argument that runs it.
    pub name: String,
    /// What it measures.
    pub kind: Kind,
    /// What it does, in one line.
    pub about: String,
}

/// The result of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The workload's name.
    pub workload: String,
    /// The operations that were timed.
    pub ops: u64,
    /// Wall time of one of them.
    pub ns_per_op: f64,
    /// Processor time of one of them, all threads together.
    pub cpu_ns_per_op: f64,
    /// The most the process had resident (`VmHWM`).
    pub peak_rss_bytes: u64,
    /// Page faults of the whole process that needed no disk.
    pub minor_faults: u64,
    /// Time of the whole process in user mode.
    pub user_ms: f64,
    /// Time of the whole process in the kernel.
    pub system_ms: f64,
    /// A sum over what the workload computed. The same for every allocator.
    pub checksum: u64,
    /// Further figures, by a name that ends in its unit.
    pub figures: BTreeMap<String, f64>,
}
