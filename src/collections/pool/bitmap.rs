//! A fixed number of values in one mapping, handed out by a bitmap.
//!
//! One cache line of metadata (512 bits) stands for 512 slots: a bit is set while its slot is free.
//! Values are constructed in their slots on first use and stay there.
//!
//! # Invariants
//!
//! 1. Whoever clears a slot's `free` bit owns the slot until it sets the bit again. The Release of
//!    setting hands the slot's content and its `made` bit to the Acquire of clearing.
//! 2. A slot's `made` bit is set exactly while the slot holds a value; only its owner changes it.
//! 3. Bits at or beyond `capacity` are never set.
//! 4. The pool is invariant in `T`: it hands out `&mut T` through `&self`, so a value put in as one
//!    type must come out as the same.

use super::region::Region;
use super::reset::Reset;
use crate::collections::rest::drop_rest;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// How a [`BitmapPool`]'s pages become present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefault {
    /// By the first use of each: construction is cheap, and early gets take page faults.
    #[default]
    OnUse,
    /// By writing to each page at construction.
    Touch,
    /// By the kernel at construction, in one call (`MAP_POPULATE`).
    Populate,
}

/// A pool of up to a fixed number of values, which never move and are never freed before the pool.
///
/// ```
/// use spanalloc::pool::{BitmapPool, Prefault};
///
/// let pool = BitmapPool::new(2, Prefault::Populate, || [0u8; 512])?;
/// let (one, _two) = (pool.get().unwrap(), pool.get().unwrap());
/// assert!(pool.get().is_none());
/// drop(one);
/// assert!(pool.get().is_some());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// What is borrowed for less time than a pool's values live cannot get among them:
///
/// ```compile_fail
/// use spanalloc::pool::{BitmapPool, Keep};
///
/// type Texts<'a> = BitmapPool<Keep<&'a str>, fn() -> Keep<&'static str>>;
///
/// fn shorten<'a>(texts: &'a Texts<'static>) -> &'a Texts<'a> {
///     texts
/// }
/// ```
pub struct BitmapPool<T, F = fn() -> T> {
    free: Box<[Line]>,
    made: Box<[Line]>,
    capacity: usize,
    exhausted: AtomicU64,
    region: Region,
    init: F,
    /// Owned, and invariant.
    values: PhantomData<(T, Invariant<T>)>,
}

type Invariant<T> = fn(T) -> T;

const WORD_BITS: usize = u64::BITS as usize;
const LINE_WORDS: usize = 8;
/// No supported machine gives a program more.
const ADDRESS_SPACE_BYTES: usize = 1 << 56;

/// One cache line of bits.
#[repr(align(64))]
struct Line([AtomicU64; LINE_WORDS]);

// SAFETY: by invariant 1 a slot has one owner, whichever thread that is, and values are `Send`.
unsafe impl<T: Send, F: Send> Send for BitmapPool<T, F> {}
// SAFETY: as above; `init` is called through a shared reference.
unsafe impl<T: Send, F: Sync> Sync for BitmapPool<T, F> {}

