//! Large blocks that are spans: taken from the thread's [`shelf`](super::shelf) or the page heap,
//! given back to the shelf or the page heap.
//!
//! # Invariants
//!
//! 1. Each allocation and each free is counted once: in the thread's heap, or in the table of
//!    large blocks if the thread has none. A block may be allocated in one book and freed in
//!    another, so that the sums alone mean something.

use core::ptr::NonNull;

use super::Heap;
use super::cache::Cache;
use super::geometry::SLOT_BYTES;
use super::large::{Large, LargeCount, NO_BLOCK, SPAN_BYTES_MAX, row_of_slots};
use super::pages::Slots;
use super::shelf::{PLACES, SHELF_SLOTS_MAX, Shelved};
use super::space::Space;
use super::span::{Kind, Span};
use super::thread::ThreadHeap;
use crate::base::own::OwnU64;
use crate::sys::lock::Guard;
use crate::sys::os::Os;

/// Rows of the table of counts that spans have.
const SPAN_ROWS: usize = (SPAN_BYTES_MAX / SLOT_BYTES).ilog2() as usize + 1;

/// Large spans that a thread allocated and freed, written by the thread.
#[derive(Debug)]
pub(crate) struct SpanCounts([SpanCount; SPAN_ROWS]);

#[derive(Debug)]
struct SpanCount {
    allocs: OwnU64,
    frees: OwnU64,
    /// Of all blocks allocated, and of all freed.
    allocated_slots: OwnU64,
    freed_slots: OwnU64,
}

impl SpanCounts {
    pub(crate) const fn new() -> Self {
        Self(
            [const {
                SpanCount {
                    allocs: OwnU64::new(0),
                    frees: OwnU64::new(0),
                    allocated_slots: OwnU64::new(0),
                    freed_slots: OwnU64::new(0),
                }
            }; SPAN_ROWS],
        )
    }

    fn of(&self, slots: usize) -> &SpanCount {
        &self.0[row_of_slots(slots).min(SPAN_ROWS - 1)]
    }

    fn count_alloc(&self, slots: usize) {
        let count = self.of(slots);
        count.allocs.add(1);
        count.allocated_slots.add(slots as u64);
    }

    fn count_free(&self, slots: usize) {
        let count = self.of(slots);
        count.frees.add(1);
        count.freed_slots.add(slots as u64);
    }

    /// Adds all to a table, whose sums may wrap until all is added.
    pub(crate) fn add_to(&self, rows: &mut [LargeCount]) {
        for (row, count) in rows.iter_mut().zip(&self.0) {
            row.allocs += count.allocs.get();
            row.frees += count.frees.get();
            let bytes = |slots: u64| slots.wrapping_mul(SLOT_BYTES as u64);
            let (allocated, freed) = (count.allocated_slots.get(), count.freed_slots.get());
            row.allocated_bytes = row.allocated_bytes.wrapping_add(bytes(allocated));
            row.live_bytes = row.live_bytes.wrapping_add(bytes(allocated.wrapping_sub(freed)));
        }
    }
}

impl<O: Os> Heap<O> {
    /// Allocates a large block of `slots` slots at a multiple of `align` slots.
    #[inline(always)]
    pub(super) fn allocate_span(
        &self,
        cache: &Cache,
        slots: usize,
        align: usize,
        sampled: bool,
    ) -> Option<Large> {
        if slots <= SHELF_SLOTS_MAX
            && align <= 1
            && let Some(thread_heap) = cache.owner()
            && let Some(start) = thread_heap.shelf.take(slots)
        {
            let span = span_of(start);
            span.begin_large(slots, sampled);
            thread_heap.span_counts.count_alloc(slots);
            return Some(Large { start: NonNull::new(start)?, zeroed: false });
        }
        let large = self.take_large_span(cache, slots, align, sampled)?;
        self.count_alloc(cache, slots);
        Some(large)
    }

    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    fn take_large_span(
        &self,
        cache: &Cache,
        slots: usize,
        align: usize,
        sampled: bool,
    ) -> Option<Large> {
        let mut taken = None;
        if let Some(thread_heap) = cache.owner() {
            taken = self.take_resident(thread_heap, slots, align);
            // Before fresh memory is used, what lies there joins what is free beside it.
            if taken.is_none() {
                self.empty_shelf(thread_heap);
            }
        }
        let mut taken = taken.or_else(|| self.take_slots(Kind::Large, slots, align));
        if taken.is_none() {
            self.reap_in_need();
            taken = self.take_slots(Kind::Large, slots, align);
        }
        let taken = taken?;
        taken.span.begin_large(slots, sampled);
        let start = NonNull::new(taken.span.start())?;
        Some(Large { start, zeroed: taken.zeroed })
    }

    /// Takes resident slots from the page heap, and for the shelf what lies behind them.
    fn take_resident(&self, thread_heap: &ThreadHeap, slots: usize, align: usize) -> Option<Slots> {
        let more = if align <= 1 { thread_heap.shelf.slots_wanted() } else { 0 };
        let (taken, behind) = self.space.lock().take_resident(slots, align, more)?;
        if behind > 0 {
            // SAFETY: a slot of the same chunk, just taken.
            let rest = unsafe { taken.span.slot_behind(slots) };
            self.put_on_shelf(thread_heap, rest, behind);
        }
        Some(taken)
    }

