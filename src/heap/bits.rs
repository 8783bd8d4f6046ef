//! A set of small numbers, one bit each: the slots of a chunk, the blocks of a span.

use core::ops::ControlFlow;

use super::chunk::HUGE_SLOTS;
use super::geometry::CHUNK_SLOTS;

/// A set of a chunk's slots.
pub(crate) type SlotSet = Bits<{ CHUNK_SLOTS / 64 }>;

/// The longest row that [`Bits::first_row_of_both`] looks for.
pub(crate) const ROW_MAX: usize = 64;

/// The multiples of four.
const FIRST_OF_FOUR: u64 = 0x1111_1111_1111_1111;

/// A set of numbers below `64 * WORDS`; what is beyond is never in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits<const WORDS: usize>([u64; WORDS]);

/// Those of the 64 numbers from `from` on, a multiple of 64, that are multiples of `align`, a power
/// of two.
#[inline]
fn multiples(from: usize, align: usize) -> u64 {
    match align {
        0 | 1 => u64::MAX,
        // A one in each `align` digits.
        2..64 => u64::MAX / ((1 << align) - 1),
        _ => u64::from(from.is_multiple_of(align)),
    }
}

impl<const WORDS: usize> Bits<WORDS> {
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    /// Adds the numbers `start .. start + count`.
    #[inline]
    pub(crate) fn insert(&mut self, start: usize, count: usize) {
        self.each_word(start, count, |word, mask| *word |= mask);
    }

    /// Removes the numbers `start .. start + count`.
    #[inline]
    pub(crate) fn remove(&mut self, start: usize, count: usize) {
        self.each_word(start, count, |word, mask| *word &= !mask);
    }

    /// How many of the numbers `start .. start + count` are in the set.
    #[inline]
    pub(crate) fn count_in(&self, start: usize, count: usize) -> usize {
        let mut found = 0;
        each_mask(start, count, |word, mask| {
            found += self.0.get(word).map_or(0, |word| (word & mask).count_ones());
        });
        found as usize
    }

    /// Moves the numbers `start .. start + count` into this set out of the `others`; how many it
    /// had before.
    #[inline]
    pub(crate) fn claim(
        &mut self,
        start: usize,
        count: usize,
        mut others: [&mut Self; 2],
    ) -> usize {
        let mut found = 0;
        each_mask(start, count, |index, mask| {
            if let Some(word) = self.0.get_mut(index) {
                found += (*word & mask).count_ones();
                *word |= mask;
            }
            for other in &mut others {
                if let Some(word) = other.0.get_mut(index) {
                    *word &= !mask;
                }
            }
        });
        found as usize
    }

    /// The numbers in both sets.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let mut both = *self;
        for (word, other) in both.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
        both
    }

    /// Removes those of `other`.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
    }

    /// Adds those of `other`.
    pub(crate) fn unite(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    /// Whether `number` is in the set.
    #[inline]
    pub(crate) fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Each number of the set, the least first.
    pub(crate) fn each(&self, mut visit: impl FnMut(usize)) {
        for (index, word) in self.0.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                visit(index * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
    }

    /// How many numbers are in the set.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The first number of the set at or behind `from`.
    #[inline]
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        self.scan(from, 0)
    }

    /// The first number that both sets have.
    #[inline]
    pub(crate) fn first_of_both(&self, other: &Self) -> Option<usize> {
        self.first_of_words(other, |both| both)
    }

    /// The first of four numbers in a row that both sets have, a multiple of four.
    #[inline]
    pub(crate) fn first_four_of_both(&self, other: &Self) -> Option<usize> {
        self.first_of_words(other, |both| {
            let twos = both & both >> 1;
            twos & twos >> 2 & FIRST_OF_FOUR
        })
    }

    /// The first of `count` numbers in a row that both sets have, [`ROW_MAX`] at most: a multiple
    /// of `align`, a power of two.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn first_row_of_both(
        &self,
        other: &Self,
        count: usize,
        align: usize,
    ) -> Option<usize> {
        let both = |index: usize| Some(self.0.get(index)? & other.0.get(index)?);
        let mut here = both(0)?;
        for index in 0..WORDS {
            let next = both(index + 1).unwrap_or(0);
            if here != 0 {
                // Those that begin a row of `length`; those in the second word are looked at again.
                let mut begin = u128::from(next) << 64 | u128::from(here);
                let mut length = 1;
                while length < count {
                    let more = length.min(count - length);
                    begin &= begin >> more;
                    length += more;
                }
                let begin = begin as u64 & multiples(index * 64, align);
                if begin != 0 {
                    return Some(index * 64 + begin.trailing_zeros() as usize);
                }
            }
            here = next;
        }
        None
    }

    /// How many numbers in a row from `from` on both sets have, `most` at most.
    pub(crate) fn row_of_both(&self, other: &Self, from: usize, most: usize) -> usize {
        let (mut at, end) = (from, from + most);
        while at < end
            && let (Some(one), Some(other)) = (self.0.get(at / 64), other.0.get(at / 64))
        {
            let bit = at % 64;
            let here = (!(one & other) >> bit).trailing_zeros() as usize;
            at += here.min(64 - bit);
            if here < 64 - bit {
                break;
            }
        }
        at.min(end) - from
    }

    #[inline(always)]
    fn first_of_words(&self, other: &Self, keep: impl Fn(u64) -> u64) -> Option<usize> {
        self.0.iter().zip(&other.0).enumerate().find_map(|(index, (one, other))| {
            let kept = keep(one & other);
            (kept != 0).then(|| index * 64 + kept.trailing_zeros() as usize)
        })
    }

    /// The first run at or behind `from`: its start and length.
    pub(crate) fn next_run(&self, from: usize) -> Option<(usize, usize)> {
        let start = self.next(from)?;
        let end = self.scan(start, u64::MAX).unwrap_or(WORDS * 64);
        Some((start, end - start))
    }

    /// Each run, the first first: its start and length; until `visit` breaks off.
    #[inline]
    pub(crate) fn each_run(&self, mut visit: impl FnMut(usize, usize) -> ControlFlow<()>) {
        let (mut start, mut inside, mut last) = (0, false, 0);
        // An empty word behind the last ends the last run.
        for index in 0..=WORDS {
            let word = self.0.get(index).copied().unwrap_or(0);
            // Where a run begins or is over.
            let mut edges = word ^ (word << 1 | last);
            last = word >> 63;
            while edges != 0 {
                let at = index * 64 + edges.trailing_zeros() as usize;
                edges &= edges - 1;
                if inside && visit(start, at - start).is_break() {
                    return;
                }
                (start, inside) = (at, !inside);
            }
        }
    }

    #[inline]
    fn scan(&self, from: usize, flip: u64) -> Option<usize> {
        let mut index = from / 64;
        let mut mask = u64::MAX << (from % 64);
        while let Some(word) = self.0.get(index) {
            let found = (word ^ flip) & mask;
            if found != 0 {
                return Some(index * 64 + found.trailing_zeros() as usize);
            }
            mask = u64::MAX;
            index += 1;
        }
        None
    }

    #[inline]
    fn each_word(&mut self, start: usize, count: usize, mut apply: impl FnMut(&mut u64, u64)) {
        each_mask(start, count, |word, mask| {
            if let Some(word) = self.0.get_mut(word) {
                apply(word, mask);
            }
        });
    }
}

