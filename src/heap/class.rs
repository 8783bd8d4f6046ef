//! Size classes: 8-byte steps up to 128 bytes, 16-byte steps up to 256, then four to
//! a doubling, to 32 KiB. The doublings above 1, 2 and 4 KiB have a fifth, an eighth above
//! their power of two: buffers, pages of caches and chunks of arenas are powers of two with a
//! header (sqlite3 holds most of its memory in blocks of 1,032 and 4,376 bytes).
//!
//! Rust states a block's alignment, so a class need not be a multiple of 16: 24 bytes take 24 (but
//! see [`SIXTEENS`]). Small sizes, of which a program has most, get fine steps. Above them, eight
//! steps to a doubling would halve the rounding, but each class of a thread has spans and lists of
//! its own: sixteen threads with a thousand random blocks of up to 1 KiB each then took 24.8 MB,
//! with four steps 20.9.
//!
//! # Invariants
//!
//! 1. A [`ClassId`] is below [`CLASSES`].
//! 2. Block sizes rise with the class and are multiples of 8.
//! 3. A size that is a multiple of a power of two `a` falls into a class whose
//!    block size is a multiple of `a`: where the step of that doubling exceeds
//!    `a` it is a multiple of `a`, and where it does not, the size is itself a
//!    class. Spans start on a multiple of their own size, so rounding the size up
//!    to the alignment aligns every block of the span.

use core::alloc::Layout;

use super::geometry::SLOT_BYTES;
pub(crate) use crate::base::limits::SMALL_BYTES_MAX;

/// How many size classes there are.
pub(crate) const CLASSES: usize = 55;
/// Up to this size a span is one slot; above it, [`WIDE_SLOTS`].
pub(crate) const NARROW_BYTES_MAX: usize = 8 * 1024;
/// How many classes have spans of one slot.
const NARROW_CLASSES: usize = 47;
/// Slots of a span of blocks above [`NARROW_BYTES_MAX`].
pub(crate) const WIDE_SLOTS: usize = 4;

/// A size class, as its number times [`STRIDE`]: the offset of its element in the
/// arrays that the fast paths use, which saves them a shift.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClassId(usize);

/// Bytes of an element of the cache's arrays.
pub(crate) const STRIDE: usize = 16;

impl ClassId {
    /// All classes, smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES).map(Self::new)
    }

    /// The class of a span's header byte.
    #[inline(always)]
    pub(crate) fn from_header(byte: u8) -> Self {
        Self::new(byte.into())
    }

    const fn new(index: usize) -> Self {
        Self(index * STRIDE)
    }

    /// Below [`CLASSES`].
    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        self.0 / STRIDE
    }

    /// The offset in bytes of this class's element in an array of 16-byte ones.
    #[inline(always)]
    pub(crate) fn offset(self) -> usize {
        self.0
    }

    #[inline(always)]
    pub(crate) fn header_byte(self) -> u8 {
        self.index() as u8
    }

    #[inline]
    pub(crate) fn block_bytes(self) -> usize {
        BLOCK_BYTES[self.index()] as usize
    }

    /// Whether spans of this class are one slot.
    #[inline(always)]
    pub(crate) fn is_narrow(self) -> bool {
        self.index() < NARROW_CLASSES
    }

    /// How many slots a span of this class has.
    #[inline]
    pub(crate) fn slots(self) -> usize {
        if self.is_narrow() { 1 } else { WIDE_SLOTS }
    }

    /// Bytes of a span of this class.
    #[inline]
    pub(crate) fn span_bytes(self) -> usize {
        self.slots() * SLOT_BYTES
    }

    /// How many blocks a span of this class has.
    #[inline]
    pub(crate) fn capacity(self) -> u32 {
        CAPACITY[self.index()] as u32
    }

    /// The class that serves `layout`, if its spans are one slot: what the fast
    /// paths deal with. Folds to a constant for a constant layout.
    #[inline(always)]
    pub(crate) fn narrow(layout: Layout) -> Option<Self> {
        let bytes = rounded(layout);
        let eighths = (bytes + 7) >> 3;
        // SAFETY: the table has an element for each eighth up to the bound.
        (bytes <= NARROW_BYTES_MAX)
            .then(|| Self(unsafe { *OFFSET_OF_EIGHTHS.get_unchecked(eighths) }.into()))
    }

    /// The class of blocks of at least `bytes`, at least 16, and a multiple of 16: what
    /// C expects of any block. `None` if they are large.
    #[cfg(feature = "preload")]
    #[inline(always)]
    pub(crate) fn of_sixteens(bytes: usize) -> Option<Self> {
        // SAFETY: the table has an element for each sixteenth up to the bound.
        (bytes <= SMALL_BYTES_MAX)
            .then(|| Self(unsafe { *OFFSET_OF_SIXTEENTHS.get_unchecked((bytes + 15) >> 4) }.into()))
    }

    /// The class that serves `layout`, or `None` if it is large.
    #[inline]
    pub(crate) fn of(layout: Layout) -> Option<Self> {
        let bytes = rounded(layout);
        match Self::narrow(layout) {
            None if bytes <= SMALL_BYTES_MAX => Some(Self::new(class_above_256(bytes))),
            narrow => narrow,
        }
    }
}

