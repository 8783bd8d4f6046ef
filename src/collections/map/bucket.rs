//! One bucket: eight tophash bytes, a link, and the entries of eight cells.
//!
//! ```text
//! ┌────────┐ ┌──────┐ ┌──────────────┬──────────────────┐
//! │ tops   │ │ next │ │ keys 0 … 7   │ values 0 … 7     │
//! └────────┘ └──────┘ └──────────────┴──────────────────┘
//! ```
//!
//! Its three parts lie in three places: in an array, all tops come first, then all
//! links, then all entries, so that a search for a key that is absent reads tops
//! alone, eight buckets to a cache line. An overflow bucket has them in this order
//! in one block.
//!
//! Keys lie together and values lie together, so a map from `i64` to `i8` pads
//! nothing between its entries. Where a pair needs no padding, each value lies
//! beside its key instead, most often in the same cache line. What is larger than
//! [`INLINE_MAX_BYTES`] is *stored indirectly*: the cell holds a pointer to a block
//! of its own.
//!
//! # Invariants
//!
//! 1. A `Bucket` points to tops, a link and `Shape::ENTRIES` bytes aligned to
//!    `Shape::ALIGN`, or to the static empty bucket, which has no entries and is
//!    never written to. Whoever makes one promises that the memory stays allocated
//!    while the bucket or a copy of it is in use. Tops and link are initialized.
//! 2. A cell whose top is live holds an initialized key and value. Only a caller
//!    that takes the entry out, or moves it, clears the top.
//! 3. The link is null or points to the block of an overflow bucket for which 1
//!    holds.
//! 4. An indirectly stored entry's pointer came from `Box::into_raw` and is owned
//!    by the one cell that holds it.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::prefetch::prefetch;
use super::tops::{CELLS, Cell, Tops};

/// The largest key or value that is stored in the bucket itself, in bytes.
pub const INLINE_MAX_BYTES: usize = 128;

/// The size of a cache line.
const LINE_BYTES: usize = 64;
/// The largest bucket that is worth fetching as a whole.
const PREFETCH_MAX_BYTES: usize = 4 * LINE_BYTES;

/// How one key or value is stored: in place, or behind a pointer.
struct Stored<T>(PhantomData<T>);

impl<T> Stored<T> {
    const INDIRECT: bool = size_of::<T>() > INLINE_MAX_BYTES;
    const SIZE: usize = if Self::INDIRECT { size_of::<*mut T>() } else { size_of::<T>() };
    const ALIGN: usize = if Self::INDIRECT { align_of::<*mut T>() } else { align_of::<T>() };

    /// # Safety
    ///
    /// `at` is valid for writes of `SIZE` bytes, aligned to `ALIGN`, and holds
    /// nothing that is still needed.
    #[inline]
    unsafe fn write(at: NonNull<u8>, value: T) {
        if Self::INDIRECT {
            let block = Box::into_raw(Box::new(value));
            // SAFETY: the caller's contract.
            unsafe { at.cast::<*mut T>().write(block) }
        } else {
            // SAFETY: the caller's contract.
            unsafe { at.cast::<T>().write(value) }
        }
    }

    /// # Safety
    ///
    /// `at` holds what `write` put there.
    #[inline]
    unsafe fn get(at: NonNull<u8>) -> *mut T {
        if Self::INDIRECT {
            // SAFETY: the caller's contract.
            unsafe { at.cast::<*mut T>().read() }
        } else {
            at.cast::<T>().as_ptr()
        }
    }

    /// # Safety
    ///
    /// `at` holds what `write` put there; it holds nothing afterwards.
    #[inline]
    unsafe fn take(at: NonNull<u8>) -> T {
        // SAFETY: the caller's contract.
        let entry = unsafe { Self::get(at) };
        if Self::INDIRECT {
            // SAFETY: by invariant 4.
            let block = unsafe { Box::from_raw(entry) };
            *block
        } else {
            // SAFETY: the caller's contract: `entry` is `at` itself.
            unsafe { entry.read() }
        }
    }
}

/// The layout of a bucket of a map from `K` to `V`.
pub(super) struct Shape<K, V>(PhantomData<(K, V)>);

