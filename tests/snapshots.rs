//! Snapshots over time: a size class that leaks is found among others that do not, in the
//! process itself and in what it wrote down.
#![cfg(all(feature = "collections", feature = "profile"))]

use std::time::Duration;

use spanalloc::observe::Trend;
use spanalloc::{Snapshots, Snapshotter, SpanAlloc};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const LEAK_BYTES: u64 = 1536;
const CACHE_BYTES: u64 = 3072;

fn live(block_bytes: u64) -> impl Fn(&spanalloc::Stats) -> u64 {
    move |stats| {
        let row = stats.classes.iter().find(|row| row.block_bytes == block_bytes);
        row.map_or(0, |row| row.live_blocks)
    }
}

/// One test: the counts are the process's.
#[test]
fn snapshots() {
    the_class_that_leaks_is_found();
    what_is_no_series_is_refused_by_line();
    a_thread_takes_them_until_it_is_stopped();
    a_child_has_them_and_no_thread();
}

/// A8 and O1: a leak of 10 blocks between two snapshots beside a cache that is flushed.
fn the_class_that_leaks_is_found() {
    let (mut leak, mut cache) = (Vec::new(), Vec::new());
    let mut snapshots = Snapshots::new(30);
    let before = live(LEAK_BYTES)(&spanalloc::stats());
    for step in 0..40 {
        leak.extend((0..10).map(|_| vec![0_u8; 1500]));
        cache.extend((0..50).map(|_| vec![0_u8; 3000]));
        if step % 6 == 5 {
            cache.clear();
        }
        let taken = snapshots.take();
        assert_eq!(live(LEAK_BYTES)(&taken.stats), before + 10 * (step + 1));
    }
    assert_eq!(snapshots.iter().len(), 30, "the latest ones stay");
    assert!(snapshots.iter().rev().is_sorted_by(|later, earlier| later.at > earlier.at));
    let mut file = Vec::new();
    snapshots.write_json(&mut file).unwrap();
    let read = Snapshots::read_json(&file[..]).unwrap();
    assert!(read.iter().eq(snapshots.iter()));
    for series in [&snapshots, &read] {
        let grown = series.growth();
        let of = |bytes| *grown.iter().find(|growth| growth.block_bytes == bytes).unwrap();
        assert_eq!(of(LEAK_BYTES).live_blocks, 290);
        assert_eq!(of(LEAK_BYTES).live_bytes, 290 * LEAK_BYTES as i64);
        assert_eq!(of(LEAK_BYTES).allocs, 290);
        assert_eq!(of(LEAK_BYTES).allocated_bytes, 290 * LEAK_BYTES);
        assert_eq!(of(CACHE_BYTES).allocs, 29 * 50);
        assert!(grown.is_sorted_by_key(|growth| -growth.live_bytes));
        assert!(matches!(series.trend(0.99, live(LEAK_BYTES)), Trend::Rising(_)));
        assert!(matches!(series.trend(0.99, live(CACHE_BYTES)), Trend::Sawtooth { .. }));
        assert_eq!(series.trend(0.99, |_| 1), Trend::Steady);
    }
}

fn what_is_no_series_is_refused_by_line() {
    let mut snapshots = Snapshots::new(5);
    (0..3).for_each(|_| _ = snapshots.take());
    let mut file = Vec::new();
    snapshots.write_json(&mut file).unwrap();
    let text = String::from_utf8(file).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let refused =
        |lines: &[&str]| Snapshots::read_json(lines.join("\n").as_bytes()).unwrap_err().to_string();
    assert!(refused(&[lines[0], "{}"]).starts_with("line 2 of the snapshots: missing field"));
    let said = refused(&[lines[1], lines[2], lines[0]]);
    assert!(
        said.starts_with("line 3") && said.ends_with("not later than the line before"),
        "{said}"
    );
    let at = |seconds: u64| {
        let (start, rest) = lines[0].split_once("\"secs\":").unwrap();
        let (_, rest) = rest.split_once(',').unwrap();
        format!("{start}\"secs\":{seconds},{rest}")
    };
    assert!(refused(&[lines[0], &at(u64::MAX)]).starts_with("line 2 of the snapshots: no clock"));
    let mut late = Snapshots::read_json(at(u64::MAX / 2 - 1).as_bytes()).unwrap();
    assert_eq!(late.take().at.as_secs(), u64::MAX / 2 - 1, "it comes after what was read");
    assert_eq!(Snapshots::read_json(&b""[..]).unwrap().iter().count(), 0);
}

fn a_thread_takes_them_until_it_is_stopped() {
    let snapshotter = Snapshotter::start(Duration::from_millis(2), 4).unwrap();
    while snapshotter.snapshots().iter().count() < 4 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let before = snapshotter.snapshots();
    let after = snapshotter.stop();
    assert_eq!(after.iter().count(), 4);
    let last = |snapshots: &Snapshots| snapshots.iter().last().unwrap().at;
    assert!(last(&after) > last(&before));
    drop(Snapshotter::start(Duration::from_secs(3600), 2).unwrap());
    let refused = Snapshotter::start(Duration::ZERO, 2).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("interval is 0"), "{refused}");
}

/// A fork may come while the thread is at a snapshot, and leaves it behind.
fn a_child_has_them_and_no_thread() {
    let snapshotter = Snapshotter::start(Duration::from_nanos(1), 5).unwrap();
    while snapshotter.snapshots().iter().count() < 5 {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The child's status if all is well: with what was kept, or at a snapshot and so with nothing.
    const KEPT: i32 = 3;
    const NOTHING: i32 = 4;
    let mut with_kept = 0;
    for round in 0..40 {
        // SAFETY: what the child may do after this is the test.
        let process = unsafe { libc::fork() };
        if process == 0 {
            // SAFETY: no preconditions; ends a child that hangs.
            unsafe { libc::alarm(10) };
            let in_child = || {
                let kept = snapshotter.snapshots();
                std::thread::sleep(Duration::from_millis(2));
                assert!(snapshotter.snapshots().iter().eq(kept.iter()), "a thread takes them");
                let last = |snapshots: &Snapshots| snapshots.iter().last().map(|last| last.at);
                if round % 2 == 0 {
                    let all = snapshotter.stop();
                    let count = (kept.iter().count() + 1).min(5);
                    assert!(all.iter().count() == count && last(&all) > last(&kept));
                }
                match kept.iter().count() {
                    5 => KEPT,
                    0 => NOTHING,
                    count => panic!("{count} were kept"),
                }
            };
            // The thread that unwinds would be the last one, and the child end as if all were well.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(in_child));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(done.unwrap_or(1)) };
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
        let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        assert!(
            code == Some(KEPT) || code == Some(NOTHING),
            "of the child, round {round}: {status}"
        );
        with_kept += u32::from(code == Some(KEPT));
    }
    assert!(with_kept >= 4, "{with_kept} of 40 children had what was kept");
    assert_eq!(snapshotter.stop().iter().count(), 5);
}
