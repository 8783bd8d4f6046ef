//! The live table: from the address of a sampled block to its sample.
//!
//! Cut into shards by address, each an open-addressing table behind a lock held
//! for one probe.
//!
//! # Invariants
//!
//! Of each shard:
//!
//! 1. A power of two of slots, at most three quarters of them used; a slot is
//!    empty if its address is 0.
//! 2. An entry is reachable from its home slot without crossing an empty one:
//!    removal shifts the followers back.

use super::memory::Table;
use super::sites::{Origin, SiteId};
use super::sums::{Sums, Weight};
use crate::base::random::GOLDEN;
use crate::base::zeroed::Zeroed;
use crate::sys::lock::Lock;

const SHARDS: usize = 32;
const SLOTS_MIN: usize = 4;

/// A sampled block that is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) weight: Weight,
    pub(super) requested_bytes: u64,
    pub(super) block_bytes: u64,
    pub(super) site: SiteId,
    pub(super) origin: Origin,
    pub(super) born_ns: u64,
    /// By how much less than at its most the block is asked for: room that the others leave.
    pub(super) shrunk_bytes: u32,
}

impl Sample {
    pub(super) fn sums(&self) -> Sums {
        self.sums_of(self.requested_bytes)
    }

    /// The sums with the most that the block was ever asked for. Beyond 4 GiB, which no size class
    /// has, that counts as less than it was.
    pub(super) fn sums_at_most(&self) -> Sums {
        self.sums_of(self.requested_bytes.saturating_add(self.shrunk_bytes.into()))
    }

    fn sums_of(&self, requested_bytes: u64) -> Sums {
        Sums::of(self.weight, requested_bytes, self.block_bytes).born(self.born_ns)
    }

    /// The same block, asked for as so many bytes.
    pub(super) fn resized(self, requested_bytes: u64) -> Self {
        let most = self.requested_bytes.saturating_add(self.shrunk_bytes.into());
        let shrunk_bytes = most.saturating_sub(requested_bytes).try_into().unwrap_or(u32::MAX);
        Self { requested_bytes, shrunk_bytes, ..self }
    }
}

/// The table.
pub(super) struct Live {
    shards: [Lock<Shard>; SHARDS],
}

#[derive(Clone, Copy)]
struct Entry {
    address: usize,
    sample: Sample,
}

// SAFETY: integers and newtypes of integers.
unsafe impl Zeroed for Entry {}

// A line of the cache holds one, and what is kept of a block is what the documentation says.
const _: () = assert!(size_of::<Entry>() == 56);

struct Shard {
    slots: Table<Entry>,
    used: usize,
    /// Of which samples are taken: see [`recorder`](super::recorder).
    generation: u32,
}

/// What [`Live::insert`] did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    New,
    /// The address was there: its free went unnoticed, and this was its sample.
    Replaced(Sample),
    /// No memory for another entry.
    Refused,
    /// The table was reset since the sample began.
    Outlived,
}

impl Live {
    pub(super) const fn new() -> Self {
        Self {
            shards: [const { Lock::new(Shard { slots: Table::new(), used: 0, generation: 0 }) };
                SHARDS],
        }
    }

    fn shard(&self, address: usize) -> (&Lock<Shard>, usize) {
        let hash = hash(address);
        (&self.shards[hash >> 59], hash)
    }