impl<K, V> Shape<K, V> {
    const KEY_SIZE: usize = Stored::<K>::SIZE;
    const VALUE_SIZE: usize = Stored::<V>::SIZE;
    const ENTRY_ALIGN: usize = max(Stored::<K>::ALIGN, Stored::<V>::ALIGN);
    /// Whether each value lies beside its key: where that pads nothing.
    const PAIRS: bool = Self::KEY_SIZE.is_multiple_of(Stored::<V>::ALIGN)
        && (Self::KEY_SIZE + Self::VALUE_SIZE).is_multiple_of(Self::ENTRY_ALIGN);
    const PAIR: usize = Self::KEY_SIZE + Self::VALUE_SIZE;
    pub(super) const KEY_STRIDE: usize = if Self::PAIRS { Self::PAIR } else { Self::KEY_SIZE };
    pub(super) const VALUE_STRIDE: usize = if Self::PAIRS { Self::PAIR } else { Self::VALUE_SIZE };
    /// Where the first value lies; the first key lies at 0.
    pub(super) const VALUES: usize = if Self::PAIRS {
        Self::KEY_SIZE
    } else {
        (CELLS * Self::KEY_SIZE).next_multiple_of(Stored::<V>::ALIGN)
    };
    pub(super) const ALIGN: usize = max(Self::ENTRY_ALIGN, align_of::<*mut u8>());
    /// Bytes of the eight entries.
    pub(super) const ENTRIES: usize =
        if Self::PAIRS { CELLS * Self::PAIR } else { Self::VALUES + CELLS * Self::VALUE_SIZE }
            .next_multiple_of(Self::ALIGN);
    /// Bytes of tops and link.
    pub(super) const HEAD: usize = LINK + size_of::<*mut u8>();
    /// Where the entries of an overflow bucket lie in its block.
    const BLOCK_ENTRIES: usize = Self::HEAD.next_multiple_of(Self::ALIGN);
    /// Bytes of an overflow bucket.
    pub(super) const BLOCK: usize = Self::BLOCK_ENTRIES + Self::ENTRIES;
    /// Bytes allocated beside the bucket for one entry.
    pub(super) const INDIRECT_BYTES: usize = Self::beside::<K>() + Self::beside::<V>();
    /// Allocations made beside the bucket for one entry.
    pub(super) const INDIRECT_BLOCKS: usize =
        Stored::<K>::INDIRECT as usize + Stored::<V>::INDIRECT as usize;

    const fn beside<T>() -> usize {
        if Stored::<T>::INDIRECT { size_of::<T>() } else { 0 }
    }
}

/// Where the link of an overflow bucket lies in its block; the tops come first.
const LINK: usize = size_of::<Tops>();

const _: () = assert!(LINK.is_multiple_of(align_of::<*mut u8>()));

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// A bucket in an array or on a chain.
pub(super) struct Bucket<K, V> {
    tops: NonNull<Tops>,
    link: NonNull<*mut u8>,
    entries: NonNull<u8>,
    types: PhantomData<(K, V)>,
}

impl<K, V> Clone for Bucket<K, V> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Bucket<K, V> {}

impl<K, V> PartialEq for Bucket<K, V> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.tops == other.tops
    }
}

impl<K, V> Bucket<K, V> {
    /// # Safety
    ///
    /// Invariant 1 holds for the three.
    #[inline]
    pub(super) unsafe fn new(
        tops: NonNull<Tops>,
        link: NonNull<*mut u8>,
        entries: NonNull<u8>,
    ) -> Self {
        Self { tops, link, entries, types: PhantomData }
    }

    /// The bucket in a block of its own.
    ///
    /// # Safety
    ///
    /// `block` is `Shape::BLOCK` bytes aligned to `Shape::ALIGN`, for which
    /// invariant 1 holds once tops and link are initialized.
    #[inline]
    pub(super) unsafe fn in_block(block: NonNull<u8>) -> Self {
        // SAFETY: the caller's contract; a block is longer than its head.
        let link = unsafe { block.add(LINK) }.cast();
        // SAFETY: as above; the entries may be empty, at the end of the block.
        let entries = unsafe { block.add(Shape::<K, V>::BLOCK_ENTRIES) };
        // SAFETY: the caller's contract.
        unsafe { Self::new(block.cast(), link, entries) }
    }

    /// The block that this bucket was made from, if it is an overflow bucket.
    pub(super) fn block(self) -> NonNull<u8> {
        self.tops.cast()
    }

    /// Makes it an empty bucket at the end of a chain.
    pub(super) fn init(self) {
        self.set_tops(Tops::EMPTY);
        self.set_overflow(None);
    }

