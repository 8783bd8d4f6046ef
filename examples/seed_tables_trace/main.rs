//! Records which sizes some jobs ask an allocator for, for experiment E14 of `seed_tables`.
//!
//! Prints lines of job, size and count, separated by tabs. Sizes above 32 KiB, which no size class
//! serves, are left out. A reallocation counts as a request for its new size.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SIZE_MAX: usize = 32 * 1024;

/// Requests so far, by size.
static REQUESTS: [AtomicU64; SIZE_MAX + 1] = [const { AtomicU64::new(0) }; SIZE_MAX + 1];

/// The system's allocator, which also counts sizes.
struct Recorder;

#[global_allocator]
static GLOBAL: Recorder = Recorder;

fn record(bytes: usize) {
    if let Some(requests) = REQUESTS.get(bytes) {
        requests.fetch_add(1, Relaxed);
    }
}

// SAFETY: the system's allocator does what is asked; counting allocates nothing.
unsafe impl GlobalAlloc for Recorder {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        record(layout.size());
        // SAFETY: the caller's contract is `alloc`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is `dealloc`'s.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        record(bytes);
        // SAFETY: the caller's contract is `realloc`'s.
        unsafe { System.realloc(block, layout, bytes) }
    }
}

fn main() {
    let jobs: [(&str, fn()); 4] =
        [("JSON", json), ("aggregation", aggregation), ("text", text), ("index", index)];
    let mut counts = vec![0; SIZE_MAX + 1];
    for (name, job) in jobs {
        REQUESTS.iter().for_each(|requests| requests.store(0, Relaxed));
        job();
        for (count, requests) in counts.iter_mut().zip(&REQUESTS) {
            *count = requests.load(Relaxed);
        }
        for (size, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            println!("{name}\t{size}\t{count}");
        }
    }
}

/// A number like a random one.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number ^ (number >> 27)
}

/// Parses documents and writes them again.
fn json() {
    for document in 0..40u64 {
        let mut source = String::from("[");
        for item in 0..100 {
            let number = mix(document * 100 + item + 1);
            let name = "n".repeat((number % 40) as usize + 1);
            let _ = write!(
                source,
                "{}{{\"id\":{number},\"name\":\"{name}\",\"tags\":[\"a\",\"bb\",\"ccc\"],\
                 \"size\":{{\"x\":{item},\"y\":2.5}}}}",
                if item == 0 { "" } else { "," }
            );
        }
        source.push(']');
        let value: serde_json::Value = source.parse().unwrap_or_default();
        black_box(value.to_string());
    }
}

/// Events by key, nothing preallocated.
fn aggregation() {
    let mut events: HashMap<String, Vec<[u64; 4]>> = HashMap::new();
    for number in 0..100_000 {
        let key = format!("customer-{}", mix(number) % 2000);
        events.entry(key).or_default().push([number; 4]);
    }
    black_box(&events);
}

/// Lines of uneven length, split, joined and kept.
fn text() {
    let mut kept = Vec::new();
    for number in 0..20_000u64 {
        let words = 1 + mix(number) % 60;
        let line: String = (0..words).map(|word| format!("{} ", mix(word + number))).collect();
        let upper: Vec<String> = line.split(' ').map(str::to_uppercase).collect();
        kept.push(upper.join("-"));
    }
    black_box(&kept);
}

/// An ordered index from names to blobs.
fn index() {
    let mut index = BTreeMap::new();
    for number in 0..30_000u64 {
        let blob = vec![0u8; (mix(number) % 3000) as usize];
        index.insert(format!("blob/{:x}", mix(number) >> 20), blob);
    }
    black_box(&index);
}
