//! Rows about the allocator and its observers that no other experiment settles.

use super::{About, Experiment, Finding, Plot, Verdict, listed};
use crate::program::data::figure;
use crate::program::probe::{Random, counts, on_new_thread, resident};
use spanalloc::Stats;
use spanalloc::arena::{Arena, ArenaBox};
use spanalloc::observe::{Timer, Trend, TrendDetector};
use spanalloc::profile;
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

const BRANCH: &str = "allocations counted";

pub(super) const A1: Experiment = Experiment {
    id: "A1",
    title: "The allocator's branches",
    workload: "1000 blocks of 8 bytes, 1000 of 16 KiB and 10 of 100 KiB.",
    about: About::Implementation,
    article: "tiny below 16 bytes, classes to 32 KiB, large above",
    rule: "blocks of 8 bytes are fewer than the objects, those of 16 KiB are counted in a class and \
           those of 100 KiB apart, exactly",
    plot: Plot::bars(BRANCH),
    measure: |probe| {
        let difference = allocating(|| {
            black_box((0..1000).map(|_| Box::new(0u64)).collect::<Vec<_>>());
            black_box((0..1000).map(|_| vec![0u8; 16 << 10]).collect::<Vec<_>>());
            black_box((0..10).map(|_| vec![0u8; 100 << 10]).collect::<Vec<_>>());
        });
        let Some(difference) = difference else { return };
        let of = |bytes| difference.iter().find(|row| row.0 == bytes).map_or(0.0, |row| row.1);
        probe.record(BRANCH, "class of 8 bytes", of(8));
        probe.record(BRANCH, "class of 16 KiB", of(16 << 10));
        probe.record(BRANCH, "large, to 128 KiB", of(128 << 10));
    },
    rule_on: |data| {
        let of = |variant| Some(data.ours(BRANCH, variant)?.median);
        let (tiny, small) = (of("class of 8 bytes")?, of("class of 16 KiB")?);
        let large = of("large, to 128 KiB")?;
        let parts = [
            ("tiny ones combined", Verdict::when(tiny < 1000.0)),
            ("classes", Verdict::when(small == 1000.0)),
            ("large ones apart", Verdict::when(large == 10.0)),
        ];
        Some(Finding {
            verdict: Verdict::of_all(&parts),
            ours: format!("{tiny} / {small} / {large}"),
            why: format!(
                "{}. A block of 8 bytes has a class of its own here, since Rust frees each object; \
                 combining tiny ones is the arena's business (A2).",
                listed(&parts)
            ),
        })
    },
};

/// Allocations that `work` makes by block size; `None` where our allocator does not serve.
fn allocating(work: impl FnOnce()) -> Option<Vec<(u64, f64)>> {
    let rows = |stats: &Stats| -> Vec<(u64, u64)> {
        let rows = stats.classes.iter().chain(&stats.large);
        rows.map(|row| (row.block_bytes, row.allocs)).collect()
    };
    let before = rows(&spanalloc::stats());
    work();
    let after = rows(&spanalloc::stats());
    let earlier = |bytes| before.iter().find(|row| row.0 == bytes).map_or(0, |row| row.1);
    let difference = |(bytes, allocs): (u64, u64)| (bytes, (allocs - earlier(bytes)) as f64);
    counts().then(|| after.into_iter().map(difference).collect())
}

const SAVING: &str = "% of blocks saved";

