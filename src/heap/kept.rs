//! Mappings of large blocks that were freed and may be wanted again.
//!
//! A block with a mapping of its own costs four system calls and a page fault for each of its
//! huge pages; a program that takes and gives back such blocks in turn would do little else.
//! So the last few stay mapped and resident until nobody has wanted them for a tick of the
//! scavenger, as slots do.
//!
//! A request takes the smallest mapping that holds it, and gives back what is behind. Where
//! none does, the oldest goes: a program whose blocks grow keeps what it will not use again for
//! a few requests only.
//!
//! # Invariants
//!
//! 1. A kept mapping is in no other set, and nobody's block.
//! 2. `bytes` is the sum of the entries' bytes, and at most [`KEPT_BYTES_MAX`].

use core::ptr::{self, NonNull};

use super::large::{Large, LargeTable};
use super::{Heap, window};
use crate::sys::lock::Guard;
use crate::sys::os::Os;

/// What all kept mappings have at most.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// None are kept by preload: nothing ticks in a C program that is idle.
const KEEPS: bool = cfg!(not(feature = "preload"));
const ENTRIES: usize = 4;
/// A mapping may be this many times what is asked for; the rest goes back to the OS.
const EXCESS_FACTOR: usize = 2;

/// A mapping: its first byte, and its bytes.
pub(crate) type Range = (NonNull<u8>, usize);

/// The mappings, the oldest first. Lives under a lock.
#[derive(Debug)]
pub(crate) struct Kept {
    entries: [Entry; ENTRIES],
    bytes: usize,
}

/// Empty if it starts nowhere; then all that follow are.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: *mut u8,
    bytes: usize,
    /// It was here at the last tick.
    aged: bool,
}

const NONE: Entry = Entry { start: ptr::null_mut(), bytes: 0, aged: false };

impl Kept {
    pub(crate) const fn new() -> Self {
        Self { entries: [NONE; ENTRIES], bytes: 0 }
    }

    /// Bytes of all mappings.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The kept mapping that `address` lies in.
    pub(crate) fn find(&self, address: usize) -> Option<Range> {
        let holds = |entry: &&Entry| address.wrapping_sub(entry.start.addr()) < entry.bytes;
        let entry = self.entries.iter().find(holds)?;
        Some((NonNull::new(entry.start)?, entry.bytes))
    }

    /// Whether a mapping of `bytes` may be kept at all.
    pub(crate) fn may_keep(bytes: usize) -> bool {
        KEEPS && bytes <= KEPT_BYTES_MAX
    }

    /// Makes room for a mapping of `bytes`: returns one to be unmapped; call until there is none.
    pub(crate) fn make_room(&mut self, bytes: usize) -> Option<Range> {
        let is_full = !self.entries[ENTRIES - 1].start.is_null();
        if is_full || self.bytes + bytes > KEPT_BYTES_MAX { self.pop_oldest() } else { None }
    }

    /// Keeps a mapping for which there is room.
    pub(crate) fn keep(&mut self, start: NonNull<u8>, bytes: usize) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.start.is_null()) {
            *entry = Entry { start: start.as_ptr(), bytes, aged: false };
            self.bytes += bytes;
        }
    }

    /// Takes the smallest mapping out that holds `bytes` at a multiple of `align`, unless most of
    /// it would go to waste.
    pub(crate) fn take(&mut self, bytes: usize, align: usize) -> Option<Range> {
        let fits = |entry: &Entry| {
            !entry.start.is_null()
                && (bytes..=bytes.saturating_mul(EXCESS_FACTOR)).contains(&entry.bytes)
                && entry.start.addr().is_multiple_of(align)
        };
        let fitting = self.entries.iter().enumerate().filter(|(_, entry)| fits(entry));
        let (at, _) = fitting.min_by_key(|(_, entry)| entry.bytes)?;
        self.remove(at)
    }

    /// Takes the oldest mapping out.
    pub(crate) fn pop_oldest(&mut self) -> Option<Range> {
        self.remove(0)
    }

    /// Takes a mapping out that nobody wanted since the last [`age`](Self::age).
    pub(crate) fn pop_aged(&mut self) -> Option<Range> {
        if self.entries[0].aged { self.pop_oldest() } else { None }
    }

    /// A tick.
    pub(crate) fn age(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.aged = !entry.start.is_null());
    }

    fn remove(&mut self, at: usize) -> Option<Range> {
        let Entry { start, bytes, .. } = *self.entries.get(at)?;
        let start = NonNull::new(start)?;
        self.entries.copy_within(at + 1.., at);
        self.entries[ENTRIES - 1] = NONE;
        self.bytes -= bytes;
        Some((start, bytes))
    }
}