    /// Puts a span that has ended or not begun on the shelf; what has no more room there goes to
    /// the page heap.
    #[inline(always)]
    fn put_on_shelf(&self, thread_heap: &ThreadHeap, span: Span, slots: usize) {
        let mut giver = Giver { heap: self, space: None };
        let shelved = thread_heap.shelf.put(span.start(), slots, |shelved| giver.give(shelved));
        self.note_kept_by(thread_heap, shelved * SLOT_BYTES);
    }

    /// Frees a large block, whose span is `span`. `cache` belongs to this thread.
    #[inline(always)]
    pub(crate) fn free_span(&self, cache: &Cache, span: Span) {
        let slots = span.hot().slots.get() as usize;
        span.end();
        self.count_free(cache, slots);
        if slots <= SHELF_SLOTS_MAX
            && let Some(thread_heap) = cache.owner()
        {
            return self.put_on_shelf(thread_heap, span, slots);
        }
        self.give_slots(span, slots);
    }

    #[unsafe(link_section = ".spanalloc.text")]
    fn count_alloc(&self, cache: &Cache, slots: usize) {
        match cache.owner() {
            Some(thread_heap) => thread_heap.span_counts.count_alloc(slots),
            None => self.large.lock().count_alloc(slots * SLOT_BYTES),
        }
    }

    #[unsafe(link_section = ".spanalloc.text")]
    fn count_free(&self, cache: &Cache, slots: usize) {
        match cache.owner() {
            Some(thread_heap) => thread_heap.span_counts.count_free(slots),
            None => self.large.lock().count_free(slots * SLOT_BYTES),
        }
    }

    /// Gives all that is on the shelf of `thread_heap` to the page heap.
    pub(super) fn empty_shelf(&self, thread_heap: &ThreadHeap) {
        self.give_shelved(|| thread_heap.shelf.take_any());
    }

    /// Gives spans that were on a shelf to the page heap, no more than fit there: beside an owner
    /// that puts others there it comes to an end.
    #[unsafe(link_section = ".spanalloc.text")]
    fn give_shelved(&self, take: impl FnMut() -> Option<Shelved>) {
        let mut giver = Giver { heap: self, space: None };
        core::iter::from_fn(take).take(PLACES).for_each(|shelved| giver.give(shelved));
    }

    /// Gives what was on a shelf at the last call to the page heap, or `all`; the bytes that stay.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(super) fn reap_shelf(&self, thread_heap: &ThreadHeap, all: bool) -> usize {
        if all {
            self.empty_shelf(thread_heap);
        }
        self.give_shelved(|| thread_heap.shelf.take_aged());
        thread_heap.shelf.age();
        thread_heap.shelf.slots() * SLOT_BYTES
    }

    /// Resizes a large block to `after` slots where it is, if that goes. `cache` belongs to this
    /// thread.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(super) fn resize_span(
        &self,
        cache: &Cache,
        start: NonNull<u8>,
        after: usize,
        sampled: bool,
    ) -> Option<NonNull<u8>> {
        let span = large_span(start);
        let before = span.hot().slots.get() as usize;
        if after > before {
            let more = after - before;
            if !self.extend_span(span, before, more) {
                // What is in the way may lie on the shelf.
                let thread_heap = with_spans_shelved(cache)?;
                let behind = span.start().wrapping_add(before * SLOT_BYTES);
                if !thread_heap.shelf.take_at(behind, more) {
                    self.empty_shelf(thread_heap);
                    if !self.extend_span(span, before, more) {
                        return None;
                    }
                }
            }
        } else if after < before {
            // SAFETY: a slot of the same span, hence of a mapped chunk.
            let tail = unsafe { span.slot_behind(after) };
            self.give_slots(tail, before - after);
        }
        span.hot().slots.set(after as u32);
        span.hot().sampled.set(sampled.into());
        self.count_free(cache, before);
        self.count_alloc(cache, after);
        Some(start)
    }

    /// Takes `more` slots behind the `slots` of `span`, if they are free. Out of line, for a
    /// closure has no section.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    fn extend_span(&self, span: Span, slots: usize, more: usize) -> bool {
        self.space.lock().of(span).extend(span, slots, more)
    }
}

/// Gives spans that were on a shelf to the page heap, which it locks for the first one.
struct Giver<'h, O: Os> {
    heap: &'h Heap<O>,
    space: Option<Guard<'h, Space>>,
}

impl<O: Os> Giver<'_, O> {
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    fn give(&mut self, (start, slots): Shelved) {
        let space = self.space.get_or_insert_with(|| self.heap.space.lock());
        self.heap.give(space, span_of(start), slots);
    }
}

/// The heap of this thread, if there is anything on its shelf.
fn with_spans_shelved(cache: &Cache) -> Option<&ThreadHeap> {
    cache.owner().filter(|thread_heap| thread_heap.shelf.slots() > 0)
}

/// The span that begins at `start`, which lies in a chunk.
fn span_of(start: *mut u8) -> Span {
    // SAFETY: by invariant 5 of [`span`](super::span) headers stay, and there is one for each slot.
    unsafe { Span::of::<1>(start) }
}

/// The span of a large block. Dies if there is none at `start`.
#[inline(always)]
pub(crate) fn large_span(start: NonNull<u8>) -> Span {
    let span = span_of(start.as_ptr());
    if span.kind() != Kind::Large || !start.addr().get().is_multiple_of(SLOT_BYTES) {
        crate::sys::fatal::die_at(start.addr().get(), NO_BLOCK);
    }
    span
}
