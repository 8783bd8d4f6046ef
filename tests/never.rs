//! Memory that does not go back by itself: `decay=never` and `set_decay(Duration::MAX)`.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use spanalloc::SpanAlloc;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const AGAIN: &str = "NEVER_TEST_AGAIN";
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the allocator's thread runs that gives memory back.
fn scavenges() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut names = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
    names.any(|name| name.trim() == "spanalloc-idle")
}

fn free() -> u64 {
    spanalloc::stats().memory.free_pages
}

/// Frees 64 MiB, of large blocks and of small ones, by two threads.
fn free_much() {
    let fill = || {
        let large: Vec<_> = (0..60).map(|_| vec![1_u8; 500 << 10]).collect();
        let small: Vec<_> = (0..10_000).map(|_| vec![1_u8; 200]).collect();
        drop((large, small));
    };
    let other = thread::spawn(fill);
    fill();
    other.join().unwrap();
    let mappings: Vec<_> = (0..3).map(|_| vec![1_u8; 17 << 20]).collect();
    drop(mappings);
}

fn nothing_goes_back_unless_asked_for() {
    free_much();
    let before = free();
    assert!(before > 20 << 20, "{before} bytes are free");
    for _ in 0..30 {
        thread::sleep(Duration::from_millis(50));
        assert!(!scavenges());
        drop(std::hint::black_box(vec![1_u8; 100 << 10]));
    }
    assert!(free() >= before - (1 << 20), "{} of {before} bytes are free still", free());
    assert!(spanalloc::release_free_memory() > 20 << 20);
    assert!(free() < 1 << 20, "{} bytes are free", free());
}

/// One test: the setting is the process's.
#[test]
fn never_lasts_until_another_decay_is_set() {
    spanalloc::set_decay(Duration::MAX);
    assert_eq!(spanalloc::decay(), Duration::MAX);
    nothing_goes_back_unless_asked_for();
    if std::env::var_os(AGAIN).is_some() {
        // The environment wins.
        spanalloc::set_decay(Duration::from_millis(1));
        return nothing_goes_back_unless_asked_for();
    }
    // What was free before goes, too.
    free_much();
    spanalloc::set_decay(Duration::from_millis(20));
    let start = Instant::now();
    while free() > 2 << 20 {
        assert!(start.elapsed() < PATIENCE, "{} bytes stay", free());
        thread::sleep(Duration::from_millis(20));
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env(AGAIN, "").env("SPANALLOC", "decay=never");
    let output = again.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
