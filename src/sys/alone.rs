//! A test that has a process for itself, for it changes what is the process's.

use std::process::Command;

/// Whether this is that process. If not, it has run, and the test has passed there; `test` is the
/// caller's name with those of its modules.
pub(crate) fn alone(test: &str) -> bool {
    const ALONE: &str = "SPANALLOC_TEST_ALONE";
    if std::env::var_os(ALONE).is_some_and(|name| name == test) {
        return true;
    }
    let mut child = this_program();
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ALONE, test);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(" 1 passed"), "{said}\n{errors}");
    false
}

/// This program, by what Cargo was told to run programs of this processor with, an emulator.
fn this_program() -> Command {
    let program = std::env::current_exe().unwrap();
    let runner = if cfg!(target_arch = "aarch64") {
        std::env::var("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER").ok()
    } else {
        None
    };
    let mut words = runner.iter().flat_map(|runner| runner.split_whitespace());
    let Some(emulator) = words.next() else { return Command::new(program) };
    let mut command = Command::new(emulator);
    command.args(words).arg(program);
    command
}
