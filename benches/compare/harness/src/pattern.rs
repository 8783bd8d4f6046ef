//! Patterns of allocation drawn at random: what the named workloads leave out.
//!
//! A seed stands for a pattern: a shape, a distribution of sizes, threads, how much is live. The
//! same seed is the same pattern for every allocator, and for who describes it.

use crate::Rng;
use std::fmt;

/// What a thread does with its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Fills up, and frees the last ones first.
    Stack,
    /// Each allocation frees the oldest.
    Queue,
    /// Each allocation frees one at random.
    Replace,
    /// Fills up, and frees in random order.
    Shuffled,
    /// Fills up, and frees every other block, then the rest.
    Halves,
    /// Most die at once; one in forty lives until it is replaced at random.
    Generations,
    /// Up to 256 at a time are freed by the next thread.
    HandOver,
    /// Up to 64 blocks are reallocated eight times, three of four times to half as much again.
    Growth,
    /// Fills up with a multiple of the size, another one each time, and frees in order.
    Phases,
    /// Threads of up to 2,000 blocks, half of which their starter frees.
    ShortThreads,
    /// Five allocations to a free up to the top, five frees to an allocation down again.
    FillAndDrain,
    /// Grows and shrinks as a stack, to random heights.
    Sawtooth,
}

const SHAPES: [Shape; 12] = [
    Shape::Stack,
    Shape::Queue,
    Shape::Replace,
    Shape::Shuffled,
    Shape::Halves,
    Shape::Generations,
    Shape::HandOver,
    Shape::Growth,
    Shape::Phases,
    Shape::ShortThreads,
    Shape::FillAndDrain,
    Shape::Sawtooth,
];

impl Shape {
    /// The most blocks of a hand-over, of those that grow at once, or of a short thread.
    fn blocks_max(self) -> usize {
        match self {
            Self::HandOver => 256,
            Self::Growth => 64,
            Self::ShortThreads => 2000,
            _ => usize::MAX,
        }
    }
}

/// A distribution of sizes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All the same.
    Fixed(usize),
    /// From the first to the second.
    Uniform(usize, usize),
    /// As likely between one power of two and the next as between any other two.
    Log(u32, u32),
    /// Fifteen of the first size to one of the second.
    Mixed(usize, usize),
}

impl Sizes {
    fn of(rng: &mut Rng) -> Self {
        const FIXED: [usize; 21] = [
            16, 24, 32, 48, 64, 100, 200, 512, 1000, 2048, 4096, 8192, 9000, 16384, 20000, 32768,
            40000, 65536, 100_000, 300_000, 1_048_576,
        ];
        match rng.below(6) {
            0 => Self::Fixed(FIXED[rng.below(FIXED.len())]),
            1 => {
                let least = rng.between(1, 200);
                Self::Uniform(least, least + rng.between(1, 2000))
            }
            2 => Self::Log(3, rng.between(4, 7) as u32),
            3 => Self::Log(3, rng.between(8, 13) as u32),
            4 => {
                let least = rng.between(4, 15) as u32;
                Self::Log(least, least + rng.between(1, 5) as u32)
            }
            _ => Self::Mixed(16 << rng.below(5), [1000, 5000, 40_000, 200_000][rng.below(4)]),
        }
    }

    /// A size.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> usize {
        match *self {
            Self::Fixed(bytes) => bytes,
            Self::Uniform(least, most) => rng.between(least, most),
            Self::Log(least, end) => {
                let power = 1 << (least as usize + rng.below((end - least) as usize));
                power + rng.below(power)
            }
            Self::Mixed(usual, seldom) => {
                if rng.below(16) == 0 {
                    seldom
                } else {
                    usual
                }
            }
        }
    }

    fn mean(&self) -> f64 {
        match *self {
            Self::Fixed(bytes) => bytes as f64,
            Self::Uniform(least, most) => (least + most) as f64 / 2.0,
            Self::Log(least, end) => {
                let powers = (least..end).map(|power| 1.5 * f64::from(power).exp2());
                powers.sum::<f64>() / f64::from(end - least)
            }
            Self::Mixed(usual, seldom) => (15 * usual + seldom) as f64 / 16.0,
        }
    }
}

