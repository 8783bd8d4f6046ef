//! A bucket array and the overflow buckets that hang from it.
//!
//! `2^log2` *main* buckets, one chain starting at each. From `log2 ≥ 4` on, the
//! array is made a sixteenth longer: these *spare* buckets are handed out first
//! when a chain needs another bucket. Once they are used up, overflow buckets are
//! cut from *extents*, heap blocks for a 64th as many buckets as there are main
//! ones, hence one by one in small arrays. An array is one allocation:
//!
//! ```text
//! ┌──────────────┬───────────────┬───────────────────────────┬──────────────────┐
//! │ tops of main │ links of main │ entries of main           │ spares: blocks   │
//! └──────────────┴───────────────┴───────────────────────────┴──────────────────┘
//! ```
//!
//! Only tops and links are written when an array is made; the system gives the
//! pages of the rest when entries come.
//!
//! An extent begins with a link to the one before, and is freed with the array.
//!
//! An array owns memory, not entries: dropping it frees every bucket and forgets
//! what lies in them. That makes it its own guard: an array that is being filled
//! with copied bits while the old one is still in force may be dropped at any time.
//!
//! # Invariants
//!
//! 1. `mains` points into a live allocation laid out by `Plan`, or, while
//!    `!allocated`, to the static empty bucket, and `log2 == 0`.
//! 2. A link leads to a spare bucket below `spares_used` or to a bucket of an extent;
//!    each is linked once. `overflow_heap` counts the latter: all extents but the
//!    newest are used up.
//! 3. `extents` is null or the newest of a list of live allocations of
//!    `extent_layout`, each of which begins with a pointer to the one before.
//! 4. Buckets are only made from this array by its methods, and only the map's
//!    table uses them, which never keeps one beyond the array.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::bucket::{Bucket, Shape};
use super::tops::Tops;

/// From this `log2` on an array has spare buckets; the same number is the log2 of
/// main buckets to one spare.
const SPARE_LOG2: u8 = 4;
/// The log2 of main buckets to one bucket of an extent.
const EXTENT_LOG2: u8 = 6;

/// What an unallocated array points to: a bucket that ends its chain.
#[repr(C)]
struct Nothing {
    tops: Tops,
    link: usize,
}

static NOTHING: Nothing = Nothing { tops: Tops::EMPTY, link: 0 };

/// Where an overflow bucket came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was allocated with the array.
    Spare,
    /// It was cut from an extent that was there.
    Extent,
    /// It is the first one of an extent, which was allocated for it.
    NewExtent,
}

/// The main buckets of an array, by index.
pub(super) struct Mains<K, V> {
    tops: NonNull<Tops>,
    entries: NonNull<u8>,
    mask: usize,
    types: PhantomData<(K, V)>,
}

impl<K, V> Clone for Mains<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Mains<K, V> {}

impl<K, V> Mains<K, V> {
    /// How many there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.mask + 1
    }

    /// Number `index`, taken modulo their number.
    ///
    /// # Safety
    ///
    /// The array lives as long as the bucket and its copies are used.
    #[inline]
    pub(super) unsafe fn get(&self, index: usize) -> Bucket<K, V> {
        let index = index & self.mask;
        // SAFETY: array invariant 1, for an index below the number of main buckets.
        let tops = unsafe { self.tops.add(index) };
        // SAFETY: as above; there are as many links right after the tops.
        let link = unsafe { tops.add(self.len()) }.cast();
        // SAFETY: as above.
        let entries = unsafe { self.entries.add(index * Shape::<K, V>::ENTRIES) };
        // SAFETY: by array invariant 1 and the caller's contract.
        unsafe { Bucket::new(tops, link, entries) }
    }
}

/// A bucket array.
pub(super) struct Array<K, V> {
    mains: Mains<K, V>,
    log2: u8,
    allocated: bool,
    spares_used: usize,
    overflow_heap: usize,
    extents: *mut u8,
}

// SAFETY: an array is memory that it owns alone, and entries of `K` and `V` in it.
unsafe impl<K: Send, V: Send> Send for Array<K, V> {}
// SAFETY: as above; nothing is written through a shared reference.
unsafe impl<K: Sync, V: Sync> Sync for Array<K, V> {}

impl<K, V> Array<K, V> {
    /// Bytes before the first bucket of an extent.
    const EXTENT_HEAD: usize = size_of::<*mut u8>().next_multiple_of(Shape::<K, V>::ALIGN);