    #[inline]
    pub(super) fn tops(self) -> Tops {
        // SAFETY: by invariant 1.
        unsafe { self.tops.read() }
    }

    #[inline]
    pub(super) fn set_tops(self, tops: Tops) {
        // SAFETY: by invariant 1. The static empty bucket is never written: it is
        // replaced before the first insert.
        unsafe { self.tops.write(tops) }
    }

    /// The next bucket of the chain.
    #[inline]
    pub(super) fn overflow(self) -> Option<Self> {
        // SAFETY: by invariant 1.
        let next = NonNull::new(unsafe { self.link.read() })?;
        // SAFETY: by invariant 3.
        Some(unsafe { Self::in_block(next) })
    }

    pub(super) fn set_overflow(self, next: Option<Self>) {
        let next = next.map_or(ptr::null_mut(), |next| next.block().as_ptr());
        // SAFETY: by invariant 1.
        unsafe { self.link.write(next) }
    }

    /// This bucket and those after it.
    pub(super) fn chain(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |bucket| bucket.overflow())
    }

    /// Asks for the cache line of the tops.
    #[inline(always)]
    pub(super) fn prefetch_tops(self) {
        prefetch(self.tops.as_ptr().cast());
    }

    /// Asks for the cache line of the link.
    #[inline(always)]
    pub(super) fn prefetch_link(self) {
        prefetch(self.link.as_ptr().cast());
    }

    /// Asks for the cache lines of the entries, if they are few.
    #[inline(always)]
    pub(super) fn prefetch(self) {
        if Shape::<K, V>::ENTRIES <= PREFETCH_MAX_BYTES {
            let mut offset_bytes = 0;
            while offset_bytes < Shape::<K, V>::ENTRIES {
                prefetch(self.entries.as_ptr().wrapping_add(offset_bytes));
                offset_bytes += LINE_BYTES;
            }
        }
    }

    /// Asks for the line where the entries begin: cells are filled from the first on,
    /// so that it is the likeliest to hold a key that is looked for.
    #[inline(always)]
    pub(super) fn prefetch_start(self) {
        prefetch(self.entries.as_ptr());
    }

    /// Asks for the next bucket of the chain, if there is one.
    #[inline(always)]
    pub(super) fn prefetch_overflow(self) {
        if !self.tops().ends()
            && let Some(next) = self.overflow()
        {
            next.prefetch_tops();
            next.prefetch();
        }
    }

    #[inline]
    fn key_at(self, cell: Cell) -> NonNull<u8> {
        // SAFETY: by invariant 1; the cell is one of eight.
        unsafe { self.entries.add(cell.index() * Shape::<K, V>::KEY_STRIDE) }
    }

    #[inline]
    fn value_at(self, cell: Cell) -> NonNull<u8> {
        let offset_bytes = Shape::<K, V>::VALUES + cell.index() * Shape::<K, V>::VALUE_STRIDE;
        // SAFETY: by invariant 1; the cell is one of eight.
        unsafe { self.entries.add(offset_bytes) }
    }
}

/// A cell of a bucket.
pub(super) struct Slot<K, V> {
    pub(super) bucket: Bucket<K, V>,
    pub(super) cell: Cell,
}

impl<K, V> PartialEq for Slot<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.bucket == other.bucket && self.cell == other.cell
    }
}

impl<K, V> Clone for Slot<K, V> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Slot<K, V> {}

impl<K, V> Slot<K, V> {
    #[inline]
    pub(super) fn new(bucket: Bucket<K, V>, cell: Cell) -> Self {
        Self { bucket, cell }
    }

    #[inline]
    pub(super) fn top(self) -> u8 {
        self.bucket.tops().get(self.cell)
    }

    #[inline]
    pub(super) fn set_top(self, top: u8) {
        self.bucket.set_tops(self.bucket.tops().with(self.cell, top));
    }

    /// # Safety
    ///
    /// The cell is live, and for `'a` its entry is neither moved nor changed.
    #[inline]
    pub(super) unsafe fn key<'a>(self) -> &'a K {
        // SAFETY: by invariant 2.
        let key = unsafe { Stored::<K>::get(self.bucket.key_at(self.cell)) };
        // SAFETY: by invariant 2 and the caller's contract.
        unsafe { &*key }
    }

