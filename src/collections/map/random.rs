//! Random starting points for walks: one small generator per thread.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// The next number of this thread's sequence (SplitMix64), which starts at a
/// place of the operating system's choosing.
#[inline]
pub(super) fn next_random() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = STATE.get();
    if state == 0 {
        state = RandomState::new().hash_one(STEP);
    }
    state = state.wrapping_add(STEP);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ() {
        let numbers: std::collections::HashSet<u64> = (0..1000).map(|_| next_random()).collect();
        assert_eq!(numbers.len(), 1000);
    }
}
