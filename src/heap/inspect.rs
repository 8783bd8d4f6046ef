//! What is at an address: chunk, slot, span, block, and what is known of its use.
//!
//! Nothing is kept for this. The page heap's records say which slots are mapped and
//! free, a slot's header which span it begins, arithmetic the block. Whether a
//! carved block is free is written in no one place: it may be on a list of any
//! thread. Lists of other threads change while one looks, so only the calling
//! thread's own spans and lists are searched.
//!
//! # Invariants
//!
//! 1. Memory of blocks is read on lists that no other thread takes from meanwhile: those
//!    of the calling thread's cache, bins and depot, whose lock is held, and of spans that
//!    its heap owns.

use core::ptr;

use super::Heap;
use super::cache::Cache;
use super::chain::Block;
use super::geometry::{HEADER_SLOTS, SLOT_BYTES, header_of_slot};
use super::pages::PageHeap;
use super::span::{Kind, Span};
use crate::sys::os::Os;

/// What is at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// First byte of what was found, and how many there are.
    pub(crate) start: usize,
    pub(crate) bytes: usize,
    pub(crate) what: What,
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// A block of a span.
    Block(InSpan),
    /// The end of a span, too short for a block.
    Tail,
    /// A large block: a span of its own.
    Large { sampled: bool },
    /// A larger one: a mapping of its own.
    Mapping { sampled: bool },
    /// A mapping of a block that was freed, kept for the next one.
    Kept,
    /// A free slot, with old contents or given back to the system.
    FreeSlot { dirty: bool },
    /// The headers of a chunk.
    Headers,
}

/// A block in its span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InSpan {
    pub(crate) span_start: usize,
    pub(crate) span_bytes: usize,
    pub(crate) index: u32,
    pub(crate) blocks: u32,
    pub(crate) sampled: bool,
    pub(crate) used: Used,
}

/// Whether a block is in use, as far as can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Used {
    /// With the program, or freed by another thread that has not sent it home yet.
    Live,
    Free,
    /// Free, and the pages that it begins in given back.
    Returned,
    /// Never handed out since the span was made.
    Never,
    Unknown,
}

impl<O: Os> Heap<O> {
    /// What is at `address`; `None` if it is not this heap's. `cache` belongs to this
    /// thread. Costs two locks, a look at each chunk, and at the thread's own free
    /// blocks of the class.
    pub(crate) fn inspect(&self, cache: &Cache, address: usize) -> Option<Found> {
        let found = {
            let mut space = self.space.lock();
            space.each().into_iter().find_map(|pages| locate(pages, address))
        };
        let Some(place) = found else {
            let table = self.large.lock();
            if let Some((start, bytes, sampled)) = table.find(address) {
                return Some(Found { start, bytes, what: What::Mapping { sampled } });
            }
            let (start, bytes) = table.kept.find(address)?;
            return Some(Found { start: start.addr().get(), bytes, what: What::Kept });
        };
        Some(match place {
            Place::Slot(found) => found,
            Place::Span(span, bytes) => describe(cache, span, bytes, address),
        })
    }
}

/// What the page heap knows of an address.
enum Place {
    Slot(Found),
    /// A span and its bytes.
    Span(Span, usize),
}

fn locate(pages: &mut PageHeap, address: usize) -> Option<Place> {
    let mut index = 0;
    while let Some(chunk) = pages.chunk(index) {
        index += 1;
        let base = chunk.base.addr().get();
        let slot = address.wrapping_sub(base) / SLOT_BYTES;
        if slot >= chunk.mapped {
            continue;
        }
        if slot < HEADER_SLOTS {
            let bytes = HEADER_SLOTS * SLOT_BYTES;
            return Some(Place::Slot(Found { start: base, bytes, what: What::Headers }));
        }
        let start = base + slot * SLOT_BYTES;
        let free = |dirty| {
            let what = What::FreeSlot { dirty };
            Some(Place::Slot(Found { start, bytes: SLOT_BYTES, what }))
        };
        let dirty = chunk.dirty.has(slot);
        if chunk.free.has(slot) {
            return free(dirty);
        }
        // The span began in this slot or in one before it.
        for first in (HEADER_SLOTS..=slot).rev() {
            // SAFETY: a slot of a mapped chunk.
            let span = unsafe { Span::from_header(header_of_slot(chunk.base, first)) };
            if span.kind() == Kind::None {
                continue;
            }
            let slots = span.hot().slots.get() as usize;
            if first + slots > slot {
                return Some(Place::Span(span, slots * SLOT_BYTES));
            }
            break;
        }
        // On its way between the page heap and a span, or to the system.
        return free(dirty);
    }
    None
}

fn describe(cache: &Cache, span: Span, span_bytes: usize, address: usize) -> Found {
    let span_start = span.start().addr();
    let kind = span.kind();
    if kind == Kind::Large {
        let what = What::Large { sampled: span.hot().sampled.get() != 0 };
        return Found { start: span_start, bytes: span_bytes, what };
    }
    let class = span.class();
    let (bytes, blocks) = (class.block_bytes(), class.capacity());
    let index = (address - span_start) / bytes;
    let start = span_start + index * bytes;
    if index >= blocks as usize {
        return Found { start, bytes: span_start + span_bytes - start, what: What::Tail };
    }
    let block = span.start().wrapping_add(index * bytes).cast::<Block>();
    let used = if index >= span.hot().carved.get() as usize {
        Used::Never
    } else if owns(cache, span) {
        look_for(cache, span, block)
    } else {
        Used::Unknown
    };
    let sampled = kind == Kind::Sampled;
    let index = index as u32;
    let what = What::Block(InSpan { span_start, span_bytes, index, blocks, sampled, used });
    Found { start, bytes, what }
}

/// Whether the calling thread's heap owns the span.
fn owns(cache: &Cache, span: Span) -> bool {
    cache.owner().is_some_and(|owner| ptr::eq(owner, span.hot().owner.get()))
}

/// Looks for a block on the lists of invariant 1. The thread owns the span.
fn look_for(cache: &Cache, span: Span, block: *mut Block) -> Used {
    let (class, hot) = (span.class(), span.hot());
    let Some(owner) = cache.owner() else { return Used::Unknown };
    let lists = owner.bin(class).lists(cache.list(class));
    // The scavenger takes magazines and thins spans, too.
    let depot = owner.depot.lock();
    let view = span.cold().remote.view();
    if !owns(cache, span) || span.class() != class {
        // The scavenger has ended it meanwhile, since it was empty.
        return Used::Free;
    }
    if span.is_thinned_out(span.number_of(block)) {
        return Used::Returned;
    }
    let kept = depot.each(class).map(|chain| (chain.head, chain.blocks));
    let mut is_bundled = false;
    // SAFETY: by invariant 1.
    unsafe { span.each_bundled(view.head(), |free| is_bundled |= free == block) };
    let own = [(hot.spare.get(), hot.spare_blocks.get()), (hot.local.get(), span.freed())];
    let is_listed = own.into_iter().chain(lists).chain(kept).any(|(head, blocks)| {
        let mut next = head;
        (0..blocks).any(|_| {
            let at = next;
            if at.is_null() || at == block {
                return at == block;
            }
            // SAFETY: by invariant 1 a free block, linked.
            next = unsafe { (*at).next };
            false
        })
    });
    if is_bundled || is_listed { Used::Free } else { Used::Live }
}
