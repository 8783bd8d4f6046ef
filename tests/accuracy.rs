//! How far estimates are from the truth, over many seeds: no bias, and error bars
//! that cover the truth as often as they say, per site and per size class. Once of
//! sites made up for the purpose, once of parsers of others at work, whose truth is
//! what a run with every allocation sampled says.
#![cfg(feature = "profile")]

use std::collections::HashMap;
use std::hash::Hash;
use std::hint::black_box;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{fs, thread};

use spanalloc::SpanAlloc;
use spanalloc::profile::{self, Amount, Profile};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// The profiler is the process's, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

const INTERVAL_BYTES: u64 = 4096;
/// Each round is another thread, with a sampler seeded anew.
const ROUNDS: usize = 100;
/// Object sizes, each a size class of its own, with how many objects; from 5
/// expected samples to hundreds, and from objects that are rarely sampled to ones
/// that nearly always are.
const SITES: [(usize, u64); 8] = [
    (16, 1500),
    (48, 900),
    (112, 2000),
    (256, 150),
    (640, 3000),
    (1792, 60),
    (4096, 200),
    (10_240, 60),
];

/// Each instance is a site of its own.
#[inline(never)]
fn allocate<const SITE: usize>() -> Vec<Box<[u8]>> {
    let (bytes, objects) = SITES[SITE];
    (0..objects).map(|_| black_box(vec![1_u8; bytes].into_boxed_slice())).collect()
}

fn allocate_all() -> [Vec<Box<[u8]>>; SITES.len()] {
    [
        allocate::<0>(),
        allocate::<1>(),
        allocate::<2>(),
        allocate::<3>(),
        allocate::<4>(),
        allocate::<5>(),
        allocate::<6>(),
        allocate::<7>(),
    ]
}

/// Cases, those that their error bar covers, and the sum of estimate over truth.
#[derive(Debug)]
struct Score {
    cases: f64,
    covered: f64,
    ratios: f64,
    /// Sum of the squares of the relative errors.
    squares: f64,
}

impl Score {
    const ZERO: Self = Self { cases: 0.0, covered: 0.0, ratios: 0.0, squares: 0.0 };

    fn enter(&mut self, estimate: f64, truth: f64, error_bar: f64) {
        self.cases += 1.0;
        self.covered += f64::from((estimate - truth).abs() <= estimate * error_bar);
        self.ratios += estimate / truth;
        self.squares += (estimate / truth - 1.0).powi(2);
    }

    fn check(&self, what: &str) {
        let coverage = self.covered / self.cases;
        assert!((0.90..=0.98).contains(&coverage), "{what}: covers {coverage}: {self:?}");
        let bias = self.ratios / self.cases - 1.0;
        let deviation = self.squares.sqrt() / self.cases;
        assert!(bias.abs() < 5.0 * deviation, "{what}: bias {bias}, deviation {deviation}");
    }
}

/// The amounts of the one site whose objects have `bytes` bytes.
fn site(profile: &Profile, bytes: usize) -> Option<&profile::Site> {
    let of_bytes = |site: &&profile::Site| {
        let Amount { objects, bytes: sum, .. } = site.allocated;
        objects > 0 && (sum as f64 / objects as f64 / bytes as f64 - 1.0).abs() < 0.02
    };
    profile.sites.iter().filter(of_bytes).max_by_key(|site| site.allocated.samples)
}

#[test]
fn error_bars_cover_the_truth_as_often_as_they_say() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let [mut by_site, mut in_use, mut objects, mut by_class] = [const { Score::ZERO }; 4];
    for _ in 0..ROUNDS {
        profile::reset();
        profile::start(INTERVAL_BYTES).unwrap();
        let mut held = thread::spawn(allocate_all).join().unwrap();
        for objects in &mut held {
            objects.truncate(objects.len() / 2);
        }
        profile::stop();
        let profile = profile::capture();
        for (bytes, count) in SITES {
            // A row without a sample is not there to be wrong.
            let truth = (bytes as u64 * count) as f64;
            let Some(site) = site(&profile, bytes) else { continue };
            let amount = &site.allocated;
            by_site.enter(amount.bytes as f64, truth, amount.bytes_error_bar());
            objects.enter(amount.objects as f64, count as f64, amount.objects_error_bar());
            if site.in_use.samples > 0 {
                let amount = &site.in_use;
                in_use.enter(amount.bytes as f64, truth / 2.0, amount.bytes_error_bar());
            }
            let class = |size: &&profile::BlockSize| size.block_bytes == bytes as u64;
            if let Some(size) = profile.sizes.iter().find(class) {
                let amount = &size.allocated;
                by_class.enter(amount.bytes as f64, truth, amount.bytes_error_bar());
            }
        }
        drop(held);
    }
    by_site.check("bytes by site");
    objects.check("objects by site");
    in_use.check("bytes in use by site");
    by_class.check("bytes by class");
    println!("{by_site:?}\n{objects:?}\n{in_use:?}\n{by_class:?}");
}

