//! What `SPANALLOC` asks for is done, and wins over what the program was built with and what it
//! says itself. Each in a child, which is this program again with a scenario's name in its
//! environment; it prints what it finds.

use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use spanalloc::SpanAlloc;

#[path = "support/skip.rs"]
mod skip;

#[cfg(feature = "profile")]
#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new().sample_every(BUILT_WITH_BYTES);
#[cfg(not(feature = "profile"))]
#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

#[cfg(feature = "profile")]
const BUILT_WITH_BYTES: u64 = 3000;
const SCENARIO: &str = "VARIABLE_TEST_SCENARIO";
const MIB: usize = 1 << 20;
/// A day.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// What the child does; a test that passes at once where there is no scenario.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    let found = match scenario.as_str() {
        "huge" => mib_advised("hg"),
        "small" => mib_advised("nh"),
        #[cfg(feature = "profile")]
        "sample" => sampled_every(),
        "decay" => mib_free_in_the_end(Duration::from_millis(1)),
        "decay-late" => mib_free_in_the_end(LONG),
        _ => panic!("unknown scenario {scenario}"),
    };
    println!("found: {found}");
}

/// What a child finds.
fn found(scenario: &str, variable: Option<&str>) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(SCENARIO, scenario);
    match variable {
        Some(variable) => command.env("SPANALLOC", variable),
        None => command.env_remove("SPANALLOC"),
    };
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{scenario} with {variable:?}: {output:?}");
    let (_, found) = said.split_once("found: ").unwrap_or_else(|| panic!("{said}"));
    found.lines().next().unwrap().parse().unwrap()
}

/// Of a block with a mapping of its own and of many small ones, what the kernel was advised to have
/// huge pages for (`hg`), or not to (`nh`).
fn mib_advised(flag: &str) -> u64 {
    let mapping = black_box(vec![1_u8; 64 * MIB]);
    let small: Vec<_> = (0..100 * MIB / 1000).map(|_| black_box(vec![1_u8; 1000])).collect();
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    drop((mapping, small));
    let (mut kib, mut advised_kib) = (0, 0);
    for line in smaps.lines() {
        if let Some(size) = line.strip_prefix("Size:") {
            kib = size.trim().trim_end_matches(" kB").parse().unwrap();
        } else if line.strip_prefix("VmFlags:").is_some_and(|f| f.split(' ').any(|f| f == flag)) {
            advised_kib += kib;
        }
    }
    advised_kib >> 10
}

/// Whether the kernel has huge pages, and the allocator asks for them: not beside larger pages.
fn has_huge_pages() -> bool {
    // SAFETY: no preconditions.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    page_bytes == 4096 && fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap()
}

#[test]
fn huge_pages_are_asked_for_unless_the_variable_forbids_it() {
    if !has_huge_pages() {
        return skip::skip("huge-pages", "there are no huge pages here");
    }
    for variable in [None, Some("huge=on")] {
        let mib = found("huge", variable);
        // The mapping, and what the heap has behind its first 16 MiB.
        assert!((64 + 80..64 + 256).contains(&mib), "{mib} MiB with {variable:?}");
    }
    let early = found("huge", Some("huge=early"));
    assert!((64 + 100..64 + 256).contains(&early), "{early} MiB");
    assert!(early >= found("huge", None) + 14, "{early} MiB, the first 16 among them");
    assert_eq!(found("huge", Some("huge=off")), 0);
    // So that none come where the system makes them unasked.
    let small = found("small", Some("huge=off"));
    assert!(small >= 64 + 100, "{small} MiB");
}

/// A small program's blocks lie where the kernel makes none by itself, whatever its setting.
#[test]
fn small_blocks_are_kept_from_huge_pages() {
    if !has_huge_pages() {
        return skip::skip("huge-pages", "there are no huge pages here");
    }
    let block = black_box(Box::new(1_u64));
    let address = (&raw const *block).addr();
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let holds = |line: &&str| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let ends = range.map(|(start, end)| [start, end].map(|end| usize::from_str_radix(end, 16)));
        matches!(ends, Some([Ok(start), Ok(end)]) if (start..end).contains(&address))
    };
    let mut lines = smaps.lines().skip_while(|line| !holds(line));
    let flags = lines.find(|line| line.starts_with("VmFlags:")).unwrap();
    assert!(flags.split(' ').any(|flag| flag == "nh"), "{flags}");
}

/// The mean bytes between samples, if there are any.
#[cfg(feature = "profile")]
fn sampled_every() -> u64 {
    let objects: Vec<_> = (0..2000).map(|_| black_box(Box::new([0_u8; 500]))).collect();
    let profile = spanalloc::profile::capture();
    let is_sampled = profile.sites.iter().any(|site| site.in_use.bytes > 0);
    drop(objects);
    assert_eq!(is_sampled, profile.interval_bytes > 0);
    profile.interval_bytes
}

#[cfg(feature = "profile")]
#[test]
fn the_variable_wins_over_the_interval_that_the_program_was_built_with() {
    let every = |variable| found("sample", variable);
    assert_eq!((every(None), every(Some("decay=1s"))), (BUILT_WITH_BYTES, BUILT_WITH_BYTES));
    assert_eq!((every(Some("sample=1KiB")), every(Some("sample=0"))), (1024, 0));
}

/// Frees 32 MiB in a program that sets a decay; what is still there when it has gone, or after a
/// second if it was not to go.
fn mib_free_in_the_end(decay: Duration) -> u64 {
    spanalloc::set_decay(decay);
    drop((0..320).map(|_| black_box(vec![1_u8; 100 << 10])).collect::<Vec<_>>());
    let is_to_go = std::env::var("SPANALLOC").map_or(decay < LONG, |asked| asked == "decay=1ms");
    let since = Instant::now();
    let patience = Duration::from_secs(if is_to_go { 20 } else { 1 });
    loop {
        let mib = spanalloc::stats().memory.free_pages >> 20;
        if mib < 8 || since.elapsed() > patience {
            return mib;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_variable_wins_over_the_decay_that_the_program_sets() {
    let (soon, late) = ("decay", "decay-late");
    let left = [
        found(soon, None),
        found(late, None),
        found(late, Some("decay=1ms")),
        found(soon, Some("decay=1h")),
    ];
    assert!(left[0] < 8 && left[1] >= 30, "as the program sets it: {left:?} MiB");
    assert!(left[2] < 8 && left[3] >= 30, "as the variable says: {left:?} MiB");
}
