//! Chunks are added, mapped further and cut down to what is in use.

use super::{CHUNKS_MAX, PageHeap};
use crate::heap::chunk::{Chunk, Place};
use crate::heap::geometry::{CHUNK_SLOTS, HEADER_SLOTS, SLOT_BYTES, Window};
use crate::heap::meta::Meta;
use crate::heap::span::Span;
use crate::heap::window;
use crate::sys::os::Os;

/// What a chunk that shrinks keeps: what lay behind may be somebody else's when it is to
/// grow again.
const SLOTS_KEPT: usize = 16;

impl PageHeap {
    /// Extends a chunk, the last one first, or adds one, so that `count` slots fit; where.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(super) fn grow(
        &mut self,
        os: &impl Os,
        meta: &mut Meta,
        window: Window,
        count: usize,
        align: usize,
    ) -> Option<Place> {
        for index in (0..self.len).rev() {
            if self.extend_chunk(os, index)
                && let Ok(place) = self.chunk(index)?.place(index, count, align)
            {
                return Some(place);
            }
        }
        if self.len == CHUNKS_MAX {
            return None;
        }
        let slots_min = (HEADER_SLOTS + count).next_multiple_of(align.max(1)) + align - 1;
        let last = self.chunk(self.len.wrapping_sub(1)).map(|chunk| chunk.base);
        let (base, mapped) = window::for_chunk(os, window, last, slots_min.min(CHUNK_SLOTS))?;
        // For `geometry::hot_header`, which makes headers' addresses from blocks'.
        base.as_ptr().expose_provenance();
        let chunk = Chunk::new(base, mapped, self.len == 0);
        let Some(place) = meta.place(os, chunk) else {
            // SAFETY: just mapped, used by nobody.
            unsafe { os.unmap(base, mapped * SLOT_BYTES) };
            return None;
        };
        #[cfg(feature = "preload")]
        crate::heap::classmap::note_chunk(base);
        self.chunks[self.len].chunk = place.as_ptr();
        self.chunks[self.len].open();
        let huge = self.wants_huge(os);
        if let Some(chunk) = self.chunk(self.len) {
            if huge {
                chunk.ask_for_huge_throughout(os);
            } else {
                chunk.begin_small(os, 0);
            }
        }
        // SAFETY: slot 0 of a mapped chunk.
        unsafe { Span::from_header(base.as_ptr()) }.hot().slots.set(self.len as u32);
        let index = self.len;
        self.len += 1;
        self.chunk(index)?.place(index, count, align).ok()
    }

    /// Maps more of a chunk of which only a prefix could be mapped.
    #[unsafe(link_section = ".spanalloc.text")]
    fn extend_chunk(&mut self, os: &impl Os, index: usize) -> bool {
        let Some(chunk) = self.chunk(index) else { return false };
        let left = CHUNK_SLOTS - chunk.mapped;
        if left == 0 {
            return false;
        }
        let at = chunk.base.as_ptr().wrapping_add(chunk.mapped * SLOT_BYTES);
        let steps = [left, left.min(64), left.min(16)];
        let Some(more) =
            steps.into_iter().find(|more| *more > 0 && os.map_at(at, more * SLOT_BYTES).is_some())
        else {
            return false;
        };
        chunk.free.insert(chunk.mapped, more);
        chunk.mapped += more;
        chunk.begin_small(os, chunk.mapped - more);
        self.chunks[index].open();
        self.first_free = self.first_free.min(index);
        true
    }

    /// Unmaps the free slots at the end of every chunk, but for the first few. Whether there
    /// were any.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn shrink(&mut self, os: &impl Os) -> bool {
        let mut shrunk = false;
        for index in 0..self.len {
            let Some(chunk) = self.chunk(index) else { break };
            let mut end = chunk.mapped;
            while end > SLOTS_KEPT && chunk.free.has(end - 1) {
                end -= 1;
            }
            let count = chunk.mapped - end;
            if count == 0 {
                continue;
            }
            // SAFETY: the slots lie in the chunk's mapped part.
            let tail = unsafe { chunk.base.add(end * SLOT_BYTES) };
            // SAFETY: by invariant 1 of [`pages`](super) they belong to no span.
            if !unsafe { os.unmap(tail, count * SLOT_BYTES) } {
                // In the middle of a mapping, and there may not be more of them.
                continue;
            }
            let dirty = chunk.dirty.count_in(end, count);
            for slots in [&mut chunk.free, &mut chunk.dirty, &mut chunk.aged] {
                slots.remove(end, count);
            }
            chunk.mapped = end;
            self.free_dirty -= dirty;
            shrunk = true;
        }
        shrunk
    }
}
