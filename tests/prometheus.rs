//! What a running program tells Prometheus: its own tool accepts it, counters never fall while
//! threads allocate, and the figures are those of the program. What is not installed is skipped,
//! with a message: `promtool`.

#[allow(dead_code, reason = "each test uses a part")]
mod support;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use spanalloc::SpanAlloc;
use spanalloc::report::Prometheus;

use support::skip::skip;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

fn text(metrics: &mut Prometheus) -> String {
    let mut text = Vec::new();
    metrics.write(&spanalloc::stats(), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Each series with its value, in the order of the text.
fn series(text: &str) -> Vec<(&str, u64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parts = lines.map(|line| line.rsplit_once(' ').expect("a value"));
    parts.map(|(name, value)| (name, value.parse().expect("a whole number"))).collect()
}

/// What `rate` and `histogram_quantile` take for growing.
fn is_counter(name: &str) -> bool {
    let base = name.split('{').next().expect("a first part");
    ["_bucket", "_sum", "_count", "_total"].iter().any(|end| base.ends_with(end))
}

#[test]
fn promtool_accepts_it() {
    let text = text(&mut Prometheus::new());
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = started else {
        return skip(
            "promtool",
            "there is no `promtool`, which Debian's package prometheus brings",
        );
    };
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    // It says what it would do otherwise, too, and then does not succeed either.
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn counters_never_fall_while_threads_allocate() {
    /// Ends the threads, also where the test fails.
    struct Ends<'a>(&'a AtomicBool);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let (done, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let kept: Vec<Vec<u8>> = (1..200).map(|n| vec![1; n * 17]).collect();
                    drop(black_box(kept));
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _ends = Ends(&done);
        let mut metrics = Prometheus::new();
        let mut before = BTreeMap::new();
        for _ in 0..300 {
            let text = text(&mut metrics);
            let now = series(&text);
            for &(name, value) in now.iter().filter(|(name, _)| is_counter(name)) {
                let before = before.insert(name.to_owned(), value).unwrap_or_default();
                assert!(before <= value, "{name}: {before}, then {value}");
            }
            let buckets = |name: &str| -> Vec<u64> {
                let begin = format!("spanalloc_{name}_by_size_bytes_bucket{{");
                let buckets = now.iter().filter(|(series, _)| series.starts_with(&begin));
                buckets.map(|(_, value)| *value).collect()
            };
            for name in ["allocs", "frees"] {
                let buckets = buckets(name);
                assert!(buckets.len() > 50 && buckets.is_sorted(), "{name}: {buckets:?}");
            }
        }
        let all = before["spanalloc_allocs_by_size_bytes_count"];
        // The last ones may not have been seen.
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns > 0 && all + 3 * 200 >= 200 * turns, "{all} in {turns} turns");
    });
}

#[test]
fn figures_are_those_of_the_program() {
    const BLOCKS: u64 = 1000;
    const BYTES: u64 = 3 << 20;
    let of = |text: &str, name: &str| -> u64 {
        series(text).iter().filter(|(series, _)| *series == name).map(|(_, value)| value).sum()
    };
    let mut metrics = Prometheus::new();
    let before = text(&mut metrics);
    // No other test has blocks of this size.
    let small: Vec<Vec<u8>> = (0..BLOCKS).map(|_| black_box(vec![1; 7000])).collect();
    let large = black_box(vec![1_u8; BYTES as usize]);
    let after = text(&mut metrics);
    let grown = |name: &str| of(&after, name).saturating_sub(of(&before, name));
    let up_to =
        |bytes: &str| grown(&format!("spanalloc_allocs_by_size_bytes_bucket{{le=\"{bytes}\"}}"));
    assert!(up_to("7168.0") - up_to("6144.0") >= BLOCKS, "{after}");
    assert!(up_to("+Inf") > up_to("2.097152e+06"), "{after}");
    assert!(of(&after, "spanalloc_in_use_blocks{block_bytes=\"7168\"}") >= BLOCKS);
    assert!(of(&after, "spanalloc_in_use_bytes{block_bytes=\"4194304\"}") >= BYTES);
    assert!(of(&after, "spanalloc_resident_bytes") >= BYTES);
    assert!(of(&after, "spanalloc_memory_bytes{part=\"live\"}") >= BLOCKS * 7000 + BYTES);
    drop((small, large));
}
