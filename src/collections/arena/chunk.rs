//! The chunks of an arena and the bump pointer in the newest of them.
//!
//! ```text
//! header │ floor            top                    end
//!        │   room (free)     │  bumped (handed out) │
//! ```
//!
//! Blocks are cut downwards, because rounding down to an alignment is one instruction.
//!
//! Where the top is, is kept as its distance from a *base*, in one word with the bytes asked for
//! since the base was put there. For a block of a size known at compile time both change by one
//! addition, and what was padding follows from invariant 3: a block costs one store of the arena's
//! and one jump that is not taken, with padding or without.
//!
//! # Invariants
//!
//! 1. `floor ≤ base ≤ top`, all in the newest chunk, `floor` right behind its header, `base` the
//!    same unless the room is more than [`BASE_DISTANCE_MAX`], and both multiples of
//!    [`CHUNK_ALIGN`]; all dangling (and equal) while there is no chunk.
//! 2. The bytes from `floor` to `top` are in no block.
//! 3. `chunk_bytes = bumped + tail + room`, where *tail* is the room left in older chunks, and
//!    `bumped = asked for + padding`. Headers count as padding.
//! 4. `newest` heads a list of chunks by their headers, each written when its chunk came from the
//!    global allocator. The list alone owns them.
//! 5. With debug assertions, every byte of the room is [`POISON`].
//! 6. The low half of `word` is `top − base`; the high half is what blocks since the base was put
//!    there were asked for, which is not more than they took.

use std::alloc::{self, Layout};
use std::cell::Cell;
use std::num::NonZero;
use std::ptr::NonNull;

/// Alignment of every chunk and of the memory in it.
pub(super) const CHUNK_ALIGN: usize = 16;

/// What fills unused memory when debug assertions are on.
const POISON: u8 = 0xDD;

/// Bytes of the first chunk, unless asked for otherwise. With what an allocator may add it stays in
/// one page.
const FIRST_CHUNK_BYTES: usize = 1024;

/// The largest distance of the top from the base; small in tests, so that they meet it.
const BASE_DISTANCE_MAX: usize = if cfg!(test) { 4096 } else { u32::MAX as usize };

/// An arena's chunks and its bump pointer. In this order, so that `count` and `chunk_bytes`, which the
/// compiler adds to as one vector, do not lie across two of the constructor's stores.
pub(super) struct Chunks {
    word: Cell<u64>,
    base: Cell<NonNull<u8>>,
    floor: Cell<NonNull<u8>>,
    newest: Cell<Option<NonNull<Header>>>,
    tail_bytes: Cell<usize>,
    count: Cell<usize>,
    chunk_bytes: Cell<usize>,
    /// Asked for before the base was put where it is.
    asked_bytes: Cell<usize>,
}

/// Begins each chunk.
#[repr(align(16))]
#[derive(Clone, Copy)]
struct Header {
    older: Option<NonNull<Header>>,
    /// Of the whole chunk.
    bytes: usize,
}

const _: () = assert!(size_of::<Header>() == CHUNK_ALIGN && align_of::<Header>() == CHUNK_ALIGN);

impl Chunks {
    pub(super) const fn new() -> Self {
        let nowhere = NonNull::without_provenance(NonZero::new(CHUNK_ALIGN).unwrap());
        Self {
            word: Cell::new(0),
            base: Cell::new(nowhere),
            floor: Cell::new(nowhere),
            newest: Cell::new(None),
            count: Cell::new(0),
            chunk_bytes: Cell::new(0),
            tail_bytes: Cell::new(0),
            asked_bytes: Cell::new(0),
        }
    }

    /// A block for `layout`; the process ends as it does for a `Vec` when there is no memory.
    #[inline(always)]
    pub(super) fn alloc(&self, layout: Layout) -> NonNull<u8> {
        match self.bump(layout) {
            Some(block) => block,
            None => self.alloc_slow(layout),
        }
    }

