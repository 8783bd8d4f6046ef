//! Spans: runs of slots cut into equal blocks, and their two headers.
//!
//! A block of a span is in exactly one place, and its span's words say how many
//! are in each:
//!
//! | place | chain | how many |
//! | --- | --- | --- |
//! | never handed out | none; above `carved` | `capacity − carved` |
//! | thinned out: free, and their memory given back | none; those that begin in `thinned` pages | what is left of `carved` |
//! | spare: freed by an owner that has ended | `spare` | `spare_blocks` |
//! | freed by the owner since the last collect | `local` | `freed() − thinned_local` |
//! | freed by others since the last collect | none; in the [`bundle`](super::bundle)s of `remote` | its count `− thinned_remote` |
//! | on some thread's list, in its depot or outbox, or with the program | theirs; none | the rest |
//!
//! # Invariants
//!
//! 1. `carved ≥ spare_blocks + out`, and `out` counts the last three rows with what was
//!    thinned out of them: `out ≥ freed() + remote.count()`. The difference is thinned out.
//! 2. The words of [`Hot`] and the plain words of [`Cold`] are written by the
//!    span's owner: the thread whose heap `home` names; the holder of the central
//!    lock while the span is abandoned; the page heap while it is free. Of a thread's span
//!    `place`, the links and the words of invariant 7 are written by whoever holds the lock of
//!    its heap's depot.
//! 3. `owner` is the address of the heap whose thread may push on `local` and count
//!    down, or [`NOBODY`]: abandoned, large, free. In a slot that no span has begun
//!    in yet it is null.
//! 4. `freed() == start − countdown`. When a free finds the countdown at 0 the owner
//!    has something to look at, and says so by what it sets `start` to.
//! 5. A header is at a fixed place in a chunk, whose headers are never unmapped, so reading
//!    one through a stale reference reads old news, not unmapped memory.
//! 6. The store with which the owner makes a parked span empty is its last one to the
//!    header before it takes its heap's lock and looks who owns the span: the scavenger
//!    may end it as soon as it sees that store, which therefore releases, and is acquired
//!    by [`freed`](Span::freed).
//! 7. `thinned`, `thinned_local`, `thinned_remote`, `spare`, `spare_blocks` and `visit` are
//!    written under the lock of the depot of the owner's heap, by its thread or the scavenger, or
//!    under the central one.
//! 8. `kind` is the word that publishes a header: the others are written before it, and a snapshot
//!    acquires it first. Whoever has a block needs no such order, for the block came after them
//!    all.

use core::ptr::{self, NonNull};

use super::chain::Block;
use super::class::{ClassId, WIDE_SLOTS};
use super::geometry;
use super::mailbox::Mail;
use super::remote::Remote;
use super::thin::NOT_VISITED;
use super::thread::ThreadHeap;
use crate::base::own::{OwnPtr, OwnU8, OwnU32, OwnU64};
use crate::base::sync::AtomicPtr;

/// The owner of what no thread owns. Not null, so that a thread which does not drain
/// owns no span ([`Drain`](super::cache::Drain)).
pub(crate) const NOBODY: *mut ThreadHeap = ptr::without_provenance_mut(1);

/// A countdown that no run of frees uses up.
pub(crate) const FAR: u32 = 1 << 30;

/// What a slot is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Free, or inside a span that started in an earlier slot.
    None = 0,
    /// Cut into blocks; owned by a thread's heap or abandoned.
    Blocks = 1,
    /// Cut into blocks, each of which is sampled.
    Sampled = 2,
    /// One large block.
    Large = 3,
}

/// Where its owner keeps a span of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Place {
    /// The class's current span: the list of the class comes from it.
    Current = 0,
    /// Has blocks to hand out; on the partial list.
    Partial = 1,
    /// Little or nothing to hand out; on the full list.
    Full = 2,
    /// Abandoned, on a central list.
    Central = 3,
    /// Abandoned, on no list.
    Adrift = 4,
}

