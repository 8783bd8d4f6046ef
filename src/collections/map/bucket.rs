//! One bucket: eight tophash bytes, eight keys, eight values, a link.
//!
//! ```text
//! 0        8                                                         LINK
//! ┌────────┬──────────────┬──────────────────┬──────────────────────┬──────┐
//! │ tops   │ keys 0 … 7   │ values 0 … 7     │ padding if any       │ next │
//! └────────┴──────────────┴──────────────────┴──────────────────────┴──────┘
//! ```
//!
//! Keys lie together and values lie together, so a map from `i64` to `i8` pads
//! nothing between its entries. What is larger than [`INLINE_MAX_BYTES`] is
//! *stored indirectly*: the cell holds a pointer to a block of its own.
//!
//! # Invariants
//!
//! 1. A `Bucket` points to `Shape::SIZE` bytes aligned to `Shape::ALIGN`, or to the
//!    static empty bucket, of which only the tops are ever touched. Whoever makes
//!    one promises that the memory stays allocated while the bucket or a copy of
//!    it is in use. Bytes of tops and link are always initialized.
//! 2. A cell whose top is live holds an initialized key and value. Only a caller
//!    that takes the entry out, or moves it, clears the top.
//! 3. The link is null or points to a bucket for which 1 holds.
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
    pub(super) const KEY_STRIDE: usize = Stored::<K>::SIZE;
    pub(super) const VALUE_STRIDE: usize = Stored::<V>::SIZE;
    pub(super) const KEYS: usize = size_of::<Tops>().next_multiple_of(Stored::<K>::ALIGN);
    pub(super) const VALUES: usize =
        (Self::KEYS + CELLS * Self::KEY_STRIDE).next_multiple_of(Stored::<V>::ALIGN);
    pub(super) const LINK: usize =
        (Self::VALUES + CELLS * Self::VALUE_STRIDE).next_multiple_of(align_of::<*mut u8>());
    pub(super) const ALIGN: usize =
        max(max(Stored::<K>::ALIGN, Stored::<V>::ALIGN), align_of::<*mut u8>());
    pub(super) const SIZE: usize =
        (Self::LINK + size_of::<*mut u8>()).next_multiple_of(Self::ALIGN);
    /// Bytes allocated beside the bucket for one entry.
    pub(super) const INDIRECT_BYTES: usize = Self::beside::<K>() + Self::beside::<V>();
    /// Allocations made beside the bucket for one entry.
    pub(super) const INDIRECT_BLOCKS: usize =
        Stored::<K>::INDIRECT as usize + Stored::<V>::INDIRECT as usize;

    const fn beside<T>() -> usize {
        if Stored::<T>::INDIRECT { size_of::<T>() } else { 0 }
    }
}

const _: () = assert!(align_of::<Tops>() <= align_of::<*mut u8>());

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// A bucket in an array or on a chain.
pub(super) struct Bucket<K, V> {
    base: NonNull<u8>,
    entries: PhantomData<(K, V)>,
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
        self.base == other.base
    }
}

impl<K, V> Bucket<K, V> {
    /// # Safety
    ///
    /// Invariant 1 holds for `base`.
    #[inline]
    pub(super) unsafe fn new(base: NonNull<u8>) -> Self {
        Self { base, entries: PhantomData }
    }

    pub(super) fn base(self) -> NonNull<u8> {
        self.base
    }

    #[inline]
    pub(super) fn tops(self) -> Tops {
        // SAFETY: by invariant 1.
        Tops::from_word(unsafe { self.base.cast::<u64>().read() })
    }

    #[inline]
    pub(super) fn set_tops(self, tops: Tops) {
        // SAFETY: by invariant 1. The static empty bucket is never written: it is
        // replaced before the first insert.
        unsafe { self.base.cast::<u64>().write(tops.to_word()) }
    }

    /// The next bucket of the chain.
    #[inline]
    pub(super) fn overflow(self) -> Option<Self> {
        let link = self.link();
        // SAFETY: by invariant 1.
        let next = NonNull::new(unsafe { link.read() })?;
        // SAFETY: by invariant 3.
        Some(unsafe { Self::new(next) })
    }

