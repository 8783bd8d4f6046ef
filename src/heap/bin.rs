//! One class of a thread heap: its spans, its second list, its books.
//!
//! The cache's list of the class is the *loaded* one; behind it the bin keeps a
//! *previous* one (the two magazines of Bonwick and Adams, *Magazines and Vmem*,
//! 2001). When the loaded list is full it becomes the previous one, and what that
//! held goes home to its spans; when it is empty the previous one is taken first.
//! A thread that frees as much as it allocates never leaves the two. Behind them is the
//! [`depot`](super::depot), to which some of the full lists go instead.
//!
//! A thread that only frees gains nothing from lists, and whatever it leaves on
//! them when it goes idle keeps spans from being empty. So after two full lists that
//! went home without a refill the bin *drains*: both lists go home, and so does every further
//! block, one by one, until the class is allocated again, and more than now and then: as long as
//! [`FREES_PER_ALLOC`] are freed for each that is allocated between two refills.
//!
//! # Invariants
//!
//! 1. The loaded list has `length − (granted − left) + (roomed − room)` blocks.
//! 2. `allocs + granted − left` blocks were allocated and `frees + roomed − room +
//!    drained` freed by this thread: exact whenever it is between two calls.
//! 3. While draining the previous list is empty and nothing may be pushed on the loaded one.
//! 4. No list has more than [`long`] and twice [`list_max`] blocks.
//! 5. `current`, the lists of spans, `kept` and `remote` are written under the depot's lock
//!    (invariant 4 of [`thread`](super::thread)), all other words by the thread that owns the heap.

use core::ptr;

use super::cache::{Drain, List};
use super::chain::{Block, Chain};
use super::class::{ClassId, PerClass};
use super::list::SpanList;
use super::span::Hot;
use crate::base::own::{OwnPtr, OwnU8, OwnU32, OwnU64};

/// A bin.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Bin {
    pub(crate) current: OwnPtr<Hot>,
    pub(crate) partial: SpanList,
    pub(crate) full: SpanList,
    previous: OwnPtr<Block>,
    pub(crate) previous_blocks: OwnU32,
    /// Blocks of the class in the depot. Written under its lock.
    pub(crate) kept: OwnU32,
    length: OwnU32,
    granted: OwnU32,
    roomed: OwnU32,
    /// What was allocated and freed before the last refill, in their low bits.
    allocs_before: OwnU32,
    frees_before: OwnU32,
    /// Full lists sent home since the last refill.
    flushes: OwnU8,
    /// When the allowance is used up, the next block is sampled.
    pub(crate) due: OwnU8,
    allocs: OwnU64,
    frees: OwnU64,
    /// Times the spans were asked for blocks.
    pub(crate) refills: OwnU64,
    /// Blocks carved for this bin so far.
    pub(crate) carved: OwnU64,
    /// Blocks that came home from other threads.
    pub(crate) remote: OwnU64,
}

/// What the books of a bin say.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) allocs: u64,
    pub(crate) frees: u64,
    /// Free blocks on the two lists and in the depot.
    pub(crate) listed: u64,
}

/// So many full lists sent home in a row: the thread only frees.
pub(crate) const FLUSHES_MAX: u8 = 2;
/// So many frees for each allocation: the thread as good as only frees.
const FREES_PER_ALLOC: u32 = 2;
const LIST_BYTES: usize = 32 * 1024;
pub(super) const LIST_BLOCKS_MAX: usize = 256;
const LIST_BLOCKS_MIN: usize = 8;
const GRANT_BYTES: usize = 64 * 1024;
const GRANT_BLOCKS_MIN: usize = 16;
const GRANT_BLOCKS_MAX: usize = 1024;

static LIST_MAX: PerClass = PerClass::of_bytes(LIST_BYTES, LIST_BLOCKS_MIN, LIST_BLOCKS_MAX);
static GRANT_MAX: PerClass = PerClass::of_bytes(GRANT_BYTES, GRANT_BLOCKS_MIN, GRANT_BLOCKS_MAX);

/// How long a list of `class` gets by frees.
#[inline]
pub(crate) fn list_max(class: ClassId) -> u32 {
    LIST_MAX.of(class)
}

/// What is longer than this goes home when it is full, also if no other list waits behind it: as
/// many blocks as the spans hand out at once, and as many again, so that at most two are walked
/// over for each that was freed, and a list by frees.
#[inline]
pub(crate) fn long(class: ClassId) -> u32 {
    2 * class.capacity() + list_max(class)
}