/// The line that the owner's frees touch.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Hot {
    pub(crate) owner: OwnPtr<ThreadHeap>,
    pub(crate) local: OwnPtr<Block>,
    pub(crate) countdown: OwnU32,
    pub(crate) start: OwnU32,
    pub(crate) out: OwnU32,
    pub(crate) carved: OwnU32,
    pub(crate) spare: OwnPtr<Block>,
    pub(crate) spare_blocks: OwnU32,
    /// Slots of the span; in the header of a chunk's slot 0 the chunk's number (`chunk_index` in
    /// [`pages`](super::pages)).
    pub(crate) slots: OwnU32,
    pub(crate) class: OwnU8,
    pub(crate) kind: OwnU8,
    pub(crate) place: OwnU8,
    /// The large block was sampled.
    pub(crate) sampled: OwnU8,
    /// Blocks missing on `local`, since they were thinned out.
    pub(crate) thinned_local: OwnU32,
    /// A bit for each page that was given back and in which a block begins.
    pub(crate) thinned: OwnU64,
}

/// What other threads write, and the links of the owner's lists.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Cold {
    pub(crate) remote: Remote,
    mail: AtomicPtr<Hot>,
    pub(crate) home: OwnPtr<ThreadHeap>,
    pub(crate) previous: OwnPtr<Hot>,
    pub(crate) next: OwnPtr<Hot>,
    /// As `thinned_local`, on `remote`.
    pub(crate) thinned_remote: OwnU32,
    /// What the scavenger saw at its last visit (see [`thin`](super::thin)).
    pub(crate) visit: OwnU32,
}

const _: () = assert!(size_of::<Hot>() == 64 && size_of::<Cold>() == 64);

/// A span, by its hot header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Span(NonNull<Hot>);

impl Span {
    /// The span whose hot header is at `header`.
    ///
    /// # Safety
    ///
    /// `header` is the hot header of a slot of a mapped chunk.
    #[inline(always)]
    pub(crate) unsafe fn from_header(header: *mut u8) -> Self {
        // SAFETY: the caller's contract; a header is not null.
        Self(unsafe { NonNull::new_unchecked(header.cast()) })
    }

    /// The span of a block, where spans have `SLOTS` slots.
    ///
    /// # Safety
    ///
    /// `block` lies in a chunk, whose headers stay mapped. What is at the header is the block's
    /// span only if it is a block of a span of `SLOTS` slots.
    #[inline(always)]
    pub(crate) unsafe fn of<const SLOTS: usize>(block: *mut u8) -> Self {
        // SAFETY: by the contract the header is one of a mapped chunk's.
        unsafe { Self::from_header(geometry::hot_header::<SLOTS>(block)) }
    }

    /// The span of a block of `class`.
    ///
    /// # Safety
    ///
    /// `block` is a block of a span of `class`.
    #[inline(always)]
    pub(crate) unsafe fn of_class(class: ClassId, block: *mut Block) -> Self {
        if class.slots() == 1 {
            // SAFETY: the caller's contract.
            unsafe { Self::of::<1>(block.cast()) }
        } else {
            // SAFETY: the caller's contract.
            unsafe { Self::of::<WIDE_SLOTS>(block.cast()) }
        }
    }

    /// A span from a list's link, null for none.
    #[inline]
    pub(crate) fn from_link(link: *mut Hot) -> Option<Self> {
        NonNull::new(link).map(Self)
    }

    /// The span as a list's link.
    #[inline]
    pub(crate) fn link(self) -> *mut Hot {
        self.0.as_ptr()
    }

    #[inline(always)]
    pub(crate) fn hot(&self) -> &Hot {
        // SAFETY: by invariant 5 the header is mapped; all its words are atomic.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn cold(&self) -> &Cold {
        let cold = geometry::cold_header(self.0.as_ptr().cast()).cast::<Cold>();
        // SAFETY: as for `hot`; each hot header has its cold one.
        unsafe { &*cold }
    }

    /// The span's first byte.
    #[inline]
    pub(crate) fn start(self) -> *mut u8 {
        geometry::slot_start(self.0.as_ptr().cast())
    }

    /// The header of the slot `slots` behind this one.
    ///
    /// # Safety
    ///
    /// That slot is in the same chunk and mapped.
    pub(crate) unsafe fn slot_behind(self, slots: usize) -> Self {
        // SAFETY: headers are dense; the caller's contract.
        Self(unsafe { self.0.add(slots) })
    }

