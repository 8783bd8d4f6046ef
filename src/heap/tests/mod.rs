//! Whole heaps on an operating system that refuses: see [`sys::fake`](crate::sys::fake).
//!
//! A [`Worker`] is what a thread is to the heap: a cache, and the calls that the
//! global allocator makes. Several may live in one thread, so that a test decides
//! who frees what and when.

#[cfg(test)]
mod bundles;
pub(crate) mod bytes;
mod contents;
#[cfg(test)]
mod counts;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fork;
#[cfg(test)]
mod huge;
#[cfg(test)]
mod inspect;
#[cfg(all(test, not(feature = "preload")))]
mod kept;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod mappings;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod places;
#[cfg(test)]
mod sampler;
#[cfg(test)]
mod shelf;
#[cfg(test)]
mod sleepers;
#[cfg(test)]
mod thin;

use core::alloc::Layout;
use core::ptr::NonNull;
use std::collections::HashSet;
use std::slice;

use super::Heap;
use super::cache::{Cache, Phase};
use super::class::ClassId;
use super::geometry::{SLOT_BYTES, is_sampled};
use super::large::{self, is_mapping};
use super::large_span::large_span;
use super::span::Kind;
use super::thread::Refill;
use crate::sys::fake::Fake;

/// A thread, as the heap sees it.
struct Worker {
    heap: &'static Heap<Fake>,
    cache: Box<Cache>,
    interval: u64,
}

// SAFETY: a cache is used by who owns the worker.
unsafe impl Send for Worker {}

/// A block with the number that it is filled with. Leaks unless freed.
struct Piece {
    start: NonNull<u8>,
    layout: Layout,
    /// Of a large block; a small one's address says it.
    sampled: bool,
    id: u64,
}

// SAFETY: the memory belongs to whoever owns this.
unsafe impl Send for Piece {}

impl Piece {
    /// Fills a fresh block.
    fn new(start: NonNull<u8>, layout: Layout, sampled: bool) -> Self {
        let mut piece = Self { start, layout, sampled, id: 0 };
        piece.fill();
        piece
    }

    fn fill(&mut self) {
        self.id = contents::new_id();
        // SAFETY: a live block of that size, and nobody else's.
        let bytes = unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) };
        contents::fill(bytes, self.id);
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a live block of that size.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }

    fn check(&self) {
        assert!(contents::holds(self.bytes(), self.id), "{:?} was overwritten", self.layout);
    }
}

impl Worker {
    fn new(heap: &'static Heap<Fake>) -> Self {
        Self { heap, cache: Box::new(Cache::new()), interval: 0 }
    }

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).unwrap()
    }

    /// `None` when there is no memory.
    fn allocate(&self, layout: Layout) -> Option<Piece> {
        let piece = match ClassId::of(layout) {
            Some(class) => Piece::new(NonNull::new(self.allocate_small(class))?, layout, false),
            None => self.allocate_large(layout, false)?.0,
        };
        assert_eq!(piece.start.as_ptr().addr() % layout.align(), 0);
        Some(piece)
    }

    /// A large block, and whether the heap said that it was zeroed; then it was.
    fn allocate_large(&self, layout: Layout, wants_zeroes: bool) -> Option<(Piece, bool)> {
        let sampled = self.draws(layout);
        let large = self.heap.allocate_large(&self.cache, layout, sampled, wants_zeroes)?;
        if large.zeroed {
            // SAFETY: a fresh block of that size.
            let bytes = unsafe { slice::from_raw_parts(large.start.as_ptr(), layout.size()) };
            assert!(contents::is_zero(bytes), "{layout:?} is not zeroed");
        }
        Some((Piece::new(large.start, layout, sampled), large.zeroed))
    }

    /// Whether the sampler wants the next large block.
    fn draws(&self, layout: Layout) -> bool {
        let bytes = large::block_bytes(layout);
        self.interval != 0 && self.heap.charge_large(&self.cache, bytes, self.interval)
    }

    fn allocate_small(&self, class: ClassId) -> *mut u8 {
        let block = self.cache.pop(class);
        if !block.is_null() {
            return block.cast();
        }
        if self.cache.phase() == Phase::New {
            self.heap.open_thread(&self.cache);
        }
        match self.heap.allocate_slow(&self.cache, class, Some(self.interval)) {
            Refill::Block(block) => block.cast(),
            Refill::Sample => {
                self.heap.allocate_sampled(class).map_or(core::ptr::null_mut(), <*mut _>::cast)
            }
            Refill::OutOfMemory => core::ptr::null_mut(),
        }
    }

    fn free(&self, piece: Piece) {
        piece.check();
        let Some(class) = ClassId::of(piece.layout) else {
            let sampled = self.heap.take_sampled(piece.start, piece.layout);
            assert_eq!(sampled, piece.sampled, "of {:?}", piece.layout);
            if !is_mapping(piece.layout) {
                return self.heap.free_span(&self.cache, large_span(piece.start));
            }
            // SAFETY: a live block of that layout.
            return unsafe { self.heap.free_mapping(piece.start) };
        };
        let block = piece.start.as_ptr().cast();
        if is_sampled(block) {
            // SAFETY: a live, sampled block of that class.
            return unsafe { self.heap.free_sampled(class, block) };
        }
        // SAFETY: a live block of that class, as for all below.
        if unsafe { self.cache.push(class, block) } {
            return;
        }
        if self.cache.phase() == Phase::New {
            self.heap.open_thread(&self.cache);
        }
        let done = match class.is_narrow() {
            // SAFETY: as above.
            true => unsafe { self.cache.drain::<1>(class, block) },
            // SAFETY: as above.
            false => unsafe { self.cache.drain::<4>(class, block) },
        };
        if !done {
            // SAFETY: as above.
            unsafe { self.heap.free_slow(&self.cache, class, block) };
        }
    }

    /// Resizes a large block in place or by moving its pages, if that goes.
    fn resize_large(&self, piece: &mut Piece, bytes: usize) -> bool {
        piece.check();
        let (old, new) = (piece.layout, Self::layout(bytes, piece.layout.align()));
        let was_sampled = self.heap.take_sampled(piece.start, old);
        assert_eq!(was_sampled, piece.sampled, "of {old:?}");
        let sampled = self.draws(new);
        // SAFETY: a live large block, replaced by the result.
        let got = unsafe { self.heap.resize_large(&self.cache, piece.start, old, new, sampled) };
        let Some(start) = got else {
            if was_sampled {
                self.heap.set_sampled(piece.start, old);
            }
            piece.check();
            return false;
        };
        let kept = Self::layout(old.size().min(bytes), 1);
        Piece { start, layout: kept, sampled, id: piece.id }.check();
        *piece = Piece::new(start, new, sampled);
        true
    }

    /// The thread ends.
    fn close(&self) {
        self.heap.close_thread(&self.cache);
    }
}