/// How long a list of `class` gets at most: what is loaded is no longer than [`long`] and a list
/// by frees, and gets room for another one.
#[cfg(any(test, fuzzing))]
pub(crate) fn list_most(class: ClassId) -> u32 {
    long(class) + 2 * list_max(class)
}

/// How many blocks of `class` are allocated before the slow path is asked again:
/// how soon the sampler notices that it was switched on.
#[inline]
pub(crate) fn grant_max(class: ClassId) -> u32 {
    GRANT_MAX.of(class)
}

impl Bin {
    pub(crate) const fn new() -> Self {
        Self {
            current: OwnPtr::new(ptr::null_mut()),
            partial: SpanList::new(),
            full: SpanList::new(),
            previous: OwnPtr::new(ptr::null_mut()),
            previous_blocks: OwnU32::new(0),
            kept: OwnU32::new(0),
            length: OwnU32::new(0),
            granted: OwnU32::new(0),
            roomed: OwnU32::new(0),
            allocs_before: OwnU32::new(0),
            frees_before: OwnU32::new(0),
            flushes: OwnU8::new(0),
            due: OwnU8::new(0),
            allocs: OwnU64::new(0),
            frees: OwnU64::new(0),
            refills: OwnU64::new(0),
            carved: OwnU64::new(0),
            remote: OwnU64::new(0),
        }
    }

    /// What is true now, without changing anything; for snapshots, from any thread.
    pub(crate) fn tally(&self, words: Option<(&List, &Drain)>) -> Tally {
        let (granted, roomed) = (self.granted.get(), self.roomed.get());
        let (mut popped, mut pushed, mut drained) = (0, 0, 0);
        if let Some((list, drain)) = words {
            // Saturating: the owner may be between two of its stores.
            popped = granted.saturating_sub(list.left.get());
            pushed = roomed.saturating_sub(list.room.get());
            drained = drain.frees.get();
        }
        Tally {
            allocs: self.allocs.get() + u64::from(popped),
            frees: self.frees.get() + u64::from(pushed) + u64::from(drained),
            listed: u64::from(
                (self.length.get() + pushed).saturating_sub(popped)
                    + self.previous_blocks.get()
                    + self.kept.get(),
            ),
        }
    }