    #[inline]
    pub(crate) fn class(self) -> ClassId {
        ClassId::from_header(self.hot().class.get())
    }

    /// What its words mean: those of which the kind tells are seen as they were when it began, by
    /// snapshots of other threads, too (invariant 8).
    pub(crate) fn kind(self) -> Kind {
        match self.hot().kind.read() {
            1 => Kind::Blocks,
            2 => Kind::Sampled,
            3 => Kind::Large,
            _ => Kind::None,
        }
    }

    pub(crate) fn place(self) -> Place {
        match self.hot().place.get() {
            0 => Place::Current,
            1 => Place::Partial,
            2 => Place::Full,
            3 => Place::Central,
            _ => Place::Adrift,
        }
    }

    /// Makes fresh slots a span of blocks owned by `home`.
    pub(crate) fn begin(self, class: ClassId, kind: Kind, home: *mut ThreadHeap) {
        let (hot, cold) = (self.hot(), self.cold());
        hot.local.set(ptr::null_mut());
        hot.spare.set(ptr::null_mut());
        hot.spare_blocks.set(0);
        hot.out.set(0);
        hot.carved.set(0);
        hot.slots.set(class.slots() as u32);
        hot.class.set(class.header_byte());
        hot.sampled.set(0);
        hot.place.set(Place::Current as u8);
        hot.thinned_local.set(0);
        hot.thinned.set(0);
        cold.thinned_remote.set(0);
        cold.visit.set(NOT_VISITED);
        cold.remote.reset();
        cold.home.set(home);
        self.arm(0, FAR);
        hot.kind.publish(kind as u8);
        hot.owner.set(home);
        #[cfg(feature = "preload")]
        if kind == Kind::Blocks {
            super::classmap::begin(self, class);
        }
    }

    /// Makes fresh slots one large block.
    pub(crate) fn begin_large(self, slots: usize, sampled: bool) {
        let hot = self.hot();
        hot.slots.set(slots as u32);
        hot.sampled.set(sampled as u8);
        hot.kind.publish(Kind::Large as u8);
        hot.owner.set(NOBODY);
    }

    /// Whether the large block is sampled; from here on it is not.
    #[inline]
    pub(crate) fn take_sampled(self) -> bool {
        let sampled = self.hot().sampled.get() != 0;
        self.hot().sampled.set(0);
        sampled
    }

    /// The slots are free again: no state of the header means anything.
    pub(crate) fn end(self) {
        let hot = self.hot();
        #[cfg(feature = "preload")]
        if self.kind() == Kind::Blocks {
            super::classmap::end(self, self.class());
        }
        hot.owner.set(NOBODY);
        hot.kind.set(Kind::None as u8);
    }

    /// Blocks that the owner freed since the last collect.
    #[inline]
    pub(crate) fn freed(self) -> u32 {
        self.hot().start.read().wrapping_sub(self.hot().countdown.read())
    }

    /// With `freed` blocks on `local`, fires at the `step`th more (invariant 4).
    #[inline]
    pub(crate) fn arm(self, freed: u32, step: u32) {
        self.hot().start.set(freed.wrapping_add(step - 1));
        self.hot().countdown.set(step - 1);
    }

    /// When a span of this class has regained this many blocks it is worth
    /// linking again: an eighth of it.
    #[inline]
    pub(crate) fn worthwhile(self) -> u32 {
        (self.class().capacity() / 8).max(1)
    }

    /// Puts the owner's run of `blocks` free blocks, linked from `first` to `last`,
    /// on the local chain. Returns whether the countdown has run out.
    ///
    /// # Safety
    ///
    /// The blocks are this span's and free, and the caller owns both.
    #[inline]
    pub(crate) unsafe fn push_local(
        self,
        first: *mut Block,
        last: *mut Block,
        blocks: u32,
    ) -> bool {
        let hot = self.hot();
        // SAFETY: the block is free and the caller's to link.
        unsafe { (*last).next = hot.local.get() };
        hot.local.publish(first);
        let left = hot.countdown.get();
        if left >= blocks {
            hot.countdown.publish(left - blocks);
            return false;
        }
        // `freed()` grows by `blocks` all the same (invariant 4), at the last store: it may
        // empty the span, and then that is not this thread's any more (invariant 6).
        hot.countdown.set(0);
        hot.start.publish(hot.start.get().wrapping_add(blocks - left));
        true
    }

