//! What a span hands out: the chains that a refill takes.
//!
//! In the order: spare, freed by the owner, freed elsewhere, thinned out, never used. So what is
//! resident comes first, and memory is touched anew only when nothing else is left.

use core::ptr;

use super::chain::{Block, Chain};
use super::class::PerClass;
use super::span::{FAR, Span};
use crate::sys::os::page_bytes;

/// Half a page of blocks, 16 at most.
static CARVE_MIN: PerClass = PerClass::of_bytes(2 * 1024, 1, 16);
/// Four pages of blocks, 8 at least.
static CARVE_MAX: PerClass = PerClass::of_bytes(16 * 1024, 8, usize::MAX);

/// A chain ready to be handed out, and how many blocks other threads had freed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathered {
    pub(crate) chain: Chain,
    pub(crate) remote: u32,
}

impl Span {
    /// Takes a chain of blocks to hand out. `None` when the span has nothing. Counts them out.
    #[inline]
    pub(crate) fn gather(self) -> Option<Gathered> {
        let hot = self.hot();
        let spare_blocks = hot.spare_blocks.get();
        if spare_blocks > 0 {
            let chain = Chain { head: hot.spare.get(), blocks: spare_blocks };
            hot.spare.set(ptr::null_mut());
            hot.spare_blocks.set(0);
            hot.out.add(spare_blocks);
            return Some(Gathered { chain, remote: 0 });
        }
        let freed = self.freed();
        if freed > 0 {
            // They were out and are out again, but for those that are not there.
            let missing = hot.thinned_local.get();
            hot.thinned_local.set(0);
            hot.out.sub(missing);
            let chain = Chain { head: hot.local.get(), blocks: freed - missing };
            hot.local.set(ptr::null_mut());
            self.arm(0, FAR);
            return Some(Gathered { chain, remote: 0 });
        }
        if self.cold().remote.view().count() > 0 {
            return Some(self.take_remote());
        }
        self.cut_again().or_else(|| self.carve()).map(|chain| Gathered { chain, remote: 0 })
    }

    /// Takes what other threads freed; still counted out, but for what is not there.
    pub(crate) fn take_remote(self) -> Gathered {
        let view = self.cold().remote.take();
        let missing = self.cold().thinned_remote.get();
        self.cold().thinned_remote.set(0);
        self.hot().out.sub(missing);
        // SAFETY: they were taken just now.
        let chain = unsafe { self.unpack(view.head()) };
        if chain.blocks != view.count() - missing {
            self.die_of_a_write();
        }
        Gathered { chain, remote: view.count() }
    }

    /// Cuts the blocks that begin in the lowest page that was given back.
    fn cut_again(self) -> Option<Chain> {
        let hot = self.hot();
        let thinned = hot.thinned.get();
        if thinned == 0 {
            return None;
        }
        hot.thinned.set(thinned & (thinned - 1));
        let start = thinned.trailing_zeros() as usize * page_bytes();
        let bytes = self.class().block_bytes();
        let first = start.div_ceil(bytes);
        let behind = (start + page_bytes()).div_ceil(bytes).min(hot.carved.get() as usize);
        Some(self.cut(first, behind - first))
    }

    /// Cuts blocks that were never used: as many again as the span has carved so far, but at least
    /// half a page of them (16 if that is fewer) and at most four pages (8 if that is more), so
    /// that a rarely used class touches little memory, a short thread cuts little that it does not
    /// use, and a busy one comes here seldom.
    fn carve(self) -> Option<Chain> {
        let hot = self.hot();
        let class = self.class();
        let carved = hot.carved.get();
        let left = class.capacity() - carved;
        if left == 0 {
            return None;
        }
        let blocks = carved.clamp(CARVE_MIN.of(class), CARVE_MAX.of(class)).min(left);
        hot.carved.set(carved + blocks);
        Some(self.cut(carved as usize, blocks as usize))
    }

    /// Makes a chain of `blocks` blocks from number `first` on, which are on none, and counts
    /// them out.
    #[inline]
    fn cut(self, first: usize, blocks: usize) -> Chain {
        let bytes = self.class().block_bytes();
        let head = self.start().wrapping_add(first * bytes).cast::<Block>();
        let last = head.wrapping_byte_add((blocks - 1) * bytes);
        let mut block = head;
        // By address: the compiler makes eight interleaved chains of a loop that counts.
        while block != last {
            let next = block.wrapping_byte_add(bytes);
            // SAFETY: `block` is a block of this span that nobody has (the first two rows of
            // the span's table), aligned to 8.
            unsafe { (*block).next = next };
            block = next;
        }
        // SAFETY: as above.
        unsafe { (*last).next = ptr::null_mut() };
        self.hot().out.add(blocks as u32);
        Chain { head, blocks: blocks as u32 }
    }
}
