//! Large blocks: above the largest class, a span of whole slots each; above
//! [`SPAN_BYTES_MAX`] a mapping of its own.
//!
//! # Invariants
//!
//! 1. Whether a block is small, a span or a mapping follows from its layout alone,
//!    at allocation and at free alike.
//! 2. A mapping of its own is in the table from allocation to free.
//! 3. A mapping starts on a multiple of its layout's alignment; one that asks for
//!    no more than a page may be moved by `mremap`.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

use super::Heap;
use super::cache::Cache;
use super::geometry::{CHUNK_BYTES, SLOT_BYTES};
use super::kept::Kept;
use super::large_span::large_span;
use super::window;
pub(crate) use crate::base::limits::SPAN_BYTES_MAX;
use crate::base::own::{OwnPtr, OwnU64};
use crate::sys::os::{Os, page_bytes};

/// From this size on a mapping is aligned for huge pages and asks for them.
const HUGE_PAGE_BYTES: usize = 2 << 20;
const BUCKETS: usize = 256;
pub(super) const NO_BLOCK: &str = "a large block was freed or resized that is not allocated";
/// Rows of the count table: by doubling, the first up to 64 KiB.
pub(crate) const LARGE_ROWS: usize = 48;

const _: () = assert!(SPAN_BYTES_MAX <= CHUNK_BYTES / 4);

/// A large block as it was allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Large {
    pub(crate) start: NonNull<u8>,
    /// All bytes are zero.
    pub(crate) zeroed: bool,
}

/// A mapping of its own.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: OwnPtr<u8>,
    bytes: OwnU64,
    sampled: bool,
    next: *mut Mapping,
}

/// Exact counts of large blocks of one row, or a part of them.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct LargeCount {
    pub(crate) allocs: u64,
    pub(crate) frees: u64,
    /// Bytes of the slots or pages, of what was ever allocated.
    pub(crate) allocated_bytes: u64,
    /// Bytes of the slots or pages, of what is live. Wraps in a part of the books, of which
    /// another part may have the free.
    pub(crate) live_bytes: u64,
}

impl LargeCount {
    pub(crate) fn live_blocks(&self) -> u64 {
        self.allocs - self.frees
    }

    /// All parts have been added, some while threads went on: none is below zero.
    pub(super) fn settle(&mut self) {
        self.frees = self.frees.min(self.allocs);
        self.live_bytes = self.live_bytes.cast_signed().max(0).cast_unsigned();
    }
}

/// All mappings and the counts of all large blocks. Lives under a lock.
#[derive(Debug)]
pub(crate) struct LargeTable {
    buckets: [*mut Mapping; BUCKETS],
    spare: *mut Mapping,
    pub(crate) mapped_bytes: u64,
    pub(crate) mappings: u64,
    /// Of freed blocks.
    pub(crate) kept: Kept,
    pub(crate) rows: [LargeCount; LARGE_ROWS],
}

// SAFETY: records are reached only through the table, which one thread holds.
unsafe impl Send for LargeTable {}

/// The row of the count table for `bytes`.
fn row(bytes: usize) -> usize {
    row_of_slots(bytes.div_ceil(SLOT_BYTES)).min(LARGE_ROWS - 1)
}

/// The row of the count table for blocks of so many slots, if there are so many rows.
#[inline]
pub(super) fn row_of_slots(slots: usize) -> usize {
    // The logarithm, rounded up.
    (2 * slots.max(1) - 1).ilog2() as usize
}

/// Whether a large layout's block has a mapping of its own.
#[inline(always)]
pub(crate) fn is_mapping(layout: Layout) -> bool {
    layout.size() > SPAN_BYTES_MAX || layout.align() > SPAN_BYTES_MAX
}

/// Bytes of the block that a large layout gets.
#[inline]
pub(crate) fn block_bytes(layout: Layout) -> usize {
    if is_mapping(layout) {
        layout.size().next_multiple_of(page_bytes())
    } else {
        slots_of(layout.size()) * SLOT_BYTES
    }
}