    /// Puts one block of the owner's on the local chain, unless the countdown would
    /// run out: then nothing is done and `false` returned.
    ///
    /// # Safety
    ///
    /// The block is this span's and free, and the caller owns both.
    #[inline(always)]
    pub(crate) unsafe fn push_block(self, block: *mut Block) -> bool {
        let hot = self.hot();
        let left = hot.countdown.get().wrapping_sub(1);
        // The sign lets the subtraction answer; a countdown is far below 2^31.
        if left.cast_signed() < 0 {
            return false;
        }
        // SAFETY: the block is free and the caller's to link.
        unsafe { (*block).next = hot.local.get() };
        hot.local.publish(block);
        hot.countdown.publish(left);
        true
    }

    /// Makes what the owner freed the spare chain: the owner gives the span up.
    /// There is no spare chain yet, since a span's owner takes it first.
    pub(crate) fn spare_freed(self) {
        let (hot, freed) = (self.hot(), self.freed());
        hot.spare.set(hot.local.get());
        hot.spare_blocks.set(freed - hot.thinned_local.get());
        hot.thinned_local.set(0);
        hot.out.sub(freed);
        hot.local.set(ptr::null_mut());
        self.arm(0, FAR);
    }

    /// Dies if an invariant does not hold. Nobody else uses the span meanwhile.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn check(self) {
        let (hot, cold, view) = (self.hot(), self.cold(), self.cold().remote.view());
        let (class, freed) = (self.class(), self.freed());
        assert!(hot.carved.get() <= class.capacity());
        let withdrawn = (0..hot.carved.get()).filter(|index| self.is_thinned_out(*index)).count();
        let (missing, missing_remote) = (hot.thinned_local.get(), cold.thinned_remote.get());
        let thinned = withdrawn as u32 - missing - missing_remote;
        let placed = hot.spare_blocks.get() + hot.out.get() + thinned;
        assert_eq!(hot.carved.get(), placed, "invariant 1");
        assert!(hot.out.get() >= freed + view.count(), "invariant 1");
        let mut met = std::collections::HashSet::new();
        let mut meet = |block: *mut Block| {
            let offset = block.addr() - self.start().addr();
            assert_eq!(offset % class.block_bytes(), 0);
            let index = (offset / class.block_bytes()) as u32;
            assert!(index < hot.carved.get() && !self.is_thinned_out(index));
            assert!(met.insert(offset), "a block is free twice");
        };
        let chains =
            [(hot.spare.get(), hot.spare_blocks.get()), (hot.local.get(), freed - missing)];
        for (head, blocks) in chains {
            let mut block = head;
            for _ in 0..blocks {
                meet(block);
                // SAFETY: a free block of this span is linked.
                block = unsafe { (*block).next };
            }
        }
        let mut bundled = 0;
        let visit = |block| {
            meet(block);
            bundled += 1;
        };
        // SAFETY: nobody else uses the span.
        unsafe { self.each_bundled(view.head(), visit) };
        assert_eq!(bundled, view.count() - missing_remote);
    }

    /// How many blocks are on lists, in outboxes or with the program. Dies if the span's words
    /// contradict each other (invariant 1), as they do after a double free.
    #[inline]
    pub(crate) fn in_use(self) -> u32 {
        let freed = self.freed() + self.cold().remote.view().count();
        match self.hot().out.get().checked_sub(freed) {
            Some(in_use) => in_use,
            None => crate::sys::fatal::die_at(
                self.start().addr(),
                "more blocks were freed than allocated, by a double free or a wrong pointer, of the span",
            ),
        }
    }
}

impl Mail for Hot {
    fn link(item: *mut Self) -> *const AtomicPtr<Self> {
        let cold = geometry::cold_header(item.cast()).cast::<Cold>();
        // SAFETY: a hot header's cold one is mapped with it.
        unsafe { &raw const (*cold).mail }
    }
}
