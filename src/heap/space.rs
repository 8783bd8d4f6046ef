//! The page heaps with the memory for their records, under one lock.

use core::ptr::NonNull;

use super::class::CLASSES;
use super::geometry::{HEADER_SLOTS, SLOT_BYTES, Window, slot_start};
use super::meta::Meta;
use super::pages::{PageCounts, PageHeap, Slots};
use super::span::{Kind, Span};
use crate::base::zeroed::Zeroed;
use crate::sys::os::Os;

/// Address space and records; in this order for the same reason as [`PageHeap`]'s.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Space {
    meta: Meta,
    lower: PageHeap,
    upper: PageHeap,
}

impl Space {
    pub(crate) const fn new() -> Self {
        Self { meta: Meta::new(), lower: PageHeap::new(), upper: PageHeap::new() }
    }

    /// Takes slots for spans of `kind`; see [`PageHeap::take`]. Where the system has no more
    /// addresses, the other page heap keeps those that it has not used: given up, the profiler's
    /// tables take them, which give nothing back, and large mappings find no room any more.
    pub(crate) fn take(
        &mut self,
        os: &impl Os,
        kind: Kind,
        count: usize,
        align: usize,
    ) -> Option<Slots> {
        let (pages, window) = match kind {
            Kind::Sampled => (&mut self.upper, Window::Upper),
            _ => (&mut self.lower, Window::Lower),
        };
        pages.take(os, &mut self.meta, window, count, align)
    }

    /// Takes `count` slots for a large block that are all resident, the first a multiple of
    /// `align`, if there are such, and up to `more` right behind it; how many.
    pub(crate) fn take_resident(
        &mut self,
        count: usize,
        align: usize,
        more: usize,
    ) -> Option<(Slots, usize)> {
        self.lower.take_dirty(count, align, more)
    }

    /// The page heap that `span` came from.
    pub(crate) fn of(&mut self, span: Span) -> &mut PageHeap {
        let start = slot_start(span.link().cast());
        if super::geometry::is_sampled(start) { &mut self.upper } else { &mut self.lower }
    }

    /// Both page heaps.
    pub(crate) fn each(&mut self) -> [&mut PageHeap; 2] {
        [&mut self.lower, &mut self.upper]
    }

    /// The counts of both page heaps, summed.
    pub(crate) fn counts(&self) -> PageCounts {
        let (lower, upper) = (self.lower.counts(), self.upper.counts());
        PageCounts {
            chunks: lower.chunks + upper.chunks,
            in_use: lower.in_use + upper.in_use,
            free_dirty: lower.free_dirty + upper.free_dirty,
            scavenged_total: lower.scavenged_total + upper.scavenged_total,
        }
    }

    /// Bytes mapped for records, and for the headers of spans, as if all of these were touched.
    pub(crate) fn records_bytes(&self) -> usize {
        let headers_bytes = self.counts().chunks * HEADER_SLOTS * SLOT_BYTES;
        self.meta.mapped() + headers_bytes
    }

    /// Notes that one thread heap more may have spans of `kind`.
    pub(crate) fn note_thread_heap(&mut self, kind: Kind) {
        let pages = if kind == Kind::Sampled { &mut self.upper } else { &mut self.lower };
        pages.sparse += CLASSES;
    }

    /// Moves a record to lasting memory; see [`Meta::place`].
    pub(crate) fn place<T>(&mut self, os: &impl Os, value: T) -> Option<NonNull<T>> {
        self.meta.place(os, value)
    }

    /// Lasting memory for a record that starts as zeroes; see [`Meta::place_zero`].
    pub(crate) fn place_zero<T: Zeroed>(&mut self, os: &impl Os) -> Option<NonNull<T>> {
        self.meta.place_zero(os)
    }
}