fn slots_of(bytes: usize) -> usize {
    bytes.div_ceil(SLOT_BYTES).max(1)
}

impl LargeTable {
    pub(crate) const fn new() -> Self {
        Self {
            buckets: [ptr::null_mut(); BUCKETS],
            spare: ptr::null_mut(),
            mapped_bytes: 0,
            mappings: 0,
            kept: Kept::new(),
            rows: [LargeCount { allocs: 0, frees: 0, allocated_bytes: 0, live_bytes: 0 };
                LARGE_ROWS],
        }
    }

    pub(super) fn count_alloc(&mut self, bytes: usize) {
        let row = &mut self.rows[row(bytes)];
        row.allocs += 1;
        row.allocated_bytes = row.allocated_bytes.wrapping_add(bytes as u64);
        row.live_bytes = row.live_bytes.wrapping_add(bytes as u64);
    }

    pub(super) fn count_free(&mut self, bytes: usize) {
        let row = &mut self.rows[row(bytes)];
        row.frees += 1;
        row.live_bytes = row.live_bytes.wrapping_sub(bytes as u64);
    }

    fn bucket(&mut self, start: NonNull<u8>) -> &mut *mut Mapping {
        &mut self.buckets[(start.as_ptr().addr() >> 21) % BUCKETS]
    }

    fn insert(&mut self, record: NonNull<Mapping>) {
        // SAFETY: records live as long as the heap; the table is held.
        let mapping = unsafe { &mut *record.as_ptr() };
        let Some(start) = NonNull::new(mapping.start.get()) else { return };
        self.mapped_bytes += mapping.bytes.get();
        self.mappings += 1;
        let bucket = self.bucket(start);
        mapping.next = *bucket;
        *bucket = record.as_ptr();
    }

    /// Bytes of the mapping at `start`; none if there is none.
    #[cfg(feature = "preload")]
    pub(super) fn bytes_of(&mut self, start: NonNull<u8>) -> Option<usize> {
        let mut next = *self.bucket(start);
        // SAFETY: records live as long as the heap; the table is held.
        while let Some(mapping) = unsafe { next.as_ref() } {
            if mapping.start.get() == start.as_ptr() {
                return Some(mapping.bytes.get() as usize);
            }
            next = mapping.next;
        }
        None
    }

    /// First byte, bytes and sampled or not of the mapping that `address` lies in.
    pub(crate) fn find(&self, address: usize) -> Option<(usize, usize, bool)> {
        self.buckets.iter().find_map(|bucket| {
            let mut next = *bucket;
            // SAFETY: null or a record, which lives as long as the heap; the table is held.
            while let Some(mapping) = unsafe { next.as_ref() } {
                let (start, bytes) = (mapping.start.get().addr(), mapping.bytes.get() as usize);
                if address.wrapping_sub(start) < bytes {
                    return Some((start, bytes, mapping.sampled));
                }
                next = mapping.next;
            }
            None
        })
    }

    /// Applies `change` to the record of the mapping at `start`.
    fn with<R>(&mut self, start: NonNull<u8>, change: impl FnOnce(&mut Mapping) -> R) -> R {
        let record = self.remove(start);
        // SAFETY: records live as long as the heap; the table is held.
        let result = change(unsafe { &mut *record.as_ptr() });
        self.insert(record);
        result
    }

    /// Takes the record of the mapping at `start` out.
    fn remove(&mut self, start: NonNull<u8>) -> NonNull<Mapping> {
        let mut place: *mut *mut Mapping = self.bucket(start);
        loop {
            // SAFETY: `place` is a bucket or a record's link; the table is held.
            let Some(record) = NonNull::new(unsafe { *place }) else {
                crate::sys::fatal::die_at(start.addr().get(), NO_BLOCK);
            };
            // SAFETY: records live as long as the heap; the table is held.
            let mapping = unsafe { &mut *record.as_ptr() };
            if mapping.start.get() == start.as_ptr() {
                // SAFETY: as for the read above.
                unsafe { *place = mapping.next };
                self.mapped_bytes -= mapping.bytes.get();
                self.mappings -= 1;
                return record;
            }
            place = &raw mut mapping.next;
        }
    }
}

