//! The chunks of an arena and the bump pointer in the newest of them.
//!
//! ```text
//! header │ floor            top                    end
//!        │   room (free)     │  bumped (handed out) │
//! ```
//!
//! Blocks are cut downwards, because rounding down to an alignment is one instruction.
//!
//! Invariants:
//!
//! 1. `floor ≤ top`, both in the newest chunk, `floor` right behind its header; both dangling (and
//!    equal) while there is no chunk.
//! 2. The bytes from `floor` to `top` are in no block.
//! 3. `chunk_bytes = bumped + tail + room`, where *tail* is the room left in older chunks, and
//!    `bumped = asked for + padding`. Headers count as padding.
//! 4. `newest` heads a list of chunks by their headers, each written when its chunk came from the
//!    global allocator. The list alone owns them.
//! 5. With debug assertions, every byte of the room is [`POISON`].

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

/// See the module's documentation.
pub(super) struct Chunks {
    top: Cell<NonNull<u8>>,
    floor: Cell<NonNull<u8>>,
    newest: Cell<Option<NonNull<Header>>>,
    count: Cell<usize>,
    chunk_bytes: Cell<usize>,
    tail_bytes: Cell<usize>,
    padding_bytes: Cell<usize>,
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
            top: Cell::new(nowhere),
            floor: Cell::new(nowhere),
            newest: Cell::new(None),
            count: Cell::new(0),
            chunk_bytes: Cell::new(0),
            tail_bytes: Cell::new(0),
            padding_bytes: Cell::new(0),
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

    /// A block from the newest chunk.
    #[inline(always)]
    fn bump(&self, layout: Layout) -> Option<NonNull<u8>> {
        let top = self.top.get();
        // A size that is no multiple of the alignment would leave the block unaligned.
        let size = layout.pad_to_align().size();
        let aligned = top.addr().get() & !(layout.align() - 1);
        // Signed, because the result may be below zero; a size never is, nor an address.
        let at = aligned.wrapping_sub(size).cast_signed();
        if at < self.floor.get().addr().get().cast_signed() {
            return None;
        }
        let bytes = top.addr().get() - at.cast_unsigned();
        // SAFETY: by the comparison the result is not below the floor, so by invariant 1 it is in
        // the same chunk.
        let block = unsafe { top.sub(bytes) };
        if cfg!(debug_assertions) {
            check_poison(block, bytes);
        }
        self.top.set(block);
        // Most blocks need none, and a predicted branch is cheaper than an addition in memory.
        let padding = (top.addr().get() & (layout.align() - 1)) + (size - layout.size());
        if padding != 0 {
            self.padding_bytes.set(self.padding_bytes.get() + padding);
        }
        Some(block)
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, layout: Layout) -> NonNull<u8> {
        let slack = layout.align().saturating_sub(CHUNK_ALIGN);
        let padded = layout.pad_to_align().size();
        let Some(bytes) = padded.checked_add(slack) else { alloc::handle_alloc_error(layout) };
        self.reserve(bytes);
        self.bump(layout).unwrap_or_else(|| alloc::handle_alloc_error(layout))
    }

    /// Makes room for `bytes_min` more bytes in one piece, in a new chunk of at least twice the
    /// size of the last one.
    ///
    /// # Panics
    ///
    /// When a chunk cannot be that large.
    pub(super) fn reserve(&self, bytes_min: usize) {
        let older = self.newest.get();
        // SAFETY: by invariant 4.
        let double = older.map_or(FIRST_CHUNK_BYTES, |older| unsafe { older.read() }.bytes * 2);
        let bytes = bytes_min.saturating_add(size_of::<Header>()).max(double);
        let layout = chunk_layout(bytes);
        // SAFETY: not zero bytes.
        let chunk = NonNull::new(unsafe { alloc::alloc(layout) });
        let chunk = chunk.unwrap_or_else(|| alloc::handle_alloc_error(layout)).cast::<Header>();
        // SAFETY: the chunk has room for a header and is aligned for it.
        unsafe { chunk.write(Header { older, bytes: layout.size() }) };
        self.newest.set(Some(chunk));
        self.count.set(self.count.get() + 1);
        self.tail_bytes.set(self.tail_bytes.get() + self.room());
        self.begin(chunk);
    }

    /// Takes all blocks back and keeps the newest chunk, which is the largest.
    pub(super) fn reset(&mut self) {
        let Some(newest) = self.newest.get() else { return };
        // SAFETY: by invariant 4.
        let Header { older, bytes } = unsafe { newest.read() };
        // SAFETY: by invariant 4, and the newest chunk no longer leads there.
        unsafe { newest.write(Header { older: None, bytes }) };
        free_chunks(older);
        self.count.set(1);
        for counter in [&self.chunk_bytes, &self.tail_bytes, &self.padding_bytes] {
            counter.set(0);
        }
        self.begin(newest);
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

    pub(super) fn padding_bytes(&self) -> usize {
        self.padding_bytes.get()
    }

    /// Free bytes of the newest chunk.
    #[inline(always)]
    pub(super) fn room(&self) -> usize {
        self.top.get().addr().get() - self.floor.get().addr().get()
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
        self.padding_bytes.set(self.padding_bytes.get() + size_of::<Header>());
        self.floor.set(floor);
        // SAFETY: one past the end of the chunk.
        self.top.set(unsafe { floor.add(room) });
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        free_chunks(self.newest.get());
    }
}

/// Frees a list of chunks that nobody else refers to.
fn free_chunks(mut next: Option<NonNull<Header>>) {
    while let Some(chunk) = next {
        // SAFETY: by invariant 4.
        let Header { older, bytes } = unsafe { chunk.read() };
        // SAFETY: by invariant 4; the layout is the one the chunk was allocated with.
        unsafe { alloc::dealloc(chunk.as_ptr().cast(), chunk_layout(bytes)) };
        next = older;
    }
}

/// The layout of a chunk of `bytes` bytes or a few more.
fn chunk_layout(bytes: usize) -> Layout {
    let layout = Layout::from_size_align(bytes, CHUNK_ALIGN);
    layout
        .unwrap_or_else(|_| panic!("an arena cannot have a chunk of {bytes} bytes"))
        .pad_to_align()
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
