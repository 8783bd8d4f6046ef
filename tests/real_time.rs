//! A thread that the allocator starts is scheduled as usual, whoever freed enough to have it
//! started: a real-time thread's policy and priority are its own.
#![cfg(not(feature = "preload"))]

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use spanalloc::SpanAlloc;

#[path = "support/skip.rs"]
mod skip;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// The policy of the allocator's thread, once there is one.
fn policy_of_the_scavenger() -> Option<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(Result::ok).find_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let number = task.file_name().to_str()?.parse().ok()?;
        // SAFETY: asks for a number.
        (name.trim() == "spanalloc-idle").then(|| unsafe { libc::sched_getscheduler(number) })
    })
}

#[test]
fn the_scavenger_is_no_real_time_thread() {
    let real_time = thread::spawn(|| {
        let parameters = libc::sched_param { sched_priority: 1 };
        // SAFETY: has no preconditions.
        let here = unsafe { libc::pthread_self() };
        // SAFETY: this thread, and parameters.
        let refused = unsafe { libc::pthread_setschedparam(here, libc::SCHED_FIFO, &parameters) };
        if refused != 0 {
            return false;
        }
        let held: Vec<_> = (0..400).map(|_| black_box(vec![1_u8; 30 << 10])).collect();
        drop(held);
        spanalloc::stats();
        true
    });
    if !real_time.join().unwrap() {
        return skip::skip("real-time", "no thread may be a real-time one here");
    }
    let start = Instant::now();
    loop {
        match policy_of_the_scavenger() {
            Some(libc::SCHED_OTHER) => break,
            policy => assert!(start.elapsed() < Duration::from_secs(10), "{policy:?}"),
        }
        thread::sleep(Duration::from_millis(1));
    }
}
