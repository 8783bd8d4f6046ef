//! Blocks that came back, by size class, and how many did.
//!
//! Classes are multiples of 8 bytes from 16 to 128, then four per doubling to 32 KiB. Larger blocks
//! have no class: they are taken back only with the whole arena.
//!
//! The block that came back to an empty place is *at hand*, without a link: who makes and drops
//! one value after the other neither writes a link nor waits for one. Each such block but the one
//! that is there now was taken again, and so only the taking is counted.
//!
//! # Invariants
//!
//! 1. A block at hand or on the list of a class has at least the class's bytes, is aligned to the
//!    class's alignment, and is in no use: the place or the list alone refers to it. The first
//!    bytes of one on a list hold the link.
//! 2. With debug assertions, all bytes but the link are poison.

use super::chunk::{CHUNK_ALIGN, check_poison, poison};
use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

/// Smallest block; it has room for a link.
const CLASS_BYTES_MIN: usize = 16;
/// Largest block that is reused.
const CLASS_BYTES_MAX: usize = 32 * 1024;
/// Sizes are multiples of this up to `FINE_BYTES_MAX`.
const STEP: usize = 8;
const FINE_BYTES_MAX: usize = 128;
const FINE_CLASSES: usize = (FINE_BYTES_MAX - CLASS_BYTES_MIN) / STEP + 1;
const CLASSES_PER_DOUBLING: usize = 4;
const CLASSES: usize = FINE_CLASSES
    + CLASSES_PER_DOUBLING * (CLASS_BYTES_MAX.ilog2() - FINE_BYTES_MAX.ilog2()) as usize;

/// A size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    /// The smallest class whose blocks can hold `layout` (not empty), if there is one.
    #[inline]
    pub(super) const fn of(layout: Layout) -> Option<Self> {
        if layout.align() > CHUNK_ALIGN {
            return None;
        }
        let bytes = layout.pad_to_align().size();
        if bytes <= FINE_BYTES_MAX {
            return Some(Self(bytes.saturating_sub(CLASS_BYTES_MIN).div_ceil(STEP) as u8));
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
            return CLASS_BYTES_MIN + class * STEP;
        }
        let (doubling, within) = (
            (class - FINE_CLASSES) / CLASSES_PER_DOUBLING,
            (class - FINE_CLASSES) % CLASSES_PER_DOUBLING,
        );
        let base = FINE_BYTES_MAX << doubling;
        base + (within + 1) * base / CLASSES_PER_DOUBLING
    }

    /// The layout of a block of this class: aligned to 16 if its size is, or else to 8.
    #[inline]
    pub(super) const fn layout(self) -> Layout {
        let bytes = self.bytes();
        let align = if bytes.is_multiple_of(CHUNK_ALIGN) { CHUNK_ALIGN } else { STEP };
        match Layout::from_size_align(bytes, align) {
            Ok(layout) => layout,
            Err(_) => panic!("a class is small and its alignment a power of two"),
        }
    }
}

const _: () = assert!(Class(CLASSES as u8 - 1).bytes() == CLASS_BYTES_MAX);

type Link = Option<NonNull<u8>>;

/// Free blocks, by class.
pub(super) struct FreeLists {
    places: [Place; CLASSES],
}

/// Of one class.
struct Place {
    at_hand: Cell<Link>,
    /// Blocks taken that were at hand.
    taken: Cell<u64>,
    head: Cell<Link>,
    /// Blocks taken from the list.
    popped: Cell<u64>,
    /// Blocks put on the list.
    pushed: Cell<u64>,
}

impl FreeLists {
    pub(super) const fn new() -> Self {
        Self { places: [const { Place::new() }; CLASSES] }
    }

    /// Takes a block of `class`, if there is one: the one at hand, or the last on the list.
    #[inline]
    pub(super) fn pop(&self, class: Class) -> Option<NonNull<u8>> {
        let place = &self.places[class.0 as usize];
        if let Some(block) = place.at_hand.get() {
            place.at_hand.set(None);
            place.taken.set(place.taken.get() + 1);
            if cfg!(debug_assertions) {
                check_poison(block, class.bytes());
            }
            return Some(block);
        }
        unlikely();
        let block = place.head.get()?;
        // SAFETY: by invariant 1.
        place.head.set(unsafe { take_link(block, class.bytes()) });
        place.popped.set(place.popped.get() + 1);
        Some(block)
    }

    /// Puts `block` at hand, or on the list of `class`.
    ///
    /// # Safety
    ///
    /// The block has the class's layout, stays allocated as long as it is listed, and nobody uses
    /// it any more.
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
        place.pushed.set(place.pushed.get() + 1);
    }

    /// Blocks taken, and the bytes of those that wait to be.
    pub(super) fn sums(&self) -> (u64, usize) {
        (0_u8..).map(Class).zip(&self.places).fold((0, 0), |(reused, bytes), (class, place)| {
            let listed = place.pushed.get() - place.popped.get();
            let waiting = listed as usize + usize::from(place.at_hand.get().is_some());
            (reused + place.taken.get() + place.popped.get(), bytes + waiting * class.bytes())
        })
    }
}

impl Place {
    const fn new() -> Self {
        Self {
            at_hand: Cell::new(None),
            taken: Cell::new(0),
            head: Cell::new(None),
            popped: Cell::new(0),
            pushed: Cell::new(0),
        }
    }
}

/// Where this is called, the compiler expects to come seldom, and lays the other way out without a
/// jump.
#[cold]
#[inline]
fn unlikely() {}

/// Makes an unused block of `bytes` bytes the bearer of `link`.
///
/// # Safety
///
/// The block has 16 bytes at least, is aligned for a [`Link`] and is the caller's alone.
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
        for align in (0..=CHUNK_ALIGN.ilog2()).map(|bit| 1 << bit) {
            let of = |bytes| Class::of(Layout::from_size_align(bytes, align).unwrap());
            let mut last = 0;
            for bytes in 1..=CLASS_BYTES_MAX {
                let class = of(bytes).unwrap();
                let block = class.layout();
                assert!(
                    block.size() >= bytes && block.size().is_multiple_of(block.align()),
                    "{bytes}"
                );
                assert!(block.align() >= align, "{bytes} bytes aligned to {align}");
                let fits = |class: Class| class.bytes() >= bytes && class.layout().align() >= align;
                assert!(!(0..class.0).map(Class).any(fits), "{bytes} bytes aligned to {align}");
                assert!(class.0 as usize >= last);
                last = class.0 as usize;
            }
            assert_eq!(last, CLASSES - 1);
            assert_eq!(of(CLASS_BYTES_MAX + 1), None);
        }
        assert_eq!(Class::of(Layout::from_size_align(64, 2 * CHUNK_ALIGN).unwrap()), None);
    }
}
