//! What a map writes down about itself: counters always, events on request.
//!
//! # Invariants
//!
//! 1. Every new entry is either removed or still there, so how many there were is
//!    `removed + len` and need not be counted.

use std::collections::VecDeque;

use super::array::Origin;
use super::heat::Heat;
use super::tops::{EMPTY_ONE, EMPTY_REST};
use crate::base::limits;

/// Which part of this project's allocator a block of a given size comes from, where
/// that is the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// Small enough for a size class, which the thread's own cache serves.
    ThreadCache,
    /// A span of its own, of slots out of the page heap.
    PageHeap,
    /// A mapping of its own.
    Large,
}

impl Tier {
    /// The largest block of the thread cache, in bytes.
    pub const THREAD_CACHE_MAX_BYTES: usize = limits::SMALL_BYTES_MAX;
    /// The largest block of the page heap, in bytes.
    pub const PAGE_HEAP_MAX_BYTES: usize = limits::SPAN_BYTES_MAX;

    /// The tier that serves a block of `bytes`.
    ///
    /// ```
    /// use spanalloc::map::Tier;
    ///
    /// assert_eq!(Tier::of(32 << 10), Tier::ThreadCache);
    /// assert_eq!(Tier::of((32 << 10) + 1), Tier::PageHeap);
    /// assert_eq!(Tier::of(17 << 20), Tier::Large);
    /// ```
    #[must_use]
    pub const fn of(bytes: usize) -> Self {
        if bytes <= Self::THREAD_CACHE_MAX_BYTES {
            Self::ThreadCache
        } else if bytes <= Self::PAGE_HEAP_MAX_BYTES {
            Self::PageHeap
        } else {
            Self::Large
        }
    }
}

/// Why an array was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrowthKind {
    /// The map got its first array.
    First,
    /// Too many entries: twice the buckets.
    Double,
    /// Too many overflow buckets: as many buckets, packed chains.
    SameSize,
    /// `reserve` or `shrink_to_fit` asked for it.
    Resize,
}

/// Something that happened inside a map. Recorded from
/// [`Map::record_events`](super::Map::record_events) on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A new array was allocated and takes new entries from now on.
    ArrayAdded {
        /// Why.
        kind: GrowthKind,
        /// Entries in the map.
        len: usize,
        /// Bytes of the array before, 0 for none.
        old_bytes: usize,
        /// Bytes of the new array.
        new_bytes: usize,
        /// The tier that served the new array.
        tier: Tier,
    },
    /// A chain of the old array moved to the new one.
    ChainEvacuated {
        /// The old bucket the chain starts at.
        index: usize,
        /// Entries that keep the index.
        to_x: usize,
        /// Entries that went to the upper half.
        to_y: usize,
    },
    /// The old array is empty and freed.
    GrowthFinished,
    /// A chain got another bucket.
    OverflowAdded {
        /// Whether the bucket had been allocated with the array.
        spare: bool,
    },
    /// A new entry was written.
    Inserted {
        /// The bucket its chain starts at.
        index: usize,
        /// The place in the chain: 0 to 7 in the bucket itself, 8 to 15 in the
        /// first overflow bucket, and so on.
        position: usize,
        /// Whether it is a hole: an earlier entry had been removed from this very cell, and others
        /// lay behind it in the chain. A cell at the chain's end counts as never used.
        reused: bool,
    },
    /// The map lost its last entry and drew a new hash seed.
    Reseeded,
}

/// What a map writes down on request.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) log: Option<Log>,
    pub(super) heat: Option<Heat>,
}

/// The last events of a map.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) events: VecDeque<Event>,
    pub(super) events_max: usize,
}

impl Log {
    pub(super) fn push(&mut self, event: Event) {
        if self.events.len() == self.events_max {
            self.events.pop_front();
        }
        if self.events.len() < self.events_max {
            self.events.push_back(event);
        }
    }
}

/// Counts since the map was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    /// New entries that took a hole, a cell marked `EMPTY_ONE`.
    pub(super) inserts_reused: u64,
    /// New entries that took the first cell of a new overflow bucket.
    pub(super) inserts_overflow: u64,
    pub(super) updates: u64,
    pub(super) removed: u64,
    pub(super) dropped: u64,
    pub(super) doublings: u64,
    pub(super) same_size: u64,
    pub(super) resizes: u64,
    pub(super) chains_evacuated: u64,
    pub(super) entries_moved: u64,
    pub(super) overflow_spare: u64,
    pub(super) overflow_heap: u64,
    pub(super) extents: u64,
    pub(super) reseeds: u64,
    pub(super) arrays: [u64; 3],
    pub(super) bytes_peak: usize,
}

impl Counters {
    pub(super) fn note_overflow(&mut self, origin: Origin) {
        match origin {
            Origin::Spare => self.overflow_spare += 1,
            Origin::Extent | Origin::NewExtent => self.overflow_heap += 1,
        }
        self.extents += u64::from(origin == Origin::NewExtent);
    }
}

const _: () = assert!(EMPTY_REST == 0 && EMPTY_ONE == 1, "a mark counts as a hole");
