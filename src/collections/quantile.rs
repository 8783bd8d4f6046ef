//! Quantiles of the distributions that sizes follow, computed rather than approximated.

/// The means of Poisson distributions that are summed.
const SUMMED_BELOW: f64 = 1e6;

/// The smallest `k` with `P(X ≤ k) ≥ probability`, for a Poisson distribution with mean `lambda`.
///
/// Sums the distribution outwards from its mode, so neither large means nor small probabilities
/// underflow, and above the median from the upper end, so that what is missing from 1 keeps its
/// digits. Costs a few dozen multiplications per square root of `lambda`. From a mean of 10⁶ on
/// it takes the first terms of the Cornish-Fisher series instead, which are within one of the sum
/// there, or as close as an `f64` comes.
///
/// # Panics
///
/// When `lambda` is negative or not finite, or `probability` is not between 0 and 1, exclusively.
///
/// ```
/// use spanalloc::arena::poisson_quantile;
///
/// assert_eq!([16.0, 64.0, 256.0].map(|mean| poisson_quantile(mean, 0.95)), [23, 77, 283]);
/// ```
#[must_use]
pub fn poisson_quantile(lambda: f64, probability: f64) -> u64 {
    assert!(lambda.is_finite() && lambda >= 0.0, "lambda is {lambda}: it must be finite and ≥ 0");
    check_probability(probability);
    if lambda >= SUMMED_BELOW {
        let x = normal_quantile(probability);
        // A half less: the series is about where the distribution function, drawn smoothly,
        // passes the middles of its steps.
        let quantile = lambda + x * lambda.sqrt() + (x * x - 1.0) / 6.0 - 0.5;
        return quantile.ceil() as u64;
    }
    // The smaller tail is summed: of a probability near 1, what is missing has more digits.
    let (is_upper, part) =
        if probability > 0.5 { (true, 1.0 - probability) } else { (false, probability) };
    // Weights relative to that of the mode, P(X = k) · constant; the rest does not change a sum.
    const NEGLIGIBLE: f64 = 1e-20;
    let mode = lambda.floor();
    let negligible_below = (NEGLIGIBLE * part).max(f64::MIN_POSITIVE);
    let mut below = Vec::new();
    let (mut k, mut weight) = (mode, 1.0);
    while weight > negligible_below {
        below.push(weight);
        if k == 0.0 {
            break;
        }
        weight *= k / lambda;
        k -= 1.0;
    }
    let mut above = Vec::new();
    let (mut k, mut weight) = (mode + 1.0, lambda / (mode + 1.0));
    while weight > negligible_below {
        above.push(weight);
        k += 1.0;
        weight *= lambda / k;
    }
    // From both tails inwards: small terms first, so that they are not lost.
    let total = below.iter().rev().sum::<f64>() + above.iter().rev().sum::<f64>();
    let wanted = part * total;
    let mut sum = 0.0;
    let is_reached = |weight: &f64| {
        sum += weight;
        if is_upper { sum > wanted } else { sum >= wanted }
    };
    let first = mode as u64 + 1 - below.len() as u64;
    let last = mode as u64 + above.len() as u64;
    if is_upper {
        let mut down = above.iter().rev().chain(&below);
        last - down.position(is_reached).unwrap_or(above.len() + below.len() - 1) as u64
    } else {
        let mut up = below.iter().rev().chain(&above);
        first + up.position(is_reached).unwrap_or(above.len() + below.len() - 1) as u64
    }
}

/// The `probability` quantile of `exp(N(mu, sigma²))`: `mu` and `sigma` are the mean and standard
/// deviation of the logarithm.
///
/// # Panics
///
/// When `mu` is not finite, `sigma` is negative or not finite, or `probability` is not between 0
/// and 1, exclusively.
///
/// ```
/// use spanalloc::arena::log_normal_quantile;
///
/// let p95 = log_normal_quantile(0.0, 1.0, 0.95);
/// assert!((p95 - 5.180251602233015).abs() < 1e-12);
/// ```
#[must_use]
pub fn log_normal_quantile(mu: f64, sigma: f64, probability: f64) -> f64 {
    assert!(mu.is_finite(), "mu is {mu}: it must be finite");
    assert!(sigma.is_finite() && sigma >= 0.0, "sigma is {sigma}: it must be finite and ≥ 0");
    (mu + sigma * normal_quantile(probability)).exp()
}