/// The size by which `layout` chooses its class: by invariant 3, its size rounded
/// up to its alignment.
#[inline(always)]
pub(crate) fn rounded(layout: Layout) -> usize {
    if layout.align() <= 8 {
        layout.size()
    } else {
        // A zero size is no valid request, but costs nothing to serve aligned.
        (layout.size().max(1) + (layout.align() - 1)) & !(layout.align() - 1)
    }
}

/// A number of blocks for each class: a division that slow paths need not do.
#[derive(Debug)]
pub(crate) struct PerClass([u16; CLASSES]);

impl PerClass {
    /// As many blocks as `bytes` hold, from `least` to `most`.
    pub(crate) const fn of_bytes(bytes: usize, least: usize, most: usize) -> Self {
        let mut table = [0; CLASSES];
        let mut class = 0;
        while class < CLASSES {
            let blocks = bytes / block_bytes(class);
            table[class] = match blocks {
                _ if blocks < least => least as u16,
                _ if blocks > most => most as u16,
                _ => blocks as u16,
            };
            class += 1;
        }
        Self(table)
    }

    #[inline(always)]
    pub(crate) fn of(&self, class: ClassId) -> u32 {
        // SAFETY: a class is below CLASSES.
        unsafe { *self.0.get_unchecked(class.index()) }.into()
    }
}

/// The class of a size above 256 bytes, by its bits below the highest: two, or three for an
/// eighth.
#[inline(always)]
const fn class_above_256(bytes: usize) -> usize {
    let top = (bytes - 1).ilog2() as usize;
    let quarter = ((bytes - 1) >> (top - 2)) & 3;
    let beyond_eighth = (((bytes - 1) >> (top - 3)) & 7 > 0) as usize;
    match top {
        0..10 => 24 + (top - 8) * 4 + quarter,
        10..13 => 32 + (top - 10) * 5 + quarter + beyond_eighth,
        _ => 47 + (top - 13) * 4 + quarter,
    }
}

const fn block_bytes(class: usize) -> usize {
    match class {
        0..16 => (class + 1) * 8,
        16..24 => (class - 7) * 16,
        24..32 => quarters(256 << ((class - 24) / 4), (class - 24) % 4 + 1),
        32..47 if (class - 32).is_multiple_of(5) => 1152 << ((class - 32) / 5),
        32..47 => quarters(1024 << ((class - 32) / 5), (class - 32) % 5),
        _ => quarters(8192 << ((class - 47) / 4), (class - 47) % 4 + 1),
    }
}

/// `power` and so many quarters of it.
const fn quarters(power: usize, quarters: usize) -> usize {
    power / 4 * (4 + quarters)
}

