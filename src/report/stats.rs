//! What the heap counts exactly, as plain data.
//!
//! Words: a *class* is the set of blocks of one size; a *span* is a run of
//! memory cut into blocks of one class; a *refill* is a thread's fetching of a
//! list of blocks from its spans.

/// A snapshot of the allocator's counters: see [`stats`](crate::stats).
///
/// Displays as a table of at most 100 columns.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "profile", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Stats {
    /// One row per size class, ascending.
    pub classes: Vec<ClassStats>,
    /// Blocks too large for a class, which have a span or a mapping each, by size, ascending.
    pub large: Vec<ClassStats>,
    /// Where the process's memory is.
    pub memory: Memory,
}

/// What was counted for one size class, or for large blocks of a range of sizes.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "profile", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ClassStats {
    /// Size of a block; the largest of the row for large blocks, 0 for a sum.
    pub block_bytes: u64,
    /// Size of a span; as `block_bytes` for large blocks.
    pub span_bytes: u64,
    /// Blocks in a span; 1 for large blocks.
    pub blocks_per_span: u64,
    /// Allocations so far. Exact.
    pub allocs: u64,
    /// Frees so far. Exact.
    pub frees: u64,
    /// Bytes of all blocks allocated so far, by the size of the block. Exact. A `realloc` that
    /// changes that size counts as an allocation of all of the new one, wherever the contents end
    /// up. 0 in what was written before there was this figure.
    #[cfg_attr(feature = "profile", serde(default))]
    pub allocated_bytes: u64,
    /// Blocks that are allocated now. Exact.
    pub live_blocks: u64,
    /// Bytes of these blocks, by the size of the block rather than by what was
    /// asked for. Exact.
    pub live_bytes: u64,
    /// Times that a thread's lists of blocks ran out and were filled again from spans; every
    /// allocation of a large block is one.
    pub refills: u64,
    /// Blocks cut from spans for the first time since the span was made, whether they
    /// were allocated yet or wait on a thread's list. What was allocated beyond that was
    /// used before. Exact.
    #[cfg_attr(feature = "profile", serde(default))]
    pub first_uses: u64,
    /// Spans in use.
    pub spans: u64,
    /// Blocks that came home to their span from elsewhere: freed by another thread than the one
    /// that owns the span, or taken off the lists of a thread that was idle.
    pub remote_frees: u64,
    /// Times that a thread had to wait for another one's lock while it fetched a span or
    /// gave one back; what threads wait for in the operating system is not among them. None
    /// are counted for large blocks.
    #[cfg_attr(feature = "profile", serde(default))]
    pub lock_waits: u64,
    /// What the sampler saw of the sizes asked for; none without samples.
    pub requested: Option<Requested>,
}

/// Sizes asked for, estimated from samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "profile", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Requested {
    /// Samples this rests on.
    pub samples: u64,
    /// Mean bytes asked for per allocation.
    pub mean_bytes: f64,
    /// Error bar of that mean, relative to it: the truth lies within it in about 95 of
    /// 100 cases. 0 if `exact`, none from a single sample or where each sample stands for
    /// itself alone, but not every allocation was sampled.
    #[cfg_attr(feature = "profile", serde(default))]
    pub mean_error: Option<f64>,
    /// Share of the blocks' bytes that nobody asked for, `0.0..1.0`.
    pub waste: f64,
    /// Whether every allocation was sampled, so that nothing is estimated.
    pub exact: bool,
}

/// Where memory is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "profile", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Memory {
    /// Resident memory of the process, as the system reports it; 0 where it does not, as without
    /// `/proc`.
    pub resident: u64,
    /// In blocks that the program holds, by the size of the block.
    pub live: u64,
    /// In free blocks on threads' lists.
    pub cached: u64,
    /// In other blocks of spans that were used and are free.
    pub spare: u64,
    /// In free pages that were given to spans and not back to the system since. Of a span that was
    /// used in part, not all were touched.
    pub free_pages: u64,
    /// In the allocator's own tables.
    pub metadata: u64,
    /// In the profiler's own tables.
    pub profiler: u64,
}

