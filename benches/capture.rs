//! What a sample costs: nanoseconds per sampled allocation with its free, for a
//! stack of 40 frames, beside the same without sampling.
//!
//! ```console
//! $ cargo bench --bench capture
//! ```
//!
//! At an interval of 1 byte every allocation is sampled, so the difference between
//! the two is a sample's walk, its entries in the tables, and their removal. Also
//! what the profiler takes of a core at 1 GB/s, at the default interval.

use std::hint::black_box;
use std::time::Instant;

use spanalloc::SpanAlloc;
use spanalloc::profile;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const FRAMES: usize = 40;
const ROUNDS: usize = 7;
const PAIRS: usize = 100_000;
const DEFAULT_INTERVAL_BYTES: f64 = 512.0 * 1024.0;
const BYTES_PER_SECOND: f64 = 1e9;

/// Runs `work` below at least `depth` frames.
#[inline(never)]
fn at_depth(depth: usize, work: &mut dyn FnMut()) {
    if depth == 0 {
        work()
    } else {
        at_depth(depth - 1, work)
    }
    // Not the last thing done, so that the frame stays.
    black_box(depth);
}

/// The best of several rounds: nanoseconds per allocation and free.
fn pair_ns() -> f64 {
    let mut best = f64::INFINITY;
    at_depth(FRAMES, &mut || {
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..PAIRS {
                drop(black_box(Box::new([0_u8; 64])));
            }
            best = best.min(start.elapsed().as_nanos() as f64 / PAIRS as f64);
        }
    });
    best
}

fn main() {
    let off = pair_ns();
    profile::start(1).expect("an interval");
    let on = pair_ns();
    let captured = profile::capture();
    profile::stop();
    let deepest = captured.sites.iter().map(|site| site.frames.len()).max().unwrap_or(0);
    let sample_ns = on - off;
    let share = BYTES_PER_SECOND / DEFAULT_INTERVAL_BYTES * sample_ns / 1e9;
    println!("allocation and free, not sampled: {off:.1} ns");
    println!(
        "allocation and free, sampled, {deepest} frames ({:?}): {on:.0} ns",
        captured.unwinding
    );
    println!("at 1 GB/s and one sample per 512 KiB: {:.2} % of a core", share * 100.0);
}