    /// An array of one empty bucket that is never written to and costs nothing.
    #[inline]
    pub(super) fn unallocated() -> Self {
        Self::from_parts(NonNull::from(&NOTHING).cast(), NonNull::dangling(), 0, false)
    }

    /// `2^log2` empty buckets and their spares.
    ///
    /// # Panics
    ///
    /// When the array would be larger than `isize::MAX` bytes.
    pub(super) fn new(log2: u8) -> Self {
        let plan = Plan::of::<K, V>(log2);
        Self::by_plan(&plan, log2).unwrap_or_else(|| handle_alloc_error(plan.layout))
    }

    /// As `new`, or `None` when there is no such array or no memory for it.
    pub(super) fn new_if_possible(log2: u8) -> Option<Self> {
        Self::by_plan(&Plan::checked::<K, V>(log2)?, log2)
    }

    fn by_plan(plan: &Plan, log2: u8) -> Option<Self> {
        // SAFETY: an array has a bucket with tops, hence is never empty.
        let block = unsafe { alloc(plan.layout) };
        let block = NonNull::new(block)?;
        // SAFETY: tops and links come first; they are that long together.
        unsafe { block.write_bytes(0, Shape::<K, V>::HEAD << log2) };
        // SAFETY: by the plan.
        let entries = unsafe { block.add(plan.entries) };
        Some(Self::from_parts(block.cast(), entries, log2, true))
    }

    #[inline]
    fn from_parts(tops: NonNull<Tops>, entries: NonNull<u8>, log2: u8, allocated: bool) -> Self {
        let mains = Mains { tops, entries, mask: (1 << log2) - 1, types: PhantomData };
        Self { mains, log2, allocated, spares_used: 0, overflow_heap: 0, extents: ptr::null_mut() }
    }

    pub(super) fn log2(&self) -> u8 {
        self.log2
    }

    pub(super) fn is_allocated(&self) -> bool {
        self.allocated
    }

    /// The main buckets.
    #[inline]
    pub(super) fn mains(&self) -> Mains<K, V> {
        self.mains
    }