pub(super) const A2: Experiment = Experiment {
    id: "A2",
    title: "Tiny blocks",
    workload: "10,000 boxes in an arena, of 1, 2, 4, 8 and 12 bytes in turn; and beside them as \
               many of 32 bytes.",
    about: About::Implementation,
    article: "about 12 % fewer allocations",
    rule: "tiny objects and others mixed, at least 12 % of the blocks are saved",
    plot: Plot::bars(SAVING),
    measure: |probe| {
        let arena = Arena::new();
        let mut random = Random(probe.seed());
        for number in 0..10_000u32 {
            // Leaked: the arena takes all back at once.
            match random.below(5) {
                0 => {
                    black_box(ArenaBox::leak(arena.alloc_box(number as u8)));
                }
                1 => {
                    black_box(ArenaBox::leak(arena.alloc_box(number as u16)));
                }
                2 => {
                    black_box(ArenaBox::leak(arena.alloc_box(number)));
                }
                3 => {
                    black_box(ArenaBox::leak(arena.alloc_box(u64::from(number))));
                }
                _ => {
                    black_box(ArenaBox::leak(arena.alloc_box([number; 3])));
                }
            }
        }
        let stats = arena.stats();
        probe.record(SAVING, "tiny alone", 100.0 * stats.tiny_saving());
        let saved = stats.tiny_objects - stats.tiny_blocks;
        let all = stats.tiny_objects + 10_000;
        probe.record(SAVING, "half of them tiny", 100.0 * saved as f64 / all as f64);
    },
    rule_on: |data| {
        let (alone, mixed) =
            (data.ours(SAVING, "tiny alone")?, data.ours(SAVING, "half of them tiny")?);
        Some(Finding {
            verdict: Verdict::at_least(mixed, 12.0),
            ours: format!("{mixed} % where half of the objects are tiny, {alone} % of tiny ones"),
            why: String::from(
                "objects below 16 bytes share a block of 16, which lives until the last of them \
                 goes. In an arena, that is: the allocator itself combines none (A1). The article \
                 does not say its mix; half and half is ours.",
            ),
        })
    },
};

const PER_SPAN: &str = "blocks per span";
/// Block size, and the article's number of blocks in a span.
const ARTICLE: [(u64, f64); 3] = [(8, 8192.0), (16, 4096.0), (24, 2730.0)];
const GO_SPAN_BYTES: u64 = 8 << 10;

pub(super) const A3: Experiment = Experiment {
    id: "A3",
    title: "Blocks in a span",
    workload: "40,000 blocks of 8, 16 and 24 bytes each. How many of them begin in one of our spans, \
               and in one range of 8 KiB, which is a span of Go's, at the most, by their addresses.",
    about: About::Implementation,
    article: "8192 / 4096 / 2730 objects",
    rule: "one of our spans holds as many",
    plot: Plot::lines(PER_SPAN, "block size, bytes"),
    measure: |probe| {
        if !counts() {
            return;
        }
        let stats = spanalloc::stats();
        for (bytes, article) in ARTICLE {
            let x = bytes as f64;
            probe.record_at(PER_SPAN, "article", x, article);
            let row = stats.classes.iter().find(|row| row.block_bytes == bytes);
            let Some(span_bytes) = row.map(|row| row.span_bytes) else { continue };
            let blocks: Vec<Vec<u8>> =
                (0..40_000).map(|_| Vec::with_capacity(bytes as usize)).collect();
            let most = |range: u64| {
                let mut by_range: HashMap<u64, u32> = HashMap::new();
                for block in &blocks {
                    *by_range.entry(block.as_ptr().addr() as u64 / range).or_default() += 1;
                }
                f64::from(by_range.into_values().max().unwrap_or_default())
            };
            probe.record_at(PER_SPAN, "8 KiB", x, most(GO_SPAN_BYTES));
            probe.record_at(PER_SPAN, "our spans", x, most(span_bytes));
            probe.record_at("span bytes", "our spans", x, span_bytes as f64);
        }
    },
    rule_on: |data| {
        let row = |variant| -> Option<Vec<f64>> {
            let at = |(bytes, _)| Some(data.ours_at(PER_SPAN, variant, bytes as f64)?.median);
            ARTICLE.map(at).into_iter().collect()
        };
        let (article, go, ours) = (row("article")?, row("8 KiB")?, row("our spans")?);
        let bytes = data.ours_at("span bytes", "our spans", 8.0)?;
        Some(Finding {
            verdict: Verdict::when(article == ours),
            ours: format!("{} in our {bytes} bytes, {} in 8 KiB", slashed(&ours), slashed(&go)),
            why: String::from(
                "our spans of these sizes are 64 KiB. Go's are 8 KiB, which cannot hold as many: of \
                 Go, arithmetic refutes the claim.",
            ),
        })
    },
};

/// Figures as the article has them: one after the other.
fn slashed(figures: &[f64]) -> String {
    figures.iter().map(|&value| figure(value)).collect::<Vec<_>>().join(" / ")
}

const HITS: &str = "% of allocations without a refill";

