//! The slope of a series that a few outliers do not move, and how sure it is.
//!
//! It is the median of the slopes of all pairs (H. Theil, 1950). The interval ends at the slopes
//! whose ranks are `z · σ / 2` below and above the median's, where `σ²` is the variance of the
//! Mann-Kendall statistic and `z` the normal quantile of the confidence (P. K. Sen, 1968).
//!
//! Of few points, such a rank may be before the first slope or behind the last. Then these are the
//! ends, and they cover the confidence: they miss the slope only if all pairs deviate from it in one
//! direction, as in 2 of the `n!` orders, and a slope is asked for only where so much is enough to
//! be told from chance.
//!
//! A series of `n` points has `n (n − 1) / 2` pairs. If they are few, their slopes are sorted.
//! Those of many are not kept: the slopes of the ranks wanted are found digit by digit, by counting
//! how often each value of the next digit occurs.
//!
//! # Invariants
//!
//! 1. `key` is strictly monotonic, in the order of `f64::total_cmp`; `slope_of` undoes it.
//! 2. After each digit, `rank` is the place of the slope wanted among those that begin with
//!    `prefix`.

use super::mann_kendall::variance;
use super::trend::Slope;
use crate::collections::quantile::normal_quantile;

/// Where each digit of a key begins, from the highest on, and its bits.
const DIGITS: [(u32, u32); 5] = [(51, 13), (38, 13), (25, 13), (12, 13), (0, 12)];
/// How many values a digit has at most.
const VALUES: usize = 1 << 13;

/// Seconds and value.
pub(super) type Point = (f64, f64);

/// The median of the slopes of all pairs, with the ranks around it that cover the confidence. There
/// are two points at least, each later than the one before.
pub(super) fn slope(points: &[Point], confidence: f64, p_value: f64) -> Slope {
    let values: Vec<f64> = points.iter().map(|point| point.1).collect();
    let spread = -normal_quantile((1.0 - confidence) / 2.0) * variance(&values).sqrt();
    let pairs = points.len() * (points.len() - 1) / 2;
    let last = (pairs - 1) as f64;
    let middle = last / 2.0;
    let ranks = [
        middle.floor(),
        middle.ceil(),
        (middle - spread / 2.0).floor(),
        (middle + spread / 2.0).ceil(),
    ];
    let ranks = ranks.map(|rank| rank.clamp(0.0, last) as u64);
    let slopes_at = if pairs <= VALUES { sorted_at } else { counted_at };
    let [below, above, low, high] = slopes_at(points, ranks);
    Slope { per_second: (below + above) / 2.0, per_second_low: low, per_second_high: high, p_value }
}

/// A slope that is looked for.
#[derive(Clone, Copy)]
struct Wanted {
    rank: u64,
    prefix: u64,
}

/// The slopes of these ranks among those of all pairs: rank 0 is the steepest fall's.
fn sorted_at<const N: usize>(points: &[Point], ranks: [u64; N]) -> [f64; N] {
    let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
    for (at, earlier) in points.iter().enumerate() {
        slopes.extend(points[at + 1..].iter().map(|later| slope_between(earlier, later)));
    }
    slopes.sort_by(f64::total_cmp);
    ranks.map(|rank| slopes[rank as usize])
}

/// As [`sorted_at`], without the slopes in memory.
fn counted_at<const N: usize>(points: &[Point], ranks: [u64; N]) -> [f64; N] {
    let mut wanted = ranks.map(|rank| Wanted { rank, prefix: 0 });
    let mut counts: Box<[[u64; N]]> = vec![[0; N]; VALUES].into();
    for (from, bits) in DIGITS {
        counts.fill([0; N]);
        for (at, earlier) in points.iter().enumerate() {
            for later in &points[at + 1..] {
                let digits = key(slope_between(earlier, later)) >> from;
                let counts = &mut counts[digits as usize & ((1 << bits) - 1)];
                for (count, wanted) in counts.iter_mut().zip(&wanted) {
                    *count += u64::from(digits >> bits == wanted.prefix);
                }
            }
        }
        for (at, wanted) in wanted.iter_mut().enumerate() {
            let mut digit = 0;
            while wanted.rank >= counts[digit][at] {
                wanted.rank -= counts[digit][at];
                digit += 1;
            }
            wanted.prefix = wanted.prefix << bits | digit as u64;
        }
    }
    wanted.map(|wanted| slope_of(wanted.prefix))
}

fn slope_between(earlier: &Point, later: &Point) -> f64 {
    (later.1 - earlier.1) / (later.0 - earlier.0)
}

const SIGN: u64 = 1 << 63;

/// The bits of a number, turned so that they are ordered as numbers are.
fn key(slope: f64) -> u64 {
    let bits = slope.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn slope_of(key: u64) -> f64 {
    f64::from_bits(if key & SIGN == 0 { !key } else { key ^ SIGN })
}

#[cfg(test)]
mod tests {
    use super::super::mann_kendall::tests::permutations;
    use super::*;

    /// Over all orders of as few points as a trend can be told by, the interval misses the slope,
    /// 0, no more often than the confidence says, though there are no ranks to spare.
    #[test]
    fn the_interval_of_few_points_covers_the_confidence() {
        for (points, confidence) in [(4, 0.9), (5, 0.95), (6, 0.99), (7, 0.999)] {
            let (mut missed, mut orders) = (0, 0);
            let mut order = Vec::from_iter((0..points).map(f64::from));
            permutations(&mut order, 0, &mut |order| {
                let series: Vec<Point> = (0..points).map(f64::from).zip(order.to_vec()).collect();
                let slope = slope(&series, confidence, 1.0);
                let covered = slope.per_second_low..=slope.per_second_high;
                missed += u32::from(!covered.contains(&0.0));
                orders += 1;
            });
            let most = (1.0 - confidence) * f64::from(orders);
            assert!(missed >= 2 && f64::from(missed) <= most, "{missed} of {orders}, {points}");
        }
    }

    #[test]
    fn keys_are_ordered_as_numbers_are() {
        let ordered = [f64::NEG_INFINITY, -1e300, -2.0, -1e-310, -0.0, 0.0, 1e-310, 2.0, f64::MAX];
        assert!(ordered.map(key).is_sorted_by(|a, b| a < b));
        assert!(ordered.iter().all(|&slope| slope_of(key(slope)).to_bits() == slope.to_bits()));
    }

    #[test]
    fn counting_finds_what_sorting_does() {
        let mut state = 7u64;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        for bound in [1, 2, 1000, 1 << 30] {
            let mut at = 0;
            let mut points = Vec::new();
            for _ in 0..13 {
                at += 1 + random(5);
                points.push((at as f64, random(bound) as f64));
            }
            for rank in 0..77 {
                let (counted, sorted) =
                    (counted_at(&points, [rank, rank + 1]), sorted_at(&points, [rank, rank + 1]));
                assert_eq!(counted.map(f64::to_bits), sorted.map(f64::to_bits));
            }
        }
    }
}