/// The `probability` quantile of the standard normal distribution.
pub(super) fn normal_quantile(probability: f64) -> f64 {
    check_probability(probability);
    if probability < normal_below(-TAIL) {
        return -tail_quantile(probability);
    }
    if probability < 0.5 {
        return -normal_quantile(1.0 - probability);
    }
    // Newton's method from 0 climbs monotonically, because the distribution function is concave to
    // the right of 0.
    let mut x = 0.0;
    loop {
        let step = (probability - normal_below(x)) / normal_density(x);
        let next = x + step;
        if next <= x || next > 9.0 {
            return x;
        }
        x = next;
    }
}

/// From here on a tail is computed itself: as what is missing from 1 its digits would be lost.
const TAIL: f64 = 3.0;

/// The `x` beyond which `probability` is left: Newton's method on the logarithm, which is nearly a
/// parabola, from a point beyond.
fn tail_quantile(probability: f64) -> f64 {
    let wanted = probability.ln();
    let mut x = (-2.0 * wanted).sqrt();
    loop {
        let step = (log_above(x) - wanted) / mills(x);
        x += step;
        if step.abs() <= x * f64::EPSILON * 4.0 {
            return x;
        }
    }
}

/// `ln P(N > x)`, for `x` from [`TAIL`] on.
fn log_above(x: f64) -> f64 {
    -0.5 * x * x - 0.5 * (2.0 * std::f64::consts::PI).ln() - mills(x).ln()
}

/// The density over what is beyond, `φ(x) / P(N > x)`, for `x` from [`TAIL`] on: Laplace's
/// continued fraction `x + 1/(x + 2/(x + 3/(x + …)))`.
fn mills(x: f64) -> f64 {
    (1..=100).rev().fold(x, |fraction, k| x + f64::from(k) / fraction)
}

/// `P(N ≤ x)` for the standard normal distribution.
pub(super) fn normal_below(x: f64) -> f64 {
    if x <= -TAIL {
        return log_above(-x).exp();
    }
    if x < 0.0 {
        return 1.0 - normal_below(-x);
    }
    if x > 9.0 {
        return 1.0;
    }
    // 1/2 + φ(x) · (x + x³/3 + x⁵/(3·5) + x⁷/(3·5·7) + …): all terms are positive.
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term > sum * f64::EPSILON / 4.0 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + normal_density(x) * sum
}

fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

