//! A leak, found by the difference of two profiles.
//!
//! ```console
//! $ cargo run --release --example leak
//! ```
//!
//! A cache forgets its entries by age, but a second index of the same entries never
//! does. After a while in which the service does the same work over and over, what
//! grew is what leaks: the difference names the function, and the line as well where
//! there is debug information.

use std::collections::{HashMap, VecDeque};
use std::process::ExitCode;

use spanalloc::SpanAlloc;
use spanalloc::profile;
use spanalloc::report::Weight;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new().sample_every(16 * 1024);

const ROUNDS: usize = 200;
const ENTRIES_PER_ROUND: usize = 100;
/// Entries that the cache keeps.
const CACHED_MAX: usize = 2000;

#[derive(Default)]
struct Cache {
    bodies: VecDeque<Vec<u8>>,
    /// Where each body came from; nothing is ever removed here.
    origins: HashMap<usize, String>,
    added: usize,
}

impl Cache {
    #[inline(never)]
    fn remember_body(&mut self) {
        self.bodies.push_back(vec![0; 2000]);
        if self.bodies.len() > CACHED_MAX {
            self.bodies.pop_front();
        }
    }

    #[inline(never)]
    fn remember_origin(&mut self) {
        let origin = format!("https://example.org/entries/{:0100}", self.added);
        self.origins.insert(self.added, origin);
        self.added += 1;
    }

    fn work(&mut self) {
        for _ in 0..ROUNDS * ENTRIES_PER_ROUND {
            self.remember_body();
            self.remember_origin();
        }
    }
}

fn main() -> ExitCode {
    let mut cache = Cache::default();
    // Warm: caches are full, and everything there is once is there.
    cache.work();
    let before = profile::capture();
    cache.work();
    let after = profile::capture();

    let difference = after.diff(&before, Weight::InUseBytes);
    println!("{difference}");
    #[cfg(feature = "flamegraph")]
    {
        const PICTURE: &str = "flamegraphs/leak.diff.svg";
        let written = std::fs::create_dir_all("flamegraphs")
            .and_then(|()| std::fs::File::create(PICTURE))
            .and_then(|picture| difference.write_flamegraph(picture));
        if let Err(error) = written {
            eprintln!("leak: cannot write {PICTURE}: {error}");
            return ExitCode::FAILURE;
        }
        println!("wrote {PICTURE}");
    }
    println!("{} origins are remembered", cache.origins.len());
    ExitCode::SUCCESS
}