/// Numbers that look random and are the same in every run.
#[cfg(test)]
struct Random(u64);

#[cfg(test)]
impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99_991);
        (self.0 >> 33) as usize % limit
    }

    fn layout(&mut self) -> Layout {
        let limit = match self.below(200) {
            0 => 18 << 20,
            1..10 => 300 << 10,
            10..40 => 40 << 10,
            _ => 600,
        };
        let align = if self.below(10) == 0 { 1 << self.below(17) } else { 8 };
        Worker::layout(1 + self.below(limit), align)
    }
}

/// A tick, and what it leaves to `malloc_trim` in a program by preload.
#[cfg(test)]
fn tick(heap: &Heap<Fake>) {
    heap.scavenge_tick();
    if cfg!(feature = "preload") {
        heap.thin(false);
    }
}

impl Heap<Fake> {
    /// Dies if an invariant of the heap or its parts does not hold, or a block is
    /// in none of the places where it may be. Nobody uses the heap meanwhile.
    fn check(&self) {
        let counts = self.counts();
        let mut elsewhere = [0_u64; super::class::CLASSES];
        let mut shelved = HashSet::new();
        let central = self.central.lock();
        for thread_heap in self.heaps_from(central.all.get()) {
            // SAFETY: null, or a cache that lives as long as its thread.
            if let Some(cache) = unsafe { thread_heap.cache.get().as_ref() } {
                for class in ClassId::all() {
                    thread_heap.bin(class).check(class, cache.list(class));
                }
                thread_heap.check_depot();
            }
            for (span, blocks) in thread_heap.outbox.waiting() {
                elsewhere[span.class().index()] += u64::from(blocks);
            }
            for (start, slots) in thread_heap.shelf.each() {
                for slot in 0..slots {
                    let address = start.addr() + slot * SLOT_BYTES;
                    assert!(shelved.insert(address), "a slot is on shelves twice");
                }
            }
        }
        let mut out = [0_u64; super::class::CLASSES];
        let mut carved = [0_u64; super::class::CLASSES];
        let mut space = self.space.lock();
        let mut shelved_met = 0;
        for pages in space.each() {
            pages.check();
            pages.each_header(|span| {
                if matches!(span.kind(), Kind::Blocks | Kind::Sampled) {
                    span.check();
                    span.check_told();
                    out[span.class().index()] += u64::from(span.in_use());
                    let resident =
                        (0..span.hot().carved.get()).filter(|index| !span.is_thinned_out(*index));
                    carved[span.class().index()] += resident.count() as u64;
                }
                let (kind, first) = (span.kind(), span.start().addr());
                shelved_met += usize::from(shelved.contains(&first));
                let slots = if kind == Kind::None { 0 } else { span.hot().slots.get() as usize };
                let mut own = (0..slots).map(|slot| first + slot * SLOT_BYTES);
                assert!(!own.any(|slot| shelved.contains(&slot)), "a slot in use is on a shelf");
            });
            pages.each_free_slot(|slot| {
                assert!(!shelved.contains(&slot.addr()), "a free slot is on a shelf");
            });
        }
        drop(space);
        assert_eq!(shelved_met, shelved.len(), "what is on a shelf is in no chunk");
        for (class, count) in ClassId::all().zip(&counts.classes) {
            let placed = count.live + count.listed + elsewhere[class.index()];
            assert_eq!(out[class.index()], placed, "blocks of {} bytes", class.block_bytes());
            let carved = carved[class.index()];
            assert_eq!(carved, count.carved, "resident blocks of {} bytes", class.block_bytes());
        }
    }

    /// Slots of spans that the late heap keeps: it has them while the process lives.
    fn late_slots(&self) -> usize {
        let mut slots = 0;
        let late = self.late.lock();
        self.space.lock().each().into_iter().for_each(|pages| {
            pages.each_header(|span| {
                // SAFETY: thread heaps live as long as the heap.
                let home = unsafe { span.cold().home.get().as_ref() };
                let of_blocks = span.kind() == Kind::Blocks;
                if of_blocks && home.is_some_and(|home| late.is(home)) {
                    slots += span.hot().slots.get() as usize;
                }
            });
        });
        slots
    }

    /// Slots in spans.
    fn slots_in_use(&self) -> usize {
        self.space.lock().counts().in_use
    }
}
