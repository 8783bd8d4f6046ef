//! The rules by which frames are unwound, cached so that no two push each other out.
//!
//! `framehop` keeps the rule of an address in the one place that the address gives, of
//! 509. Two frames of one stack that share a place push each other out, and every sample
//! then reads the tables for both: 6,500 instructions each, where a rule takes some 60. A
//! stack of 27 frames is as likely as not to have such a pair. So there are two caches,
//! and an address that finds another's rule in its place may use the other cache from
//! then on, as in cuckoo hashing (Pagh and Rodler, 2001). A coin is tossed for it: both
//! of a pair find the other's rule, and if both moved they would meet again.

use framehop::{
    CacheNative, FrameAddress, MustNotAllocateDuringUnwind, UnwindRegsNative, Unwinder,
};

use super::unwind::Cfi;
use crate::base::random::GOLDEN;

type Cache = CacheNative<MustNotAllocateDuringUnwind>;

/// Addresses are told apart by a hash of this many bits.
const BITS: u32 = 10;

/// Both caches.
pub(super) struct Rules {
    caches: [Cache; 2],
    /// A bit for each hash of an address: which cache it uses.
    second: [u64; 1 << (BITS - 6)],
    coin: u32,
}

impl Rules {
    /// Allocates, 40 KiB.
    pub(super) fn new() -> Self {
        Self { caches: [Cache::new_in(), Cache::new_in()], second: [0; _], coin: 1 }
    }

    /// The return address of the frame at `at`, whose registers become its caller's; none
    /// where the stack ends. Allocates nothing.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn unwind_frame(
        &mut self,
        cfi: &Cfi,
        at: FrameAddress,
        registers: &mut UnwindRegsNative,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Result<Option<u64>, framehop::Error> {
        let hash = at.address_for_lookup().wrapping_mul(GOLDEN) >> (64 - BITS);
        let (word, bit) = (&mut self.second[hash as usize / 64], 1 << (hash % 64));
        let cache = &mut self.caches[usize::from(*word & bit != 0)];
        let pushed_out = cache.stats().miss_wrong_address_count;
        let caller = cfi.unwind_frame(at, registers, cache, read);
        if cache.stats().miss_wrong_address_count != pushed_out {
            // Knuth's generator, of which the highest bit is the best.
            self.coin = self.coin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *word ^= if self.coin >> 31 == 0 { bit } else { 0 };
        }
        caller
    }

    /// How many rules were not there.
    #[cfg(test)]
    pub(super) fn misses(&self) -> u64 {
        self.caches.iter().map(|cache| cache.stats().misses()).sum()
    }
}