impl Stats {
    /// The sum over all classes and large blocks. `block_bytes`, `span_bytes` and
    /// `blocks_per_span` are 0, since they differ, and nothing is estimated.
    #[must_use]
    pub fn total(&self) -> ClassStats {
        let mut total = ClassStats::default();
        for row in self.classes.iter().chain(&self.large) {
            total.allocs += row.allocs;
            total.frees += row.frees;
            total.live_blocks += row.live_blocks;
            total.allocated_bytes = total.allocated_bytes.saturating_add(row.allocated_bytes);
            total.live_bytes += row.live_bytes;
            total.refills += row.refills;
            total.first_uses += row.first_uses;
            total.spans += row.spans;
            total.remote_frees += row.remote_frees;
            total.lock_waits += row.lock_waits;
        }
        total
    }

    /// Adds what the profiler sampled of each block size, which come ascending.
    #[cfg(feature = "profile")]
    pub(crate) fn set_requested(&mut self, sizes: &[crate::profile::BlockSize]) {
        let mut rest = sizes;
        for row in self.classes.iter_mut().chain(&mut self.large) {
            let fits = rest.partition_point(|size| size.block_bytes <= row.block_bytes);
            let (inside, larger) = rest.split_at(fits);
            row.requested = Requested::of(inside, row.allocs);
            rest = larger;
        }
    }
}

impl ClassStats {
    /// Share of allocations served without a refill, `0.0..=1.0`; none before
    /// the first allocation.
    #[must_use]
    pub fn hit_rate(&self) -> Option<f64> {
        let hits = self.allocs.saturating_sub(self.refills);
        (self.allocs != 0).then(|| hits as f64 / self.allocs as f64)
    }
}

#[cfg(feature = "profile")]
impl Requested {
    fn of(sizes: &[crate::profile::BlockSize], allocs: u64) -> Option<Self> {
        let mut sum = crate::profile::Amount::default();
        sizes.iter().for_each(|size| sum.add(&size.allocated));
        // Not those of `sum`: rounded, one object may stand for a half more.
        let of_all = |of: fn(&crate::profile::BlockSize) -> f64| sizes.iter().map(of).sum::<f64>();
        let mean = of_all(|size| size.weighted_bytes) / of_all(|size| size.weight);
        // No single sample stands for more than itself; the error of one that does may be rounded
        // to none for the objects, but not for their bytes.
        let exact = sum.samples == sum.objects
            && sum.objects_error == 0
            && sum.bytes_error == 0
            && sum.samples >= allocs;
        (sum.objects != 0 && sum.block_bytes != 0).then(|| Self {
            samples: sum.samples,
            mean_bytes: mean,
            mean_error: if exact { Some(0.0) } else { mean_error(sizes, &sum, mean) },
            waste: 1.0 - sum.bytes as f64 / sum.block_bytes as f64,
            exact,
        })
    }
}

/// The error bar of the mean size, relative to it. Samples of a class weigh the same, so the error
/// of their mean comes from the spread of the sizes alone. For blocks of one size the variance of
/// bytes is that of objects times the mean square size `m₂`, and the mean squared distance from the
/// mean `μ` of all sizes is `m₂ − 2μ·m₁ + μ²`. Not rounded: the difference may be far smaller than
/// its terms.
#[cfg(feature = "profile")]
fn mean_error(
    sizes: &[crate::profile::BlockSize],
    sum: &crate::profile::Amount,
    mean: f64,
) -> Option<f64> {
    let squares = |size: &crate::profile::BlockSize| {
        let (objects, bytes) = size.allocated.variances();
        let own = size.weighted_bytes / size.weight;
        (bytes + objects * mean * (mean - 2.0 * own)).max(0.0)
    };
    let squares: f64 = sizes.iter().map(squares).sum();
    let variance = squares / sum.variances().0 / sum.samples as f64;
    // Without a byte in any of them, by `malloc(0)`, there is nothing to relate an error to.
    (sum.samples > 1 && sum.objects_error != 0 && mean > 0.0)
        .then(|| sum.bar() * variance.sqrt() / mean)
}

