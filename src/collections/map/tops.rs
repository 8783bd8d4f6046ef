//! The eight tophash bytes of a bucket, read and written as one word.
//!
//! A cell's byte says what the cell holds. A *live* cell carries the top eight
//! bits of its key's hash, moved up past the five marks:
//!
//! | byte | name | the cell |
//! | --- | --- | --- |
//! | 0 | `EMPTY_REST` | is empty, and so is every later cell of the chain |
//! | 1 | `EMPTY_ONE` | is empty |
//! | 2, 3 | `EVACUATED_X`, `_Y` | moved to the lower or the upper half of the new array |
//! | 4 | `EVACUATED_EMPTY` | was empty when its chain was evacuated |
//! | 5… | live | holds an entry |
//!
//! All eight are compared at once by arithmetic on a `u64`. The formulas are the
//! exact ones: a carry never crosses a byte, so a mark is never taken for a live
//! cell, which would read an entry that is not there.
//!
//! Whole words are stored, never single bytes: a byte stored and then loaded as
//! part of its word would stall the load.
//!
//! # Invariants
//!
//! 1. Cell 0 is the word's lowest byte.
//! 2. A `Cell` is below 8.

/// Cells in a bucket.
pub(super) const CELLS: usize = 8;

pub(super) const EMPTY_REST: u8 = 0;
pub(super) const EMPTY_ONE: u8 = 1;
pub(super) const EVACUATED_X: u8 = 2;
pub(super) const EVACUATED_Y: u8 = 3;
pub(super) const EVACUATED_EMPTY: u8 = 4;
/// The smallest byte of a live cell.
pub(super) const LIVE_MIN: u8 = 5;

