//! One run: a fresh process, its exit and the lines it printed.
//!
//! A run gets no environment but `PATH`: `SPANALLOC`, `MIMALLOC_…`, `MALLOC_CONF`, `LD_PRELOAD`
//! and their like would change one allocator and not another, unseen in the results. One that hangs
//! is killed, so that the others' results are not waited for in vain.

use harness::{Listing, PARKED, Record};
use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Many times what the longest run takes.
const RUN_SECONDS_MAX: u32 = 600;

/// A run that has been started.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    last: String,
}

/// A command in the environment of a run.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// What kills a run that hangs.
const TIMEOUT: &str = "timeout";

/// An error if no run can be started, whatever its program.
pub(crate) fn is_possible() -> Result<(), String> {
    tries(TIMEOUT)
}

fn tries(timeout: &str) -> Result<(), String> {
    let status = command(timeout).args(["--signal=KILL", "60", "true"]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{timeout:?} is not GNU's, of coreutils: {status}")),
        Err(error) => Err(format!("cannot run {timeout:?}, of GNU coreutils: {error}")),
    }
}

/// A command that is killed after so many seconds, with the exit status of one that was killed.
fn command_within(seconds: u32, program: &Path) -> Command {
    let mut command = command(TIMEOUT);
    command.arg("--signal=KILL").arg(seconds.to_string()).arg(program);
    command
}

/// Starts `workload` in the binary at `path`.
pub(crate) fn start(path: &Path, workload: &str, options: &[String]) -> Result<Running, String> {
    let mut child = command_within(RUN_SECONDS_MAX, path)
        .arg(workload)
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {TIMEOUT} {}: {error}", path.display()))?;
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
    let output = command(path)
        .arg("--list")
        .output()
        .map_err(|error| format!("cannot run {}: {error}", path.display()))?;
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{command, command_within, is_possible, tries};
    use std::path::Path;
    use std::time::{Duration, Instant};

    #[test]
    fn a_run_has_no_environment_but_the_path() {
        let printed = command("env").output().unwrap().stdout;
        let lines = String::from_utf8(printed).unwrap();
        assert!(lines.lines().all(|line| line.starts_with("PATH=")), "{lines}");
        assert!(std::env::vars().count() > 1, "there is something to leave out");
    }

    #[test]
    fn a_run_that_hangs_is_killed_and_one_that_ends_keeps_its_status() {
        let began = Instant::now();
        let status = command_within(1, Path::new("sleep")).arg("60").status().unwrap();
        assert!(!status.success() && began.elapsed() < Duration::from_secs(30), "{status}");
        let status = command_within(60, Path::new("sh")).args(["-c", "exit 7"]).status().unwrap();
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn what_is_needed_to_run_is_named_where_it_is_missing() {
        assert_eq!(is_possible(), Ok(()));
        let message = tries("/nowhere/timeout").unwrap_err();
        assert!(message.contains("\"/nowhere/timeout\", of GNU coreutils"), "{message}");
        assert!(tries("false").unwrap_err().contains("is not GNU's"));
    }
}