/// A pattern.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// What a thread does.
    pub shape: Shape,
    /// How large its blocks are.
    pub sizes: Sizes,
    /// Threads that do it.
    pub threads: usize,
    /// Blocks of a thread that are live at most; of some shapes fewer: see [`Pattern::at_once`].
    pub live: usize,
    /// Allocations of a thread, about.
    pub allocations: usize,
    /// Whether all of a block is written, not its first byte alone.
    pub touched: bool,
    /// Whether blocks are asked for zeroed.
    pub zeroed: bool,
}

/// What a pattern is to take, in nanoseconds of a thread.
const NS: f64 = 150e6;

impl Pattern {
    /// The pattern of a seed: any number.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::of_small(seed);
        let shape = SHAPES[rng.below(SHAPES.len())];
        let sizes = Sizes::of(&mut rng);
        let threads = [1, 1, 1, 1, 2, 2, 4, 8][rng.below(8)];
        let live_bytes = [1 << 16, 1 << 18, 1 << 20, 1 << 23, 1 << 26, 1 << 27][rng.below(6)];
        let touched = rng.below(3) == 0;
        let zeroed = rng.below(8) == 0;
        let mean = sizes.mean();
        let live = (f64::from(live_bytes) / mean / threads as f64) as usize;
        let live = live.clamp(4, 1_000_000);
        let written_ns = if touched || zeroed { mean / 8.0 } else { (mean / 400.0).min(100.0) };
        let allocations = NS / (15.0 + written_ns) / threads.min(2) as f64;
        let allocations = (allocations as usize).max(3 * live);
        Self { shape, sizes, threads, live, allocations, touched, zeroed }
    }

    /// How many blocks a thread fills up to: `live`, or what its shape has at most.
    pub fn at_once(&self) -> usize {
        self.live.min(self.shape.blocks_max())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} blocks, {:?}", self.shape, self.at_once(), self.sizes)?;
        if self.threads > 1 {
            write!(f, ", {} threads", self.threads)?;
        }
        // What grows is written at its first byte alone, and never asked for zeroed.
        if self.shape == Shape::Growth {
            return Ok(());
        }
        f.write_str(if self.touched { ", touched" } else { "" })?;
        f.write_str(if self.zeroed { ", zeroed" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, SHAPES, Shape};
    use crate::Rng;

    #[test]
    fn seeds_reach_every_shape_and_stay_within_memory() {
        let patterns: Vec<Pattern> = (0..2000).map(Pattern::of).collect();
        for shape in SHAPES {
            let share = patterns.iter().filter(|pattern| pattern.shape == shape).count();
            assert!((90..=260).contains(&share), "{shape:?}: {share} of 2000");
        }
        for pattern in &patterns {
            let bytes = pattern.live as f64 * pattern.threads as f64 * pattern.sizes.mean();
            assert!(bytes < 300e6, "{pattern}: {bytes}");
            assert!(pattern.allocations >= 3 * pattern.live, "{pattern}");
        }
        assert!(patterns.iter().filter(|pattern| pattern.threads == 1).count() > 800);
    }

    #[test]
    fn the_mean_is_that_of_what_is_drawn() {
        for seed in 0..50 {
            let pattern = Pattern::of(seed);
            let mut rng = Rng::new(seed);
            let sum: usize = (0..50_000).map(|_| pattern.sizes.draw(&mut rng)).sum();
            let (drawn, mean) = (sum as f64 / 50_000.0, pattern.sizes.mean());
            assert!((drawn / mean - 1.0).abs() < 0.05, "{pattern}: {drawn} for {mean}");
        }
    }

    #[test]
    fn a_pattern_says_of_itself_what_it_does() {
        for pattern in (0..2000).map(Pattern::of) {
            let text = pattern.to_string();
            assert!(text.contains(&format!(" of {} blocks", pattern.at_once())), "{text}");
            let most = match pattern.shape {
                Shape::HandOver => 256,
                Shape::Growth => 64,
                Shape::ShortThreads => 2000,
                _ => 1_000_000,
            };
            assert!((4..=most).contains(&pattern.at_once()), "{text}");
            let fills = pattern.shape != Shape::Growth;
            assert_eq!(text.contains("touched"), fills && pattern.touched, "{text}");
            assert_eq!(text.contains("zeroed"), fills && pattern.zeroed, "{text}");
        }
    }
}