impl Memory {
    /// Where bytes are, by name; but for those that are not resident they sum to those that are, if
    /// that is known.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let ours = [
            ("live blocks", self.live),
            ("on threads' lists", self.cached),
            ("free in spans", self.spare),
            ("free pages", self.free_pages),
            ("metadata", self.metadata),
            ("profiler", self.profiler),
        ];
        ours.into_iter().chain(self.is_known().then(|| ("elsewhere", self.elsewhere())))
    }

    /// Resident bytes that are not the allocator's: the program's text and data,
    /// stacks, mappings of its own. 0 where [`resident`](Self::resident) is not known.
    #[must_use]
    pub fn elsewhere(&self) -> u64 {
        self.resident.saturating_sub(self.ours())
    }

    /// Bytes of the other figures, at least, that are not resident: blocks and tables that
    /// were not touched yet, pages that were not used of spans that were. 0 where
    /// [`resident`](Self::resident) is not known.
    #[must_use]
    pub fn not_resident(&self) -> u64 {
        if self.is_known() { self.ours().saturating_sub(self.resident) } else { 0 }
    }

    /// Whether the system told what is resident: some of a process always is.
    pub(crate) fn is_known(&self) -> bool {
        self.resident != 0
    }

    fn ours(&self) -> u64 {
        [self.live, self.cached, self.spare, self.free_pages, self.metadata, self.profiler]
            .iter()
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_the_sum_of_the_rows() {
        let row = |allocs, frees| ClassStats {
            allocs,
            frees,
            live_blocks: allocs - frees,
            allocated_bytes: allocs * 100,
            ..ClassStats::default()
        };
        let stats = Stats {
            classes: vec![row(5, 1), row(7, 7)],
            large: vec![row(2, 1)],
            ..Stats::default()
        };
        let total = stats.total();
        assert_eq!((total.allocs, total.frees, total.live_blocks), (14, 9, 5));
        assert_eq!(total.allocated_bytes, 1400);
    }

    #[test]
    fn a_total_sums_each_figure_of_all_rows() {
        let row = |times: u64| ClassStats {
            block_bytes: 16 * times,
            span_bytes: 64 * times,
            blocks_per_span: 4 * times,
            allocs: 1000 * times,
            frees: 300 * times,
            allocated_bytes: 16_000 * times,
            live_blocks: 700 * times,
            live_bytes: 11_200 * times,
            refills: 11 * times,
            first_uses: 13 * times,
            spans: 17 * times,
            remote_frees: 19 * times,
            lock_waits: 23 * times,
            requested: Some(Requested::default()),
        };
        let stats =
            Stats { classes: vec![row(1), row(10)], large: vec![row(100)], ..Stats::default() };
        let expected = ClassStats {
            block_bytes: 0,
            span_bytes: 0,
            blocks_per_span: 0,
            requested: None,
            ..row(111)
        };
        assert_eq!(stats.total(), expected);
    }

    #[test]
    fn every_part_of_memory_has_its_name_and_counts_as_ours() {
        let memory = Memory {
            resident: 2000,
            live: 1,
            cached: 20,
            spare: 300,
            free_pages: 40,
            metadata: 5,
            profiler: 600,
        };
        let expected = [
            ("live blocks", 1),
            ("on threads' lists", 20),
            ("free in spans", 300),
            ("free pages", 40),
            ("metadata", 5),
            ("profiler", 600),
            ("elsewhere", 2000 - 966),
        ];
        assert!(memory.parts().eq(expected));
        assert_eq!((memory.elsewhere(), memory.not_resident()), (1034, 0));
        let untouched = Memory { resident: 900, ..memory };
        assert_eq!((untouched.elsewhere(), untouched.not_resident()), (0, 66));
    }

    #[test]
    fn hits_are_what_needed_no_refill() {
        let row = ClassStats { allocs: 200, refills: 10, ..ClassStats::default() };
        assert_eq!(row.hit_rate(), Some(0.95));
        assert_eq!(ClassStats::default().hit_rate(), None);
    }

    #[cfg(feature = "profile")]
    #[test]
    fn samples_of_a_size_meet_its_class() {
        use crate::profile::{Amount, BlockSize};
        let size = |block_bytes, objects, bytes| {
            let mut allocated = Amount::default();
            (allocated.samples, allocated.objects) = (objects, objects);
            (allocated.bytes, allocated.block_bytes) = (bytes, block_bytes * objects);
            BlockSize {
                block_bytes,
                allocated,
                in_use: Amount::default(),
                lifetimes: Default::default(),
                weight: objects as f64,
                weighted_bytes: bytes as f64,
            }
        };
        let class = |block_bytes, allocs| ClassStats { block_bytes, allocs, ..<_>::default() };
        let mut stats = Stats {
            classes: vec![class(16, 0), class(32, 10)],
            large: vec![class(65_536, 3), class(131_072, 0)],
            ..Stats::default()
        };
        stats.set_requested(&[size(32, 10, 240), size(40_960, 1, 40_000), size(65_536, 1, 60_000)]);
        assert_eq!(stats.classes[0].requested, None);
        let requested = stats.classes[1].requested.unwrap();
        assert_eq!((requested.mean_bytes, requested.waste, requested.exact), (24.0, 0.25, true));
        assert_eq!(requested.mean_error, Some(0.0));
        let large = stats.large[0].requested.unwrap();
        assert_eq!((large.mean_bytes, large.exact), (50_000.0, false), "a third came before");
        assert_eq!(large.mean_error, None);
        assert_eq!(stats.large[1].requested, None);
    }

    #[cfg(feature = "profile")]
    #[test]
    fn a_sample_that_stands_for_a_little_more_than_one_is_no_exact_mean() {
        use crate::profile::{Amount, BlockSize};
        let allocated = Amount {
            samples: 1,
            objects: 1,
            bytes: 25_864,
            block_bytes: 25_864,
            objects_error: 0,
            bytes_error: 5_770,
            ..Amount::default()
        };
        let in_use = Amount::default();
        let weight = 25_864.0 / 24_576.0;
        let size = BlockSize {
            block_bytes: 24_576,
            allocated,
            in_use,
            lifetimes: Default::default(),
            weight,
            weighted_bytes: 25_864.0,
        };
        let requested = Requested::of(&[size], 1).unwrap();
        assert!((requested.mean_bytes - 24_576.0).abs() < 0.001, "{requested:?}");
        assert!(!requested.exact && requested.waste == 0.0 && requested.mean_error.is_none());
    }

    #[cfg(feature = "profile")]
    #[test]
    fn the_error_of_a_mean_size_is_that_of_its_spread() {
        use crate::profile::BlockSize;
        let error = |sizes: &[BlockSize]| Requested::of(sizes, 1 << 20).unwrap().mean_error;
        // 50 objects of 20 bytes and 50 of 28, of weight 129: the spread is 4 bytes, the standard
        // error of the mean 0.4 of 24 bytes.
        let asked: Vec<u64> = (0..100).map(|n| if n % 2 == 0 { 20 } else { 28 }).collect();
        let bar = error(&[BlockSize::sampled(4096, 32, &asked)]).unwrap();
        assert!((bar / (1.96 * 0.4 / 24.0) - 1.0).abs() < 0.05, "{bar}");
        assert_eq!(error(&[BlockSize::sampled(4096, 32, &[20])]), None);
        assert_eq!(error(&[BlockSize::sampled(4096, 32, &[0; 10])]), None, "of no bytes");
        // Each stands for itself, and which were not sampled is not known.
        assert_eq!(error(&[BlockSize::sampled(1, 32, &[20, 28])]), None);
    }

    #[cfg(feature = "profile")]
    #[test]
    fn the_error_of_a_mean_of_few_large_blocks_is_not_rounded_away_nor_made_of_rounding() {
        use crate::profile::BlockSize;
        const INTERVAL: u64 = 512 << 10;
        let error = |sizes: &[BlockSize]| Requested::of(sizes, 99).unwrap().mean_error.unwrap();
        let two = error(&[BlockSize::sampled(INTERVAL, 128 << 10, &[70_000, 130_000])]);
        assert!((two - 0.51).abs() < 0.01, "{two}");
        // The smaller one weighs more.
        let apart = [(72 << 10, 70_000), (128 << 10, 130_000)];
        let apart = apart.map(|(block, asked)| BlockSize::sampled(INTERVAL, block, &[asked]));
        assert!((error(&apart) - 0.5).abs() < 0.02, "{}", error(&apart));
        for (interval, block, asked) in [(INTERVAL, 104 << 10, 100_000), (8, 24, 23)] {
            let equal = error(&[BlockSize::sampled(interval, block, &[asked; 8])]);
            assert!(equal < 0.01, "{equal} of {asked} bytes");
        }
    }
}
