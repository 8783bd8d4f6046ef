//! Blocks of the global allocator that know what must be in them.
#![allow(dead_code, reason = "each test program uses what it needs")]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::hint::black_box;
use std::slice;

#[path = "../../src/heap/tests/contents.rs"]
mod contents;

/// Numbers that look random and are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// From 0 to `limit`, the latter excluded.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0xda3e_39cb_94b9_5bdb);
        (self.0 >> 33) as usize % limit
    }

    /// Mostly small; now and then of every kind up to a mapping of its own.
    pub(crate) fn size(&mut self) -> usize {
        let limit = match self.below(1000) {
            0 => 20 << 20,
            1..10 => 1 << 20,
            10..60 => 40 << 10,
            60..300 => 2048,
            _ => 160,
        };
        1 + self.below(limit)
    }

    /// Mostly 8, now and then any up to 128 KiB.
    pub(crate) fn align(&mut self) -> usize {
        if self.below(8) == 0 { 1 << self.below(18) } else { 8 }
    }
}

/// A block filled with words of its own, which are looked at again before it is freed.
pub(crate) struct Block {
    start: *mut u8,
    layout: Layout,
    id: u64,
}

// SAFETY: the memory belongs to whoever owns this.
unsafe impl Send for Block {}

impl Block {
    /// `None` when there is no memory.
    pub(crate) fn try_new(size: usize, align: usize, zeroed: bool) -> Option<Self> {
        let layout = Layout::from_size_align(size, align).unwrap();
        assert!(size > 0);
        // SAFETY: the size is not zero.
        let start = black_box(match zeroed {
            // SAFETY: the size is not zero.
            true => unsafe { alloc_zeroed(layout) },
            // SAFETY: the size is not zero.
            false => unsafe { alloc(layout) },
        });
        if start.is_null() {
            return None;
        }
        assert_eq!(start.addr() % align, 0, "{size} bytes at {align}");
        let mut block = Self { start, layout, id: 0 };
        assert!(
            !zeroed || contents::is_zero(block.first(size)),
            "{size} bytes at {align} are not zeroed"
        );
        block.fill();
        Some(block)
    }

    pub(crate) fn new(size: usize, align: usize, zeroed: bool) -> Self {
        Self::try_new(size, align, zeroed).expect("memory")
    }

    pub(crate) fn random(random: &mut Random) -> Self {
        let zeroed = random.below(4) == 0;
        Self::new(random.size(), random.align(), zeroed)
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Resizes, checks what was kept and fills the block anew. `false`, with the
    /// block as it was, when there is no memory.
    pub(crate) fn try_resize(&mut self, bytes: usize) -> bool {
        let (old, kept) = (self.layout, self.layout.size().min(bytes));
        assert!(self.holds(old.size()));
        // SAFETY: a live block of that layout, and the size is not zero.
        let moved = black_box(unsafe { realloc(self.start, old, bytes) });
        if moved.is_null() {
            assert!(self.holds(old.size()), "a refused realloc changed the block");
            return false;
        }
        assert_eq!(moved.addr() % old.align(), 0, "{old:?} resized to {bytes}");
        self.start = moved;
        self.layout = Layout::from_size_align(bytes, old.align()).unwrap();
        assert!(self.holds(kept), "{old:?} resized to {bytes}");
        self.fill();
        true
    }

    pub(crate) fn resize(&mut self, bytes: usize) {
        assert!(self.try_resize(bytes), "memory");
    }

    fn fill(&mut self) {
        self.id = contents::new_id();
        // SAFETY: the block has that many bytes, and is nobody else's.
        let all = unsafe { slice::from_raw_parts_mut(self.start, self.layout.size()) };
        contents::fill(all, self.id);
    }

    fn first(&self, bytes: usize) -> &[u8] {
        // SAFETY: the block has at least that many bytes.
        unsafe { slice::from_raw_parts(self.start, bytes) }
    }

    /// Whether the first `bytes` bytes are what they should be.
    fn holds(&self, bytes: usize) -> bool {
        contents::holds(self.first(bytes), self.id)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        assert!(self.holds(self.layout.size()), "{:?} was overwritten", self.layout);
        // SAFETY: a live block of that layout, given up here.
        unsafe { dealloc(self.start, self.layout) };
    }
}

/// Random work on the caller's blocks and on those of a pool that threads share;
/// what is left at the end goes to the pool.
pub(crate) fn churn(seed: u64, rounds: usize, pool: &std::sync::Mutex<Vec<Block>>) {
    let mut random = Random(seed);
    let mut held = Vec::new();
    for _ in 0..rounds {
        match random.below(10) {
            0..4 => held.push(Block::random(&mut random)),
            4 if !held.is_empty() => {
                let (at, bytes) = (random.below(held.len()), random.size());
                held[at].resize(bytes);
            }
            5 if !held.is_empty() => {
                let at = random.below(held.len());
                pool.lock().unwrap().push(held.swap_remove(at));
            }
            6 => {
                let block = pool.lock().unwrap().pop();
                drop(block);
            }
            _ if !held.is_empty() => drop(held.swap_remove(random.below(held.len()))),
            _ => {}
        }
    }
    pool.lock().unwrap().extend(held);
}