impl<T: Reset, F: Fn() -> T> BitmapPool<T, F> {
    /// A pool of `capacity` slots; `init` constructs a value when a slot is used first.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] when `capacity` is zero or the slots and their bits do not
    /// fit the address space; [`io::ErrorKind::OutOfMemory`] when there is no memory for the bits;
    /// otherwise what the kernel says about the mapping.
    pub fn new(capacity: usize, prefault: Prefault, init: F) -> io::Result<Self> {
        const { assert!(align_of::<T>() <= 4096, "slots are aligned to a page at most") };
        let bytes = capacity.checked_mul(size_of::<T>()).filter(|_| capacity > 0);
        let lines = capacity.div_ceil(WORD_BITS * LINE_WORDS);
        let fits = |bytes: &usize| {
            // Slots, the bits of those that are free and of those that are made.
            let all = lines.checked_mul(2 * size_of::<Line>()).and_then(|b| b.checked_add(*bytes));
            all.is_some_and(|all| all <= ADDRESS_SPACE_BYTES)
        };
        let bytes = bytes.filter(fits).ok_or_else(|| {
            let size = size_of::<T>();
            let message = format!(
                "a bitmap pool of {capacity} slots of {size} bytes: there must be at least one \
                 slot, and all together must fit the address space"
            );
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let mut region = Region::map(bytes, prefault == Prefault::Populate)?;
        if prefault == Prefault::Touch {
            region.touch();
        }
        let pool = Self {
            free: cleared(lines)?,
            made: cleared(lines)?,
            capacity,
            exhausted: AtomicU64::new(0),
            region,
            init,
            values: PhantomData,
        };
        for (number, word) in words(&pool.free).enumerate() {
            let bits = capacity.saturating_sub(number * WORD_BITS).min(WORD_BITS);
            word.store(if bits == WORD_BITS { u64::MAX } else { (1 << bits) - 1 }, Relaxed);
        }
        Ok(pool)
    }

    /// A value in a slot of its own, or `None` when all slots are taken. Looks at one word of
    /// metadata per 64 slots until it finds a free one.
    #[must_use]
    pub fn get(&self) -> Option<BitmapGuard<'_, T, F>> {
        let claimed = words(&self.free).enumerate().find_map(|(number, word)| {
            claim_lowest(word).map(|bit| number * WORD_BITS + bit as usize)
        });
        let Some(index) = claimed else {
            self.exhausted.fetch_add(1, Relaxed);
            return None;
        };
        // From here on a panicking `init` gives the slot back.
        let slot = Slot { pool: self, index };
        if !slot.is_made() {
            // SAFETY: by invariant 1 the slot is ours, and by 2 it holds no value.
            unsafe { slot.place().write((self.init)()) };
            slot.set_made(true);
        }
        Some(BitmapGuard { slot, value: PhantomData })
    }

    /// A snapshot of the counters; costs a look at all bits.
    #[must_use]
    pub fn stats(&self) -> BitmapStats {
        let ones = |lines| words(lines).map(|word| word.load(Relaxed).count_ones() as usize).sum();
        let free: usize = ones(&self.free);
        BitmapStats {
            capacity: self.capacity,
            in_use: self.capacity - free,
            made: ones(&self.made),
            metadata_bytes: self.free.len() * size_of::<Line>(),
            exhausted: self.exhausted.load(Relaxed),
        }
    }
}

impl<T, F> BitmapPool<T, F> {
    fn place(&self, index: usize) -> NonNull<T> {
        debug_assert!(index < self.capacity);
        // SAFETY: the region has room for `capacity` values and is aligned to a page.
        unsafe { self.region.base().cast::<T>().add(index) }
    }
}

impl<T, F> Drop for BitmapPool<T, F> {
    fn drop(&mut self) {
        let mut made = (0..self.capacity).filter(|&index| bit(&self.made, index));
        drop_rest(|| {
            let Some(index) = made.next() else { return false };
            // SAFETY: no guard is left, and by invariant 2 the slot holds a value.
            unsafe { ptr::drop_in_place(self.place(index).as_ptr()) };
            true
        });
    }
}

impl<T: Reset, F: Fn() -> T> fmt::Debug for BitmapPool<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BitmapPool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Default for Line {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; LINE_WORDS])
    }
}

/// As many lines of bits, none of them set.
fn cleared(count: usize) -> io::Result<Box<[Line]>> {
    let mut lines = Vec::new();
    lines.try_reserve_exact(count).map_err(|_| io::ErrorKind::OutOfMemory)?;
    lines.resize_with(count, Line::default);
    Ok(lines.into_boxed_slice())
}

fn words(lines: &[Line]) -> impl Iterator<Item = &AtomicU64> {
    lines.iter().flat_map(|line| &line.0)
}

