//! Reports where the disk is full, in a child process that has a small one of its own: this program
//! runs itself again.
#![cfg(feature = "profile")]

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use spanalloc::SpanAlloc;
use support::Scratch;
use support::skip::skip;

#[allow(dead_code, reason = "others look at pictures, too")]
mod support;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const DISK: &str = "DUMP_FULL_TEST_DISK";
const PATIENCE: Duration = Duration::from_secs(30);

/// What the child does; a test that passes at once where there is no disk.
#[test]
fn child() {
    if let Some(disk) = std::env::var_os(DISK) {
        go_on_where_the_disk_is_full(Path::new(&disk));
    }
}

/// Whether a report becomes what is asked for.
fn wait_for(dump: &Path, is_there: bool) -> bool {
    let start = Instant::now();
    while dump.exists() != is_there && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    dump.exists() == is_there
}

/// Has two reports written, fills the disk and asks for a third: ends with 3 if that took the
/// oldest one away, with 4 if not.
fn go_on_where_the_disk_is_full(disk: &Path) {
    let ask = || {
        // SAFETY: sends a signal to this thread.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
    };
    let dump = |number: u32| disk.join(format!("app.{number:04}.json"));
    for number in 1..=2 {
        ask();
        assert!(wait_for(&dump(number), true), "the disk has room for {number}");
    }
    let mut ballast = File::create(disk.join("ballast")).unwrap();
    let full = loop {
        if let Err(error) = ballast.write_all(&[1; 512]) {
            break error.kind();
        }
    };
    assert_eq!(full, ErrorKind::StorageFull);
    ask();
    let went = wait_for(&dump(1), false);
    assert!(dump(2).exists(), "the last one that is whole stays");
    // SAFETY: ends the process, without a report more.
    unsafe { libc::_exit(if went { 3 } else { 4 }) };
}

#[test]
fn where_the_disk_is_full_the_oldest_report_goes_although_none_is_written() {
    let scratch = Scratch::new("full");
    let disk: PathBuf = scratch.prefix("disk");
    std::fs::create_dir(&disk).unwrap();
    let with_disk = |run: &str| {
        let mut command = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size=1m none \"$0\" && {run}");
        command.args(["-rm", "sh", "-c", &mount]).arg(&disk);
        command
    };
    if !with_disk("true").output().is_ok_and(|output| output.status.success()) {
        return skip("namespaces", "there is no disk to be had for a process alone");
    }
    let mut command = with_disk("exec \"$@\"");
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    let prefix = disk.join("app.%d");
    let variable = format!("dump={},signal=USR2,keep=2,formats=json", prefix.display());
    let output = command.env("SPANALLOC", variable).env(DISK, &disk).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("dump failed: ") && said.contains("app.0003.json: "), "{said}");
}