impl<O: Os> Heap<O> {
    /// Keeps the mapping of a freed block, in place of those that were kept longer.
    pub(super) fn keep<'a>(
        &'a self,
        mut table: Guard<'a, LargeTable>,
        start: NonNull<u8>,
        bytes: usize,
    ) {
        while let Some(range) = table.kept.make_room(bytes) {
            drop(table);
            self.unmap_kept(range);
            table = self.large.lock();
        }
        table.kept.keep(start, bytes);
        self.note_kept(table.kept.bytes());
    }

    fn unmap_kept(&self, (start, bytes): Range) {
        // SAFETY: a whole mapping that was kept, and that nobody has now.
        unsafe { self.os.unmap(start, bytes) };
    }

    /// Unmaps what was kept since the last tick, or all; its bytes.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(super) fn release_kept(&self, all: bool) -> usize {
        let mut released = 0;
        loop {
            let mut table = self.large.lock();
            let range = if all { table.kept.pop_oldest() } else { table.kept.pop_aged() };
            let Some(range) = range else {
                table.kept.age();
                return released;
            };
            drop(table);
            released += range.1;
            self.unmap_kept(range);
        }
    }

    /// A mapping of `bytes` at a multiple of `align` that was kept, without what it has beyond.
    pub(super) fn take_kept(
        &self,
        bytes: usize,
        align: usize,
        wants_zeroes: bool,
    ) -> Option<Large> {
        let mut table = self.large.lock();
        let taken = table.kept.take(bytes, align);
        let Some((start, all)) = taken else {
            let oldest = table.kept.pop_oldest();
            drop(table);
            oldest.into_iter().for_each(|range| self.unmap_kept(range));
            return None;
        };
        drop(table);
        // SAFETY: behind `bytes` of a mapping that was kept, and that nobody else has.
        unsafe { window::trim(&self.os, start, all, 0, bytes) };
        // SAFETY: as above.
        let zeroed = wants_zeroes && unsafe { self.os.purge(start, bytes) };
        Some(Large { start, zeroed })
    }
}

#[cfg(all(test, not(feature = "preload")))]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// A place that is never read.
    fn place(number: usize) -> NonNull<u8> {
        NonNull::new(ptr::without_provenance_mut(number << 21)).unwrap()
    }

    fn keep(kept: &mut Kept, number: usize, bytes: usize) -> Vec<usize> {
        let mut gone = Vec::new();
        while let Some((start, _)) = kept.make_room(bytes) {
            gone.push(start.addr().get() >> 21);
        }
        kept.keep(place(number), bytes);
        gone
    }

    #[test]
    fn the_smallest_that_fits_is_taken() {
        let mut kept = Kept::new();
        for (number, mib) in [(1, 24), (2, 17), (3, 20)] {
            assert!(keep(&mut kept, number, mib * MIB).is_empty());
        }
        assert_eq!(kept.take(18 * MIB, 4096), Some((place(3), 20 * MIB)));
        assert_eq!(kept.bytes(), 41 * MIB);
        assert_eq!(kept.find(place(1).addr().get() + 24 * MIB - 1), Some((place(1), 24 * MIB)));
        assert_eq!((kept.find(place(1).addr().get() + 24 * MIB), kept.find(0)), (None, None));
        assert_eq!(kept.take(18 * MIB, 1 << 30), None, "neither is at such a multiple");
        assert_eq!(kept.take(8 * MIB, 4096), None, "most would go to waste");
        assert_eq!(kept.take(18 * MIB, 4096), Some((place(1), 24 * MIB)));
        assert_eq!(kept.take(18 * MIB, 4096), None);
        assert_eq!(kept.bytes(), 17 * MIB);
    }

    #[test]
    fn the_oldest_makes_room_by_number_and_by_bytes() {
        let mut kept = Kept::new();
        for number in 1..=4 {
            assert!(keep(&mut kept, number, 10 * MIB).is_empty());
        }
        assert_eq!(keep(&mut kept, 5, 10 * MIB), [1]);
        assert_eq!(keep(&mut kept, 6, 50 * MIB), [2, 3, 4]);
        assert!(Kept::may_keep(64 * MIB) && !Kept::may_keep(64 * MIB + 1));
        assert_eq!(keep(&mut kept, 7, 64 * MIB), [5, 6]);
        assert_eq!(kept.bytes(), 64 * MIB);
    }

    #[test]
    fn what_was_there_for_a_tick_goes() {
        let mut kept = Kept::new();
        keep(&mut kept, 1, MIB);
        kept.age();
        keep(&mut kept, 2, MIB);
        assert_eq!((kept.pop_aged(), kept.pop_aged()), (Some((place(1), MIB)), None));
        kept.age();
        assert_eq!((kept.pop_aged(), kept.pop_aged()), (Some((place(2), MIB)), None));
        assert_eq!(kept.bytes(), 0);
    }
}
