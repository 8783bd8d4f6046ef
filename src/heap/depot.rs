//! The depot: full lists that a thread keeps behind the two of each class.
//!
//! A thread that drops a large structure and builds the next one frees far more than
//! two lists hold. Sending each block home, only to collect it there again, costs more
//! than allocating and freeing it. So a full list is put aside whole, as a *magazine*
//! (Bonwick and Adams, *Magazines and Vmem*, 2001), and an empty list takes one back:
//! a handful of instructions for some hundred blocks.
//!
//! Two kinds of lists are not worth keeping, and go home. Blocks of other threads'
//! spans will hardly be allocated here. And blocks that were freed in random order over
//! more memory than the processor's caches hold would be popped in that order, each
//! address known only when the block before it has arrived; from their spans they come
//! in a better one. [`is_together`] looks at a few links to tell.
//!
//! What is kept keeps spans from being empty. Therefore a magazine that lay here for a
//! whole tick of the scavenger goes home all the same ([`reap`](super::reap)), whether
//! or not its thread is awake. A thread whose sizes change takes spans of one class while
//! magazines of another lie here; so each mebibyte of spans marks what is here, too, and what is
//! marked goes home with the spans taken from then on, as many bytes as they have, unless it is
//! used first.
//!
//! # Invariants
//!
//! 1. A magazine's blocks are free, of its class, counted out in their spans, and linked
//!    through their first words; `blocks` of them, as many as a list has at most (invariant 4
//!    of [`bin`](super::bin)).
//! 2. Every entry in use is on the chain of its class, newest first; every other one
//!    below `fresh` is on the chain of free entries.
//! 3. `bytes` is the sum over the magazines, and at most [`BYTES_MAX`].
//!
//! The depot lies under a lock, since the scavenger comes here, too: invariant 4 of
//! [`thread`](super::thread).

use core::ptr;

use super::bin::LIST_BLOCKS_MAX;
use super::chain::{Block, Chain};
use super::class::{CLASSES, ClassId};
use super::geometry::SLOT_BYTES;

/// Magazines of a thread.
pub(super) const MAGAZINES: usize = 128;
/// The most that a thread keeps.
const BYTES_MAX: usize = 2 << 20;
/// So many bytes of spans taken age what is here.
const AGING_BYTES: usize = 1 << 20;
/// Links that [`is_together`] looks at, and how many of them may lead far.
const LINKS: usize = 8;
const FAR_LINKS_MAX: usize = 1;

/// A list put aside.
#[derive(Clone, Copy, Debug)]
struct Magazine {
    head: *mut Block,
    blocks: u16,
    class: u8,
    /// The entry behind it on its chain, plus one; 0 for none.
    next: u8,
    /// It was here at the last tick, or when so many spans had been taken.
    aged: bool,
}

impl Magazine {
    fn chain(self) -> Chain {
        Chain { head: self.head, blocks: self.blocks.into() }
    }

    fn bytes(self) -> usize {
        self.blocks as usize * ClassId::from_header(self.class).block_bytes()
    }
}

/// A thread's magazines.
#[derive(Debug)]
pub(crate) struct Depot {
    bytes: usize,
    /// Bytes of spans that the thread took since what was here was aged.
    taken: usize,
    /// Entries that were ever used.
    fresh: u8,
    /// The first free one of them, plus one.
    free: u8,
    /// The newest magazine of each class, plus one.
    tops: [u8; CLASSES],
    magazines: [Magazine; MAGAZINES],
}

// SAFETY: the blocks of a magazine are free, and whoever holds the depot's lock may
// have them.
unsafe impl Send for Depot {}

const _: () = assert!(MAGAZINES < u8::MAX as usize && size_of::<Magazine>() == 16);
/// A list's length fits: the smallest blocks make the longest ones.
const _: () = assert!(2 * SLOT_BYTES / 8 + 3 * LIST_BLOCKS_MAX <= u16::MAX as usize);

impl Depot {
    /// No magazines; all zero.
    pub(crate) const fn new() -> Self {
        let none = Magazine { head: ptr::null_mut(), blocks: 0, class: 0, next: 0, aged: false };
        Self {
            bytes: 0,
            taken: 0,
            fresh: 0,
            free: 0,
            tops: [0; CLASSES],
            magazines: [none; MAGAZINES],
        }
    }

    /// Bytes of blocks here.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts `chain` aside; `false`, and nothing done, when there is no room.
    pub(crate) fn put(&mut self, class: ClassId, chain: Chain) -> bool {
        let magazine = Magazine {
            head: chain.head,
            blocks: chain.blocks as u16,
            class: class.header_byte(),
            next: self.tops[class.index()],
            aged: false,
        };
        if self.bytes + magazine.bytes() > BYTES_MAX {
            return false;
        }
        let Some(entry) = self.take_entry() else { return false };
        self.tops[class.index()] = entry + 1;
        self.magazines[entry as usize] = magazine;
        self.bytes += magazine.bytes();
        true
    }

    /// Takes the newest magazine of `class`; an empty chain if there is none.
    pub(crate) fn take(&mut self, class: ClassId) -> Chain {
        let Some(entry) = self.tops[class.index()].checked_sub(1) else { return Chain::EMPTY };
        let magazine = self.magazines[entry as usize];
        self.tops[class.index()] = magazine.next;
        self.release(entry)
    }