pub(super) const A5: Experiment = Experiment {
    id: "A5",
    title: "Thread lists, refills",
    workload: "200,000 allocations of 16 to 2063 bytes, 256 of them live at a time.",
    about: About::Implementation,
    article: "mcache → mcentral → heap; a refill swaps a span",
    rule: "at least 99 % of the allocations need no refill; the bound is ours, the article has none",
    plot: Plot::bars(HITS),
    measure: |probe| {
        if !counts() {
            return;
        }
        let before = spanalloc::stats().total();
        let mut random = Random(probe.seed());
        let mut held = [const { Vec::new() }; 256];
        for number in 0..200_000 {
            held[number % 256] = black_box(Vec::<u8>::with_capacity(16 + random.below(2048)));
        }
        black_box(&held);
        let after = spanalloc::stats().total();
        let (allocs, refills) = (after.allocs - before.allocs, after.refills - before.refills);
        probe.record(HITS, "all classes", 100.0 * (1.0 - refills as f64 / allocs as f64));
        probe.record("refills", "all classes", refills as f64);
    },
    rule_on: |data| {
        let (hits, refills) =
            (data.ours(HITS, "all classes")?, data.ours("refills", "all classes")?);
        Some(Finding {
            verdict: Verdict::at_least(hits, 99.0),
            ours: format!("{hits} %, {refills} refills"),
            why: String::from(
                "the levels are the article's; a refill takes a list of free blocks from a span, \
                 not the span, which is known from the code and not judged.",
            ),
        })
    },
};

const REUSE: &str = "% of allocations without a refill, by class";
const SIZES: [usize; 3] = [8, 32, 256];

pub(super) const A7: Experiment = Experiment {
    id: "A7",
    title: "Reuse by class",
    workload: "The same churn in the classes of 8, 32 and 256 bytes: 50,000 allocations each, 64 \
               live at a time.",
    about: About::Implementation,
    article: "reuse of 92.3 % at 8 bytes, 76.1 % at 32, 41.7 % at 256",
    rule: "reuse falls from 8 to 256 bytes by at least the article's 50.6 points",
    plot: Plot::lines(REUSE, "block size, bytes").log_x(),
    measure: |probe| {
        if !counts() {
            return;
        }
        for bytes in SIZES {
            let row =
                || spanalloc::stats().classes.into_iter().find(|r| r.block_bytes == bytes as u64);
            let before = row();
            let mut held = [const { Vec::new() }; 64];
            for number in 0..50_000 {
                held[number % 64] = black_box(Vec::<u8>::with_capacity(bytes));
            }
            black_box(&held);
            drop(held);
            if let Some((before, after)) = before.zip(row()) {
                let (allocs, first) =
                    (after.allocs - before.allocs, after.first_uses - before.first_uses);
                let part = 1.0 - first as f64 / allocs as f64;
                probe.record_at(REUSE, "churn", bytes as f64, 100.0 * part);
            }
        }
    },
    rule_on: |data| {
        let at = |bytes: usize| data.ours_at(REUSE, "churn", bytes as f64);
        let [small, middle, large] = SIZES.map(at);
        let (small, middle, large) = (small?, middle?, large?);
        Some(Finding {
            verdict: Verdict::when(small.low - large.high >= 92.3 - 41.7),
            ours: format!("{small} / {middle} / {large} %"),
            why: String::from(
                "a class has no share in whether a block is used again; the article says no \
                 method, and its workload must have differed by class.",
            ),
        })
    },
};

const SAMPLED: &str = "by the profile";

pub(super) const O2: Experiment = Experiment {
    id: "O2",
    title: "Four sample types",
    workload: "1000 blocks of 100 bytes, of which 400 are kept, with every allocation sampled.",
    about: About::Expectation,
    article: "alloc_space against inuse_space, and objects",
    rule: "in use is what was asked for, to the byte and the object, and so is allocated but for what \
           starting the measuring thread takes",
    plot: Plot::bars(SAMPLED),
    measure: |probe| {
        let sums = || {
            let profile = profile::capture();
            profile.sites.iter().fold([0; 4], |sum: [i64; 4], site| {
                let (all, held) = (&site.allocated, &site.in_use);
                let more = [all.bytes, all.objects, held.bytes, held.objects];
                std::array::from_fn(|at| sum[at] + more[at] as i64)
            })
        };
        if !counts() || profile::start(1).is_err() {
            return;
        }
        let mut held: Vec<Vec<u8>> = Vec::with_capacity(1000);
        let before = sums();
        on_new_thread(|| {
            held.extend((0..1000).map(|_| black_box(Vec::with_capacity(100))));
            held.truncate(400);
        });
        let after = sums();
        profile::stop();
        for (at, name) in
            ["alloc_space", "alloc_objects", "inuse_space", "inuse_objects"].into_iter().enumerate()
        {
            probe.record(SAMPLED, name, (after[at] - before[at]) as f64);
        }
    },
    rule_on: |data| {
        let of = |variant| Some(data.ours(SAMPLED, variant)?.median);
        let found =
            [of("alloc_space")?, of("alloc_objects")?, of("inuse_space")?, of("inuse_objects")?];
        Some(Finding {
            verdict: Verdict::when(whole(found) && found[2] == 40_000.0 && found[3] == 400.0),
            ours: found.map(figure).join(" / "),
            why: String::from("a sample is followed until its block is freed."),
        })
    },
};

