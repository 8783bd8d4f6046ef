//! The Mann-Kendall test: does a series rise more often than chance would have it?
//!
//! `S` is the number of pairs that rise minus the number of pairs that fall. In a series without a
//! trend every order is equally likely, whatever the values are distributed like, so `S` follows
//! the number of inversions in a random order of the values, equal ones among them: counted exactly
//! for short series, and nearly normal for long ones.

use crate::collections::quantile::normal_below;

/// Longest series whose distribution is counted.
const EXACT_LEN_MAX: usize = 40;

/// The probability that a series without a trend rises as clearly as `values` does; 1 for fewer
/// than two values.
pub(super) fn p_rising(values: &[f64]) -> f64 {
    let len = values.len();
    if len < 2 {
        return 1.0;
    }
    let (mut rises, mut falls) = (0i64, 0i64);
    for (at, earlier) in values.iter().enumerate() {
        for later in &values[at + 1..] {
            rises += i64::from(later > earlier);
            falls += i64::from(later < earlier);
        }
    }
    if len <= EXACT_LEN_MAX {
        return p_at_most_inversions(&ties(values), falls as usize);
    }
    let variance = variance(values);
    if variance <= 0.0 {
        return 1.0;
    }
    p_normal((rises - falls) as f64, variance)
}

/// The probability of an `S` as large as `s`, were it normal.
fn p_normal(s: f64, variance: f64) -> f64 {
    // One less: S moves in steps of two, and this is the middle of a step.
    1.0 - normal_below((s - 1.0) / variance.sqrt())
}

/// The variance of `S` for a series without a trend and with the ties of `values`.
pub(super) fn variance(values: &[f64]) -> f64 {
    let term = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let tied: f64 = ties(values).iter().map(|&count| term(count as f64)).sum();
    (term(values.len() as f64) - tied) / 18.0
}

/// How often each of the values occurs.
fn ties(values: &[f64]) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.chunk_by(|a, b| a == b).map(<[f64]>::len).collect()
}

/// The part of all orders of things of which so many are equal that has at most `inversions`
/// inversions.
fn p_at_most_inversions(ties: &[usize], inversions: usize) -> f64 {
    // part[k] = part of the orders of the things so far with k inversions. Those that the next ones
    // add depend on where these come among the others, and not on the others' order.
    let (mut part, mut lower) = (vec![1.0], 0);
    for &equal in ties {
        let added = inversions_between(lower, equal);
        let mut next = vec![0.0; part.len() + added.len() - 1];
        for (k, p) in part.iter().enumerate() {
            next[k..].iter_mut().zip(&added).for_each(|(q, added)| *q += p * added);
        }
        (part, lower) = (next, lower + equal);
    }
    part[..=inversions.min(part.len() - 1)].iter().sum()
}

