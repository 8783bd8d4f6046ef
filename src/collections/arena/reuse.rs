//! Blocks that came back, by size class.
//!
//! Classes are multiples of 16 bytes to 128, then four per doubling to 32 KiB. Larger blocks have
//! no class: they are taken back only with the whole arena.
//!
//! The block that came back to an empty place is *at hand*, without a link: who makes and drops
//! one value after the other neither writes a link nor waits for one.
//!
//! Invariants:
//!
//! 1. A block at hand or on the list of a class has at least the class's bytes, is aligned to 16,
//!    and is in no use: the place or the list alone refers to it. The first bytes of one on a list
//!    hold the link.
//! 2. With debug assertions, all bytes but the link are poison.

use super::chunk::{check_poison, poison};
use std::cell::Cell;
use std::ptr::NonNull;

/// Largest block that is reused.
const CLASS_BYTES_MAX: usize = 32 * 1024;
/// Sizes are multiples of this up to `FINE_BYTES_MAX`.
const STEP: usize = 16;
const FINE_BYTES_MAX: usize = 128;
const FINE_CLASSES: usize = FINE_BYTES_MAX / STEP;
const CLASSES_PER_DOUBLING: usize = 4;
const CLASSES: usize = FINE_CLASSES
    + CLASSES_PER_DOUBLING * (CLASS_BYTES_MAX.ilog2() - FINE_BYTES_MAX.ilog2()) as usize;

/// A size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    /// The smallest class for `bytes` (not zero), if there is one.
    #[inline]
    pub(super) const fn of(bytes: usize) -> Option<Self> {
        if bytes <= FINE_BYTES_MAX {
            return Some(Self(bytes.div_ceil(STEP).saturating_sub(1) as u8));
        }
        if bytes > CLASS_BYTES_MAX {
            return None;
        }
        let doubling = ((bytes - 1).ilog2() - FINE_BYTES_MAX.ilog2()) as usize;
        let step = (FINE_BYTES_MAX << doubling) / CLASSES_PER_DOUBLING;
        let within = (bytes - 1 - (FINE_BYTES_MAX << doubling)) / step;
        Some(Self((FINE_CLASSES + doubling * CLASSES_PER_DOUBLING + within) as u8))
    }

    /// Bytes of a block of this class.
    #[inline]
    pub(super) const fn bytes(self) -> usize {
        let class = self.0 as usize;
        if class < FINE_CLASSES {
            return (class + 1) * STEP;
        }
        let (doubling, within) = (
            (class - FINE_CLASSES) / CLASSES_PER_DOUBLING,
            (class - FINE_CLASSES) % CLASSES_PER_DOUBLING,
        );
        let base = FINE_BYTES_MAX << doubling;
        base + (within + 1) * base / CLASSES_PER_DOUBLING
    }
}

const _: () = assert!(Class(CLASSES as u8 - 1).bytes() == CLASS_BYTES_MAX);

type Link = Option<NonNull<u8>>;

/// See the module's documentation.
pub(super) struct FreeLists {
    places: [Place; CLASSES],
}

/// Of one class.
struct Place {
    at_hand: Cell<Link>,
    head: Cell<Link>,
}

impl FreeLists {
    pub(super) const fn new() -> Self {
        Self {
            places: [const { Place { at_hand: Cell::new(None), head: Cell::new(None) } }; CLASSES],
        }
    }

    /// Takes a block of `class`, if there is one: the one at hand, or the last on the list.
    #[inline]
    pub(super) fn pop(&self, class: Class) -> Option<NonNull<u8>> {
        let place = &self.places[class.0 as usize];
        if let Some(block) = place.at_hand.get() {
            place.at_hand.set(None);
            if cfg!(debug_assertions) {
                check_poison(block, class.bytes());
            }
            return Some(block);
        }
        let block = place.head.get()?;
        // SAFETY: by invariant 1.
        place.head.set(unsafe { take_link(block, class.bytes()) });
        Some(block)
    }

    /// Puts `block` at hand, or on the list of `class`.
    ///
    /// # Safety
    ///
    /// The block has at least the class's bytes, is aligned to 16, stays allocated as long as it is
    /// listed, and nobody uses it any more.
    #[inline]
    pub(super) unsafe fn push(&self, class: Class, block: NonNull<u8>) {
        let place = &self.places[class.0 as usize];
        if place.at_hand.get().is_none() {
            if cfg!(debug_assertions) {
                poison(block, class.bytes());
            }
            return place.at_hand.set(Some(block));
        }
        // SAFETY: the caller's contract.
        unsafe { put_link(block, class.bytes(), place.head.get()) };
        place.head.set(Some(block));
    }
}

/// Makes an unused block of `bytes` bytes the bearer of `link`.
///
/// # Safety
///
/// The block has 16 bytes at least, is aligned to 16 and is the caller's alone.
#[inline]
pub(super) unsafe fn put_link(block: NonNull<u8>, bytes: usize, link: Link) {
    if cfg!(debug_assertions) {
        poison(block, bytes);
    }
    // SAFETY: the caller's contract.
    unsafe { block.cast::<Link>().write(link) };
}

/// Reads the link of a block of `bytes` bytes, which is in use from then on.
///
/// # Safety
///
/// The block is the caller's alone and bears a link from [`put_link`].
#[inline]
pub(super) unsafe fn take_link(block: NonNull<u8>, bytes: usize) -> Link {
    if cfg!(debug_assertions) {
        // SAFETY: the block is larger than a link.
        let behind = unsafe { block.add(size_of::<Link>()) };
        check_poison(behind, bytes - size_of::<Link>());
    }
    // SAFETY: the caller's contract.
    unsafe { block.cast::<Link>().read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_the_smallest_that_fit() {
        let mut last = 0;
        for bytes in 1..=CLASS_BYTES_MAX {
            let class = Class::of(bytes).unwrap();
            assert!(class.bytes() >= bytes && class.bytes().is_multiple_of(STEP), "{bytes}");
            assert!(class.0 == 0 || Class(class.0 - 1).bytes() < bytes, "{bytes}");
            assert!(class.0 as usize >= last);
            last = class.0 as usize;
        }
        assert_eq!(last, CLASSES - 1);
        assert_eq!(Class::of(CLASS_BYTES_MAX + 1), None);
    }
}
