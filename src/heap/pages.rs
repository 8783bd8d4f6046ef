//! The page heap: slots for spans, from chunks of address space.
//!
//! All free slots are in bitmaps, one set per chunk. A slot that was used is *dirty*:
//! resident, with old contents. A request takes the place with the fewest fresh slots, so
//! that a heap in a steady state faults no pages. Of those without any the lowest is taken at
//! once, which lets high chunks empty; of others the one in the shortest free run, which
//! leaves long runs to large blocks. Dirty slots that stay free for a whole tick of the
//! scavenger go back to the OS, and with them what was never used but shares a huge page with
//! them.
//!
//! Chunks are taken whole where the kernel allows it, and in smaller prefixes
//! under `RLIMIT_AS`, strict overcommit or a checker that shadows memory; a prefix
//! is extended when more is needed, and cut down to what is in use when the kernel
//! refuses a mapping to somebody else.
//!
//! # Invariants
//!
//! 1. A slot in `free` is mapped, belongs to no span and its header's kind is
//!    `None`.
//! 2. A slot that is not in `dirty` reads as zeroes.
//! 3. `aged ⊆ free ∩ dirty`: free since the last tick at least.
//! 4. An entry's `run_max` is at least the length of its chunk's longest free run, `dirty_run_max`
//!    that of its longest one that is dirty.
//! 5. Slots that the scavenger works on are in no set but `dirty`, and counted as in use, which
//!    to everyone else they are.

use core::ptr::{self, NonNull};

use super::bits::{ROW_MAX, SlotSet};
use super::chunk::{Chunk, Place};
use super::class::WIDE_SLOTS;
use super::geometry::{CHUNK_SLOTS, HEADER_SLOTS, SLOT_BYTES, Window};
use super::geometry::{chunk_start, header_of_slot, slot_index};
use super::meta::Meta;
use super::span::Span;
use crate::sys::os::{Huge, Os};

/// How many chunks there can be: 1 TiB of heap.
const CHUNKS_MAX: usize = 1 << 14;
/// Chunks with room that a request compares: large heaps have hundreds.
const CHUNKS_COMPARED: usize = 8;
/// Slots in use for each that may be nearly empty, from which on huge pages pay.
const DENSE_FACTOR: usize = 4;

/// Slots just taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    pub(crate) span: Span,
    /// All of them read as zeroes.
    pub(crate) zeroed: bool,
}

/// A run of dirty slots being given back (invariant 5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scavenged {
    chunk: usize,
    slots: SlotSet,
}

impl Scavenged {
    /// Each slot of the run on its own, the first first.
    pub(crate) fn singles(self) -> impl Iterator<Item = Self> {
        let (first, length) = self.slots.next_run(0).unwrap_or((0, 0));
        (first..first + length).map(move |slot| {
            let mut slots = SlotSet::EMPTY;
            slots.insert(slot, 1);
            Self { slots, ..self }
        })
    }
}

/// Figures of the page heap, in slots.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct PageCounts {
    pub(crate) chunks: usize,
    pub(crate) in_use: usize,
    pub(crate) free_dirty: usize,
    pub(crate) scavenged_total: u64,
}

/// A chunk, and what lets a request pass it by: hundreds lie in a heap of many gibibytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    chunk: *mut Chunk,
    run_max: u32,
    dirty_run_max: u32,
}

impl Entry {
    const NONE: Self = Self { chunk: ptr::null_mut(), run_max: 0, dirty_run_max: 0 };

    /// Any run may be free and dirty from here on.
    fn open(&mut self) {
        (self.run_max, self.dirty_run_max) = (CHUNK_SLOTS as u32, CHUNK_SLOTS as u32);
    }
}

/// The page heap. Lives under a lock of the heap's. In this order, so that all words which a
/// small process touches lie in one page.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct PageHeap {
    len: usize,
    /// No chunk below has a free slot.
    first_free: usize,
    /// No chunk below has a free slot that is dirty.
    first_dirty: usize,
    in_use: usize,
    free_dirty: usize,
    scavenged_total: u64,
    /// Slots that threads may have in use for a block or two: one per class and thread.
    pub(crate) sparse: usize,
    chunks: [Entry; CHUNKS_MAX],
}

// SAFETY: chunks are reached only through the page heap, which one thread at a
// time holds.
unsafe impl Send for PageHeap {}

impl PageHeap {
    pub(crate) const fn new() -> Self {
        Self {
            len: 0,
            first_free: 0,
            first_dirty: 0,
            in_use: 0,
            free_dirty: 0,
            scavenged_total: 0,
            sparse: 0,
            chunks: [Entry::NONE; CHUNKS_MAX],
        }
    }

