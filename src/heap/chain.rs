//! Free blocks, chained through their first words, and the runs a chain falls into.

use core::ptr;

use super::class::ClassId;
use super::span::Span;

/// A free block: its first word links it to the next one.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Block {
    pub(crate) next: *mut Block,
}

/// Blocks chained through their first words, ended by null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) head: *mut Block,
    pub(crate) blocks: u32,
}

/// Blocks of a chain that lie in the same span, one linked to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) span: Span,
    pub(crate) first: *mut Block,
    pub(crate) last: *mut Block,
    pub(crate) blocks: u32,
}

impl Chain {
    pub(crate) const EMPTY: Self = Self { head: ptr::null_mut(), blocks: 0 };

    /// Calls `give` with each run of the chain, whose blocks are its from then on.
    ///
    /// # Safety
    ///
    /// The blocks are blocks of `class`, linked, and the caller's.
    #[inline(always)]
    pub(crate) unsafe fn each_run(self, class: ClassId, mut give: impl FnMut(Run)) {
        let span_bytes = class.span_bytes();
        let (mut first, mut left) = (self.head, self.blocks);
        while left > 0 {
            // SAFETY: the caller's contract.
            let span = unsafe { Span::of_class(class, first) };
            let (mut last, mut next, mut blocks) = (first, first, 1);
            // Of the last block nothing is read: its line may be in no cache of this thread's.
            while blocks < left {
                // SAFETY: the chain's blocks are linked.
                next = unsafe { (*last).next };
                // Spans start on a multiple of their size.
                if (next.addr() ^ first.addr()) >= span_bytes {
                    break;
                }
                blocks += 1;
                last = next;
            }
            left -= blocks;
            give(Run { span, first, last, blocks });
            first = next;
        }
    }
}
