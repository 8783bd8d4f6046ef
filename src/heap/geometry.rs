//! Where things lie: chunks, slots, and the arithmetic from a block to its header.
//!
//! Address space is taken in *chunks*: windows of 64 MiB that start on a multiple
//! of 64 MiB. A chunk is 1,024 *slots* of 64 KiB. A span is one slot or several in
//! a row. The first two slots of a chunk hold the headers of all its slots, apart
//! from the blocks and densely packed:
//!
//! ```text
//! chunk        +64 KiB      +128 KiB     +192 KiB
//! ┌────────────┬────────────┬────────────┬────────────┬─ ─ ─
//! │ hot headers│cold headers│ slot 2     │ slot 3     │
//! │ 1024 × 64 B│ 1024 × 64 B│  blocks …  │  blocks …  │
//! └────────────┴────────────┴────────────┴────────────┴─ ─ ─
//! ```
//!
//! So a block's header is a mask, a shift and an addition away, a stray write past
//! a block cannot reach it, and headers use all cache sets instead of contending
//! for the few that page-aligned headers would share. The *hot* header is the line
//! that the owner's frees touch; what other threads write is in the *cold* one.
//!
//! Windows come in pairs: ordinary chunks lie in the lower one, chunks of sampled
//! blocks in the upper one. So a free tells a sampled block by one bit of its
//! address, without a look at memory.
//!
//! # Invariants
//!
//! 1. A chunk's mapped part is a prefix of its window, at least the header slots.
//! 2. A block's first byte lies in the first slot of its span, or, for classes
//!    above `NARROW_BYTES_MAX`, in a span that starts on a multiple of its size.

use core::ptr::{NonNull, with_exposed_provenance_mut};

/// Bytes of a slot, the unit of the page heap.
pub(crate) const SLOT_BYTES: usize = 1 << SLOT_SHIFT;
/// Bytes of a chunk's window.
pub(crate) const CHUNK_BYTES: usize = 1 << CHUNK_SHIFT;
/// Slots in a chunk, those of the headers included.
pub(crate) const CHUNK_SLOTS: usize = CHUNK_BYTES / SLOT_BYTES;
/// Slots that hold a chunk's headers.
///
/// With the feature `preload` one slot more, for `classmap`.
pub(crate) const HEADER_SLOTS: usize = if cfg!(feature = "preload") { 3 } else { 2 };

pub(super) const SLOT_SHIFT: u32 = 16;
pub(super) const CHUNK_SHIFT: u32 = 26;
const HEADER_SHIFT: u32 = 6;
const HEADER_BYTES: usize = 1 << HEADER_SHIFT;
const COLD_OFFSET: usize = CHUNK_SLOTS * HEADER_BYTES;

const _: () = assert!(CHUNK_SLOTS * HEADER_BYTES * 2 <= HEADER_SLOTS * SLOT_BYTES);

/// Which window of a pair a chunk lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Window {
    /// Ordinary spans.
    Lower,
    /// Spans of sampled blocks.
    Upper,
}

impl Window {
    /// Bytes of a pair of windows, and the alignment of one.
    pub(crate) const PAIR_BYTES: usize = 2 * CHUNK_BYTES;

    /// Where the window starts in its pair.
    pub(crate) fn offset(self) -> usize {
        match self {
            Self::Lower => 0,
            Self::Upper => CHUNK_BYTES,
        }
    }
}

/// Whether a block of a span lies in a window for sampled blocks.
#[inline(always)]
pub(crate) fn is_sampled<T>(block: *mut T) -> bool {
    block.addr() & CHUNK_BYTES != 0
}

/// The hot header of the slot that `block` lies in, where spans are `SLOTS` slots
/// and start on a multiple of that: the header of the span's first slot.
#[inline(always)]
pub(crate) fn hot_header<const SLOTS: usize>(block: *mut u8) -> *mut u8 {
    let mask = (CHUNK_SLOTS - SLOTS) << HEADER_SHIFT;
    let header = (block.addr() >> (SLOT_SHIFT - HEADER_SHIFT)) & mask;
    // The page heap exposed the chunk's provenance; keeping the block's with `map_addr`
    // would take two instructions more.
    with_exposed_provenance_mut::<u8>(block.addr() & !(CHUNK_BYTES - 1)).wrapping_add(header)
}

/// The cold header that belongs to a hot one.
#[inline(always)]
pub(crate) fn cold_header(hot: *mut u8) -> *mut u8 {
    hot.wrapping_add(COLD_OFFSET)
}

/// The hot header of slot `slot` of the chunk at `chunk`.
#[inline]
pub(crate) fn header_of_slot(chunk: NonNull<u8>, slot: usize) -> *mut u8 {
    chunk.as_ptr().wrapping_add(slot * HEADER_BYTES)
}

/// The first byte of the slot whose hot header is `hot`.
#[inline(always)]
pub(crate) fn slot_start(hot: *mut u8) -> *mut u8 {
    hot.map_addr(|address| {
        let chunk = address & !(CHUNK_BYTES - 1);
        chunk + ((address & (CHUNK_BYTES - 1)) << (SLOT_SHIFT - HEADER_SHIFT))
    })
}

/// The number within its chunk of the slot whose hot header is `hot`.
#[inline]
pub(crate) fn slot_index(hot: *mut u8) -> usize {
    (hot.addr() & (CHUNK_BYTES - 1)) >> HEADER_SHIFT
}

/// The start of the chunk that `inside` lies in.
#[inline]
pub(crate) fn chunk_start(inside: *mut u8) -> *mut u8 {
    inside.map_addr(|address| address & !(CHUNK_BYTES - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_slots_find_each_other() {
        let chunk = NonNull::new(core::ptr::without_provenance_mut(5 * CHUNK_BYTES)).unwrap();
        for slot in 0..CHUNK_SLOTS {
            let hot = header_of_slot(chunk, slot);
            assert_eq!(slot_index(hot), slot);
            assert_eq!(chunk_start(hot), chunk.as_ptr());
            let start = slot_start(hot);
            assert_eq!(start.addr(), chunk.as_ptr().addr() + slot * SLOT_BYTES);
            for offset in [0, 8, 4096, SLOT_BYTES - 8] {
                assert_eq!(hot_header::<1>(start.wrapping_add(offset)), hot);
                let first = header_of_slot(chunk, slot & !3);
                assert_eq!(hot_header::<4>(start.wrapping_add(offset)), first);
            }
        }
    }
}
