//! A bucket array and the overflow buckets that hang from it.
//!
//! `2^log2` *main* buckets, one chain starting at each. From `log2 ≥ 4` on, the
//! array is made a sixteenth longer: these *spare* buckets are handed out first
//! when a chain needs another bucket; once they are used up, each overflow bucket
//! is a heap block of its own.
//!
//! An array owns memory, not entries: dropping it frees every bucket and forgets
//! what lies in them. That makes it its own guard: an array that is being filled
//! with copied bits while the old one is still in force may be dropped at any time.
//!
//! # Invariants
//!
//! 1. `base` is a live allocation of `buckets()` buckets, or, while `!allocated`,
//!    the static empty bucket and `log2 == 0`.
//! 2. A link leads to a spare bucket below `spare_next` or to a heap bucket; each
//!    is linked once. `overflow_heap` counts the heap ones.
//! 3. Buckets are only made from this array by its methods, and only the map's
//!    table uses them, which never keeps one beyond the array.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::bucket::{Bucket, Shape};
use super::tops::Tops;

/// From this `log2` on an array has spare buckets; the same number is the log2 of
/// main buckets to one spare.
const SPARE_LOG2: u8 = 4;

/// What an unallocated array points to: one bucket's worth of empty tops.
static EMPTY: u64 = Tops::EMPTY.to_word();

/// Where an overflow bucket came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was allocated with the array.
    Spare,
    /// It is a heap block of its own.
    Heap,
}

/// A bucket array.
pub(super) struct Array<K, V> {
    base: NonNull<u8>,
    mask: usize,
    log2: u8,
    allocated: bool,
    spare_next: usize,
    overflow_heap: usize,
    entries: std::marker::PhantomData<(K, V)>,
}

// SAFETY: an array is memory that it owns alone, and entries of `K` and `V` in it.
unsafe impl<K: Send, V: Send> Send for Array<K, V> {}
// SAFETY: as above; nothing is written through a shared reference.
unsafe impl<K: Sync, V: Sync> Sync for Array<K, V> {}

impl<K, V> Array<K, V> {
    /// An array of one empty bucket that is never written to and costs nothing.
    #[inline]
    pub(super) fn unallocated() -> Self {
        Self {
            base: NonNull::from(&EMPTY).cast(),
            mask: 0,
            log2: 0,
            allocated: false,
            spare_next: 1,
            overflow_heap: 0,
            entries: std::marker::PhantomData,
        }
    }

    /// `2^log2` empty buckets and their spares.
    ///
    /// # Panics
    ///
    /// When the array would be larger than `isize::MAX` bytes.
    pub(super) fn new(log2: u8) -> Self {
        let layout = Self::layout(log2);
        // SAFETY: a bucket, hence the layout, is never empty.
        let block = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(block) else { handle_alloc_error(layout) };
        Self {
            base,
            mask: (1 << log2) - 1,
            log2,
            allocated: true,
            spare_next: 1 << log2,
            overflow_heap: 0,
            entries: std::marker::PhantomData,
        }
    }

    pub(super) fn log2(&self) -> u8 {
        self.log2
    }

    pub(super) fn is_allocated(&self) -> bool {
        self.allocated
    }

