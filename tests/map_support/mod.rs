//! Shared by the map's tests: random numbers, hashers that misbehave, and the
//! comparison with `std::collections::HashMap`.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod counting;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, Hasher};

use spanalloc::map::Map;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Hashes well, then keeps the bits of a mask: `u64::MAX` is a good hasher, 0 a
/// constant one, and anything between collides in home, tophash or both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masked(pub(crate) u64);

#[derive(Clone, Debug)]
pub(crate) struct MaskedHasher(u64, u64);

impl BuildHasher for Masked {
    type Hasher = MaskedHasher;

    fn build_hasher(&self) -> MaskedHasher {
        MaskedHasher(0, self.0)
    }
}

impl Hasher for MaskedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = Random(self.0 ^ u64::from(byte)).next();
        }
    }

    fn finish(&self) -> u64 {
        self.0 & self.1
    }
}

/// Good, constant, colliding in home, colliding in tophash, few homes and tophashes.
pub(crate) const MASKS: [u64; 6] =
    [u64::MAX, 0, !0xffff, u64::MAX >> 8, 0x0300_0000_0000_0007, 0xff00_0000_0000_0000];

/// Every hash is its key: tests choose buckets and tophashes.
pub(crate) fn exact() -> std::hash::BuildHasherDefault<Identity> {
    Default::default()
}

#[derive(Default)]
pub(crate) struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64")
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Panics unless both maps hold the same, and ours is sound.
pub(crate) fn assert_same<K, V, S>(ours: &Map<K, V, S>, theirs: &HashMap<K, V>, context: &str)
where
    K: Eq + Hash + Debug,
    V: PartialEq + Debug,
    S: BuildHasher,
{
    assert_eq!(ours.check(), Ok(()), "{context}\n{}", ours.tophashes());
    assert_eq!(ours.len(), theirs.len(), "{context}");
    for (key, value) in theirs {
        assert_eq!(ours.get(key), Some(value), "{context}: {key:?}");
    }
    let mut seen = 0;
    for (key, value) in ours {
        assert_eq!(theirs.get(key), Some(value), "{context}: {key:?}");
        seen += 1;
    }
    assert_eq!(seen, theirs.len(), "{context}");
}
