//! Sampling is suppressed while the profiler works for a thread, and only then: what the thread
//! allocates afterwards is sampled as if nothing had been. A program rather than a test of the
//! harness, since it looks at the first allocations of `main`.

use std::hint::black_box;
use std::sync::mpsc;

use spanalloc::SpanAlloc;
use spanalloc::profile::{self, Amount};
use spanalloc::report::Weight;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new().sample_every(1);

/// What was allocated so far in blocks of `bytes`.
fn allocated(bytes: u64) -> Amount {
    let sizes = profile::capture().sizes;
    sizes
        .iter()
        .find(|size| size.block_bytes == bytes)
        .map_or_else(Amount::default, |s| s.allocated)
}

fn main() {
    the_first_blocks_are_sampled();
    blocks_behind_a_report_are_sampled();
    what_a_listener_allocates_is_sampled();
    an_estimate_does_not_mind_reports_in_between();
    a_site_takes_what_the_docs_say();
    println!("quiet: 5 checks passed");
}

/// Before anything else: the allocator woke up before `main`, in quiet.
fn the_first_blocks_are_sampled() {
    let boxes: Vec<Box<u64>> = (0..5000).map(|at| black_box(Box::new(at))).collect();
    let found = allocated(8).objects;
    assert!((5000..5100).contains(&found), "{found} of the first 5000 blocks were sampled");
    drop(boxes);
}

/// All kinds of reports allocate a lot, in the classes that the program uses next.
fn blocks_behind_a_report_are_sampled() {
    let reports: [fn(); 3] = [
        || drop(black_box(profile::capture())),
        || drop(black_box(spanalloc::stats().to_string())),
        || drop(black_box(profile::capture().top(9, Weight::InUseBytes).to_string())),
    ];
    for (number, report) in reports.into_iter().enumerate() {
        for bytes in [8_usize, 16, 24, 64, 160, 1024, 7777] {
            let (class, count) = (bytes.max(8), 100);
            let class = if class == 7777 { 8192 } else { class as u64 };
            let before = allocated(class).objects;
            report();
            for _ in 0..count {
                drop(black_box(Vec::<u8>::with_capacity(bytes)));
            }
            let found = allocated(class).objects - before;
            assert!(found >= count, "report {number}: {found} of {count} blocks of {bytes} bytes");
        }
    }
}

/// The thread that calls it is the allocator's, what the listener allocates is the program's.
fn what_a_listener_allocates_is_sampled() {
    let (tell, told) = mpsc::channel();
    let before = allocated(1024).objects;
    let listener = spanalloc::on_pressure(move |_| {
        let blocks: Vec<_> = (0..100).map(|_| black_box(vec![0_u8; 1024])).collect();
        tell.send(blocks).unwrap();
    });
    spanalloc::set_soft_limit(1).unwrap();
    let blocks = told.recv().unwrap();
    let found = allocated(1024).objects - before;
    assert!(found >= 100, "{found} of {} blocks of a listener's", blocks.len());
    spanalloc::set_soft_limit(0).unwrap();
    drop(listener);
}

fn an_estimate_does_not_mind_reports_in_between() {
    const ROUNDS: usize = 20_000;
    const BLOCKS: usize = 50;
    profile::stop();
    let before = allocated(16).bytes;
    profile::start(4096).unwrap();
    // What was granted while sampling was off is used up.
    (0..5000).for_each(|_| drop(black_box(Box::new([0_u64; 2]))));
    let start = allocated(16).bytes;
    for _ in 0..ROUNDS {
        (0..BLOCKS).for_each(|_| drop(black_box(Box::new([0_u64; 2]))));
        drop(black_box(profile::capture()));
        // Takes back what was granted, with the mark behind it.
        _ = black_box(spanalloc::measure(|| ()));
    }
    let found = allocated(16);
    let bytes = found.bytes - start;
    let asked = (ROUNDS * BLOCKS * 16) as f64;
    // Each of n samples stands for the same, so that the standard error is 1/√n of the sum.
    let deviation = asked / (asked / 4096.0).sqrt();
    let off = (bytes as f64 - asked) / deviation;
    assert!(off.abs() < 5.0, "{bytes} bytes of {asked}, {off:.1} standard errors off ({before})");
}

/// As many stacks as there are numbers of 13 bits, each with an object that stays.
fn a_site_takes_what_the_docs_say() {
    const BITS: u32 = 13;
    #[inline(never)]
    fn zero(way: u32, left: u32) -> Box<[u8; 24]> {
        black_box(step(way, left))
    }
    #[inline(never)]
    fn one(way: u32, left: u32) -> Box<[u8; 24]> {
        black_box(step(way, left))
    }
    #[inline(always)]
    fn step(way: u32, left: u32) -> Box<[u8; 24]> {
        match (left, way & 1) {
            (0, _) => Box::new([1; 24]),
            (_, 0) => zero(way >> 1, left - 1),
            _ => one(way >> 1, left - 1),
        }
    }
    profile::start(1).unwrap();
    profile::reset();
    let before = profile::capture().profiler_bytes;
    let kept: Vec<_> = (0..1 << BITS).map(|way| zero(way, BITS)).collect();
    let profile = profile::capture();
    let (sites, bytes) = (profile.sites.len(), profile.profiler_bytes - before);
    let frames: usize = profile.sites.iter().map(|site| site.frames.len()).sum();
    assert!(sites >= kept.len(), "{sites} sites");
    let (frames, bytes) = (frames / sites, bytes as usize / sites);
    assert!(bytes <= 1024 + 20 * frames, "{frames} frames, {bytes} bytes a site");
    println!("a site of {frames} frames takes {bytes} bytes");
}
