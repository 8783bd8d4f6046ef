//! The chunks of an arena and the bump pointer in the newest of them.
//!
//! ```text
//! floor                top                    end
//!   │  room (free)      │  bumped (handed out) │
//! ```
//!
//! Blocks are cut downwards, because rounding down to an alignment is one instruction.
//!
//! Invariants:
//!
//! 1. `floor ≤ top`, both in the newest chunk, `floor` its first byte; both dangling (and equal)
//!    while there is no chunk.
//! 2. The bytes from `floor` to `top` are in no block.
//! 3. A chunk's address is a multiple of [`CHUNK_ALIGN`], so rounding `top` down to an alignment of
//!    at most that never passes `floor`.
//! 4. `chunk_bytes = bumped + tail + room`, where *tail* is the room left in older chunks.
//! 5. With debug assertions, every byte of the room is [`POISON`].

use std::alloc::{self, Layout};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

/// Alignment of every chunk.
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
    list: RefCell<Vec<Chunk>>,
    chunk_bytes: Cell<usize>,
    tail_bytes: Cell<usize>,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        let nowhere = NonNull::without_provenance(std::num::NonZero::new(CHUNK_ALIGN).unwrap());
        Self {
            top: Cell::new(nowhere),
            floor: Cell::new(nowhere),
            list: RefCell::new(Vec::new()),
            chunk_bytes: Cell::new(0),
            tail_bytes: Cell::new(0),
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
        let aligned = top.addr().get() & !(layout.align() - 1);
        // Signed: an alignment above that of chunks may round to below the floor.
        let room = aligned.wrapping_sub(self.floor.get().addr().get()) as isize;
        // A size that is no multiple of the alignment would leave the block unaligned.
        let size = layout.pad_to_align().size();
        if room < size as isize {
            return None;
        }
        let down = top.addr().get() - aligned + size;
        // SAFETY: by the comparison the result is not below the floor, so by invariant 1 it is in
        // the same chunk.
        let block = unsafe { top.sub(down) };
        if cfg!(debug_assertions) {
            check_poison(block, down);
        }
        self.top.set(block);
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
    pub(super) fn reserve(&self, bytes_min: usize) {
        let mut list = self.list.borrow_mut();
        let double = list.last().map_or(FIRST_CHUNK_BYTES, |chunk| chunk.bytes.saturating_mul(2));
        let wanted = bytes_min.max(double).min(isize::MAX as usize - CHUNK_ALIGN);
        let chunk = Chunk::new(wanted.max(bytes_min).next_multiple_of(CHUNK_ALIGN));
        self.tail_bytes.set(self.tail_bytes.get() + self.room());
        self.chunk_bytes.set(self.chunk_bytes.get() + chunk.bytes);
        self.begin(&chunk);
        list.push(chunk);
    }

    /// Takes all blocks back and keeps the newest chunk, which is the largest.
    pub(super) fn reset(&mut self) {
        let list = self.list.get_mut();
        if let Some(last) = list.pop() {
            list.clear();
            self.chunk_bytes.set(last.bytes);
            list.push(last);
        }
        self.tail_bytes.set(0);
        if let Some(last) = self.list.borrow().last() {
            self.begin(last);
        }
    }

    /// The number of chunks.
    pub(super) fn count(&self) -> usize {
        self.list.borrow().len()
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes.get()
    }

    pub(super) fn tail_bytes(&self) -> usize {
        self.tail_bytes.get()
    }

    /// Free bytes of the newest chunk.
    pub(super) fn room(&self) -> usize {
        self.top.get().addr().get() - self.floor.get().addr().get()
    }

    /// Puts the bump pointer at the end of `chunk`, whose memory is in no block.
    fn begin(&self, chunk: &Chunk) {
        if cfg!(debug_assertions) {
            poison(chunk.base, chunk.bytes);
        }
        self.floor.set(chunk.base);
        // SAFETY: one past the end of the chunk.
        self.top.set(unsafe { chunk.base.add(chunk.bytes) });
    }
}

/// Memory from the global allocator.
struct Chunk {
    base: NonNull<u8>,
    bytes: usize,
}

impl Chunk {
    fn new(bytes: usize) -> Self {
        let layout = Self::layout(bytes);
        // SAFETY: `reserve` never asks for zero bytes.
        let base = NonNull::new(unsafe { alloc::alloc(layout) });
        Self { base: base.unwrap_or_else(|| alloc::handle_alloc_error(layout)), bytes }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, CHUNK_ALIGN)
            .unwrap_or_else(|_| panic!("an arena cannot have a chunk of {bytes} bytes"))
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { alloc::dealloc(self.base.as_ptr(), Self::layout(self.bytes)) };
    }
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