/// The parts of all orders of `lower` things and `equal` higher ones in which there are 0, 1, 2, …
/// pairs of a higher one before a lower one.
fn inversions_between(lower: usize, equal: usize) -> Vec<f64> {
    // parts[h] = these parts for h higher ones, of fewer lower ones at first.
    let mut parts = vec![vec![1.0]; equal + 1];
    for low in 1..=lower {
        for high in 1..=equal {
            let mut next = vec![0.0; low * high + 1];
            let (things, higher) = ((low + high) as f64, high as f64);
            // The last thing is a lower one, behind all higher ones, or else a higher one.
            let lower_last = next[high..].iter_mut().zip(&parts[high]);
            lower_last.for_each(|(q, p)| *q += p * low as f64 / things);
            let higher_last = next.iter_mut().zip(&parts[high - 1]);
            higher_last.for_each(|(q, p)| *q += p * higher / things);
            parts[high] = next;
        }
    }
    parts.swap_remove(equal)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn short_series_are_counted() {
        // All 24 orders of four: one has no inversion, three have one, five have two.
        assert!((p_rising(&[1.0, 2.0, 3.0, 4.0]) - 1.0 / 24.0).abs() < 1e-15);
        assert!((p_rising(&[1.0, 3.0, 2.0, 4.0]) - 4.0 / 24.0).abs() < 1e-15);
        assert!((p_rising(&[3.0, 1.0, 2.0, 4.0]) - 9.0 / 24.0).abs() < 1e-15);
        assert!((p_rising(&[4.0, 3.0, 2.0, 1.0]) - 1.0).abs() < 1e-15);
        assert_eq!((p_rising(&[1.0]), p_rising(&[2.0; 9])), (1.0, 1.0));
    }

    /// Against all orders of values that are equal in part.
    #[test]
    fn short_series_with_ties_are_counted() {
        for values in [vec![1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0], vec![5.0, 5.0, 5.0, 1.0, 1.0, 1.0]]
        {
            let mut told = Vec::new();
            permutations(&mut values.clone(), 0, &mut |order| {
                let mut s = 0;
                for (at, earlier) in order.iter().enumerate() {
                    for later in &order[at + 1..] {
                        s += i32::from(later > earlier) - i32::from(later < earlier);
                    }
                }
                told.push((s, p_rising(order)));
            });
            for &(s, p) in told.iter().step_by(97) {
                let as_clear = told.iter().filter(|other| other.0 >= s).count();
                let counted = as_clear as f64 / told.len() as f64;
                assert!((p - counted).abs() < 1e-12, "S = {s} of {values:?}: {p} {counted}");
            }
        }
        // Of the long ones that are counted: 20 lower ones before 20 higher ones.
        let halves = Vec::from_iter((0..EXACT_LEN_MAX).map(|at| (at / 20) as f64));
        let orders: f64 = (1..=20).map(|n| (20.0 + f64::from(n)) / f64::from(n)).product();
        assert!((p_rising(&halves) * orders - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_normal_approximation_meets_the_count() {
        // A series by its falls: the count for the same number of values, beside the normal
        // approximation that longer ones get.
        for len in [30, EXACT_LEN_MAX] {
            let pairs = len * (len - 1) / 2;
            let distinct: Vec<f64> = (0..len).map(|at| at as f64).collect();
            for falls in (pairs / 4..pairs * 3 / 4).step_by(7) {
                let s = pairs as f64 - 2.0 * falls as f64;
                let counted = p_at_most_inversions(&vec![1; len], falls);
                let approximated = p_normal(s, variance(&distinct));
                assert!((counted - approximated).abs() < 2e-3, "{counted} {approximated}");
            }
        }
    }

    /// The variance is that of `S` over random orders, with ties or without.
    #[test]
    fn the_variance_is_that_of_random_orders() {
        let mut state = 1u64;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % bound
        };
        for mut values in [Vec::from_iter((0..11).map(f64::from)), vec![1., 1., 1., 2., 3., 3., 4.]]
        {
            let expected = variance(&values);
            let (orders, mut sum) = (20_000, 0.0);
            for _ in 0..orders {
                (1..values.len()).rev().for_each(|at| values.swap(at, below(at + 1)));
                let mut s = 0.0;
                for (at, earlier) in values.iter().enumerate() {
                    for later in values[at + 1..].iter().filter(|&later| later != earlier) {
                        s += (later - earlier).signum();
                    }
                }
                sum += s * s;
            }
            let ratio = sum / f64::from(orders) / expected;
            assert!((ratio - 1.0).abs() < 0.05, "{ratio} of {expected}");
        }
    }

    #[test]
    fn false_alarms_are_as_rare_as_promised() {
        // All 5,040 orders of seven: p ≤ 0.05 for at most 5 % of them, and not for far fewer.
        let mut alarms = 0;
        let mut order = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        permutations(&mut order, 0, &mut |order| alarms += u32::from(p_rising(order) <= 0.05));
        assert!((100..=252).contains(&alarms), "{alarms}");
    }

    /// Visits all orders of what comes `from` there on.
    pub(in crate::collections::observe) fn permutations(
        order: &mut [f64],
        from: usize,
        visit: &mut impl FnMut(&[f64]),
    ) {
        if from == order.len() {
            return visit(order);
        }
        for at in from..order.len() {
            order.swap(from, at);
            permutations(order, from + 1, visit);
            order.swap(from, at);
        }
    }
}
