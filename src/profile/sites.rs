//! The site table: each distinct stack once per thread name and span, with its sums.
//!
//! A *site* is a stack of return addresses, leaf first, and its *origin*: the name of
//! the thread and the span that it was seen in. Sites are removed only all at once, by
//! [`Sites::reset`]. The table is cut into shards by the hash of
//! the stack; each shard has a lock, held for one probe and a few additions.
//!
//! # Invariants
//!
//! Of each shard:
//!
//! 1. `index` has a power of two of slots, 0 (empty) or 1 + a position in
//!    `sites`, at most three quarters of them used; linear probing from the hash.
//! 2. A site's frames are `frames[first..first + count]`.
//! 3. `alloc - live` is what was freed: what is live was allocated.
//! 4. A [`SiteId`] names a site as long as its generation is the shard's.

use super::labels::Label;
use super::lifetimes::Lifetimes;
use super::live::Sample;
use super::memory::Table;
use super::peak::Moment;
use super::sums::{Sums, Weight};
use crate::base::random::GOLDEN;
use crate::base::zeroed::Zeroed;
use crate::sys::lock::Lock;

const SHARDS: usize = 16;
const SLOTS_MIN: usize = 16;

/// Names a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SiteId {
    pub(super) at: u32,
    pub(super) generation: u32,
}

/// The name of the thread that allocated, and the span that it was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) thread: Label,
    pub(super) span: Label,
}

impl Origin {
    pub(super) const NONE: Self = Self { thread: Label::NONE, span: Label::NONE };
}

/// The table.
pub(super) struct Sites {
    shards: [Lock<Shard>; SHARDS],
}

#[derive(Clone, Copy)]
struct Site {
    hash: u64,
    origin: Origin,
    first: usize,
    count: usize,
    /// The last era whose peak was put aside.
    era: u64,
    figures: Figures,
}

/// What is known of a site.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Figures {
    pub(super) alloc: Sums,
    pub(super) live: Sums,
    /// What was live at the highest point; put aside at the first change after it.
    pub(super) peak: Sums,
    pub(super) lifetimes: Lifetimes,
}

// SAFETY: integers.
unsafe impl Zeroed for Site {}

/// Why an allocation was not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    OutOfMemory,
    /// The table was reset since the sample began.
    Outlived,
}

struct Shard {
    index: Table<u32>,
    sites: Table<Site>,
    frames: Table<u64>,
    generation: u32,
}

impl Site {
    /// Puts aside what is live if it is so since the peak that was left.
    fn leave(&mut self, moment: Moment) {
        if self.era < moment.era {
            self.era = moment.era;
            self.figures.peak = self.figures.live;
        }
    }
}

impl Sites {
    pub(super) const fn new() -> Self {
        Self { shards: [const { Lock::new(Shard::new()) }; SHARDS] }
    }