    /// Dies if an invariant does not hold. The bin's thread does nothing meanwhile.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn check(&self, class: ClassId, list: &List) {
        let count = |mut block: *mut Block, blocks_max| {
            let mut blocks = 0;
            while !block.is_null() && blocks <= blocks_max {
                blocks += 1;
                // SAFETY: a free block on a list is linked.
                block = unsafe { (*block).next };
            }
            blocks
        };
        let popped = self.granted.get() - list.left.get();
        let pushed = self.roomed.get() - list.room.get();
        let length = self.length.get() + pushed - popped;
        assert_eq!(count(list.head.get(), length), length, "invariant 1");
        let previous = self.previous_blocks.get();
        let most = list_most(class);
        assert!(length <= most && previous <= most, "invariant 4: {length} and {previous}");
        if previous > 0 {
            assert!(count(self.previous.get(), previous) >= previous);
        }
        if self.flushes() >= FLUSHES_MAX {
            assert_eq!((previous, list.room.get()), (0, 0), "invariant 3");
        }
    }

    /// Whether nothing of the class is on the thread's lists or in its depot, and nothing
    /// was popped or pushed that is not in the books.
    #[inline]
    pub(crate) fn is_idle(&self, drain: &Drain) -> bool {
        let words = [&self.granted, &self.roomed, &self.length, &self.previous_blocks, &self.kept];
        words.iter().fold(drain.frees.get(), |any, word| any | word.get()) == 0
    }

    /// Enters what was popped and pushed into the books; the list's length.
    #[inline]
    pub(crate) fn settle(&self, list: &List, drain: &Drain) -> u32 {
        let (left, room) = (list.left.get(), list.room.get());
        let popped = self.granted.get().wrapping_sub(left);
        let pushed = self.roomed.get().wrapping_sub(room);
        self.granted.set(left);
        self.roomed.set(room);
        self.allocs.add(popped.into());
        self.frees.add(u64::from(pushed) + u64::from(drain.frees.get()));
        drain.frees.set(0);
        let length = self.length.get().wrapping_add(pushed).wrapping_sub(popped);
        self.length.set(length);
        length
    }

    /// The thread is gone, maybe between two of its stores: its books end with what is seen of
    /// them, and what its lists had stays counted.
    pub(crate) fn forget(&self, list: &List, drain: &Drain) {
        let tally = self.tally(Some((list, drain)));
        self.allocs.set(tally.allocs);
        self.frees.set(tally.frees);
        let behind = self.previous_blocks.get() + self.kept.get();
        self.length.set((tally.listed as u32).saturating_sub(behind));
        self.granted.set(0);
        self.roomed.set(0);
        self.due.set(0);
        self.flushes.set(0);
    }

    /// Empties the lists of a thread that is gone; how many blocks were on them.
    pub(crate) fn lose_lists(&self) -> u32 {
        let lost = self.length.get() + self.previous_blocks.get();
        self.length.set(0);
        self.previous_blocks.set(0);
        lost
    }

    /// Grants `left` pops. The books are settled.
    #[inline]
    pub(crate) fn grant(&self, list: &List, left: u32) {
        self.granted.set(left);
        list.left.set(left);
    }

    /// Grants `room` pushes. The books are settled.
    #[inline]
    pub(crate) fn make_room(&self, list: &List, room: u32) {
        self.roomed.set(room);
        list.room.set(room);
    }

    /// Makes `chain` the loaded list. The books are settled and the list is empty
    /// or has been taken.
    #[inline]
    pub(crate) fn load(&self, list: &List, chain: Chain) {
        list.head.set(chain.head);
        self.length.set(chain.blocks);
    }

    /// Takes the loaded list; pops are granted no more. The books are settled.
    ///
    /// What was granted and not used is dropped with the mark that may lie behind
    /// it: dropping one without the other would favour sampled blocks.
    pub(crate) fn unload(&self, list: &List) -> Chain {
        let chain = Chain { head: list.head.get(), blocks: self.length.get() };
        self.grant(list, 0);
        self.due.set(0);
        self.load(list, Chain::EMPTY);
        chain
    }

    /// Takes both allowances back, with the mark that may lie behind one of them
    /// (see [`unload`](Self::unload)), and ends draining. The books are settled.
    pub(crate) fn stop(&self, list: &List) {
        self.grant(list, 0);
        self.due.set(0);
        self.make_room(list, 0);
        self.flushes.set(0);
    }

    /// Heads and lengths of the two lists, for the bin's thread to look at.
    pub(crate) fn lists(&self, list: &List) -> [(*mut Block, u32); 2] {
        let popped = self.granted.get().wrapping_sub(list.left.get());
        let pushed = self.roomed.get().wrapping_sub(list.room.get());
        let loaded = self.length.get().wrapping_add(pushed).wrapping_sub(popped);
        [(list.head.get(), loaded), (self.previous.get(), self.previous_blocks.get())]
    }

    pub(crate) fn take_previous(&self) -> Chain {
        let chain = Chain { head: self.previous.get(), blocks: self.previous_blocks.get() };
        self.previous_blocks.set(0);
        chain
    }

    pub(crate) fn set_previous(&self, chain: Chain) {
        self.previous.set(chain.head);
        self.previous_blocks.set(chain.blocks);
    }

    /// A free that went home at once.
    #[inline]
    pub(crate) fn count_free(&self) {
        self.frees.add(1);
    }

    /// Full lists sent home since the last refill.
    #[inline]
    pub(crate) fn flushes(&self) -> u8 {
        self.flushes.get()
    }

    /// A full list was sent home.
    pub(crate) fn count_flush(&self) {
        self.flushes.add(1);
    }

    /// Marks that the spans are asked for blocks. Whether mostly frees came since the last time:
    /// then a class that drains goes on. The books are settled.
    #[inline]
    pub(crate) fn mark_refill(&self) -> bool {
        let (allocs, frees) = (self.allocs.get() as u32, self.frees.get() as u32);
        let allocated = allocs.wrapping_sub(self.allocs_before.get());
        let freed = frees.wrapping_sub(self.frees_before.get());
        self.allocs_before.set(allocs);
        self.frees_before.set(frees);
        freed / FREES_PER_ALLOC > allocated
    }

    /// The class is allocated as much as it is freed.
    #[inline]
    pub(crate) fn forget_flushes(&self) {
        self.flushes.set(0);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::heap::cache::Cache;

    #[test]
    fn a_mark_goes_with_the_allowance_that_it_lies_behind() {
        let (bin, cache) = (Bin::new(), Cache::new());
        let list = cache.list(ClassId::from_header(3));
        let drop_allowance: [&dyn Fn(); 2] = [&|| _ = bin.unload(list), &|| bin.stop(list)];
        for drop_allowance in drop_allowance {
            bin.grant(list, 5);
            bin.due.set(1);
            drop_allowance();
            assert_eq!((bin.due.get(), list.left.get()), (0, 0));
        }
    }
}