/// Mean samples that a site or a class must have to be judged.
const SAMPLES_MIN: u64 = 5;

/// What the parsers read: sources of this library, as text and as JSON.
struct Input {
    sources: Vec<String>,
    json: String,
}

impl Input {
    fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/profile");
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.retain(|path| path.is_file());
        paths.sort();
        let sources: Vec<_> = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let lines = sources.iter().flat_map(|source| source.lines()).enumerate();
        let objects = lines.map(|(at, line)| {
            let words: Vec<_> = line.split_whitespace().collect();
            serde_json::json!({ "at": at, "line": line, "words": words })
        });
        let json = serde_json::Value::from_iter(objects).to_string();
        Self { sources, json }
    }
}

type Parsed = (Vec<proc_macro2::TokenStream>, serde_json::Value);

/// Parses everything, the sources twice, and keeps half of it.
fn parse(input: &Input) -> Parsed {
    let tokens = |source: &String| source.parse::<proc_macro2::TokenStream>().unwrap();
    drop(input.sources.iter().map(tokens).collect::<Vec<_>>());
    let kept = input.sources.iter().map(tokens).collect();
    drop(serde_json::from_str::<serde_json::Value>(&input.json).unwrap());
    (kept, serde_json::from_str(&input.json).unwrap())
}

/// The profile of a run on a thread of its own, so that no block comes from a list that
/// was granted before.
fn profile_of(input: &Input, interval_bytes: u64) -> Profile {
    profile::reset();
    profile::start(interval_bytes).unwrap();
    let profile = thread::scope(|scope| {
        let work = || {
            let _parsed = parse(input);
            profile::capture()
        };
        scope.spawn(work).join().unwrap()
    });
    profile::stop();
    profile
}

/// Amounts by key, those of equal keys added up.
fn amounts<K: Hash + Eq>(rows: impl Iterator<Item = (K, Amount)>) -> HashMap<K, Amount> {
    let mut amounts = HashMap::<K, Amount>::new();
    for (key, more) in rows {
        let sum = amounts.entry(key).or_default();
        sum.samples += more.samples;
        sum.bytes += more.bytes;
        sum.bytes_error = (sum.bytes_error as f64).hypot(more.bytes_error as f64).round() as u64;
    }
    amounts
}

/// Judges every row of which the truth makes enough samples likely.
fn judge<K: Hash + Eq>(
    score: &mut Score,
    truth: &HashMap<K, Amount>,
    found: &HashMap<K, Amount>,
) -> usize {
    // Of a few large blocks an estimate says little, and where one of them grew in place
    // its site is another than where it had to move.
    let large = |amount: &Amount| {
        amount.bytes >= SAMPLES_MIN * INTERVAL_BYTES && amount.samples >= SAMPLES_MIN
    };
    let rows: Vec<_> = truth.iter().filter(|(_, amount)| large(amount)).collect();
    for (key, truth) in &rows {
        if let Some(amount) = found.get(key).filter(|amount| amount.samples > 0) {
            score.enter(amount.bytes as f64, truth.bytes as f64, amount.bytes_error_bar());
        }
    }
    rows.len()
}

#[test]
fn estimates_of_parsers_at_work_are_as_near_to_an_exact_run_as_they_say() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let input = Input::read();
    type Part = fn(&profile::Site) -> Amount;
    let (allocated, in_use): (Part, Part) = (|site| site.allocated, |site| site.in_use);
    let by_site = |profile: &Profile, part: Part| {
        amounts(profile.sites.iter().map(|site| (site.frames.clone(), part(site))))
    };
    let by_class = |profile: &Profile| {
        amounts(profile.sizes.iter().map(|size| (size.block_bytes, size.allocated)))
    };
    let exact = profile_of(&input, 1);
    assert!(exact.sites.iter().all(|site| site.allocated.bytes_error == 0));

    let [mut sites, mut sites_in_use, mut classes] = [const { Score::ZERO }; 3];
    let mut rows = [0; 3];
    for _ in 0..ROUNDS {
        let found = profile_of(&input, INTERVAL_BYTES);
        let each = |part| (by_site(&exact, part), by_site(&found, part));
        let (truth, estimate) = each(allocated);
        rows[0] = judge(&mut sites, &truth, &estimate);
        let (truth, estimate) = each(in_use);
        rows[1] = judge(&mut sites_in_use, &truth, &estimate);
        rows[2] = judge(&mut classes, &by_class(&exact), &by_class(&found));
    }
    println!("{rows:?} rows\n{sites:?}\n{sites_in_use:?}\n{classes:?}");
    assert!(rows.iter().all(|rows| *rows >= 8), "{rows:?}");
    sites.check("bytes by site");
    sites_in_use.check("bytes in use by site");
    classes.check("bytes by class");
}