const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
const LOW7: u64 = u64::from_ne_bytes([0x7f; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// The byte by which a live cell is recognized: the top eight bits of the hash,
/// moved past the marks.
#[inline]
pub(super) const fn top_of(hash: u64) -> u8 {
    let top = (hash >> 56) as u8;
    if top < LIVE_MIN { top + LIVE_MIN } else { top }
}

/// The place of an entry in its bucket, 0 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell(u8);

impl Cell {
    pub(super) const FIRST: Self = Self(0);
    pub(super) const LAST: Self = Self(CELLS as u8 - 1);

    #[inline]
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The cell of the entry number `index` of a chain without holes.
    #[inline]
    pub(super) const fn at(index: usize) -> Self {
        Self((index % CELLS) as u8)
    }

    pub(super) fn next(self) -> Option<Self> {
        (self != Self::LAST).then(|| Self(self.0 + 1))
    }

    /// The cell `by` places on, wrapping around the bucket.
    #[inline]
    pub(super) const fn rotated(self, by: u8) -> Self {
        Self((self.0 + by) & Self::LAST.0)
    }
}

/// A set of cells: bit 7 of each byte of a word. Iterates from the lowest cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells(u64);

impl Cells {
    pub(super) const NONE: Self = Self(0);

    #[inline]
    pub(super) const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Adds `cell` if `belongs` is 1 and not if it is 0, without a branch on it.
    #[inline]
    pub(super) const fn add_if(&mut self, cell: Cell, belongs: u64) {
        self.0 |= belongs << (8 * cell.0 + 7);
    }

    /// The cells of this set that are not in `other`.
    #[inline]
    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The same set as seen by a walk that starts at cell `by`.
    #[inline]
    pub(super) const fn rotated_back(self, by: u8) -> Self {
        Self(self.0.rotate_right(8 * by as u32))
    }
}

impl Iterator for Cells {
    type Item = Cell;

    #[inline]
    fn next(&mut self) -> Option<Cell> {
        if self.0 == 0 {
            return None;
        }
        let cell = Cell((self.0.trailing_zeros() / 8) as u8);
        self.0 &= self.0 - 1;
        Some(cell)
    }
}

/// The tophash bytes of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Tops(u64);

impl Tops {
    pub(super) const EMPTY: Self = Self::all(EMPTY_REST);

    pub(super) const fn all(top: u8) -> Self {
        Self(LOW * top as u64)
    }

    pub(super) const fn bytes(self) -> [u8; CELLS] {
        self.0.to_le_bytes()
    }

    #[inline]
    pub(super) const fn get(self, cell: Cell) -> u8 {
        (self.0 >> (8 * cell.0)) as u8
    }

    #[inline]
    pub(super) const fn with(self, cell: Cell, top: u8) -> Self {
        self.replacing(cell, self.get(cell), top)
    }

    /// As `with`, for a cell that is known to carry `from`.
    #[inline]
    pub(super) const fn replacing(self, cell: Cell, from: u8, to: u8) -> Self {
        Self(self.0 ^ ((from ^ to) as u64) << (8 * cell.0))
    }

    /// The cells whose byte is `top`.
    #[inline]
    pub(super) const fn matching(self, top: u8) -> Cells {
        Self(self.0 ^ (LOW * top as u64)).zeros()
    }

    /// The first cell marked `EMPTY_REST` or `EMPTY_ONE`. This formula is shorter than
    /// the exact one: it may err on a cell after an empty one, never on one before.
    #[inline]
    pub(super) const fn first_empty(self) -> Option<Cell> {
        let rest = self.0 & !LOW;
        let found = rest.wrapping_sub(LOW) & !rest & HIGH;
        if found == 0 { None } else { Some(Cell((found.trailing_zeros() / 8) as u8)) }
    }

    /// The cells that hold an entry.
    #[inline]
    pub(super) const fn live(self) -> Cells {
        const TO_HIGH_BIT: u64 = LOW * (0x80 - LIVE_MIN) as u64;
        Cells((((self.0 & LOW7) + TO_HIGH_BIT) | self.0) & HIGH)
    }

    /// The same, with `top` in the cells of a set.
    #[inline]
    pub(super) const fn with_all(self, cells: Cells, top: u8) -> Self {
        let bytes = (cells.0 >> 7) * 0xff;
        Self((self.0 & !bytes) | (LOW * top as u64) & bytes)
    }

    /// Whether the chain holds no live cell after this bucket: its last cell is
    /// `EMPTY_REST`.
    #[inline]
    pub(super) const fn ends(self) -> bool {
        self.0 >> 56 == EMPTY_REST as u64
    }

    /// The same, with the empty cells after the last one that is not marked
    /// `EMPTY_REST`: what holds at the end of a chain.
    #[inline]
    pub(super) const fn with_rest_marked(self) -> Self {
        // Marks above EMPTY_ONE have a bit outside LOW, so the highest such bit lies
        // in the last used cell. The shift, of 0 to 64 bits, is made in two steps:
        // one by 64 would shift by 0, and a branch would be mispredicted.
        let half = (self.0 & !LOW).leading_zeros() / 8 * 4;
        Self(self.0 & (u64::MAX >> half) >> half)
    }

    /// Whether this is the first bucket of an evacuated chain.
    #[inline]
    pub(super) const fn evacuated(self) -> bool {
        let first = self.0 as u8;
        EMPTY_ONE < first && first < LIVE_MIN
    }

    #[inline]
    const fn zeros(self) -> Cells {
        Cells(!(((self.0 & LOW7) + LOW7) | self.0) & HIGH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(cells: Cells) -> Vec<usize> {
        cells.map(Cell::index).collect()
    }

    #[test]
    fn top_avoids_the_marks_and_keeps_the_rest() {
        for top in 0..=255u64 {
            let got = top_of(top << 56 | 0x00ff_ffff_ffff_ffff);
            assert!(got >= LIVE_MIN);
            assert_eq!(u64::from(got), if top < 5 { top + 5 } else { top });
        }
    }

    #[test]
    fn every_pair_of_neighbouring_bytes_is_told_apart() {
        for low in 0..=255u8 {
            for high in 0..=255u8 {
                let tops = Tops::all(9).with(Cell(3), low).with(Cell(4), high);
                for top in [LIVE_MIN, 6, 9, 127, 128, 129, 255, low, high] {
                    let expected: Vec<usize> =
                        (0..CELLS).filter(|&cell| tops.bytes()[cell] == top).collect();
                    assert_eq!(indices(tops.matching(top)), expected, "{tops:?} {top}");
                }
                let empty: Vec<usize> = (0..CELLS).filter(|&cell| tops.bytes()[cell] < 2).collect();
                let live: Vec<usize> = (0..CELLS).filter(|&cell| tops.bytes()[cell] > 4).collect();
                assert_eq!(tops.first_empty().map(Cell::index), empty.first().copied());
                assert_eq!(indices(tops.live()), live);
                assert_eq!(tops.live().count(), live.len());
            }
        }
    }

    #[test]
    fn cells_are_read_back_from_where_they_were_written() {
        let mut tops = Tops::EMPTY;
        let mut cell = Some(Cell::FIRST);
        while let Some(at) = cell {
            tops = tops.with(at, 10 + at.0);
            assert_eq!(tops.get(at), 10 + at.0);
            assert_eq!(tops.ends(), at != Cell::LAST);
            cell = at.next();
        }
        assert_eq!(tops.bytes(), [10, 11, 12, 13, 14, 15, 16, 17]);
    }

    #[test]
    fn trailing_empty_cells_are_marked_as_the_rest() {
        for pattern in 0..3u32.pow(8) {
            let mut bytes = [0; CELLS];
            let mut digits = pattern;
            for byte in &mut bytes {
                *byte = [EMPTY_REST, EMPTY_ONE, 200][digits as usize % 3];
                digits /= 3;
            }
            let mut expected = bytes;
            for byte in expected.iter_mut().rev().take_while(|byte| **byte < LIVE_MIN) {
                *byte = EMPTY_REST;
            }
            let tops = Tops(u64::from_le_bytes(bytes));
            assert_eq!(tops.with_rest_marked().bytes(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn sets_of_cells_are_split_and_painted() {
        let tops = Tops::EMPTY.with(Cell(0), 9).with(Cell(3), 9).with(Cell(7), 9);
        let mut odd = Cells::NONE;
        tops.live().for_each(|cell| odd.add_if(cell, u64::from(cell.0 % 2)));
        assert_eq!(indices(odd), [3, 7]);
        assert_eq!(indices(tops.live().without(odd)), [0]);
        assert_eq!(tops.with_all(odd, 255).bytes(), [9, 0, 0, 255, 0, 0, 0, 255]);
    }

    #[test]
    fn rotation_starts_the_walk_elsewhere() {
        let tops = Tops::EMPTY.with(Cell(1), 9).with(Cell(6), 9);
        let walk: Vec<usize> =
            tops.live().rotated_back(5).map(|cell| cell.rotated(5).index()).collect();
        assert_eq!(walk, [6, 1]);
    }

    #[test]
    fn only_evacuation_marks_say_evacuated() {
        for first in 0..=255u8 {
            assert_eq!(Tops::all(first).evacuated(), (2..=4).contains(&first));
        }
    }
}
