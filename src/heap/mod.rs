//! Floor 2: the heap. No `alloc` crate, no formatting, nothing that asks for a panic.
//!
//! # The cast
//!
//! | | |
//! | --- | --- |
//! | block | what a program gets: a piece of a span, of one size class |
//! | span | one slot of 64 KiB, or several in a row, cut into blocks of one class; or one large block |
//! | cache | in thread-local memory: per class a list of free blocks, popped and pushed |
//! | thread heap | the spans that a thread owns; refills its cache |
//! | depot | full lists that a thread keeps, whole, for later |
//! | shelf | large blocks that a thread freed, and slots taken ahead, for its next ones |
//! | central lists | spans whose thread has ended |
//! | chunk | 64 MiB of address space, and which of its slots are free, dirty, in huge pages |
//! | page heap | the free slots of all chunks |
//! | scavenger | gives free slots, and free pages inside spans, back to the OS |
//!
//! # The life of an allocation
//!
//! 1. The layout gives the size class ([`class`]); the cache pops a block of its
//!    list ([`cache`]). That is the whole fast path.
//! 2. The list is empty: the bin's other list takes its place, or a magazine from the
//!    [`depot`]. Else the thread heap refills it ([`thread`]) from its current
//!    span ([`gather`]): blocks that this thread freed there, that others freed there
//!    ([`remote`]), that were never used. Then from another span of its own, one
//!    from the [`central`] lists, a fresh one from the [`pages`].
//! 3. Above the largest class a block is a span of its own ([`large_span`]), from the thread's
//!    [`shelf`] or the page heap, or a mapping ([`large`]).
//! 4. A free pushes the block on the cache's list, for the next allocation. What the
//!    list has no room for is kept whole or goes home ([`flush`]): its span's header is found by
//!    arithmetic ([`geometry`]). If this thread owns the span: push, count down.
//!    Otherwise the block waits in the [`outbox`] until a [`bundle`] is worth a
//!    compare-and-swap.
//! 5. Frees that change a span's fortune are few: its countdown, or a message in
//!    the owner's [`mailbox`], has it linked again or retired to the page heap.
//!    What stays free there the scavenger gives back ([`scavenge`]), which also does
//!    what a sleeping owner does not ([`reap`]), and gives back what is free inside spans of
//!    which little is in use ([`thin`]).
//!
//! # Locks
//!
//! `reaping`, then `sampled` or `late`, then one thread heap's `depot`, then `central`,
//! then `large`, then `space`: each may be taken while those before it are held. None is
//! held while the profiler runs, and none on a fast path. Who forks takes them all ([`fork`]).
//!
//! Two acquisitions break this order, and so do not wait (`try_lock`): the depot of a heap that a
//! fork left behind, by a thread that holds its own depot and the central lock; and `reaping`, when
//! memory has run out while `sampled` or `late` is held.

pub(crate) mod bin;
pub(crate) mod bits;
pub(crate) mod bundle;
pub(crate) mod cache;
pub(crate) mod central;
pub(crate) mod chain;
pub(crate) mod chunk;
pub(crate) mod class;
#[cfg(feature = "preload")]
pub(crate) mod classmap;
pub(crate) mod counts;
pub(crate) mod depot;
mod flush;
mod fork;
pub(crate) mod gather;
pub(crate) mod geometry;
pub(crate) mod inspect;
pub(crate) mod kept;
pub(crate) mod large;
pub(crate) mod large_span;
pub(crate) mod list;
pub(crate) mod mailbox;
pub(crate) mod meta;
pub(crate) mod outbox;
#[cfg(feature = "preload")]
pub(crate) mod owned;
pub(crate) mod pages;
mod reap;
pub(crate) mod remote;
pub(crate) mod scavenge;
pub(crate) mod shared;
pub(crate) mod shelf;
pub(crate) mod space;
pub(crate) mod span;
pub(crate) mod thin;
pub(crate) mod thread;
pub(crate) mod waits;
mod window;

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;

use crate::base::own::{OwnPtr, OwnU32};
use crate::sys::lock::Lock;
use crate::sys::os::Os;
use bundle::Parcel;
use cache::Cache;
use central::{Central, Hints};
use chain::Block;
use class::ClassId;
use large::LargeTable;
use pages::Slots;
use remote::Tell;
use scavenge::Scavenger;
use shared::Shared;
use space::Space;
use span::{Kind, Span};
use thread::{Refill, ThreadHeap};
use waits::Waits;

/// A heap: an instance over an operating system, not a singleton. In this order, so that all
/// words which a small process touches lie in a page or two.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Heap<O> {
    os: O,
    scavenger: Scavenger,
    reaping: Lock<()>,
    /// How many heaps are left behind by a fork (see [`fork`]).
    left: OwnU32,
    hints: Hints,
    waits: Waits,
    central: Lock<Central>,
    space: Lock<Space>,
    large: Lock<LargeTable>,
    sampled: Lock<Shared>,
    late: Lock<Shared>,
    /// The first heap whose depot's lock is held by who forks, and in a child was held.
    held: OwnPtr<ThreadHeap>,
}

