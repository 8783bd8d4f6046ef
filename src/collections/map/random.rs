//! Random starting points for walks: one small generator per thread.

use crate::base::random::{self, GOLDEN};
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
    let mut state = STATE.get();
    if state == 0 {
        state = RandomState::new().hash_one(GOLDEN);
    }
    let number = random::next(&mut state);
    STATE.set(state);
    number
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
