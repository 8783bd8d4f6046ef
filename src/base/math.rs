//! The two functions that sampling needs, without the C library's `libm`.
//!
//! A process that links `libm` for one logarithm carries some 400 KiB more resident
//! memory. Both functions are exact to a few units in the fifteenth digit, far
//! below what a sample can tell.

use core::f64::consts::LN_2;

/// The natural logarithm of a positive, normal `x`.
///
/// With `x = m·2^k` and `s = (m−1)/(m+1)`, `ln m = 2·(s + s³/3 + s⁵/5 + …)`; `m` is
/// taken between √½ and √2, where eleven terms suffice.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > core::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for odd in (0..11).rev() {
        sum = sum * square + 1.0 / (2 * odd + 1) as f64;
    }
    2.0 * s * sum + exponent as f64 * LN_2
}

/// `1 − e^(−x)` for `x ≥ 0`, exact for small `x` too.
///
/// `e^(−x) = 2^(−k)·e^(−r)` with `r` below `ln 2`; `1 − e^(−r)` is summed as a series
/// of its own, so that nothing cancels.
#[cfg(any(feature = "profile", test))]
#[unsafe(link_section = ".spanalloc.sample")]
pub(crate) fn one_minus_exp_neg(x: f64) -> f64 {
    if x > 700.0 {
        return 1.0;
    }
    let halvings = (x / LN_2) as u64;
    let rest = x - halvings as f64 * LN_2;
    // 1 − e^(−r) = r·(1 − r/2·(1 − r/3·(1 − …))).
    let mut sum = 1.0;
    for term in (2..=20).rev() {
        sum = 1.0 - rest / term as f64 * sum;
    }
    let part = rest * sum;
    let scale = f64::from_bits((1023 - halvings) << 52);
    (1.0 - scale) + scale * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_c_library() {
        let mut x = 1e-300;
        while x < 1e300 {
            let (ours, theirs) = (ln(x), x.ln());
            assert!((ours - theirs).abs() <= 4e-15 * theirs.abs().max(1e-1), "ln {x}: {ours}");
            x *= 1.0371;
        }
        let mut x = 1e-18;
        while x < 1e4 {
            let (ours, theirs) = (one_minus_exp_neg(x), -(-x).exp_m1());
            assert!((ours - theirs).abs() <= 4e-15 * theirs, "1 − exp −{x}: {ours}, {theirs}");
            x *= 1.0171;
        }
        assert_eq!((ln(1.0), one_minus_exp_neg(0.0)), (0.0, 0.0));
    }
}