    /// Counts one allocation of `origin` at the stack `frames`.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn allocated(
        &self,
        frames: &[u64],
        origin: Origin,
        sample: &Sums,
        moment: Moment,
        generation: u32,
    ) -> Result<SiteId, Refusal> {
        let hash = hash(frames, origin);
        let shard_at = hash as usize % SHARDS;
        let mut shard = self.shards[shard_at].lock();
        if shard.generation != generation {
            return Err(Refusal::Outlived);
        }
        let at = shard.find_or_insert(hash, frames, origin).ok_or(Refusal::OutOfMemory)?;
        let id = u32::try_from(at * SHARDS + shard_at).map_err(|_| Refusal::OutOfMemory)?;
        let site = &mut shard.sites[at];
        site.leave(moment);
        site.figures.alloc.add(sample);
        site.figures.live.add(sample);
        Ok(SiteId { at: id, generation })
    }

    /// Takes an object off what is live at `id`; `lived` is its weight and how many
    /// nanoseconds it lived, if that is known.
    pub(super) fn freed(
        &self,
        id: SiteId,
        sample: &Sums,
        lived: Option<(Weight, u64)>,
        moment: Moment,
    ) {
        self.with(id, moment, |figures| {
            figures.live.subtract(sample);
            if let Some((weight, lived_ns)) = lived {
                figures.lifetimes.add(weight, lived_ns);
            }
        });
    }

    /// Replaces a live object's sums after it changed size in place; what it grew by was allocated,
    /// once.
    pub(super) fn resized(&self, before: &Sample, after: &Sample, moment: Moment) {
        self.with(before.site, moment, |figures| {
            figures.live.subtract(&before.sums());
            figures.live.add(&after.sums());
            figures.alloc.grow(&before.sums_at_most(), &after.sums_at_most());
        });
    }

    #[unsafe(link_section = ".spanalloc.sample")]
    fn with(&self, id: SiteId, moment: Moment, change: impl FnOnce(&mut Figures)) {
        let at = id.at as usize;
        let mut shard = self.shards[at % SHARDS].lock();
        if shard.generation == id.generation
            && let Some(site) = shard.sites.get_mut(at / SHARDS)
        {
            site.leave(moment);
            change(&mut site.figures);
        }
    }

    /// Calls `visit` with each site, its peak being the last one before `moment`.
    /// The shard's lock is held meanwhile, so `visit` must neither allocate nor wait.
    pub(super) fn for_each(&self, moment: Moment, mut visit: impl FnMut(&[u64], Origin, &Figures)) {
        for shard in &self.shards {
            let shard = shard.lock();
            for site in shard.sites.iter() {
                let frames = &shard.frames[site.first..site.first + site.count];
                let mut figures = site.figures;
                if !moment.falling || site.era < moment.era {
                    figures.peak = figures.live;
                }
                visit(frames, site.origin, &figures);
            }
        }
    }

    /// Removes every site and gives the memory back.
    pub(super) fn reset(&self, generation: u32) {
        for shard in &self.shards {
            *shard.lock() = Shard { generation, ..Shard::new() };
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
        Self { index: Table::new(), sites: Table::new(), frames: Table::new(), generation: 0 }
    }

    #[unsafe(link_section = ".spanalloc.sample")]
    fn find_or_insert(&mut self, hash: u64, frames: &[u64], origin: Origin) -> Option<usize> {
        if (self.sites.len() + 1) * 4 > self.index.len() * 3 {
            self.grow_index()?;
        }
        let mask = self.index.len() - 1;
        // The low bits chose the shard.
        let mut slot = (hash >> 32) as usize & mask;
        while let Some(at) = (self.index[slot] as usize).checked_sub(1) {
            let site = self.sites[at];
            let same = || self.frames[site.first..site.first + site.count] == *frames;
            if site.hash == hash && site.origin == origin && same() {
                return Some(at);
            }
            slot = (slot + 1) & mask;
        }
        let (first, count) = (self.frames.len(), frames.len());
        let (era, figures) = (0, Figures::default());
        // A failure between the two leaves frames that no site names: harmless.
        let stored = self.frames.extend(frames)
            && self.sites.push(Site { hash, origin, first, count, era, figures });
        stored.then(|| {
            self.index[slot] = self.sites.len() as u32;
            self.sites.len() - 1
        })
    }

    #[unsafe(link_section = ".spanalloc.sample")]
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
fn hash(frames: &[u64], origin: Origin) -> u64 {
    let labels = u64::from(origin.thread.number()) << 16 | u64::from(origin.span.number());
    let seed = (labels << 32) ^ frames.len() as u64;
    let mixed =
        frames.iter().fold(seed, |hash, frame| (hash ^ frame).wrapping_mul(GOLDEN).rotate_left(29));
    (mixed ^ (mixed >> 31)).wrapping_mul(GOLDEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::FIRST;

    #[test]
    fn a_stack_is_one_site_and_another_is_another() {
        let sites = Sites::new();
        let sample = Sums::of(Weight::new(8, 1), 5, 8);
        let insert = |n: u64| sites.allocated(&[n, n * 7, 3], Origin::NONE, &sample, NOW, 0);
        let ids: Vec<_> = (0..5000_u64).map(|n| insert(n).unwrap()).collect();
        for (n, id) in ids.iter().enumerate().step_by(7) {
            assert_eq!(insert(n as u64), Ok(*id));
            sites.freed(*id, &sample, None, NOW);
        }
        assert_eq!(sites.size(), (5000, 15_000));
        let (mut alloc, mut live) = (Sums::default(), Sums::default());
        sites.for_each(NOW, |_, _, figures| {
            alloc.add(&figures.alloc);
            live.add(&figures.live);
        });
        let again = 5000_u64.div_ceil(7);
        assert_eq!(alloc.objects(), 5000 + again);
        assert_eq!(live.objects(), 5000);
        assert_eq!(live.requested_bytes(), 25_000);
    }

    #[test]
    fn a_resize_moves_the_live_bytes_and_growth_is_allocated() {
        let sites = Sites::new();
        let weight = Weight::new(8, 1);
        let site = sites.allocated(&[1], Origin::NONE, &Sums::of(weight, 5, 8), NOW, 0).unwrap();
        let (origin, requested_bytes, block_bytes) = (Origin::NONE, 5, 8);
        let (born_ns, shrunk_bytes) = (0, 0);
        let before =
            Sample { weight, requested_bytes, block_bytes, site, origin, born_ns, shrunk_bytes };
        let after = before.resized(7);
        sites.resized(&before, &after, NOW);
        sites.for_each(NOW, |_, _, figures| {
            let bytes = (figures.alloc.requested_bytes(), figures.live.requested_bytes());
            assert_eq!(bytes, (7, 7));
        });
        let less = after.resized(6);
        sites.resized(&after, &less, NOW);
        sites.for_each(NOW, |_, _, figures| {
            let bytes = (figures.alloc.requested_bytes(), figures.live.requested_bytes());
            assert_eq!((bytes, figures.alloc.objects()), ((7, 6), 1));
        });
        sites.freed(site, &less.sums(), Some((weight, 10)), NOW);
        sites.for_each(NOW, |_, _, figures| {
            assert_eq!(figures.live, Sums::default());
            assert_eq!(figures.lifetimes.objects(), [1]);
        });
    }

    #[test]
    fn a_reset_forgets_sites_and_what_names_them() {
        let sites = Sites::new();
        let sample = Sums::of(Weight::new(8, 1), 5, 8);
        let old = sites.allocated(&[1], Origin::NONE, &sample, NOW, 0).unwrap();
        sites.reset(1);
        assert_eq!(sites.size(), (0, 0));
        let new = sites.allocated(&[1], Origin::NONE, &sample, NOW, 1).unwrap();
        sites.freed(old, &sample, None, NOW);
        sites.for_each(NOW, |_, _, figures| assert_eq!(figures.live.objects(), 1));
        assert_ne!(old, new);
    }
}
