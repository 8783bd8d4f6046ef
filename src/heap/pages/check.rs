//! The invariants of [`pages`](super), looked at.

use super::PageHeap;
use crate::heap::bits::SlotSet;
use crate::heap::geometry::{HEADER_SLOTS, SLOT_BYTES, header_of_slot};
use crate::heap::span::{Kind, NOBODY, Span};

impl PageHeap {
    /// Dies if an invariant does not hold.
    pub(crate) fn check(&mut self) {
        let (mut in_use, mut free_dirty) = (0, 0);
        for index in 0..self.len {
            let (first_free, first_dirty) = (self.first_free, self.first_dirty);
            let entry = self.chunks[index];
            let chunk = self.chunk(index).expect("a chunk below `len`");
            let mut mapped = SlotSet::EMPTY;
            mapped.insert(HEADER_SLOTS, chunk.mapped - HEADER_SLOTS);
            assert_eq!(chunk.free.and(&mapped).len(), chunk.free.len(), "free and not mapped");
            let dirty = chunk.free.and(&chunk.dirty);
            let mut at = 0;
            while let Some((start, length)) = dirty.next_run(at) {
                assert!(length <= entry.dirty_run_max as usize, "invariant 4");
                at = start + length;
            }
            assert_eq!(chunk.aged.and(&dirty).len(), chunk.aged.len(), "invariant 3");
            assert!(index >= first_dirty || dirty.len() == 0, "dirty below `first_dirty`");
            let mut at = 0;
            while let Some((start, length)) = chunk.free.next_run(at) {
                assert!(length <= entry.run_max as usize, "invariant 4");
                assert!(index >= first_free, "free slots below `first_free`");
                for slot in start..start + length {
                    // SAFETY: a slot of a mapped chunk.
                    let span = unsafe { Span::from_header(header_of_slot(chunk.base, slot)) };
                    assert_eq!(span.kind(), Kind::None, "invariant 1");
                    let owner = span.hot().owner.get();
                    assert!(owner.is_null() || owner == NOBODY);
                }
                at = start + length;
            }
            in_use += chunk.mapped - HEADER_SLOTS - chunk.free.len();
            free_dirty += dirty.len();
        }
        assert_eq!((self.in_use, self.free_dirty), (in_use, free_dirty));
    }

    /// The first byte of each free slot.
    pub(crate) fn each_free_slot(&mut self, mut visit: impl FnMut(*mut u8)) {
        for index in 0..self.len {
            let chunk = self.chunk(index).expect("a chunk below `len`");
            let base = chunk.base.as_ptr();
            chunk.free.each(|slot| visit(base.wrapping_add(slot * SLOT_BYTES)));
        }
    }
}