fn check_probability(probability: f64) {
    assert!(
        probability > 0.0 && probability < 1.0,
        "probability is {probability}: it must be between 0 and 1, exclusively"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, summed term by term in logarithms.
    fn poisson_by_definition(lambda: f64, probability: f64) -> u64 {
        let (mut log_term, mut sum) = (-lambda, (-lambda).exp());
        let mut k = 0;
        while sum < probability {
            k += 1;
            log_term += lambda.ln() - (k as f64).ln();
            sum += log_term.exp();
        }
        k
    }

    #[test]
    fn poisson_is_the_definition() {
        for lambda in [0.1, 0.5, 1.0, 2.5, 10.0, 16.0, 64.0, 100.5, 256.0, 600.0] {
            for probability in [0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.9999] {
                assert_eq!(
                    poisson_quantile(lambda, probability),
                    poisson_by_definition(lambda, probability),
                    "λ = {lambda}, p = {probability}"
                );
            }
        }
        assert_eq!(poisson_quantile(0.0, 0.95), 0);
        // Where e^−λ is zero in floating point: λ + 1.645 √λ + 0.284, from the Cornish-Fisher
        // series.
        assert_eq!(poisson_quantile(1e6, 0.95), 1_001_645);
        // The sum of the first terms, from tables of the distribution with mean 100.
        for (probability, quantile) in [(1e-20, 23), (1e-25, 16), (1e-30, 10), (1e-40, 2)] {
            assert_eq!(poisson_quantile(100.0, probability), quantile, "{probability}");
        }
    }

    /// From the sums of both tails with 60 digits.
    #[test]
    fn the_upper_tail_of_poisson_has_all_its_digits() {
        for (lambda, missing, quantile) in [
            (1.0, 1e-15, 17),
            (100.0, 1.1e-16, 193),
            (1000.0, 4.4e-16, 1265),
            (1e4, 1.1e-16, 10_832),
            (999_999.0, 1e-12, 1_007_042),
            (999_999.0, 1e-14, 1_007_659),
            (999_999.0, 1e-15, 1_007_951),
        ] {
            assert_eq!(poisson_quantile(lambda, 1.0 - missing), quantile, "{lambda} {missing}");
        }
    }

    #[test]
    fn tails_have_all_their_digits() {
        // From tables of the normal distribution.
        for (x, below) in [
            (-3.0, 1.349_898_031_630_094_5e-3),
            (-5.0, 2.866_515_718_791_939e-7),
            (-8.0, 6.220_960_574_271_785e-16),
            (-10.0, 7.619_853_024_160_527e-24),
            (-20.0, 2.753_624_118_606_233_7e-89),
        ] {
            assert!((normal_below(x) / below - 1.0).abs() < 1e-12, "{x}: {:e}", normal_below(x));
            assert!((normal_quantile(below) / x - 1.0).abs() < 1e-13, "{x}");
        }
        for probability in [f64::MIN_POSITIVE, 1e-300, 1e-17, 1.0 - f64::EPSILON / 2.0] {
            let x = normal_quantile(probability);
            assert!(x.is_finite() && (x.abs() > 8.0), "{probability}: {x}");
            assert!(log_normal_quantile(0.0, 1.0, probability) > 0.0);
            let poisson = poisson_quantile(1e9, probability).abs_diff(1_000_000_000);
            assert!((200_000..2_000_000).contains(&poisson), "{probability}: {poisson}");
        }
        assert!(normal_quantile(f64::from_bits(1)).is_finite());
        // Each search ends, and the two ways meet where one begins.
        let probabilities = (0..31_000).map(|step| 10_f64.powf(-0.01 * f64::from(step)) / 2.1);
        let quantiles: Vec<f64> = probabilities.map(normal_quantile).collect();
        assert!(quantiles.is_sorted_by(|higher, lower| lower < higher));
    }

    #[test]
    fn large_means_are_not_summed_and_agree_where_they_begin_not_to_be() {
        let below = SUMMED_BELOW - 1.0;
        for probability in [1e-6, 0.05, 0.5, 0.9, 0.95, 0.9999] {
            let summed = poisson_quantile(below, probability);
            let series = poisson_quantile(SUMMED_BELOW, probability);
            assert!((summed..=summed + 2).contains(&series), "{summed} {series} {probability}");
        }
        let median = poisson_quantile(1e17, 0.5) as f64;
        assert!((median / 1e17 - 1.0).abs() < 1e-15, "{median}");
        assert!(poisson_quantile(1e17, 0.9) > 100_000_000_400_000_000);
        assert_eq!(poisson_quantile(1e300, 0.5), u64::MAX);
    }

    #[test]
    fn normal_quantiles_are_those_of_the_tables() {
        for (probability, x) in [
            (0.5, 0.0),
            (0.9, 1.281_551_565_544_600_4),
            (0.95, 1.644_853_626_951_472_2),
            (0.975, 1.959_963_984_540_054),
            (0.999, 3.090_232_306_167_813),
        ] {
            assert!((normal_quantile(probability) - x).abs() < 1e-9, "{probability}");
            assert!((normal_quantile(1.0 - probability) + x).abs() < 1e-9, "{probability}");
            assert!((normal_below(x) - probability).abs() < 1e-15, "{x}");
        }
    }

    #[test]
    fn impossible_parameters_are_named() {
        for (call, part) in [
            ((|| poisson_quantile(-1.0, 0.5) as f64) as fn() -> f64, "lambda is -1"),
            (|| poisson_quantile(f64::NAN, 0.5) as f64, "lambda is NaN"),
            (|| poisson_quantile(1.0, 1.0) as f64, "probability is 1"),
            (|| log_normal_quantile(0.0, -2.0, 0.5), "sigma is -2"),
            (|| log_normal_quantile(f64::INFINITY, 1.0, 0.5), "mu is inf"),
        ] {
            let panic = std::panic::catch_unwind(call).unwrap_err();
            let message = panic.downcast::<String>().unwrap();
            assert!(message.contains(part), "{message}");
        }
    }
}
