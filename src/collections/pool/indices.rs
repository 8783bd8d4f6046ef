//! Indices for threads: each in one hand at a time, the lowest free one first, without a lock.
//!
//! A lock would stay locked for ever in the child of a fork that came while another thread held it.
//!
//! # Invariants
//!
//! 1. A bit is set while its index is taken. Whoever set it owns the index until it clears the bit.
//!    The Release of clearing hands what the owner did to the Acquire of setting.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

const WORD_BITS: usize = u64::BITS as usize;

/// As many indices as there are bits.
pub(super) struct Indices<const WORDS: usize> {
    taken: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Indices<WORDS> {
    pub(super) const fn new() -> Self {
        Self { taken: [const { AtomicU64::new(0) }; WORDS] }
    }

    /// The lowest index that is free, or `None` when all are taken. Looks at a word for each 64
    /// that are taken.
    pub(super) fn take(&self) -> Option<usize> {
        self.taken.iter().enumerate().find_map(|(number, word)| {
            let mut seen = word.load(Relaxed);
            while seen != u64::MAX {
                // The lowest bit that is not set.
                let bit = !seen & seen.wrapping_add(1);
                match word.compare_exchange_weak(seen, seen | bit, Acquire, Relaxed) {
                    Ok(_) => return Some(number * WORD_BITS + bit.trailing_zeros() as usize),
                    Err(now) => seen = now,
                }
            }
            None
        })
    }

    /// Frees an index of the caller's.
    pub(super) fn give_back(&self, index: usize) {
        let bit = 1 << (index % WORD_BITS);
        let before = self.taken[index / WORD_BITS].fetch_and(!bit, Release);
        debug_assert!(before & bit != 0, "index {index} was free");
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn the_lowest_free_index_comes_first_and_the_last_is_the_last() {
        let indices = Indices::<2>::new();
        assert!((0..128).all(|index| indices.take() == Some(index)));
        assert_eq!(indices.take(), None);
        [100, 64, 7].into_iter().for_each(|index| indices.give_back(index));
        assert_eq!([(); 4].map(|()| indices.take()), [Some(7), Some(64), Some(100), None]);
    }

    #[test]
    fn an_index_has_one_owner() {
        const ROUNDS: usize = if cfg!(miri) { 50 } else { 20_000 };
        let indices = Indices::<1>::new();
        let owned = [const { AtomicBool::new(false) }; 4];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let index = indices.take().unwrap();
                        assert!(!owned[index].swap(true, Relaxed), "index {index} is taken");
                        owned[index].store(false, Relaxed);
                        indices.give_back(index);
                    }
                });
            }
        });
    }
}