    /// How many main buckets there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.mains.len()
    }

    pub(super) fn spares(&self) -> usize {
        spares(self.log2)
    }

    pub(super) fn spares_used(&self) -> usize {
        self.spares_used
    }

    pub(super) fn overflow_heap(&self) -> usize {
        self.overflow_heap
    }

    /// Bytes of the array itself; 0 while unallocated.
    pub(super) fn bytes(&self) -> usize {
        if self.allocated { Self::bytes_of(self.log2) } else { 0 }
    }

    /// Bytes of the array and of its extents.
    pub(super) fn bytes_total(&self) -> usize {
        if self.overflow_heap == 0 {
            return self.bytes();
        }
        let extents = self.overflow_heap.div_ceil(self.extent_buckets());
        self.bytes() + extents * self.extent_layout().size()
    }

    /// The address of the array, for `inspect`; 0 while unallocated.
    pub(super) fn address(&self) -> usize {
        if self.allocated { self.mains.tops.addr().get() } else { 0 }
    }

    /// The first bucket of the chain for `hash`.
    #[inline]
    pub(super) fn home(&self, hash: u64) -> Bucket<K, V> {
        self.bucket(hash as usize)
    }

    /// Main bucket number `index`, taken modulo their number.
    #[inline]
    pub(super) fn bucket(&self, index: usize) -> Bucket<K, V> {
        // SAFETY: by invariant 4.
        unsafe { self.mains.get(index) }
    }

    /// Hangs an empty bucket behind `tail`, the last of a chain of this array.
    pub(super) fn add_overflow(&mut self, tail: Bucket<K, V>) -> (Bucket<K, V>, Origin) {
        debug_assert!(self.allocated && tail.overflow().is_none());
        let (block, origin) = if self.spares_used < self.spares() {
            self.spares_used += 1;
            (self.spare(self.spares_used - 1), Origin::Spare)
        } else {
            let used = self.overflow_heap % self.extent_buckets();
            if used == 0 {
                self.add_extent();
            }
            self.overflow_heap += 1;
            let origin = if used == 0 { Origin::NewExtent } else { Origin::Extent };
            (self.in_extent(used), origin)
        };
        // SAFETY: it is a block that is not linked yet, and is initialized here.
        let bucket = unsafe { Bucket::in_block(block) };
        bucket.init();
        tail.set_overflow(Some(bucket));
        (bucket, origin)
    }

    /// The block of spare bucket number `index`.
    fn spare(&self, index: usize) -> NonNull<u8> {
        debug_assert!(index < self.spares());
        let offset_bytes = Plan::of::<K, V>(self.log2).spares + index * Shape::<K, V>::BLOCK;
        // SAFETY: by invariant 1 and the plan.
        unsafe { self.mains.tops.cast::<u8>().add(offset_bytes) }
    }

    /// Buckets of an extent.
    fn extent_buckets(&self) -> usize {
        1 << self.log2.saturating_sub(EXTENT_LOG2)
    }

    fn extent_layout(&self) -> Layout {
        let size = Shape::<K, V>::BLOCK.checked_mul(self.extent_buckets());
        let size = size.and_then(|size| size.checked_add(Self::EXTENT_HEAD));
        let layout = size.map(|size| Layout::from_size_align(size, Shape::<K, V>::ALIGN));
        layout.and_then(Result::ok).expect("an extent has a valid layout")
    }

    fn add_extent(&mut self) {
        let layout = self.extent_layout();
        // SAFETY: an extent has a link, hence is never empty.
        let extent = unsafe { alloc(layout) };
        let Some(extent) = NonNull::new(extent) else { handle_alloc_error(layout) };
        // SAFETY: it begins with a link and is aligned to `Shape::ALIGN`.
        unsafe { extent.cast().write(self.extents) };
        self.extents = extent.as_ptr();
    }

    /// The block of bucket number `index` of the newest extent.
    fn in_extent(&self, index: usize) -> NonNull<u8> {
        let extent = NonNull::new(self.extents).expect("an extent was added");
        let offset_bytes = Self::EXTENT_HEAD + index * Shape::<K, V>::BLOCK;
        // SAFETY: by invariant 3, for an index below `extent_buckets`.
        unsafe { extent.add(offset_bytes) }
    }

    /// Makes every bucket empty again and frees the extents. Entries are forgotten.
    pub(super) fn wipe(&mut self) {
        if !self.allocated {
            return;
        }
        (0..self.len()).for_each(|index| self.bucket(index).init());
        self.free_extents();
        self.spares_used = 0;
    }

    /// Frees the extents. Links that lead to their buckets are not followed any more.
    fn free_extents(&mut self) {
        let layout = self.extent_layout();
        while let Some(extent) = NonNull::new(self.extents) {
            // SAFETY: by invariant 3.
            self.extents = unsafe { extent.cast().read() };
            // SAFETY: by invariant 3; the list goes on without it.
            unsafe { dealloc(extent.as_ptr(), layout) };
        }
        self.overflow_heap = 0;
    }

    /// Bytes of an array of `2^log2` main buckets.
    pub(super) fn bytes_of(log2: u8) -> usize {
        Plan::of::<K, V>(log2).layout.size()
    }
}

impl<K, V> Drop for Array<K, V> {
    fn drop(&mut self) {
        if self.allocated {
            self.free_extents();
            let layout = Plan::of::<K, V>(self.log2).layout;
            // SAFETY: by invariant 1; allocated by `new` with the same layout.
            unsafe { dealloc(self.mains.tops.cast().as_ptr(), layout) };
        }
    }
}

/// Where the parts of an array lie.
struct Plan {
    layout: Layout,
    entries: usize,
    spares: usize,
}

impl Plan {
    fn of<K, V>(log2: u8) -> Self {
        Self::checked::<K, V>(log2).unwrap_or_else(|| {
            let bytes = Shape::<K, V>::ENTRIES;
            panic!("map: 2^{log2} buckets of {bytes} bytes are more than isize::MAX bytes")
        })
    }

    fn checked<K, V>(log2: u8) -> Option<Self> {
        let mains = 1usize.checked_shl(u32::from(log2))?;
        let heads = mains.checked_mul(Shape::<K, V>::HEAD)?;
        let entries = heads.checked_next_multiple_of(Shape::<K, V>::ALIGN)?;
        let spares_from = entries.checked_add(mains.checked_mul(Shape::<K, V>::ENTRIES)?)?;
        let size = spares_from.checked_add(spares(log2).checked_mul(Shape::<K, V>::BLOCK)?)?;
        let layout = Layout::from_size_align(size, Shape::<K, V>::ALIGN).ok()?;
        Some(Self { layout, entries, spares: spares_from })
    }
}

/// Spare buckets of an array of `2^log2` main ones.
fn spares(log2: u8) -> usize {
    if log2 >= SPARE_LOG2 { 1 << (log2 - SPARE_LOG2) } else { 0 }
}