impl<O: Os> Heap<O> {
    /// An empty heap. Maps nothing yet.
    pub(crate) const fn new(os: O) -> Self {
        Self {
            os,
            scavenger: Scavenger::new(),
            reaping: Lock::new(()),
            left: OwnU32::new(0),
            hints: Hints::new(),
            waits: Waits::new(),
            central: Lock::new(Central::new()),
            space: Lock::new(Space::new()),
            large: Lock::new(LargeTable::new()),
            sampled: Shared::new(),
            late: Shared::new(),
            held: OwnPtr::new(core::ptr::null_mut()),
        }
    }

    /// Allocates when the cache's list is empty. `cache` belongs to this thread. The sampler's
    /// `interval` is 0 while it is off, and `None` while it is suppressed on this thread: then the
    /// block is not sampled, and nothing is changed for those that are allocated afterwards.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn allocate_slow(
        &self,
        cache: &Cache,
        class: ClassId,
        interval: Option<u64>,
    ) -> Refill {
        match cache.owner() {
            Some(thread_heap) => thread_heap.allocate(self, cache, class, interval),
            None => self.allocate_late(class, interval),
        }
    }

    /// Frees when the cache has no room. `cache` belongs to this thread.
    ///
    /// # Safety
    ///
    /// As for [`Cache::push`].
    #[inline(always)]
    pub(crate) unsafe fn free_slow(&self, cache: &Cache, class: ClassId, block: *mut Block) {
        match cache.owner() {
            // SAFETY: passed on.
            Some(thread_heap) => unsafe { thread_heap.free(self, cache, class, block) },
            // SAFETY: passed on.
            None => unsafe { self.free_late(class, block) },
        }
    }

    /// Frees for a thread without a heap.
    #[cold]
    #[unsafe(link_section = ".spanalloc.rare")]
    unsafe fn free_late(&self, class: ClassId, block: *mut Block) {
        // SAFETY: passed on.
        let span = unsafe { Span::of_class(class, block) };
        self.count_late_free(class);
        // SAFETY: passed on.
        let parcel = unsafe { Parcel::of_block(span, block) };
        self.send(span, parcel);
    }

    /// Pushes blocks to their span, which another thread owns or nobody.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn send(&self, span: Span, parcel: Parcel) {
        let tell = self.post(span, parcel);
        if tell == Tell::Owner {
            self.collect_left();
        }
        self.tell(span, tell);
    }

    /// Tells of a push.
    #[inline]
    fn tell(&self, span: Span, tell: Tell) {
        match tell {
            Tell::Nobody => {}
            Tell::Owner => self.deliver(span),
            Tell::Scavenger => self.note_sparse(),
        }
    }

    /// As [`send`](Self::send), but nobody is told yet.
    fn post(&self, span: Span, parcel: Parcel) -> Tell {
        if !matches!(span.kind(), Kind::Blocks | Kind::Sampled) {
            crate::sys::fatal::die_at(
                parcel.head.addr(),
                "a pointer was freed that is not allocated, or with another size than it has",
            );
        }
        span.cold().remote.push(span.short_of(parcel.head).into(), parcel.blocks, |head| {
            // SAFETY: the parcel is this thread's until the push succeeds.
            unsafe { parcel.link(head) };
        })
    }

    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn flush_outbox(&self, thread_heap: &ThreadHeap) {
        thread_heap.outbox.flush(|span, parcel| self.send(span, parcel));
    }

    /// Whether the sampler, which is on, wants a large block of `bytes`.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn charge_large(&self, cache: &Cache, bytes: usize, interval: u64) -> bool {
        match cache.owner() {
            Some(thread_heap) => thread_heap.charge(bytes, interval),
            None => self.charge_late(bytes, interval),
        }
    }

    #[unsafe(link_section = ".spanalloc.text")]
    fn take_slots(&self, kind: Kind, count: usize, align: usize) -> Option<Slots> {
        self.space.lock().take(&self.os, kind, count, align)
    }

    /// Takes slots for a span of `class`.
    #[unsafe(link_section = ".spanalloc.text")]
    fn take_span(&self, kind: Kind, class: ClassId) -> Option<Slots> {
        let mut space = self.waits.lock(&self.space, class);
        space.take(&self.os, kind, class.slots(), class.slots())
    }

    /// Gives the slots of an ended span back.
    #[unsafe(link_section = ".spanalloc.text")]
    fn give_slots(&self, span: Span, count: usize) {
        self.give(&mut self.space.lock(), span, count);
    }

    #[unsafe(link_section = ".spanalloc.text")]
    fn give(&self, space: &mut Space, span: Span, count: usize) {
        space.of(span).give(span, count);
        self.note_free(space.counts().free_dirty);
    }

    /// Gives an empty span of blocks back.
    #[unsafe(link_section = ".spanalloc.text")]
    fn retire(&self, span: Span) {
        let (count, class) = (span.hot().slots.get() as usize, span.class());
        let thinned = span.hot().thinned.get();
        if thinned != 0 {
            self.note_no_longer_thinned(thinned.count_ones());
        }
        span.end();
        self.give(&mut self.waits.lock(&self.space, class), span, count);
    }
}