    /// # Safety
    ///
    /// As for `key`.
    #[inline]
    pub(super) unsafe fn value<'a>(self) -> &'a V {
        // SAFETY: by invariant 2.
        let value = unsafe { Stored::<V>::get(self.bucket.value_at(self.cell)) };
        // SAFETY: by invariant 2 and the caller's contract.
        unsafe { &*value }
    }

    /// # Safety
    ///
    /// As for `key`, and nobody else has access to the value for `'a`.
    #[inline]
    pub(super) unsafe fn value_mut<'a>(self) -> &'a mut V {
        // SAFETY: by invariant 2.
        let value = unsafe { Stored::<V>::get(self.bucket.value_at(self.cell)) };
        // SAFETY: by invariant 2 and the caller's contract.
        unsafe { &mut *value }
    }

    /// Puts an entry into the cell. The caller sets the top.
    ///
    /// # Safety
    ///
    /// The cell is not live, and its bucket is not the static empty one.
    #[inline]
    pub(super) unsafe fn write(self, key: K, value: V) {
        // SAFETY: by invariant 1 and the caller's contract.
        unsafe { Stored::<K>::write(self.bucket.key_at(self.cell), key) };
        // SAFETY: by invariant 1 and the caller's contract.
        unsafe { Stored::<V>::write(self.bucket.value_at(self.cell), value) };
    }

    /// Takes the entry out of the cell. The caller clears the top first.
    ///
    /// # Safety
    ///
    /// The cell's top was live, and its entry is not taken twice.
    #[inline]
    pub(super) unsafe fn take(self) -> (K, V) {
        // SAFETY: by invariant 2 and the caller's contract.
        let key = unsafe { Stored::<K>::take(self.bucket.key_at(self.cell)) };
        // SAFETY: by invariant 2 and the caller's contract.
        let value = unsafe { Stored::<V>::take(self.bucket.value_at(self.cell)) };
        (key, value)
    }

    /// Copies the entry's bits to a cell of another bucket. Of the two cells, the
    /// caller leaves one live.
    ///
    /// # Safety
    ///
    /// This cell is live and `to` is not; their buckets differ.
    #[inline]
    pub(super) unsafe fn copy_to(self, to: Self) {
        let (from_key, to_key) = (self.bucket.key_at(self.cell), to.bucket.key_at(to.cell));
        // SAFETY: by invariant 1; distinct buckets do not overlap.
        unsafe { to_key.copy_from_nonoverlapping(from_key, Shape::<K, V>::KEY_SIZE) };
        let (from_value, to_value) = (self.bucket.value_at(self.cell), to.bucket.value_at(to.cell));
        // SAFETY: as above.
        unsafe { to_value.copy_from_nonoverlapping(from_value, Shape::<K, V>::VALUE_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape<K, V>() -> [usize; 5] {
        let (keys, values) = (Shape::<K, V>::KEY_STRIDE, Shape::<K, V>::VALUE_STRIDE);
        [keys, Shape::<K, V>::VALUES, values, Shape::<K, V>::ENTRIES, Shape::<K, V>::BLOCK]
    }

    #[test]
    fn layouts_are_those_of_the_description() {
        assert_eq!(shape::<i64, i64>(), [16, 8, 16, 128, 144], "each value beside its key");
        assert_eq!(shape::<i64, i8>(), [8, 64, 1, 72, 88], "no padding after each i8");
        assert_eq!(shape::<i8, i64>(), [1, 8, 8, 72, 88]);
        assert_eq!(shape::<u64, [u8; 128]>(), [136, 8, 136, 1088, 1104]);
        assert_eq!(shape::<u64, [u8; 129]>(), [16, 8, 16, 128, 144]);
        assert_eq!(Shape::<u64, [u8; 129]>::INDIRECT_BYTES, 129);
        assert_eq!(shape::<(), ()>(), [0, 0, 0, 0, 16]);
        assert_eq!(shape::<u128, u8>(), [16, 128, 1, 144, 160]);
    }

    #[test]
    fn over_aligned_entries_align_the_bucket() {
        #[repr(align(64))]
        struct Wide;
        assert_eq!(Shape::<u8, Wide>::ALIGN, 64);
        assert_eq!(Shape::<u8, Wide>::VALUES % 64, 0);
        assert_eq!(Shape::<u8, Wide>::BLOCK % 64, 0);
    }
}