/// For each word of a set that has some of the numbers `start .. start + count`: which word, and
/// their bits.
#[inline]
fn each_mask(start: usize, count: usize, mut visit: impl FnMut(usize, u64)) {
    // Most spans are one slot.
    if count == 1 {
        return visit(start / 64, 1 << (start % 64));
    }
    let (mut at, end) = (start, start + count);
    while at < end {
        let bit = at % 64;
        let here = (end - at).min(64 - bit);
        visit(at / 64, (u64::MAX >> (64 - here)) << bit);
        at += here;
    }
}

impl SlotSet {
    /// The slots of all huge pages that have one of the set.
    pub(crate) fn widened(&self) -> Self {
        let mut wide = Self::EMPTY;
        for first in (0..CHUNK_SLOTS).step_by(HUGE_SLOTS) {
            if self.next(first).is_some_and(|slot| slot < first + HUGE_SLOTS) {
                wide.insert(first, HUGE_SLOTS);
            }
        }
        wide
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_plain_set() {
        let mut random = 1u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as usize % below
        };
        let mut bits = SlotSet::EMPTY;
        let mut plain = [false; CHUNK_SLOTS];
        for _ in 0..4000 {
            let start = next(CHUNK_SLOTS);
            let count = 1 + next((CHUNK_SLOTS - start).min(200));
            let add = next(2) == 0;
            if add {
                bits.insert(start, count)
            } else {
                bits.remove(start, count)
            }
            plain[start..start + count].fill(add);
            assert_eq!(bits.len(), plain.iter().filter(|set| **set).count());
            let from = next(CHUNK_SLOTS);
            assert_eq!(bits.has(from), plain[from]);
            let mut each = Vec::new();
            bits.each(|slot| each.push(slot));
            assert!((0..CHUNK_SLOTS).filter(|&slot| plain[slot]).eq(each));
            assert_eq!(bits.next(from), (from..CHUNK_SLOTS).find(|&slot| plain[slot]));
            let run = bits.next_run(from).map(|(start, length)| (start, start + length));
            let first = (from..CHUNK_SLOTS).find(|&slot| plain[slot]);
            let end = |first| (first..CHUNK_SLOTS).find(|&slot| !plain[slot]);
            assert_eq!(run, first.map(|first| (first, end(first).unwrap_or(CHUNK_SLOTS))));
            let (mut runs, mut behind) = (Vec::new(), 0);
            bits.each_run(|start, length| {
                runs.push((start, length));
                if runs.len() == 40 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let all = runs.len() < 40;
            for (start, length) in runs {
                assert_eq!(bits.next_run(behind), Some((start, length)));
                behind = start + length;
            }
            assert!(!all || bits.next_run(behind).is_none());
            let length = 1 + next(ROW_MAX);
            let last = CHUNK_SLOTS - length;
            let is_row = |at: usize| plain[at..at + length].iter().all(|set| *set);
            for align in (0..9).map(|power| 1 << power) {
                let row = (0..=last).step_by(align).find(|&at| is_row(at));
                assert_eq!(bits.first_row_of_both(&bits, length, align), row);
            }
            let (most, in_row) =
                (next(200), (start..).take_while(|&at| plain.get(at) == Some(&true)));
            assert_eq!(bits.row_of_both(&bits, start, most), in_row.count().min(most));
            let page = |slot: usize| slot / HUGE_SLOTS * HUGE_SLOTS;
            let touched = |slot: usize| plain[page(slot)..page(slot) + HUGE_SLOTS].contains(&true);
            let widened = (0..CHUNK_SLOTS).filter(|&slot| touched(slot));
            assert_eq!(bits.widened().len(), widened.clone().count());
            assert_eq!(bits.widened().next(from), widened.clone().find(|&slot| slot >= from));
            assert_eq!(
                bits.count_in(start, count),
                plain[start..start + count].iter().filter(|set| **set).count()
            );
        }
    }
}
