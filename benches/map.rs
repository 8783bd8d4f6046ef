//! The map beside `std::collections::HashMap` with the same hasher.
//!
//! Both run the same operations on the same keys, turn and turn about, and the least
//! time of each is printed with their ratio: what else runs on the machine only ever
//! adds to a time. Two hashers: the standard
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
use std::process::ExitCode;
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
const WORKS: [&str; 9] = [
    "insert, growing",
    "insert, reserved",
    "get, present",
    "get, absent",
    "insert, present",
    "remove",
    "remove + insert",
    "iterate",
    "iterate, folding",
];

/// The least number of operations that is timed at a time.
const OPERATIONS_MIN: usize = 1 << 13;
/// From this size on fewer turns are taken.
const SIZE_LARGE: usize = 1 << 20;

/// Runs every work on `$count` maps of one kind and returns the time of each.
macro_rules! run {
    ($map:ident, $hasher:expr, $present:expr, $absent:expr, $count:expr) => {{
        let (present, absent): (&[u64], &[u64]) = ($present, $absent);
        let mut times = [Duration::ZERO; WORKS.len()];
        let mut work = 0;
        let mut time = |run: &mut dyn FnMut()| {
            let start = Instant::now();
            run();
            times[work] = start.elapsed();
            work += 1;
        };
        let mut maps: Vec<_> = (0..$count).map(|_| $map::with_hasher($hasher)).collect();
        time(&mut || {
            for map in &mut maps {
                for &key in present {
                    map.insert(key, key);
                }
            }
        });
        drop(maps);
        let reserved = |_| $map::with_capacity_and_hasher(present.len(), $hasher);
        let mut maps: Vec<_> = (0..$count).map(reserved).collect();
        time(&mut || {
            for map in &mut maps {
                for &key in present {
                    map.insert(key, key);
                }
            }
        });
        time(&mut || {
            for map in &maps {
                for key in present {
                    black_box(map.get(key));
                }
            }
        });
        time(&mut || {
            for map in &maps {
                for key in absent {
                    black_box(map.get(key));
                }
            }
        });
        time(&mut || {
            for map in &mut maps {
                for &key in present {
                    map.insert(key, !key);
                }
            }
        });
        let mut emptied = maps.clone();
        time(&mut || {
            for map in &mut emptied {
                for key in present {
                    black_box(map.remove(key));
                }
            }
        });
        drop(emptied);
        time(&mut || {
            for map in &mut maps {
                for (old, &new) in present.iter().zip(absent) {
                    map.remove(old);
                    map.insert(new, new);
                }
            }
        });
        time(&mut || {
            for map in &maps {
                for (key, value) in map {
                    black_box(key ^ value);
                }
            }
        });
        time(&mut || {
            for map in &maps {
                black_box(map.iter().fold(0, |sum: u64, (key, value)| sum ^ key ^ value));
            }
        });
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

fn compare<S: BuildHasher + Clone>(name: &str, hasher: &S, repeats: usize, size_max: usize) {
    println!("\n{name}: ns per operation, ours / std = ratio");
    print!("{:<18}", "entries");
    let sizes: Vec<usize> = [8, 64, 1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 22]
        .into_iter()
        .filter(|&n| n <= size_max)
        .collect();
    sizes.iter().for_each(|size| print!("{size:>23}"));
    println!();
    let mut rows = vec![Vec::new(); WORKS.len()];
    for &size in &sizes {
        let maps = (OPERATIONS_MIN / size).max(1);
        let operations = (maps * size) as f64;
        let turns = if size < SIZE_LARGE { repeats } else { repeats.div_ceil(3) };
        let mut least = [[f64::INFINITY; 2]; WORKS.len()];
        for turn in 0..turns as u64 {
            let (present, absent) = (keys(2 * turn + 1, size), keys(2 * turn + 2, size));
            let our = run!(Map, hasher.clone(), &present, &absent, maps);
            let their = run!(HashMap, hasher.clone(), &present, &absent, maps);
            for (least, times) in least.iter_mut().zip(our.into_iter().zip(their)) {
                for (least, time) in least.iter_mut().zip([times.0, times.1]) {
                    *least = least.min(time.as_nanos() as f64 / operations);
                }
            }
        }
        rows.iter_mut().zip(least).for_each(|(row, least)| row.push(least));
    }
    for (work, row) in WORKS.iter().zip(rows) {
        print!("{work:<18}");
        row.iter()
            .for_each(|[our, their]| print!("{our:>8.1} /{their:>6.1} ={:>5.2}", our / their));
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

fn main() -> ExitCode {
    let mut numbers = Vec::new();
    // Cargo adds an argument of its own.
    for word in std::env::args().skip(1).filter(|word| word != "--bench") {
        match word.parse::<usize>() {
            Ok(number) if numbers.len() < 2 => numbers.push(number),
            _ => {
                eprintln!("{word:?}: accepted are a number of repeats and one of entries at most");
                return ExitCode::from(2);
            }
        }
    }
    keep_memory();
    let repeats = numbers.first().copied().unwrap_or(30).max(1);
    let size_max = numbers.get(1).copied().unwrap_or(1 << 20);
    compare("multiplication", &Fold, repeats, size_max);
    compare("SipHash", &RandomState::new(), repeats, size_max);
    ExitCode::SUCCESS
}
