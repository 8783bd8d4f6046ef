//! The machine, the toolchain and the versions that a result belongs to.

use crate::builds::home;
use crate::catalog::CRATES;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// Where and with what a comparison ran. Names no host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Date and time, UTC, fit for a file name.
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// The setting in force of transparent huge pages.
    pub(crate) huge_pages: String,
    pub(crate) rustc: String,
    pub(crate) crates: BTreeMap<String, String>,
}

impl Machine {
    /// This machine, now. What cannot be read is "unknown".
    pub(crate) fn here() -> Self {
        let huge = text("/sys/kernel/mm/transparent_hugepage/enabled");
        Self {
            date: command("date", &["-u", "+%Y-%m-%dT%H%MZ"]),
            processor: after(&text("/proc/cpuinfo"), "model name", ':'),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory_bytes("MemTotal") as f64 / f64::from(1 << 30),
            kernel: release(&text("/proc/sys/kernel/osrelease")),
            huge_pages: huge.split(['[', ']']).nth(1).unwrap_or("unknown").to_owned(),
            rustc: command("rustc", &["--version"]),
            crates: versions(&text(&home().join("Cargo.lock").to_string_lossy())),
        }
    }

    /// One line for the head of a table or chart.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} × {}, {:.0} GiB, Linux {}, huge pages {}, {}",
            self.date,
            self.processors,
            self.processor,
            self.memory_gib,
            self.kernel,
            self.huge_pages,
            self.rustc,
        )
    }
}

/// A quantity of `/proc/meminfo`, in bytes; zero if it is not there.
pub(crate) fn memory_bytes(key: &str) -> u64 {
    let value = after(&text("/proc/meminfo"), key, ':');
    value.trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What a command prints; "unknown" where there is no such command.
pub(crate) fn command(name: &str, args: &[&str]) -> String {
    match Command::new(name).args(args).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(_) => "unknown".to_owned(),
    }
}

fn after(text: &str, key: &str, separator: char) -> String {
    let line = text.lines().find(|line| line.starts_with(key));
    let value = line.and_then(|line| line.split_once(separator));
    value.map_or("unknown", |(_, value)| value.trim()).to_owned()
}

fn versions(lock: &str) -> BTreeMap<String, String> {
    let quoted = |block: &str, key| after(block, key, '=').trim_matches('"').to_owned();
    lock.split("[[package]]")
        .map(|block| (quoted(block, "name"), quoted(block, "version")))
        .filter(|(name, _)| CRATES.contains(&name.as_str()))
        .collect()
}

/// The kernel's version without what its builder appended.
fn release(text: &str) -> String {
    text.trim().split('-').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::versions;

    #[test]
    fn versions_are_those_of_the_allocators() {
        let lock = "[[package]]\nname = \"mimalloc\"\nversion = \"0.1.52\"\n\n\
                    [[package]]\nname = \"serde\"\nversion = \"1.0.0\"\n";
        let found = versions(lock);
        assert_eq!(found.len(), 1);
        assert_eq!(found["mimalloc"], "0.1.52");
    }
}