    /// Takes a magazine that is aged, or any if `all`.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn take_aged(&mut self, all: bool) -> Option<(ClassId, Chain)> {
        for class in ClassId::all() {
            let mut before = None;
            let mut at = self.tops[class.index()];
            while let Some(entry) = at.checked_sub(1) {
                let magazine = self.magazines[entry as usize];
                if magazine.aged || all {
                    match before {
                        None => self.tops[class.index()] = magazine.next,
                        Some(before) => self.magazines[before as usize].next = magazine.next,
                    }
                    return Some((class, self.release(entry)));
                }
                before = Some(entry);
                at = magazine.next;
            }
        }
        None
    }

    /// The thread takes a span of so many bytes.
    pub(crate) fn count_taken(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken >= AGING_BYTES {
            self.age();
        }
    }

    /// A tick has passed, or many spans were taken: what is here now goes home, unless used first.
    pub(crate) fn age(&mut self) {
        self.taken = 0;
        for magazine in &mut self.magazines[..self.fresh as usize] {
            magazine.aged = true;
        }
    }

    /// The magazines of `class`, newest first.
    pub(crate) fn each(&self, class: ClassId) -> impl Iterator<Item = Chain> {
        let mut at = self.tops[class.index()];
        core::iter::from_fn(move || {
            let magazine = self.magazines.get(at.checked_sub(1)? as usize)?;
            at = magazine.next;
            Some(magazine.chain())
        })
    }

    fn take_entry(&mut self) -> Option<u8> {
        if let Some(entry) = self.free.checked_sub(1) {
            self.free = self.magazines[entry as usize].next;
            return Some(entry);
        }
        let entry = self.fresh;
        ((entry as usize) < MAGAZINES).then(|| {
            self.fresh += 1;
            entry
        })
    }

    /// Frees an entry that is on no chain any more; what was in it.
    fn release(&mut self, entry: u8) -> Chain {
        let magazine = &mut self.magazines[entry as usize];
        magazine.next = self.free;
        self.free = entry + 1;
        self.bytes -= magazine.bytes();
        magazine.chain()
    }
}

/// Whether the blocks of a full list lie close enough together to be popped one after
/// the other: of the newest links, which are in the processor's cache still, most lead
/// to a neighbour.
///
/// # Safety
///
/// The chain's blocks are linked.
pub(crate) unsafe fn is_together(chain: Chain) -> bool {
    let mut block: *mut Block = chain.head;
    let mut far = 0;
    for _ in 1..(chain.blocks as usize).min(LINKS + 1) {
        // SAFETY: the caller's contract.
        let next = unsafe { (*block).next };
        far += usize::from(block.addr().abs_diff(next.addr()) >= SLOT_BYTES);
        block = next;
    }
    far <= FAR_LINKS_MAX
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn chain(blocks: u32) -> Chain {
        Chain { head: core::ptr::without_provenance_mut(8), blocks }
    }

    fn kept(depot: &Depot) -> usize {
        let classes = ClassId::all();
        let bytes = |class: ClassId| {
            depot.each(class).map(move |chain| chain.blocks as usize * class.block_bytes())
        };
        classes.flat_map(bytes).sum()
    }

    #[test]
    fn the_newest_of_a_class_comes_back_first() {
        let mut depot = Depot::new();
        let classes: Vec<_> = ClassId::all().take(3).collect();
        for blocks in 1..=4 {
            for &class in &classes {
                assert!(depot.put(class, chain(blocks)));
                assert_eq!(depot.bytes(), kept(&depot));
            }
        }
        for blocks in (1..=4).rev() {
            for &class in &classes {
                assert_eq!(depot.take(class).blocks, blocks);
                assert_eq!(depot.bytes(), kept(&depot));
            }
        }
        assert_eq!((depot.take(classes[0]).blocks, depot.bytes()), (0, 0));
    }

    #[test]
    fn entries_and_bytes_are_bounded() {
        let mut depot = Depot::new();
        let smallest = ClassId::all().next().unwrap();
        let taken = (0..1000).take_while(|_| depot.put(smallest, chain(1))).count();
        assert_eq!(taken, MAGAZINES);
        assert_eq!(depot.take(smallest).blocks, 1);
        assert!(depot.put(smallest, chain(2)) && !depot.put(smallest, chain(1)));
        let mut depot = Depot::new();
        let largest = ClassId::all().last().unwrap();
        let taken = (0..1000).take_while(|_| depot.put(largest, chain(3))).count();
        assert_eq!(taken, BYTES_MAX / (3 * largest.block_bytes()));
    }

    #[test]
    fn a_tick_takes_what_was_there_at_the_last_one() {
        let mut depot = Depot::new();
        let classes: Vec<_> = ClassId::all().take(2).collect();
        assert!(depot.put(classes[0], chain(1)) && depot.put(classes[1], chain(2)));
        assert!(depot.take_aged(false).is_none());
        depot.age();
        assert!(depot.put(classes[0], chain(3)));
        let mut aged = Vec::new();
        while let Some((class, chain)) = depot.take_aged(false) {
            aged.push((class, chain.blocks));
        }
        assert_eq!(aged, [(classes[0], 1), (classes[1], 2)]);
        assert_eq!(depot.take(classes[0]).blocks, 3);
        assert_eq!(depot.bytes(), 0);
    }

    #[test]
    fn lists_across_spans_are_not_together() {
        let link = |mut blocks: Vec<u64>, step: usize| {
            let base = blocks.as_mut_ptr();
            let at = |index: usize| base.wrapping_add(index * step).cast::<Block>();
            for index in 0..15 {
                // SAFETY: inside `blocks`.
                unsafe { (*at(index)).next = at(index + 1) };
            }
            // SAFETY: linked above.
            unsafe { is_together(Chain { head: base.cast(), blocks: 16 }) }
        };
        assert!(link(vec![0; 16 * 8], 8));
        assert!(!link(vec![0; 16 * SLOT_BYTES / 8], SLOT_BYTES / 8));
    }
}
