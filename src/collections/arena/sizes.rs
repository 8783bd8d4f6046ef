//! Boxes counted by their size: one addition when a box is made, and one when it ends.
//!
//! How many were made in a block that had come back, how many bytes wait to be reused and how many
//! are padding follows from these counts and from how many blocks were cut, which is counted off
//! the short way. Only the sizes of most boxes are counted so, multiples of 8 from 16 to 128.

use super::reuse::Class;
use std::cell::Cell;

const STEP: usize = 8;
const SIZE_MIN: usize = 16;
const SIZE_MAX: usize = 128;
const SIZES: usize = (SIZE_MAX - SIZE_MIN) / STEP + 1;

/// See the module's documentation.
pub(super) struct Sizes([Size; SIZES]);

/// The boxes of one size since the last reset.
pub(super) struct Size {
    made: Cell<u64>,
    ended: Cell<u64>,
    /// Of those made, in a new block.
    cut: Cell<u64>,
}

/// What follows from the counts.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) boxes: u64,
    pub(super) reused: u64,
    pub(super) padding_bytes: usize,
    /// May be negative, modulo 2⁶⁴: boxes of other sizes use blocks of the same classes.
    pub(super) returned_bytes: usize,
}

impl Sizes {
    pub(super) const fn new() -> Self {
        Self([const { Size::new() }; SIZES])
    }

    /// The counts for boxes of `bytes`, if they are counted here.
    #[inline(always)]
    pub(super) fn of(&self, bytes: usize) -> Option<&Size> {
        if bytes.is_multiple_of(STEP) && (SIZE_MIN..=SIZE_MAX).contains(&bytes) {
            self.0.get((bytes - SIZE_MIN) / STEP)
        } else {
            None
        }
    }

    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for (index, size) in self.0.iter().enumerate() {
            let bytes = SIZE_MIN + index * STEP;
            let Some(class) = Class::of(bytes) else { continue };
            let (made, ended, cut) = (size.made.get(), size.ended.get(), size.cut.get());
            sums.boxes += made;
            sums.reused += made - cut;
            sums.padding_bytes += (made - ended) as usize * (class.bytes() - bytes);
            let listed = ended.wrapping_sub(made - cut) as usize;
            sums.returned_bytes =
                sums.returned_bytes.wrapping_add(listed.wrapping_mul(class.bytes()));
        }
        sums
    }
}

impl Size {
    const fn new() -> Self {
        Self { made: Cell::new(0), ended: Cell::new(0), cut: Cell::new(0) }
    }

    #[inline(always)]
    pub(super) fn count_made(&self) {
        self.made.set(self.made.get() + 1);
    }

    #[inline(always)]
    pub(super) fn count_ended(&self) {
        self.ended.set(self.ended.get() + 1);
    }

    pub(super) fn count_cut(&self) {
        self.cut.set(self.cut.get() + 1);
    }
}