    /// A block from the newest chunk; none if its alignment is beyond a chunk's.
    #[inline(always)]
    fn bump(&self, layout: Layout) -> Option<NonNull<u8>> {
        // A size that is no multiple of the alignment would leave the block unaligned.
        let (size, mask) = (layout.pad_to_align().size(), layout.align() - 1);
        let aligned = self.word.get() & !(mask as u64);
        if layout.align() > CHUNK_ALIGN || size > aligned as u32 as usize {
            return None;
        }
        // What was asked for goes to the high half: by invariants 3 and 6 there is room for it.
        let next = aligned - size as u64 + ((layout.size() as u64) << 32);
        let distance = next as u32 as usize;
        // SAFETY: by invariants 1 and 6 the top is in the same chunk, and this is not beyond it.
        let block = unsafe { self.base.get().add(distance) };
        if cfg!(debug_assertions) {
            check_poison(block, self.word.get() as u32 as usize - distance);
        }
        self.word.set(next);
        Some(block)
    }

    /// As [`alloc`](Self::alloc), or `None` when there is no memory.
    #[inline]
    pub(super) fn try_alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.bump(layout).or_else(|| self.try_alloc_slow(layout))
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, layout: Layout) -> NonNull<u8> {
        self.try_alloc_slow(layout).unwrap_or_else(|| no_chunk(bytes_for(layout)))
    }

    #[cold]
    #[inline(never)]
    fn try_alloc_slow(&self, layout: Layout) -> Option<NonNull<u8>> {
        // There may be room all the same.
        let may_fit = layout.align() > CHUNK_ALIGN || self.base.get() != self.floor.get();
        if may_fit && let Some(block) = self.cut(layout) {
            return Some(block);
        }
        if !self.try_reserve(bytes_for(layout)) {
            return None;
        }
        self.bump(layout).or_else(|| self.cut(layout))
    }

    /// As [`bump`](Self::bump), of any alignment and from all of the room.
    fn cut(&self, layout: Layout) -> Option<NonNull<u8>> {
        let (floor, room) = (self.floor.get(), self.room());
        let top = floor.addr().get() + room;
        let size = layout.pad_to_align().size();
        let at = top.checked_sub(size)? & !(layout.align() - 1);
        let left = at.checked_sub(floor.addr().get())?;
        // SAFETY: not above the top, which by invariant 1 is in the same chunk.
        let block = unsafe { floor.add(left) };
        if cfg!(debug_assertions) {
            check_poison(block, room - left);
        }
        self.asked_bytes.set(self.asked_bytes.get() + layout.size());
        self.set_room(left);
        Some(block)
    }

    /// Puts the top so many bytes above the floor, and what was asked for where there is room for
    /// more.
    fn set_room(&self, room: usize) {
        let below = room.saturating_sub(BASE_DISTANCE_MAX).next_multiple_of(CHUNK_ALIGN);
        // SAFETY: the top is in the newest chunk, and this is not beyond it.
        self.base.set(unsafe { self.floor.get().add(below) });
        self.asked_bytes.set(self.asked_bytes());
        self.word.set((room - below) as u64);
    }

    /// Makes room for `bytes_min` more bytes in one piece, in a new chunk of at least twice the
    /// size of the last one; where that cannot be had, of what is needed.
    ///
    /// # Panics
    ///
    /// When a chunk cannot be that large. When there is no memory for it, the process ends.
    pub(super) fn reserve(&self, bytes_min: usize) {
        if !self.try_reserve(bytes_min) {
            no_chunk(bytes_min);
        }
    }

    /// As [`reserve`](Self::reserve); false, with nothing changed, when there is no such chunk.
    pub(super) fn try_reserve(&self, bytes_min: usize) -> bool {
        let older = self.newest.get();
        // SAFETY: by invariant 4.
        let last = older.map(|older| unsafe { older.read() }.bytes);
        let needed = bytes_min.saturating_add(size_of::<Header>()).max(FIRST_CHUNK_BYTES);
        let doubled = last.map_or(needed, |last| last.saturating_mul(2).max(needed));
        // Less than twice the size costs more chunks; no memory for it, the arena's user.
        let Some((chunk, bytes)) =
            new_chunk(doubled).or_else(|| (needed < doubled).then(|| new_chunk(needed))?)
        else {
            return false;
        };
        // SAFETY: the chunk has room for a header and is aligned for it.
        unsafe { chunk.write(Header { older, bytes }) };
        self.newest.set(Some(chunk));
        self.count.set(self.count.get() + 1);
        self.tail_bytes.set(self.tail_bytes.get() + self.room());
        self.begin(chunk);
        true
    }

    /// Takes all blocks back and keeps the largest chunk, which is the newest unless memory was
    /// short.
    pub(super) fn reset(&mut self) {
        let Some(mut largest) = self.newest.get() else { return };
        // SAFETY: by invariant 4.
        let Header { older: mut next, mut bytes } = unsafe { largest.read() };
        // The largest seen is in nobody's list; of two, the other one goes.
        while let Some(chunk) = next {
            // SAFETY: by invariant 4.
            let header = unsafe { chunk.read() };
            next = header.older;
            if header.bytes > bytes {
                free_chunk(largest, bytes);
                (largest, bytes) = (chunk, header.bytes);
            } else {
                free_chunk(chunk, header.bytes);
            }
        }
        // SAFETY: by invariant 4, and the chunks that it led to are gone.
        unsafe { largest.write(Header { older: None, bytes }) };
        self.newest.set(Some(largest));
        self.count.set(1);
        for counter in [&self.chunk_bytes, &self.tail_bytes, &self.asked_bytes] {
            counter.set(0);
        }
        self.word.set(0);
        self.begin(largest);
    }

    /// The number of chunks.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes.get()
    }

    pub(super) fn tail_bytes(&self) -> usize {
        self.tail_bytes.get()
    }

    /// By invariant 3.
    pub(super) fn padding_bytes(&self) -> usize {
        self.chunk_bytes.get() - self.tail_bytes.get() - self.room() - self.asked_bytes()
    }

    fn asked_bytes(&self) -> usize {
        self.asked_bytes.get() + (self.word.get() >> 32) as usize
    }

    /// Free bytes of the newest chunk.
    pub(super) fn room(&self) -> usize {
        let below = self.base.get().addr().get() - self.floor.get().addr().get();
        below + self.word.get() as u32 as usize
    }

    /// Puts the bump pointer at the end of `chunk`, whose memory is in no block, and counts it.
    fn begin(&self, chunk: NonNull<Header>) {
        // SAFETY: by invariant 4.
        let bytes = unsafe { chunk.read() }.bytes;
        // SAFETY: a chunk is larger than its header.
        let floor = unsafe { chunk.add(1) }.cast::<u8>();
        let room = bytes - size_of::<Header>();
        if cfg!(debug_assertions) {
            poison(floor, room);
        }
        self.chunk_bytes.set(self.chunk_bytes.get() + bytes);
        self.floor.set(floor);
        self.set_room(room);
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        let mut next = self.newest.get();
        while let Some(chunk) = next {
            // SAFETY: by invariant 4.
            let Header { older, bytes } = unsafe { chunk.read() };
            free_chunk(chunk, bytes);
            next = older;
        }
    }
}

