//! One run: a fresh process, its exit and the lines it printed.

use harness::{Listing, PARKED, Record};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A run that has been started.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    last: String,
}

/// Starts `workload` in the binary at `path`.
pub(crate) fn start(path: &Path, workload: &str, options: &[String]) -> Result<Running, String> {
    let mut child = Command::new(path)
        .arg(workload)
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", path.display()))?;
    let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
    Ok(Running { child, output, last: String::new() })
}

impl Running {
    /// Waits until the run says that only waiting is left, or ends.
    pub(crate) fn parked(&mut self) -> Result<(), String> {
        while self.next_line()? {
            if self.last.trim_end() == PARKED {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the end: the record, or why there is none.
    pub(crate) fn record(mut self) -> Result<Record, String> {
        let mut printed = String::new();
        while self.next_line()? {
            printed.clone_from(&self.last);
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(status.to_string());
        }
        serde_json::from_str(&printed).map_err(|error| format!("{printed:?}: {error}"))
    }

    fn next_line(&mut self) -> Result<bool, String> {
        self.last.clear();
        let read = self.output.read_line(&mut self.last);
        Ok(read.map_err(|error| error.to_string())? > 0)
    }
}

/// Asks the binary at `path` for its workloads.
pub(crate) fn list(path: &Path) -> Result<Vec<Listing>, String> {
    let output = Command::new(path)
        .arg("--list")
        .output()
        .map_err(|error| format!("cannot run {}: {error}", path.display()))?;
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{}: {error}", path.display()))
}
