//! The map beside `std::collections::HashMap` with the same hasher.
//!
//! Both run the same operations on the same keys, turn and turn about, and the
//! median time of each is printed with their ratio. Two hashers: the standard
//! library's SipHash, which hides much of the difference, and a multiplication,
//! which hides nothing.
//!
//! The system allocator is told to keep what it has: a fresh array's page faults
//! would otherwise outweigh the maps in some rows, at random.
//!
//! `cargo bench --bench map -- [repeats] [largest size]`

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::time::{Duration, Instant};

use spanalloc::map::Map;

/// A folded multiplication: about the cheapest hash that spreads integers.
#[derive(Clone, Copy, Default)]
struct Fold;

struct FoldHasher(u64);

impl BuildHasher for Fold {
    type Hasher = FoldHasher;

    fn build_hasher(&self) -> FoldHasher {
        FoldHasher(0)
    }
}

impl Hasher for FoldHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x243f_6a88_85a3_08d3)
            * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What is measured; the table has a row for each and every size.
const WORKS: [&str; 8] = [
    "insert, growing",
    "insert, reserved",
    "get, present",
    "get, absent",
    "insert, present",
    "remove",
    "remove + insert",
    "iterate",
];

/// Runs every work on one kind of map and returns the time of each.
macro_rules! run {
    ($map:ident, $hasher:expr, $present:expr, $absent:expr, $rounds:expr) => {{
        let (present, absent): (&[u64], &[u64]) = ($present, $absent);
        let mut times = [Duration::ZERO; WORKS.len()];
        for _ in 0..$rounds {
            let mut work = 0;
            let mut time = |run: &mut dyn FnMut()| {
                let start = Instant::now();
                run();
                times[work] += start.elapsed();
                work += 1;
            };
            let mut map = $map::with_hasher($hasher);
            time(&mut || {
                for &key in present {
                    map.insert(key, key);
                }
            });
            let mut reserved = $map::with_capacity_and_hasher(present.len(), $hasher);
            time(&mut || {
                for &key in present {
                    reserved.insert(key, key);
                }
            });
            drop(reserved);
            time(&mut || {
                for key in present {
                    black_box(map.get(key));
                }
            });
            time(&mut || {
                for key in absent {
                    black_box(map.get(key));
                }
            });
            time(&mut || {
                for &key in present {
                    map.insert(key, !key);
                }
            });
            let mut emptied = map.clone();
            time(&mut || {
                for key in present {
                    black_box(emptied.remove(key));
                }
            });
            time(&mut || {
                for (old, &new) in present.iter().zip(absent) {
                    map.remove(old);
                    map.insert(new, new);
                }
            });
            time(&mut || {
                black_box(map.iter().fold(0, |sum: u64, (key, value)| sum ^ key ^ value));
            });
        }
        times
    }};
}

fn keys(seed: u64, count: usize) -> Vec<u64> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ (state >> 29)
    };
    (0..count).map(|_| next()).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare<S: BuildHasher + Clone>(name: &str, hasher: &S, repeats: usize, size_max: usize) {
    println!("\n{name}: ns per operation, ours / std = ratio");
    print!("{:<18}", "entries");
    let sizes: Vec<usize> = [8, 64, 1 << 10, 1 << 14, 1 << 17, 1 << 20]
        .into_iter()
        .filter(|&n| n <= size_max)
        .collect();
    sizes.iter().for_each(|size| print!("{size:>23}"));
    println!();
    let mut rows = vec![Vec::new(); WORKS.len()];
    for &size in &sizes {
        let rounds = ((1 << 16) / size).max(1);
        let operations = (rounds * size) as f64;
        let mut ours = vec![Vec::new(); WORKS.len()];
        let mut theirs = vec![Vec::new(); WORKS.len()];
        for repeat in 0..=repeats as u64 {
            let (present, absent) = (keys(2 * repeat + 1, size), keys(2 * repeat + 2, size));
            let our = run!(Map, hasher.clone(), &present, &absent, rounds);
            let their = run!(HashMap, hasher.clone(), &present, &absent, rounds);
            if repeat > 0 {
                for work in 0..WORKS.len() {
                    ours[work].push(our[work].as_nanos() as f64 / operations);
                    theirs[work].push(their[work].as_nanos() as f64 / operations);
                }
            }
        }
        for (work, row) in rows.iter_mut().enumerate() {
            row.push((median(ours[work].clone()), median(theirs[work].clone())));
        }
    }
    for (work, row) in WORKS.iter().zip(rows) {
        print!("{work:<18}");
        row.iter()
            .for_each(|(our, their)| print!("{our:>8.1} /{their:>6.1} ={:>5.2}", our / their));
        println!();
    }
}

/// Makes glibc serve large blocks from memory it keeps.
fn keep_memory() {
    // SAFETY: sets a number; no other thread runs yet.
    let mapped = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30) };
    // SAFETY: as above.
    let trimmed = unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX) };
    if mapped == 0 || trimmed == 0 {
        println!("the system allocator could not be told to keep memory: page faults are included");
    }
}

fn main() {
    keep_memory();
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let repeats = numbers.first().copied().unwrap_or(9).max(1);
    let size_max = numbers.get(1).copied().unwrap_or(1 << 20);
    compare("multiplication", &Fold, repeats, size_max);
    compare("SipHash", &RandomState::new(), repeats, size_max);
}
