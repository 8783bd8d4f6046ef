//! From a pointer alone to its list in the cache: for frees that do not say a size.
//!
//! Rust says a block's layout when it frees one, C does not. With the feature
//! `preload` each chunk has, behind its headers, one word per slot: where in the
//! thread's [`Cache`](super::cache::Cache) the list of the slot's class is. It is one
//! load, at an address that is computed from the block's, and the words of a chunk are
//! dense: 16 slots to a cache line.
//!
//! A slot that no ordinary span lies in has the word 0, which leads to a list that
//! never has room. So nothing but room is asked for on the fast path; sampled blocks,
//! large ones and slots that are free all come the slow way.
//!
//! What lies in no chunk at all must not be looked up in one. [`WINDOWS`] has a byte
//! per window of the address space, by which null pointers, large blocks in mappings of
//! their own, and pointers of other allocators are told.
//!
//! # Invariants
//!
//! 1. The byte of a window is 1 only if a chunk is mapped there, and the first slots of a chunk,
//!    where its headers and words lie, are never unmapped.
//! 2. The word of a slot names a class while the slot is part of a span of
//!    [`Kind::Blocks`](super::span::Kind) of that class; it is written by the span's
//!    owner, before the first block is handed out and after the last came back.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use super::chain::Block;
use super::class::{ClassId, STRIDE};
use super::geometry::{CHUNK_SHIFT, CHUNK_SLOTS, SLOT_SHIFT, chunk_start, slot_index};
use super::span::Span;

/// Where in a chunk the words are: in the slot behind the headers.
const WORDS_OFFSET: usize = 2 * super::geometry::SLOT_BYTES;
/// Windows in the address space of a process.
const WINDOWS_MAX: usize = 1 << (ADDRESS_BITS - CHUNK_SHIFT);
/// Bits of an address that the kernel hands out unasked.
const ADDRESS_BITS: u32 = if cfg!(target_arch = "aarch64") { 48 } else { 47 };

/// Which windows hold a chunk. Of the process, not of a heap: addresses are.
static WINDOWS: [AtomicU8; WINDOWS_MAX] = [const { AtomicU8::new(0) }; WINDOWS_MAX];

/// Where a list is in the cache; the one without room for what has no class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry(u32);

impl Entry {
    /// Of what has no class.
    const NONE: Self = Self(0);

    /// The list of `class`: behind the one without room.
    fn of(class: ClassId) -> Self {
        Self((class.offset() + STRIDE) as u32)
    }

    /// The offset of the list in the cache.
    #[inline(always)]
    pub(crate) fn offset(self) -> usize {
        self.0 as usize
    }

    /// The class; none for the list without room.
    #[inline]
    pub(crate) fn class(self) -> Option<ClassId> {
        let index = self.offset().checked_sub(STRIDE)? / STRIDE;
        Some(ClassId::from_header(index as u8))
    }
}

/// A chunk is mapped at `base`.
pub(crate) fn note_chunk(base: NonNull<u8>) {
    WINDOWS[base.as_ptr().addr() >> CHUNK_SHIFT].store(1, Relaxed);
}

/// Whether a chunk is mapped in the window that holds `block`.
///
/// # Safety
///
/// `block` is null or an address that the kernel may hand out.
#[inline(always)]
pub(crate) unsafe fn in_chunk(block: *mut Block) -> bool {
    // SAFETY: by the contract the window is one of the table's.
    unsafe { WINDOWS.get_unchecked(block.addr() >> CHUNK_SHIFT) }.load(Relaxed) != 0
}

/// The list that `block` goes to.
///
/// # Safety
///
/// `block` lies in a chunk's window.
#[inline(always)]
pub(crate) unsafe fn entry(block: *mut Block) -> Entry {
    let chunk = chunk_start(block.cast());
    let slot = (block.addr() >> SLOT_SHIFT) % CHUNK_SLOTS;
    // SAFETY: by invariant 1 the first slots of the chunk are mapped.
    Entry(unsafe { word(chunk, slot) }.load(Relaxed))
}

/// The slots of `span` are blocks of `class` from here on.
pub(crate) fn begin(span: Span, class: ClassId) {
    set(span, class, Entry::of(class));
}

/// The slots of `span`, which were blocks of `class`, no longer are.
pub(crate) fn end(span: Span, class: ClassId) {
    set(span, class, Entry::NONE);
}

fn set(span: Span, class: ClassId, entry: Entry) {
    let header = span.link().cast::<u8>();
    let (chunk, slot) = (chunk_start(header), slot_index(header));
    for slot in slot..slot + class.slots() {
        // SAFETY: a slot of a mapped chunk.
        unsafe { word(chunk, slot) }.store(entry.0, Relaxed);
    }
}

/// # Safety
///
/// The first slots of the chunk at `chunk` are mapped, and `slot` is one of its slots.
#[inline(always)]
unsafe fn word<'a>(chunk: *mut u8, slot: usize) -> &'a AtomicU32 {
    let word = chunk.wrapping_add(WORDS_OFFSET).cast::<AtomicU32>().wrapping_add(slot);
    // SAFETY: the caller's contract; the words lie in slots that stay mapped, and zeroes are words.
    unsafe { &*word }
}