static BLOCK_BYTES: [u16; CLASSES] = {
    let mut table = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        table[class] = block_bytes(class) as u16;
        class += 1;
    }
    table
};

static CAPACITY: [u16; CLASSES] = {
    let mut table = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        let bytes = block_bytes(class);
        let slots = if bytes <= NARROW_BYTES_MAX { 1 } else { WIDE_SLOTS };
        table[class] = (slots * SLOT_BYTES / bytes) as u16;
        class += 1;
    }
    table
};

/// Whether what has more than 8 bytes is aligned to 16. Of the exception that a panic allocates the
/// standard library says 8, and its unwinder expects 16, as C does: libgcc's does not make use of
/// it, LLVM's, which comes with musl, does, and dies of an address that is not.
const SIXTEENS: bool = cfg!(target_env = "musl");

/// The [`ClassId`] by the size in units of 8 bytes. A `const`, so that it folds in the crate that
/// the fast paths are inlined into, without link-time optimization too.
const OFFSET_OF_EIGHTHS: [u16; NARROW_BYTES_MAX / 8 + 1] = {
    let mut table = [0; NARROW_BYTES_MAX / 8 + 1];
    let mut eighths = 1;
    while eighths <= NARROW_BYTES_MAX / 8 {
        let class = match eighths {
            2..=16 if SIXTEENS => eighths.next_multiple_of(2) - 1,
            0..=16 => eighths - 1,
            17..=32 => 7 + eighths.div_ceil(2),
            _ => class_above_256(eighths * 8),
        };
        table[eighths] = (class * STRIDE) as u16;
        eighths += 1;
    }
    table
};

/// The [`ClassId`] by the size in units of 16 bytes, of classes that are multiples of
/// that; of 0 bytes, that of 16.
#[cfg(feature = "preload")]
static OFFSET_OF_SIXTEENTHS: [u16; SMALL_BYTES_MAX / 16 + 1] = {
    let mut table = [0; SMALL_BYTES_MAX / 16 + 1];
    let mut sixteenths = 0;
    while sixteenths <= SMALL_BYTES_MAX / 16 {
        let class = match sixteenths {
            0 => 1,
            1..=8 => 2 * sixteenths - 1,
            9..=16 => 7 + sixteenths,
            _ => class_above_256(sixteenths * 16),
        };
        table[sixteenths] = (class * STRIDE) as u16;
        sixteenths += 1;
    }
    table
};

const _: () = assert!(block_bytes(NARROW_CLASSES - 1) == NARROW_BYTES_MAX);
const _: () = assert!(block_bytes(CLASSES - 1) == SMALL_BYTES_MAX);
const _: () = assert!(SMALL_BYTES_MAX <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_and_alignment_fits_its_class_and_not_the_one_below() {
        for align in (0..16).map(|bit| 1usize << bit) {
            for size in 1..=SMALL_BYTES_MAX {
                let layout = Layout::from_size_align(size, align).unwrap();
                let rounded = size.next_multiple_of(align);
                let Some(class) = ClassId::of(layout) else {
                    assert!(rounded > SMALL_BYTES_MAX);
                    continue;
                };
                assert!(class.block_bytes() >= size);
                let rounded = match rounded {
                    9.. if SIXTEENS => rounded.next_multiple_of(16),
                    _ => rounded,
                };
                let least = if SIXTEENS && size > 8 { 16 } else { 8 };
                assert_eq!(class.block_bytes() % align.max(least), 0, "{size} at {align}");
                if class.index() > 0 {
                    assert!(block_bytes(class.index() - 1) < rounded, "{size} at {align}");
                }
            }
        }
    }

    #[test]
    fn sizes_rise_by_a_quarter_at_most() {
        for class in 1..CLASSES {
            let (below, here) = (block_bytes(class - 1), block_bytes(class));
            assert!(below < here && here % 8 == 0);
            assert!(here <= 128 || here - below <= below / 4, "{below} → {here}");
        }
    }
}