    pub(super) fn set_overflow(self, next: Option<Self>) {
        let next = next.map_or(ptr::null_mut(), |next| next.base.as_ptr());
        let link = self.link();
        // SAFETY: by invariant 1.
        unsafe { link.write(next) }
    }

    /// The bucket `index` places after this one in memory.
    ///
    /// # Safety
    ///
    /// This is the first bucket of an array that has more than `index`.
    #[inline]
    pub(super) unsafe fn nth(self, index: usize) -> Self {
        // SAFETY: the caller's contract.
        let base = unsafe { self.base.add(index * Shape::<K, V>::SIZE) };
        // SAFETY: the caller's contract and invariant 1.
        unsafe { Self::new(base) }
    }

    /// This bucket and those after it. Not for the static empty bucket, which has no
    /// link.
    pub(super) fn chain(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |bucket| bucket.overflow())
    }

    /// Asks for the cache lines of the bucket, if they are few.
    #[inline(always)]
    pub(super) fn prefetch(self) {
        if Shape::<K, V>::SIZE <= PREFETCH_MAX_BYTES {
            let mut offset_bytes = 0;
            while offset_bytes < Shape::<K, V>::SIZE {
                prefetch(self.base.as_ptr().wrapping_add(offset_bytes));
                offset_bytes += LINE_BYTES;
            }
        }
    }

    #[inline]
    fn link(self) -> NonNull<*mut u8> {
        self.at(Shape::<K, V>::LINK).cast()
    }

    #[inline]
    fn at(self, offset_bytes: usize) -> NonNull<u8> {
        debug_assert!(offset_bytes < Shape::<K, V>::SIZE);
        // SAFETY: by invariant 1; the offset is one of `Shape`'s.
        unsafe { self.base.add(offset_bytes) }
    }

    #[inline]
    fn key_at(self, cell: Cell) -> NonNull<u8> {
        self.at(Shape::<K, V>::KEYS + cell.index() * Shape::<K, V>::KEY_STRIDE)
    }

    #[inline]
    fn value_at(self, cell: Cell) -> NonNull<u8> {
        self.at(Shape::<K, V>::VALUES + cell.index() * Shape::<K, V>::VALUE_STRIDE)
    }
}

/// A cell of a bucket.
pub(super) struct Slot<K, V> {
    pub(super) bucket: Bucket<K, V>,
    pub(super) cell: Cell,
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
        unsafe { to_key.copy_from_nonoverlapping(from_key, Shape::<K, V>::KEY_STRIDE) };
        let (from_value, to_value) = (self.bucket.value_at(self.cell), to.bucket.value_at(to.cell));
        // SAFETY: as above.
        unsafe { to_value.copy_from_nonoverlapping(from_value, Shape::<K, V>::VALUE_STRIDE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_the_description() {
        assert_eq!(Shape::<i64, i64>::SIZE, 8 + 64 + 64 + 8);
        assert_eq!(Shape::<i64, i8>::SIZE, 8 + 64 + 8 + 8, "no padding after each i8");
        assert_eq!(Shape::<i8, i64>::SIZE, 8 + 8 + 64 + 8);
        assert_eq!(Shape::<u64, [u8; 128]>::VALUE_STRIDE, 128);
        assert_eq!(Shape::<u64, [u8; 129]>::VALUE_STRIDE, 8);
        assert_eq!(Shape::<u64, [u8; 129]>::INDIRECT_BYTES, 129);
        assert_eq!(Shape::<(), ()>::SIZE, 16);
        assert_eq!(Shape::<u128, u8>::KEYS, 16);
    }

    #[test]
    fn over_aligned_entries_align_the_bucket() {
        #[repr(align(64))]
        struct Wide;
        assert_eq!(Shape::<u8, Wide>::ALIGN, 64);
        assert_eq!(Shape::<u8, Wide>::VALUES % 64, 0);
        assert_eq!(Shape::<u8, Wide>::SIZE % 64, 0);
    }
}