    /// Main buckets.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.mask + 1
    }

    pub(super) fn spares(&self) -> usize {
        Self::buckets(self.log2) - self.len()
    }

    pub(super) fn spares_used(&self) -> usize {
        self.spare_next - self.len()
    }

    pub(super) fn overflow_heap(&self) -> usize {
        self.overflow_heap
    }

    /// Bytes of the array itself; 0 while unallocated.
    pub(super) fn bytes(&self) -> usize {
        if self.allocated { Self::layout(self.log2).size() } else { 0 }
    }

    /// Bytes of the array and of its heap buckets.
    pub(super) fn bytes_total(&self) -> usize {
        self.bytes() + self.overflow_heap * Shape::<K, V>::SIZE
    }

    /// The address of the array, for `inspect`; 0 while unallocated.
    pub(super) fn address(&self) -> usize {
        if self.allocated { self.base.addr().get() } else { 0 }
    }

    /// The first bucket of the chain for `hash`.
    #[inline]
    pub(super) fn home(&self, hash: u64) -> Bucket<K, V> {
        self.bucket(hash as usize & self.mask)
    }

    /// Main bucket number `index`, taken modulo their number.
    #[inline]
    pub(super) fn bucket(&self, index: usize) -> Bucket<K, V> {
        self.nth(index & self.mask)
    }

    #[inline]
    fn nth(&self, index: usize) -> Bucket<K, V> {
        debug_assert!(index < Self::buckets(self.log2));
        // SAFETY: by invariants 1 and 3.
        let first = unsafe { Bucket::new(self.base) };
        // SAFETY: by invariant 1, for an index below the number of buckets.
        unsafe { first.nth(index) }
    }

    /// Hangs an empty bucket behind `tail`, the last of a chain of this array.
    pub(super) fn add_overflow(&mut self, tail: Bucket<K, V>) -> (Bucket<K, V>, Origin) {
        debug_assert!(self.allocated && tail.overflow().is_none());
        let (bucket, origin) = if self.spare_next < Self::buckets(self.log2) {
            self.spare_next += 1;
            (self.nth(self.spare_next - 1), Origin::Spare)
        } else {
            let layout = Self::bucket_layout();
            // SAFETY: a bucket is never empty.
            let block = unsafe { alloc_zeroed(layout) };
            let Some(base) = NonNull::new(block) else { handle_alloc_error(layout) };
            self.overflow_heap += 1;
            // SAFETY: `base` is a bucket's worth of zeroes.
            (unsafe { Bucket::new(base) }, Origin::Heap)
        };
        tail.set_overflow(Some(bucket));
        (bucket, origin)
    }

    /// Unlinks the overflow buckets of a chain and frees those of the heap.
    pub(super) fn cut_chain(&mut self, home: Bucket<K, V>) {
        let mut next = home.overflow();
        home.set_overflow(None);
        while let Some(bucket) = next {
            next = bucket.overflow();
            if !self.holds(bucket) {
                self.overflow_heap -= 1;
                // SAFETY: by invariant 2 it is a heap block, and its one link is gone.
                unsafe { dealloc(bucket.base().as_ptr(), Self::bucket_layout()) };
            }
        }
    }

    /// Makes every bucket empty again and frees the heap ones. Entries are forgotten.
    pub(super) fn wipe(&mut self) {
        if !self.allocated {
            return;
        }
        self.free_heap_buckets();
        for index in 0..self.spare_next {
            let bucket = self.nth(index);
            bucket.set_tops(Tops::EMPTY);
            bucket.set_overflow(None);
        }
        self.spare_next = self.len();
    }

    fn free_heap_buckets(&mut self) {
        for index in 0..self.len() {
            if self.overflow_heap == 0 {
                break;
            }
            self.cut_chain(self.nth(index));
        }
    }

    /// Whether the bucket is one of the array's own, main or spare.
    fn holds(&self, bucket: Bucket<K, V>) -> bool {
        let offset = bucket.base().addr().get().wrapping_sub(self.base.addr().get());
        offset < Self::layout(self.log2).size()
    }

    fn buckets(log2: u8) -> usize {
        let spares = if log2 >= SPARE_LOG2 { 1 << (log2 - SPARE_LOG2) } else { 0 };
        (1 << log2) + spares
    }

    /// Bytes of an array of `2^log2` main buckets.
    pub(super) fn bytes_of(log2: u8) -> usize {
        Self::layout(log2).size()
    }

    fn layout(log2: u8) -> Layout {
        assert!(u32::from(log2) < usize::BITS - 1, "map: capacity overflow");
        let size = Self::buckets(log2).checked_mul(Shape::<K, V>::SIZE);
        size.and_then(|size| Layout::from_size_align(size, Shape::<K, V>::ALIGN).ok())
            .expect("map: capacity overflow")
    }

    fn bucket_layout() -> Layout {
        let layout = Layout::from_size_align(Shape::<K, V>::SIZE, Shape::<K, V>::ALIGN);
        layout.expect("a bucket has a valid layout")
    }
}

impl<K, V> Drop for Array<K, V> {
    fn drop(&mut self) {
        if self.allocated {
            self.free_heap_buckets();
            // SAFETY: by invariant 1; allocated by `new` with the same layout.
            unsafe { dealloc(self.base.as_ptr(), Self::layout(self.log2)) };
        }
    }
}