fn word(lines: &[Line], index: usize) -> (&AtomicU64, u64) {
    let number = index / WORD_BITS;
    (&lines[number / LINE_WORDS].0[number % LINE_WORDS], 1 << (index % WORD_BITS))
}

fn bit(lines: &[Line], index: usize) -> bool {
    let (word, mask) = word(lines, index);
    word.load(Relaxed) & mask != 0
}

/// Clears the lowest set bit and returns its number.
fn claim_lowest(word: &AtomicU64) -> Option<u32> {
    let mut seen = word.load(Relaxed);
    while seen != 0 {
        match word.compare_exchange_weak(seen, seen & (seen - 1), Acquire, Relaxed) {
            Ok(_) => return Some(seen.trailing_zeros()),
            Err(now) => seen = now,
        }
    }
    None
}

/// A snapshot of a [`BitmapPool`]'s counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BitmapStats {
    /// Slots there are.
    pub capacity: usize,
    /// Slots handed out now.
    pub in_use: usize,
    /// Slots in which a value has been constructed.
    pub made: usize,
    /// Bytes of the bitmap that a get searches: 64 for each 512 slots.
    pub metadata_bytes: usize,
    /// Gets that found no free slot.
    pub exhausted: u64,
}

/// A slot in the hands of its owner; dropping it gives it back.
struct Slot<'a, T, F> {
    pool: &'a BitmapPool<T, F>,
    index: usize,
}

impl<T, F> Slot<'_, T, F> {
    fn place(&self) -> NonNull<T> {
        self.pool.place(self.index)
    }

    fn is_made(&self) -> bool {
        bit(&self.pool.made, self.index)
    }

    fn set_made(&self, made: bool) {
        let (word, mask) = word(&self.pool.made, self.index);
        if made {
            word.fetch_or(mask, Relaxed)
        } else {
            word.fetch_and(!mask, Relaxed)
        };
    }
}

impl<T, F> Drop for Slot<'_, T, F> {
    fn drop(&mut self) {
        let (word, mask) = word(&self.pool.free, self.index);
        word.fetch_or(mask, Release);
    }
}

/// A value on loan from a [`BitmapPool`], where it lies.
///
/// Dropping the guard [resets](Reset) the value and frees the slot. If the reset panics, or
/// [`Reset::keep`] says no, the value is dropped, and the slot's next user gets a new one.
pub struct BitmapGuard<'a, T: Reset, F> {
    slot: Slot<'a, T, F>,
    /// Shares and moves between threads as the value does.
    value: PhantomData<&'a mut T>,
}

impl<T: Reset, F> Drop for BitmapGuard<'_, T, F> {
    fn drop(&mut self) {
        /// Drops the value in the slot unless it is disarmed.
        struct Unmake<'b, 'a, T, F>(&'b Slot<'a, T, F>);

        impl<T, F> Drop for Unmake<'_, '_, T, F> {
            fn drop(&mut self) {
                self.0.set_made(false);
                // SAFETY: the slot is ours and holds a value, which nobody will see again.
                unsafe { ptr::drop_in_place(self.0.place().as_ptr()) };
            }
        }

        let mut place = self.slot.place();
        let unmake = Unmake(&self.slot);
        // SAFETY: by invariants 1 and 2; the reference ends before the value is dropped.
        let value = unsafe { place.as_mut() };
        value.reset();
        if value.keep() {
            std::mem::forget(unmake);
        }
    }
}

impl<T: Reset, F> Deref for BitmapGuard<'_, T, F> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: by invariants 1 and 2, and `&self` allows no writer.
        unsafe { self.slot.place().as_ref() }
    }
}

impl<T: Reset, F> DerefMut for BitmapGuard<'_, T, F> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: by invariants 1 and 2, and `&mut self` excludes other users of the guard.
        unsafe { self.slot.place().as_mut() }
    }
}

impl<T: Reset + fmt::Debug, F> fmt::Debug for BitmapGuard<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