/// Room in which a block for `layout` lies, wherever that begins.
fn bytes_for(layout: Layout) -> usize {
    let slack = layout.align().saturating_sub(CHUNK_ALIGN);
    layout.pad_to_align().size().saturating_add(slack)
}

/// Says that there was no chunk with room for `bytes_min` bytes.
#[cold]
fn no_chunk(bytes_min: usize) -> ! {
    let bytes = bytes_min.saturating_add(size_of::<Header>());
    match chunk_layout(bytes) {
        Some(layout) => alloc::handle_alloc_error(layout),
        None => panic!("an arena cannot have a chunk of {bytes} bytes"),
    }
}

/// Frees a chunk of `bytes` bytes, which nobody refers to any more.
fn free_chunk(chunk: NonNull<Header>, bytes: usize) {
    if let Some(layout) = chunk_layout(bytes) {
        // SAFETY: by invariant 4; the layout is the one the chunk was allocated with.
        unsafe { alloc::dealloc(chunk.as_ptr().cast(), layout) };
    }
}

/// A chunk without a header, of `bytes` bytes or a few more, and how many those are; `None` when
/// there is no such chunk, or no memory for it.
fn new_chunk(bytes: usize) -> Option<(NonNull<Header>, usize)> {
    let layout = chunk_layout(bytes)?;
    // SAFETY: it has room for a header, hence is not empty.
    let chunk = NonNull::new(unsafe { alloc::alloc(layout) })?;
    Some((chunk.cast(), layout.size()))
}

