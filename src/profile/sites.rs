//! The site table: each distinct stack once, with its sums.
//!
//! A *site* is a stack of return addresses, leaf first. Sites are never removed,
//! so a [`SiteId`] is good for ever. The table is cut into shards by the hash of
//! the stack; each shard has a lock, held for one probe and a few additions.
//!
//! Invariants, per shard
//! 1. `index` has a power of two of slots, 0 (empty) or 1 + a position in
//!    `sites`, at most three quarters of them used; linear probing from the hash.
//! 2. A site's frames are `frames[first..first + count]`.
//! 3. `alloc - live` is what was freed: what is live was allocated.

use super::memory::{Table, Zeroed};
use super::sums::Sums;
use crate::sys::lock::Lock;

const SHARDS: usize = 16;
const SLOTS_MIN: usize = 256;

/// Names a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SiteId(pub(super) u32);

/// The table.
pub(super) struct Sites {
    shards: [Lock<Shard>; SHARDS],
}

#[derive(Clone, Copy)]
struct Site {
    hash: u64,
    first: usize,
    count: usize,
    alloc: Sums,
    live: Sums,
}

// SAFETY: integers.
unsafe impl Zeroed for Site {}

struct Shard {
    index: Table<u32>,
    sites: Table<Site>,
    frames: Table<u64>,
}

impl Sites {
    pub(super) const fn new() -> Self {
        Self { shards: [const { Lock::new(Shard::new()) }; SHARDS] }
    }

    /// Counts one allocation at the stack `frames`; `None` if the table cannot
    /// take a new site.
    pub(super) fn allocated(&self, frames: &[u64], sample: &Sums) -> Option<SiteId> {
        let hash = hash(frames);
        let shard_at = hash as usize % SHARDS;
        let mut shard = self.shards[shard_at].lock();
        let at = shard.find_or_insert(hash, frames)?;
        let site = &mut shard.sites[at];
        site.alloc.add(sample);
        site.live.add(sample);
        u32::try_from(at * SHARDS + shard_at).ok().map(SiteId)
    }

    /// Takes an object off what is live at `id`.
    pub(super) fn freed(&self, id: SiteId, sample: &Sums) {
        self.with_live(id, |live| live.subtract(sample));
    }

    /// Replaces a live object's sums after it changed size in place.
    pub(super) fn resized(&self, id: SiteId, before: &Sums, after: &Sums) {
        self.with_live(id, |live| {
            live.subtract(before);
            live.add(after);
        });
    }

    fn with_live(&self, id: SiteId, change: impl FnOnce(&mut Sums)) {
        let at = id.0 as usize;
        let mut shard = self.shards[at % SHARDS].lock();
        if let Some(site) = shard.sites.get_mut(at / SHARDS) {
            change(&mut site.live);
        }
    }

    /// Calls `visit(frames, alloc, live)` with each site. The shard's lock is
    /// held meanwhile, so `visit` must neither allocate nor wait.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&[u64], &Sums, &Sums)) {
        for shard in &self.shards {
            let shard = shard.lock();
            for site in shard.sites.iter() {
                let frames = &shard.frames[site.first..site.first + site.count];
                visit(frames, &site.alloc, &site.live);
            }
        }
    }

    /// How many sites and frames there are now.
    pub(super) fn size(&self) -> (usize, usize) {
        let sizes = self.shards.iter().map(|shard| {
            let shard = shard.lock();
            (shard.sites.len(), shard.frames.len())
        });
        sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    pub(super) fn locks(&self) -> impl Iterator<Item = &Lock<impl Sized>> {
        self.shards.iter()
    }
}

impl Shard {
    const fn new() -> Self {
        Self { index: Table::new(), sites: Table::new(), frames: Table::new() }
    }

    fn find_or_insert(&mut self, hash: u64, frames: &[u64]) -> Option<usize> {
        if (self.sites.len() + 1) * 4 > self.index.len() * 3 {
            self.grow_index()?;
        }
        let mask = self.index.len() - 1;
        // The low bits chose the shard.
        let mut slot = (hash >> 32) as usize & mask;
        while let Some(at) = (self.index[slot] as usize).checked_sub(1) {
            let site = self.sites[at];
            if site.hash == hash && self.frames[site.first..site.first + site.count] == *frames {
                return Some(at);
            }
            slot = (slot + 1) & mask;
        }
        let (first, count) = (self.frames.len(), frames.len());
        let (alloc, live) = (Sums::default(), Sums::default());
        // A failure between the two leaves frames that no site names: harmless.
        let stored =
            self.frames.extend(frames) && self.sites.push(Site { hash, first, count, alloc, live });
        stored.then(|| {
            self.index[slot] = self.sites.len() as u32;
            self.sites.len() - 1
        })
    }

    fn grow_index(&mut self) -> Option<()> {
        let mut index = Table::<u32>::zeroed((self.index.len() * 2).max(SLOTS_MIN))?;
        let mask = index.len() - 1;
        for (at, site) in self.sites.iter().enumerate() {
            let mut slot = (site.hash >> 32) as usize & mask;
            while index[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            index[slot] = at as u32 + 1;
        }
        self.index = index;
        Some(())
    }
}

/// Mixes addresses by multiplication and rotation; the last step spreads the
/// entropy over all bits.
fn hash(frames: &[u64]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = frames.iter().fold(frames.len() as u64, |hash, frame| {
        (hash ^ frame).wrapping_mul(MULTIPLIER).rotate_left(29)
    });
    (mixed ^ (mixed >> 31)).wrapping_mul(MULTIPLIER)
}

#[cfg(test)]
mod tests {
    use super::super::sums::Weight;
    use super::*;

    #[test]
    fn a_stack_is_one_site_and_another_is_another() {
        let sites = Sites::new();
        let sample = Sums::of(Weight::new(8, 1), 5, 8);
        let ids: Vec<_> =
            (0..5000_u64).map(|n| sites.allocated(&[n, n * 7, 3], &sample).unwrap()).collect();
        for (n, id) in ids.iter().enumerate().step_by(7) {
            let n = n as u64;
            assert_eq!(sites.allocated(&[n, n * 7, 3], &sample), Some(*id));
            sites.freed(*id, &sample);
        }
        assert_eq!(sites.size(), (5000, 15_000));
        let (mut alloc, mut live) = (Sums::default(), Sums::default());
        sites.for_each(|_, site_alloc, site_live| {
            alloc.add(site_alloc);
            live.add(site_live);
        });
        let again = 5000_u64.div_ceil(7);
        assert_eq!(alloc.objects(), 5000 + again);
        assert_eq!(live.objects(), 5000);
        assert_eq!(live.requested_bytes(), 25_000);
    }

    #[test]
    fn a_resize_moves_the_live_bytes_only() {
        let sites = Sites::new();
        let weight = Weight::new(8, 1);
        let (before, after) = (Sums::of(weight, 5, 8), Sums::of(weight, 7, 8));
        let id = sites.allocated(&[1], &before).unwrap();
        sites.resized(id, &before, &after);
        sites.for_each(|_, alloc, live| {
            assert_eq!((alloc.requested_bytes(), live.requested_bytes()), (5, 7));
        });
        sites.freed(id, &after);
        sites.for_each(|_, _, live| assert_eq!(*live, Sums::default()));
    }
}