impl<O: Os> Heap<O> {
    /// Allocates a block that no class serves; `sampled` is remembered for its
    /// free. With `wants_zeroes`, memory that reads as zero already is preferred. `None` when
    /// the OS has no more. `cache` belongs to this thread.
    #[inline(always)]
    pub(crate) fn allocate_large(
        &self,
        cache: &Cache,
        layout: Layout,
        sampled: bool,
        wants_zeroes: bool,
    ) -> Option<Large> {
        if is_mapping(layout) {
            return self.map_large(layout, sampled, wants_zeroes);
        }
        let align = layout.align().div_ceil(SLOT_BYTES);
        self.allocate_span(cache, slots_of(layout.size()), align, sampled)
    }

    /// Whether the large block at `start` is sampled. Dies if there is none.
    pub(crate) fn is_sampled(&self, start: NonNull<u8>, layout: Layout) -> bool {
        if is_mapping(layout) {
            return self.large.lock().with(start, |mapping| mapping.sampled);
        }
        large_span(start).hot().sampled.get() != 0
    }

    /// As [`is_sampled`](Self::is_sampled), and from here on it is not.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn take_sampled(&self, start: NonNull<u8>, layout: Layout) -> bool {
        if is_mapping(layout) {
            let take = |mapping: &mut Mapping| core::mem::take(&mut mapping.sampled);
            return self.large.lock().with(start, take);
        }
        large_span(start).take_sampled()
    }

    /// Ends what [`take_sampled`](Self::take_sampled) began: the block is sampled still.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(crate) fn set_sampled(&self, start: NonNull<u8>, layout: Layout) {
        if is_mapping(layout) {
            self.large.lock().with(start, |mapping| mapping.sampled = true);
        } else {
            large_span(start).hot().sampled.set(1);
        }
    }

    /// Frees a large block of a layout that [`is_mapping`].
    ///
    /// # Safety
    ///
    /// `start` was allocated with such a layout here and is not used any more.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) unsafe fn free_mapping(&self, start: NonNull<u8>) {
        let mut table = self.large.lock();
        let record = table.remove(start);
        // SAFETY: records live as long as the heap; the table is held.
        let mapping = unsafe { &mut *record.as_ptr() };
        let bytes = mapping.bytes.get() as usize;
        table.count_free(bytes);
        mapping.next = table.spare;
        table.spare = record.as_ptr();
        if Kept::may_keep(bytes) {
            return self.keep(table, start, bytes);
        }
        drop(table);
        // SAFETY: the whole mapping, which is the caller's to free.
        unsafe { self.os.unmap(start, bytes) };
    }

    /// Whether a large block may take the new layout without any change.
    pub(crate) fn fits_large(&self, old: Layout, new: Layout) -> bool {
        is_mapping(old) == is_mapping(new) && block_bytes(old) == block_bytes(new)
    }

    /// Resizes a large block without copying it: into or out of the free slots
    /// behind, or by moving its pages. `None` if that is not possible; the block is
    /// then as it was. Counts as a free and an allocation, as it does when the
    /// contents are copied. Both layouts are large; `sampled` is remembered.
    ///
    /// # Safety
    ///
    /// `start` was allocated with the old layout here; after success only the result is used.
    pub(crate) unsafe fn resize_large(
        &self,
        cache: &Cache,
        start: NonNull<u8>,
        old: Layout,
        new: Layout,
        sampled: bool,
    ) -> Option<NonNull<u8>> {
        match (is_mapping(old), is_mapping(new)) {
            // SAFETY: the caller's contract.
            (true, true) => unsafe { self.remap_large(start, new, sampled) },
            (false, false) => self.resize_span(cache, start, slots_of(new.size()), sampled),
            _ => None,
        }
    }

    fn map_large(&self, layout: Layout, sampled: bool, wants_zeroes: bool) -> Option<Large> {
        let page = page_bytes();
        let bytes = layout.size().max(1).checked_next_multiple_of(page)?;
        let align = layout.align().max(if bytes >= HUGE_PAGE_BYTES { HUGE_PAGE_BYTES } else { 0 });
        let large = match self.take_kept(bytes, align.max(page), wants_zeroes) {
            Some(large) => large,
            None => Large { start: self.map_fresh(layout, bytes, align)?, zeroed: true },
        };
        let start = large.start;
        let mapping = Mapping {
            start: OwnPtr::new(start.as_ptr()),
            bytes: OwnU64::new(bytes as u64),
            sampled,
            next: ptr::null_mut(),
        };
        let mut table = self.large.lock();
        let record = match NonNull::new(table.spare) {
            Some(record) => {
                // SAFETY: a record on the spare chain is the table's.
                table.spare = unsafe { record.as_ref() }.next;
                // SAFETY: as above.
                unsafe { record.write(mapping) };
                record
            }
            None => match self.space.lock().place(&self.os, mapping) {
                Some(record) => record,
                None => {
                    // SAFETY: just mapped, used by nobody.
                    unsafe { self.os.unmap(start, bytes) };
                    return None;
                }
            },
        };
        table.insert(record);
        table.count_alloc(bytes);
        Some(large)
    }

    /// Maps `bytes` for a layout, for huge pages if they are many.
    fn map_fresh(&self, layout: Layout, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        let start = match self.map_at_multiple(bytes, align) {
            Some(start) => start,
            // Huge pages are a wish.
            None if layout.align() <= page_bytes() => self.map_anyhow(bytes)?,
            None => return None,
        };
        if bytes >= HUGE_PAGE_BYTES {
            self.os.prefer_huge(start, bytes, true);
        }
        Some(start)
    }

    /// Maps `bytes` at a multiple of `align`, by mapping too much and trimming.
    fn map_at_multiple(&self, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        let page = page_bytes();
        if align <= page {
            return self.map_anyhow(bytes);
        }
        let all = bytes.checked_add(align - page)?;
        let mapped = self.map_anyhow(all)?;
        let skip = mapped.as_ptr().align_offset(align);
        // SAFETY: just mapped; `skip` is at most `align − page`.
        Some(unsafe { window::trim(&self.os, mapped, all, skip, bytes) })
    }

    /// Maps `bytes`, if need be in place of address space that chunks do not use.
    #[unsafe(link_section = ".spanalloc.text")]
    fn map_anyhow(&self, bytes: usize) -> Option<NonNull<u8>> {
        let start = self.os.map(bytes);
        if start.is_some() {
            return start;
        }
        if self.release_kept(true) > 0
            && let Some(start) = self.os.map(bytes)
        {
            return Some(start);
        }
        // More than all that chunks have is nowhere, whatever they give up.
        if bytes > self.space.lock().counts().chunks * CHUNK_BYTES {
            return None;
        }
        self.reap_in_need();
        let mut space = self.space.lock();
        let shrunk = space.each().map(|pages| pages.shrink(&self.os));
        drop(space);
        if shrunk.contains(&true) { self.os.map(bytes) } else { None }
    }

    /// # Safety
    ///
    /// `start` was allocated with the old layout here; after success only the result is used.
    unsafe fn remap_large(
        &self,
        start: NonNull<u8>,
        layout: Layout,
        sampled: bool,
    ) -> Option<NonNull<u8>> {
        let page = page_bytes();
        if layout.align() > page {
            return None;
        }
        let bytes = layout.size().checked_next_multiple_of(page)?;
        let mut table = self.large.lock();
        let record = table.remove(start);
        // SAFETY: records live as long as the heap; the table is held.
        let mapping = unsafe { &mut *record.as_ptr() };
        let before = mapping.bytes.get() as usize;
        // SAFETY: the whole mapping, by the caller's contract.
        let moved = unsafe { self.os.remap(start, before, bytes) };
        if let Some(moved) = moved {
            mapping.start.set(moved.as_ptr());
            mapping.bytes.set(bytes as u64);
            mapping.sampled = sampled;
            table.count_free(before);
            table.count_alloc(bytes);
        }
        table.insert(record);
        moved
    }
}
