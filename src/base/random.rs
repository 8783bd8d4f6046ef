//! Random numbers of one word of state: SplitMix64 (Steele, Lea and Flood, 2014). And the constant
//! that it counts by, which hashes multiply with.

/// 2⁶⁴ over the golden ratio, odd. In a product with it each bit depends on all lower ones, so that
/// the high bits tell apart what lies near each other (Fibonacci hashing: Knuth, 6.4).
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The next number after `state`, which may be any at first. States that are a few steps of
/// [`GOLDEN`] apart give the same numbers, shifted.
#[inline]
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(GOLDEN);
    mixed(*state)
}

/// Spreads every bit over all of them.
#[inline]
pub(crate) fn mixed(word: u64) -> u64 {
    let z = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn numbers_are_those_of_the_paper_s_authors() {
        // The first five of seed 1234567, as the reference implementation prints them.
        let mut state = 1_234_567;
        let numbers = [(); 5].map(|()| next(&mut state));
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(numbers, expected);
    }
}
