//! What a pointer is, by the heap's own records: for calls that do not say a layout.
//!
//! The answer is a layout by which the heap treats the block as it did when it was
//! allocated: the same class, or large in the same way.

use core::alloc::Layout;
use core::ptr::NonNull;

use super::Heap;
use super::chain::Block;
use super::class::{ClassId, WIDE_SLOTS};
use super::classmap;
use super::geometry::{SLOT_BYTES, is_sampled};
use super::large::SPAN_BYTES_MAX;
use super::span::{Kind, Span};
use crate::sys::os::Os;

/// A block that the heap handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owned {
    /// Of a class.
    Small(ClassId),
    /// Of a class, and sampled.
    Sampled(ClassId),
    /// Large: a layout of the block's size that is large in the same way.
    Large(Layout),
}

impl Owned {
    /// Bytes of the block.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Small(class) | Self::Sampled(class) => class.block_bytes(),
            Self::Large(layout) => layout.size(),
        }
    }
}

impl<O: Os> Heap<O> {
    /// What the block at `start` is; none if this heap has not handed it out, or it is
    /// free. Cost: a load or two, and a lock for a mapping of its own.
    ///
    /// # Safety
    ///
    /// `start` is an address that the kernel may hand out.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) unsafe fn owned(&self, start: NonNull<u8>) -> Option<Owned> {
        let block = start.as_ptr().cast::<Block>();
        // SAFETY: the caller's contract.
        if unsafe { classmap::in_chunk(block) } {
            // SAFETY: as just found.
            if let Some(class) = unsafe { classmap::entry(block) }.class() {
                return Some(Owned::Small(class));
            }
            // SAFETY: as above.
            let found = unsafe { special(block) };
            if found.is_some() {
                return found;
            }
        }
        // The rest of a window of which a chunk maps a part may hold a mapping.
        let bytes = self.large.lock().bytes_of(start)?;
        // What is no larger than a span was mapped for its alignment.
        let align = if bytes > SPAN_BYTES_MAX { 1 } else { 2 * SPAN_BYTES_MAX };
        Some(Owned::Large(layout(bytes, align)))
    }
}

/// A block that lies in a chunk and in no ordinary span: sampled, or large.
///
/// # Safety
///
/// The first slots of the chunk that holds `block` are mapped.
unsafe fn special(block: *mut Block) -> Option<Owned> {
    // SAFETY: the header of a slot is mapped with the chunk's first ones.
    let span = unsafe { Span::of::<1>(block.cast()) };
    if is_sampled(block) {
        if span.kind() == Kind::Sampled {
            return Some(Owned::Sampled(span.class()));
        }
        // SAFETY: as above. A slot inside a wide span says nothing itself.
        let span = unsafe { Span::of::<WIDE_SLOTS>(block.cast()) };
        // Behind a chunk that was cut down there may be a mapping, next to a span of one slot.
        let is_wide = span.kind() == Kind::Sampled && !span.class().is_narrow();
        return is_wide.then(|| Owned::Sampled(span.class()));
    }
    let is_start = span.kind() == Kind::Large && span.start() == block.cast();
    is_start.then(|| Owned::Large(layout(span.hot().slots.get() as usize * SLOT_BYTES, 1)))
}

fn layout(bytes: usize, align: usize) -> Layout {
    // SAFETY: the size is of memory that is mapped, the alignment a power of two, and
    // their sum far below the largest size.
    unsafe { Layout::from_size_align_unchecked(bytes, align) }
}