/// Whether all that was allocated is there, beside a few blocks of the thread itself.
fn whole([bytes, objects, ..]: [f64; 4]) -> bool {
    (100_000.0..101_000.0).contains(&bytes) && (1000.0..1010.0).contains(&objects)
}

const LIVE: &str = "live after a release, MB";

pub(super) const O3: Experiment = Experiment {
    id: "O3",
    title: "The scavenger's line",
    workload: "32 cycles allocate and drop 16 MB and give free pages back; one job leaks 256 KiB a \
               cycle, the control does not. Resident before and after each release, and live.",
    about: About::Implementation,
    article: "gctrace's X → Y → Z: a rising Z is a leak",
    rule: "live bytes after a release rise for good with the leak and not without",
    plot: Plot::lines(LIVE, "cycle"),
    measure: |probe| {
        if !counts() {
            return;
        }
        for (name, leaks) in [("leak", true), ("control", false)] {
            let mut detector = TrendDetector::new(32, 0.999);
            let mut leaked = Vec::with_capacity(32);
            for cycle in 1..=32u32 {
                drop(black_box((0..256).map(|_| vec![1u8; 64 << 10]).collect::<Vec<_>>()));
                if leaks {
                    leaked.push(vec![1u8; 256 << 10]);
                }
                let before = resident();
                spanalloc::release_free_memory();
                let (after, live) = (resident(), spanalloc::stats().memory.live);
                let x = f64::from(cycle);
                for (metric, bytes) in
                    [("resident before, MB", before), ("resident after, MB", after)]
                {
                    bytes
                        .into_iter()
                        .for_each(|bytes| probe.record_at(metric, name, x, bytes / 1e6));
                }
                probe.record_at(LIVE, name, x, live as f64 / 1e6);
                detector.record(Duration::from_secs(cycle.into()), live);
            }
            let rising = matches!(detector.trend(), Trend::Rising(_));
            probe.record("found rising", name, f64::from(u8::from(rising)));
        }
    },
    rule_on: |data| {
        let rising = |variant| data.ours("found rising", variant);
        let (leak, control) = (rising("leak")?, rising("control")?);
        let line = |metric| data.ours_at(metric, "leak", 32.0);
        let (before, after) = (line("resident before, MB")?, line("resident after, MB")?);
        Some(Finding {
            verdict: Verdict::when(leak.low == 1.0 && control.high == 0.0),
            ours: format!("last line: resident {before} → {after} → {} MB", line(LIVE)?),
            why: String::from("what nobody can free stays after every release."),
        })
    },
};

const CLOCK: &str = "ns";

pub(super) const O6: Experiment = Experiment {
    id: "O6",
    title: "The clock's own time",
    workload: "A pair of reads of CLOCK_MONOTONIC_RAW, and an addition timed in batches of 100,000.",
    about: About::Implementation,
    article: "below a nanosecond",
    rule: "a pair of reads takes less than a nanosecond",
    plot: Plot::bars(CLOCK).log_y(),
    measure: |probe| {
        let timer = Timer::calibrate();
        probe.record(CLOCK, "pair of reads", timer.overhead_ns());
        let mut sum = 0u64;
        probe.record(CLOCK, "addition, batched", timer.batch(100_000, || sum = black_box(sum + 1)));
    },
    rule_on: |data| {
        let (pair, batched) =
            (data.ours(CLOCK, "pair of reads")?, data.ours(CLOCK, "addition, batched")?);
        Some(Finding {
            verdict: Verdict::when(pair.high < 1.0),
            ours: format!("{pair} ns for a pair of reads"),
            why: format!(
                "the clock's own time is what single readings measure; in a batch, an addition \
                 takes {batched} ns."
            ),
        })
    },
};
