//! How far estimates are from the truth, over many seeds: no bias, and error bars
//! that cover the truth as often as they say, per site and per size class.
#![cfg(feature = "profile")]

use std::hint::black_box;
use std::thread;

use spanalloc::SpanAlloc;
use spanalloc::profile::{self, Amount, Profile};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

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
        assert!(bias.abs() < 4.0 * deviation, "{what}: bias {bias}, deviation {deviation}");
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