    /// Whether huge pages pay ([`chunk`](super::chunk)): slots in use are mostly full ones.
    /// While so many threads share so few slots that most may be nearly empty they do not:
    /// 256 threads that wait would hold 340 MiB instead of a tenth.
    fn wants_huge(&self, os: &impl Os) -> bool {
        match os.huge() {
            Huge::Dense => self.in_use > DENSE_FACTOR * self.sparse,
            Huge::Off => false,
            Huge::Early => true,
        }
    }

    pub(crate) fn counts(&self) -> PageCounts {
        PageCounts {
            chunks: self.len,
            in_use: self.in_use,
            free_dirty: self.free_dirty,
            scavenged_total: self.scavenged_total,
        }
    }

    /// Takes `count` slots in a row whose first is a multiple of `align` slots in
    /// its chunk. `None` when the kernel has no more. All chunks of a page heap lie
    /// in the same window of their pairs.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn take(
        &mut self,
        os: &impl Os,
        meta: &mut Meta,
        window: Window,
        count: usize,
        align: usize,
    ) -> Option<Slots> {
        if let Some((slots, _)) = self.take_dirty(count, align, 0) {
            return Some(slots);
        }
        let place = match self.place(count, align) {
            Some(place) => place,
            None => self.grow(os, meta, window, count, align)?,
        };
        if self.wants_huge(os)
            && let Some(chunk) = self.chunk(place.chunk)
        {
            chunk.ask_for_huge(os, place.start);
        }
        Some(self.claim(place.chunk, place.start, count))
    }

    /// Gives slots back. The caller has ended their span.
    pub(crate) fn give(&mut self, span: Span, count: usize) {
        let header = span.link().cast::<u8>();
        let start = slot_index(header);
        let index = chunk_index(header);
        let Some(chunk) = self.chunk(index) else { return };
        chunk.free.insert(start, count);
        self.chunks[index].open();
        self.in_use -= count;
        self.free_dirty += count;
        self.first_free = self.first_free.min(index);
        self.first_dirty = self.first_dirty.min(index);
    }

    /// Pages inside `span` will go back: the kernel is to fill no huge page up again.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn keep_small(&mut self, os: &impl Os, span: Span) {
        let index = chunk_index(span.link().cast());
        let beside = self.chunk(index).map_or(0, |chunk| chunk.keep_small(os));
        self.note_dirty(index, beside);
    }

    /// `more` free slots of a chunk are dirty from here on.
    fn note_dirty(&mut self, index: usize, more: usize) {
        self.free_dirty += more;
        if more > 0 {
            self.first_dirty = self.first_dirty.min(index);
            self.chunks[index].open();
        }
    }

    /// Takes the `more` slots right behind a span of `count`. Returns whether they were free.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn extend(&mut self, span: Span, count: usize, more: usize) -> bool {
        let header = span.link().cast::<u8>();
        let start = slot_index(header) + count;
        let index = chunk_index(header);
        let has_room = |chunk: &mut Chunk| {
            start + more <= CHUNK_SLOTS && chunk.free.count_in(start, more) == more
        };
        if !self.chunk(index).is_some_and(has_room) {
            return false;
        }
        self.claim(index, start, more);
        true
    }

    /// One tick: dirty slots free since the last one are taken out, to be given to
    /// the OS without the lock; what is dirty and free now ages. `wanted` limits
    /// the slots taken: one run, whose start and bytes are returned. Call until it
    /// returns `None`, then [`age`](Self::age).
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn scavenge(
        &mut self,
        os: &impl Os,
        wanted: usize,
    ) -> Option<(Scavenged, NonNull<u8>, usize)> {
        for index in 0..self.len {
            let chunk = self.chunk(index)?;
            let Some((start, length)) = chunk.aged.next_run(0) else { continue };
            let mut slots = SlotSet::EMPTY;
            let length = length.min(wanted);
            slots.insert(start, length);
            chunk.aged.subtract(&slots);
            chunk.free.subtract(&slots);
            let beside = chunk.keep_small(os);
            // SAFETY: the slots lie in the chunk's mapped part.
            let from = unsafe { chunk.base.add(start * SLOT_BYTES) };
            self.note_dirty(index, beside);
            self.free_dirty -= length;
            self.in_use += length;
            return Some((Scavenged { chunk: index, slots }, from, length * SLOT_BYTES));
        }
        None
    }

    /// What is free and dirty now is given back by the next tick, unless used before.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn age(&mut self) {
        for index in 0..self.len {
            if let Some(chunk) = self.chunk(index) {
                chunk.aged = chunk.free.and(&chunk.dirty);
            }
        }
    }

    /// The slots are free again, and `clean` if the OS has taken their pages.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn scavenged(&mut self, scavenged: Scavenged, clean: bool) {
        let count = scavenged.slots.len();
        if let Some(chunk) = self.chunk(scavenged.chunk) {
            chunk.free.unite(&scavenged.slots);
            if clean {
                chunk.dirty.subtract(&scavenged.slots);
            }
            self.chunks[scavenged.chunk].open();
        }
        self.in_use -= count;
        if clean {
            self.scavenged_total += count as u64;
        } else {
            self.note_dirty(scavenged.chunk, count);
        }
        self.first_free = self.first_free.min(scavenged.chunk);
    }

    /// Every slot header of every chunk, for snapshots.
    pub(crate) fn each_header(&mut self, mut visit: impl FnMut(Span)) {
        for index in 0..self.len {
            let Some(chunk) = self.chunk(index) else { return };
            for slot in HEADER_SLOTS..chunk.mapped {
                // SAFETY: a slot of a mapped chunk.
                visit(unsafe { Span::from_header(header_of_slot(chunk.base, slot)) });
            }
        }
    }

    #[inline]
    pub(crate) fn chunk(&mut self, index: usize) -> Option<&mut Chunk> {
        let chunk = self.chunks.get(index)?.chunk;
        // SAFETY: null or a chunk made by `grow`, reached only through `self`.
        unsafe { chunk.as_mut() }
    }

    /// Takes `count` dirty slots, and of those right behind a multiple of `count`, `more` at most;
    /// how many. (Blocks of one length leave no gaps then.)
    #[inline]
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn take_dirty(
        &mut self,
        count: usize,
        align: usize,
        more: usize,
    ) -> Option<(Slots, usize)> {
        let (index, place) = self.dirty_place(count, align)?;
        let mut behind = 0;
        if more > 0 {
            let chunk = self.chunk(index)?;
            behind = chunk.free.row_of_both(&chunk.dirty, place + count, more) / count * count;
        }
        Some((self.claim(index, place, count + behind), behind))
    }

    /// The first dirty place for `count` slots, up to [`ROW_MAX`], at a multiple of `align`. No
    /// other place is better but for how it leaves its run.
    #[inline]
    fn dirty_place(&mut self, count: usize, align: usize) -> Option<(usize, usize)> {
        if self.free_dirty < count || count > ROW_MAX {
            return None;
        }
        for index in self.first_dirty..self.len {
            if (self.chunks[index].dirty_run_max as usize) < count {
                continue;
            }
            let chunk = self.chunk(index)?;
            let place = match (count, align) {
                (1, 0 | 1) => chunk.free.first_of_both(&chunk.dirty),
                (WIDE_SLOTS, WIDE_SLOTS) => chunk.free.first_four_of_both(&chunk.dirty),
                _ => chunk.free.first_row_of_both(&chunk.dirty, count, align),
            };
            if let Some(place) = place {
                if count == 1 && align <= 1 {
                    self.first_dirty = index;
                }
                return Some((index, place));
            }
            if align <= 1 {
                self.chunks[index].dirty_run_max = count as u32 - 1;
            }
        }
        None
    }

    /// The best place for `count` slots in the first few chunks that have one.
    #[unsafe(link_section = ".spanalloc.text")]
    fn place(&mut self, count: usize, align: usize) -> Option<Place> {
        let mut best: Option<Place> = None;
        let mut left = if count == 1 { 1 } else { CHUNKS_COMPARED };
        for index in self.first_free..self.len {
            let run_max = self.chunks[index].run_max as usize;
            if run_max < count {
                if run_max == 0 && index == self.first_free {
                    self.first_free += 1;
                }
                continue;
            }
            match self.chunk(index)?.place(index, count, align) {
                Ok(place) => {
                    best = Some(best.map_or(place, |best| best.min(place)));
                    left -= 1;
                    if left == 0 {
                        break;
                    }
                }
                Err(longest) => self.chunks[index].run_max = longest as u32,
            }
        }
        best
    }

    #[unsafe(link_section = ".spanalloc.text")]
    fn claim(&mut self, index: usize, start: usize, count: usize) -> Slots {
        // All callers have just found the chunk at `index`.
        let Some(chunk) = self.chunk(index) else {
            crate::sys::fatal::die("a chunk vanished");
        };
        let dirty = chunk.dirty.claim(start, count, [&mut chunk.free, &mut chunk.aged]);
        // SAFETY: a slot of a mapped chunk.
        let span = unsafe { Span::from_header(header_of_slot(chunk.base, start)) };
        self.in_use += count;
        self.free_dirty -= dirty;
        Slots { span, zeroed: dirty == 0 }
    }
}

/// The number of the chunk that `header` lies in: the header of slot 0, which is
/// no span's, keeps it.
fn chunk_index(header: *mut u8) -> usize {
    // SAFETY: slot 0 of a mapped chunk.
    unsafe { Span::from_header(chunk_start(header)) }.hot().slots.get() as usize
}

#[cfg(any(test, fuzzing))]
mod check;
mod growth;