    /// Remembers the sampled block at `address`.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn insert(&self, address: usize, sample: Sample) -> Inserted {
        let (shard, hash) = self.shard(address);
        let mut shard = shard.lock();
        if shard.generation != sample.site.generation {
            return Inserted::Outlived;
        }
        if (shard.used + 1) * 4 > shard.slots.len() * 3 && shard.grow().is_none() {
            return Inserted::Refused;
        }
        let slot = shard.probe(hash, address);
        let before = shard.slots[slot];
        shard.slots[slot] = Entry { address, sample };
        if before.address == 0 {
            shard.used += 1;
            Inserted::New
        } else {
            Inserted::Replaced(before.sample)
        }
    }

    /// Forgets the block at `address`; `None` if it was not there.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn remove(&self, address: usize) -> Option<Sample> {
        let (shard, hash) = self.shard(address);
        shard.lock().remove(hash, address)
    }

    /// Whether the block at `address` is remembered.
    pub(super) fn contains(&self, address: usize) -> bool {
        let (shard, hash) = self.shard(address);
        shard.lock().find(hash, address).is_some()
    }

    /// Sets the size asked for of the block at `address`; returns its sample as
    /// it was and as it is.
    pub(super) fn resize(&self, address: usize, requested_bytes: u64) -> Option<(Sample, Sample)> {
        let (shard, hash) = self.shard(address);
        let mut shard = shard.lock();
        let slot = shard.find(hash, address)?;
        let sample = &mut shard.slots[slot].sample;
        let before = *sample;
        *sample = before.resized(requested_bytes);
        Some((before, *sample))
    }

    /// Forgets every block and gives the memory back.
    pub(super) fn reset(&self, generation: u32) {
        for shard in &self.shards {
            *shard.lock() = Shard { slots: Table::new(), used: 0, generation };
        }
    }

    pub(super) fn locks(&self) -> impl Iterator<Item = &Lock<impl Sized>> {
        self.shards.iter()
    }
}

impl Shard {
    /// The slot of `address`, or the empty one where it would go. There is one:
    /// the caller has seen that the table has slots (invariant 1).
    fn probe(&self, hash: usize, address: usize) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash & mask;
        while self.slots[slot].address != 0 && self.slots[slot].address != address {
            slot = (slot + 1) & mask;
        }
        slot
    }

    #[unsafe(link_section = ".spanalloc.sample")]
    fn find(&self, hash: usize, address: usize) -> Option<usize> {
        if self.used == 0 {
            return None;
        }
        let slot = self.probe(hash, address);
        (self.slots[slot].address == address).then_some(slot)
    }

    #[unsafe(link_section = ".spanalloc.sample")]
    fn remove(&mut self, hash: usize, address: usize) -> Option<Sample> {
        let mut hole = self.find(hash, address)?;
        let sample = self.slots[hole].sample;
        let mask = self.slots.len() - 1;
        let mut next = (hole + 1) & mask;
        while self.slots[next].address != 0 {
            let home = self::hash(self.slots[next].address) & mask;
            // May move back only if the hole is not before its home (invariant 2).
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[hole].address = 0;
        self.used -= 1;
        Some(sample)
    }

    #[unsafe(link_section = ".spanalloc.sample")]
    fn grow(&mut self) -> Option<()> {
        let slots = Table::zeroed((self.slots.len() * 2).max(SLOTS_MIN))?;
        let old = core::mem::replace(&mut self.slots, slots);
        for entry in old.iter().filter(|entry| entry.address != 0) {
            let slot = self.probe(hash(entry.address), entry.address);
            self.slots[slot] = *entry;
        }
        Some(())
    }
}

/// The top bits choose the shard, the low ones the slot.
fn hash(address: usize) -> usize {
    let mixed = (address >> 3).wrapping_mul(GOLDEN as usize);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn sample(n: u64) -> Sample {
        Sample {
            weight: Weight::new(8, 1),
            requested_bytes: n,
            block_bytes: n + 1,
            site: SiteId { at: n as u32, generation: 0 },
            origin: Origin::NONE,
            born_ns: n,
            shrunk_bytes: 0,
        }
    }

    #[test]
    fn agrees_with_a_map_under_random_insertions_and_removals() {
        let live = Live::new();
        let mut model = HashMap::new();
        let mut state = 1_u64;
        for step in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let address = (state >> 33) as usize % 5000 * 16 + 16;
            match state >> 61 {
                0..=3 => {
                    let inserted = live.insert(address, sample(step));
                    let expected = match model.insert(address, sample(step)) {
                        None => Inserted::New,
                        Some(before) => Inserted::Replaced(before),
                    };
                    assert_eq!(inserted, expected);
                }
                4..=6 => assert_eq!(live.remove(address), model.remove(&address)),
                _ => {
                    let before = model.get(&address).copied();
                    if let Some(sample) = model.get_mut(&address) {
                        *sample = sample.resized(step);
                    }
                    let after = model.get(&address).copied();
                    assert_eq!(live.resize(address, step), before.zip(after));
                }
            }
        }
        for (address, sample) in model {
            assert_eq!(live.remove(address), Some(sample));
        }
        assert!(live.shards.iter().all(|shard| shard.lock().used == 0));
    }
}