/// The layout of a chunk of `bytes` bytes or a few more.
fn chunk_layout(bytes: usize) -> Option<Layout> {
    Some(Layout::from_size_align(bytes, CHUNK_ALIGN).ok()?.pad_to_align())
}

/// Marks `bytes` bytes from `at` as unused; they must belong to the caller.
pub(super) fn poison(at: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller owns the bytes, and any byte value is good for unused memory.
    unsafe { at.write_bytes(POISON, bytes) };
}

/// Panics if one of the `bytes` bytes from `at`, all unused until now, was written to since it was
/// poisoned.
#[track_caller]
pub(super) fn check_poison(at: NonNull<u8>, bytes: usize) {
    let block = NonNull::slice_from_raw_parts(at, bytes);
    // SAFETY: the bytes were initialized by `poison`, and nobody may write to unused memory; who
    // does so all the same through a stale pointer is who this is to find.
    let block = unsafe { block.as_ref() };
    assert!(
        block.iter().all(|&byte| byte == POISON),
        "memory of an arena was written to after it had been given back, near {at:p}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTE: Layout = Layout::new::<u8>();
    const WORD: Layout = Layout::new::<u64>();

    fn bytes_are_all_there(chunks: &Chunks, asked_bytes: usize) {
        let room = chunks.room() + chunks.tail_bytes();
        assert_eq!(chunks.chunk_bytes(), asked_bytes + chunks.padding_bytes() + room);
    }

    #[test]
    fn rooms_beyond_an_offset_are_used_up() {
        let chunks = Chunks::new();
        chunks.reserve(10 * BASE_DISTANCE_MAX);
        let mut asked_bytes = 0;
        let mut last = usize::MAX;
        while chunks.room() >= 24 {
            for layout in [BYTE, WORD] {
                let block = chunks.alloc(layout).addr().get();
                assert!(block + layout.size() <= last && block.is_multiple_of(layout.align()));
                last = block;
                asked_bytes += layout.size();
            }
            bytes_are_all_there(&chunks, asked_bytes);
        }
        assert_eq!(chunks.count(), 1, "a new chunk before the first was used up");
    }

    #[test]
    fn blocks_larger_than_an_offset_and_of_any_alignment() {
        let chunks = Chunks::new();
        let mut asked_bytes = 0;
        for align in (0..14).map(|bit| 1 << bit) {
            for size in [
                0,
                1,
                BASE_DISTANCE_MAX - 1,
                BASE_DISTANCE_MAX,
                BASE_DISTANCE_MAX + 1,
                5 * BASE_DISTANCE_MAX,
            ] {
                let layout = Layout::from_size_align(size, align).unwrap();
                assert!(chunks.alloc(layout).addr().get().is_multiple_of(align));
                asked_bytes += size;
                bytes_are_all_there(&chunks, asked_bytes);
            }
        }
    }

    #[test]
    fn padding_is_counted_across_bases() {
        let chunks = Chunks::new();
        chunks.reserve(10 * BASE_DISTANCE_MAX);
        let before = chunks.padding_bytes();
        let pairs = 19 * BASE_DISTANCE_MAX / 32;
        for _ in 0..pairs {
            chunks.alloc(WORD);
            chunks.alloc(BYTE);
        }
        assert!(chunks.base.get() == chunks.floor.get(), "the room is less than a distance now");
        assert_eq!(chunks.padding_bytes() - before, (pairs - 1) * 7);
    }
}
