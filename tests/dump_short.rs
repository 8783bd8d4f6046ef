//! Reports while a program runs that has few addresses left, in child processes: this program runs
//! itself again with a scenario's name in its environment.
#![cfg(feature = "profile")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use spanalloc::SpanAlloc;
use support::Scratch;

#[allow(dead_code, reason = "others look at pictures, too")]
mod support;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const PREFIX: &str = "DUMP_SHORT_TEST_PREFIX";

/// What the child does; a test that passes at once where there is no prefix.
#[test]
fn child() {
    if std::env::var_os(PREFIX).is_some() {
        go_on_while_memory_is_short();
    }
}

fn file(prefix: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", prefix.display()))
}

/// Allocates at one of many stacks: by one of two ways for each bit.
fn at_a_stack(bits: u32, depth: u32) -> Vec<u8> {
    if depth == 0 {
        return std::hint::black_box(vec![1_u8; 40]);
    }
    match bits & 1 {
        0 => at_a_stack(bits >> 1, depth - 1),
        _ => std::hint::black_box(at_a_stack(std::hint::black_box(bits) >> 1, depth - 1)),
    }
}

/// Fills the heap, leaves as many MiB of addresses as the prefix ends with, and waits for reports:
/// ends with 3 if two came, with 4 if not.
fn go_on_while_memory_is_short() {
    let prefix = PathBuf::from(std::env::var_os(PREFIX).unwrap());
    let room: u64 = prefix.extension().unwrap().to_str().unwrap().parse().unwrap();
    let _held: Vec<_> = (0..1 << 13).map(|bits| at_a_stack(bits, 13)).collect();
    let (mapping, own) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let place = std::ptr::null_mut();
    // SAFETY: maps what nobody has.
    let spare = unsafe { libc::mmap(place, (room as usize) << 20, mapping, own, -1, 0) };
    assert_ne!(spare, libc::MAP_FAILED);
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    // SAFETY: asks for a number.
    let limit = pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: `limit` is live.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    let mut held = Vec::with_capacity(1000);
    for bytes in [1 << 20, 64 << 10] {
        let mut block = Vec::<u8>::new();
        while held.len() < held.capacity() && block.try_reserve_exact(bytes).is_ok() {
            held.push(std::mem::take(&mut block));
        }
    }
    // SAFETY: mapped above, and not used.
    assert_eq!(unsafe { libc::munmap(spare, (room as usize) << 20) }, 0);
    let last = file(&prefix, ".peak.folded");
    // What is left out is not waited for.
    let patience = Duration::from_secs(if room < 16 { 3 } else { 30 });
    let mut came = 0;
    for _ in 0..2 {
        let _ = fs::remove_file(&last);
        // SAFETY: sends a signal to this thread.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
        let start = Instant::now();
        while !last.exists() && start.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        came += i32::from(last.exists());
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(if came == 2 { 3 } else { 4 }) };
}

fn command(variable: &str, prefix: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env("SPANALLOC", variable).env(PREFIX, prefix);
    command
}

#[test]
fn reports_where_memory_is_short_have_no_names_or_are_left_out() {
    let scratch = Scratch::new("live-short");
    let lacks_names = "memory is short: reports have no names";
    let left_out = "dump failed: memory is short: it is left out";
    for (room, code, line) in [(300, 3, None), (60, 3, Some(lacks_names)), (8, 4, Some(left_out))] {
        let prefix = scratch.prefix(&format!("app.{room}"));
        let formats = "formats=text+json+folded";
        let variable = format!("sample=1,signal=USR2,dump={},{formats}", prefix.display());
        let output = command(&variable, &prefix).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{room}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let said: Vec<_> = said.lines().filter(|said| said.starts_with("spanalloc: ")).collect();
        let expected: Vec<_> =
            line.map(|line| format!("spanalloc: {}", line)).into_iter().collect();
        assert_eq!(said, expected, "{room}");
        if code == 3 {
            let stacks = fs::read_to_string(file(&prefix, ".alloc.folded")).unwrap();
            assert_eq!(stacks.contains("go_on_while_memory_is_short"), room == 300, "{stacks}");
        }
    }
}
