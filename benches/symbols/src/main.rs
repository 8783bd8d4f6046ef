//! What a dump takes of a program with much debug information: seconds, and memory
//! beyond what the program held before.
//!
//! ```console
//! $ cargo run --release --manifest-path benches/symbols/Cargo.toml
//! ```
//!
//! Every allocation of the generated functions is sampled, then all formats are
//! written, as `SPANALLOC` with `formats=` would have them. The memory is the highest
//! resident set meanwhile less that before: heap of the report and pages of the files
//! it reads alike. With `--most MIB` it fails if that is more.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use parts::{FUNCTIONS, Held};
use spanalloc::SpanAlloc;
use spanalloc::profile;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new().sample_every(1);

/// Functions called of 20 that the program has: together some 10,000 sites, each at its
/// own place in the debug information.
const CALLED_OF_20: usize = 11;
/// Frames below which the functions are called.
const DEPTH: usize = 20;

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

fn main() {
    let most_mib = std::env::args().skip_while(|argument| argument != "--most").nth(1);
    let most_mib: Option<f64> = most_mib.map(|number| number.parse().expect("a number of MiB"));
    let directory = std::env::temp_dir().join(format!("symbols-{}", std::process::id()));

    let mut held = Held::default();
    let called = || FUNCTIONS.iter().enumerate().filter(|(at, _)| at % 20 < CALLED_OF_20);
    at_depth(DEPTH, &mut || called().for_each(|(_, function)| function(&mut held)));
    profile::stop();
    let sites = profile::capture().sites.len();
    spanalloc::release_free_memory();

    let before = status("VmRSS:");
    // 5 sets the highest resident set to the present one.
    fs::write("/proc/self/clear_refs", "5").expect("the kernel keeps the highest resident set");
    let start = Instant::now();
    let written = spanalloc::dump(directory.join("all")).expect("reports");
    let seconds = start.elapsed().as_secs_f64();
    let taken = (status("VmHWM:") - before) / 1024.0;

    let program = fs::metadata("/proc/self/exe").expect("the program's file").len();
    println!(
        "{} functions, {sites} sites, a program of {} MB",
        FUNCTIONS.len(),
        program / 1_000_000
    );
    for path in &written {
        let bytes = fs::metadata(path).expect("a report").len();
        println!("{:>12} bytes  {}", bytes, path.file_name().unwrap_or_default().display());
    }
    println!("{seconds:.2} s, {taken:.1} MiB beside {:.1} MiB before", before / 1024.0);
    fs::remove_dir_all(directory).expect("the directory is ours");
    assert!(most_mib.is_none_or(|most| taken <= most), "took {taken:.1} MiB");
    drop(held);
}

/// A line of what the kernel says of this process, in KiB.
fn status(key: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").expect("the kernel says it");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("a known line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
