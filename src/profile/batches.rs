//! Which addresses of a file to name together, so that the memory for it is bounded.
//!
//! `addr2line` keeps what it has made of a unit of debug information as long as its
//! context. So the addresses are sorted by unit, and cut where the units of a batch would
//! be more than [`BATCH_BYTES`]; each batch is named with a context of its own. A unit is
//! never cut: one that is larger is a batch by itself.

use std::ops::Range;

use addr2line::gimli::{Dwarf, Error, Reader, ReaderOffset};

/// Bytes of `.debug_info` for one batch; the tables made of them and of their lines take
/// about as much memory.
const BATCH_BYTES: u64 = 4 << 20;

/// Cuts `probes`, ascending addresses, into batches; none if units are not there but in
/// files of their own.
pub(super) fn batches<R: Reader>(dwarf: &Dwarf<R>, probes: &[u64]) -> Option<Vec<Vec<u64>>> {
    // What cannot be read is left to who looks for names in it.
    let units = Units::of(dwarf, probes).unwrap_or_else(|_| Units::unknown(probes));
    (!units.split).then(|| units.cut(probes))
}

/// Which units of debug information some addresses are in.
struct Units {
    /// By address the number of its unit; 0 for none.
    of: Vec<usize>,
    /// By number the size of a unit; that of none is 0.
    bytes: Vec<u64>,
    /// Whether one only says where it is.
    split: bool,
}

impl Units {
    /// All addresses in none.
    fn unknown(probes: &[u64]) -> Self {
        Self { of: vec![0; probes.len()], bytes: vec![0], split: false }
    }

    fn of<R: Reader>(dwarf: &Dwarf<R>, probes: &[u64]) -> Result<Self, Error> {
        let mut units = Self::unknown(probes);
        let mut headers = dwarf.units();
        while let Some(header) = headers.next()? {
            units.bytes.push(header.unit_length().into_u64());
            // One that cannot be read has no names to give either.
            let Ok(unit) = dwarf.unit(header) else { continue };
            units.split |= unit.dwo_id.is_some();
            let mut ranges = dwarf.unit_ranges(&unit)?;
            while let Some(range) = ranges.next()? {
                units.enter(probes, range.begin..range.end);
            }
        }
        Ok(units)
    }

    /// Notes that the last unit has these addresses.
    fn enter(&mut self, probes: &[u64], range: Range<u64>) {
        let at = |address: u64| probes.partition_point(|probe| *probe < address);
        let last = self.bytes.len() - 1;
        if range.start < range.end {
            self.of[at(range.start)..at(range.end)].fill(last);
        }
    }

    /// The addresses unit by unit, as many units together as a batch may have.
    fn cut(&self, probes: &[u64]) -> Vec<Vec<u64>> {
        let mut order: Vec<usize> = (0..probes.len()).collect();
        order.sort_by_key(|at| self.of[*at]);
        let mut batches = Vec::new();
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        for unit in order.chunk_by(|one, other| self.of[*one] == self.of[*other]) {
            let bytes = self.bytes[self.of[unit[0]]];
            if batch_bytes + bytes > BATCH_BYTES && !batch.is_empty() {
                batches.push(std::mem::take(&mut batch));
                batch_bytes = 0;
            }
            batch.extend(unit.iter().map(|at| probes[*at]));
            batch_bytes += bytes;
        }
        batches.push(batch);
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_stay_whole_and_batches_within_their_bound() {
        let probes = [10, 20, 30, 40, 50, 60, 70, 80];
        let mut units = Units::unknown(&probes);
        // The third unit lies around the second; the fourth is too large.
        for (bytes, ranges) in [
            (BATCH_BYTES / 2, [10..21, 0..0]),
            (BATCH_BYTES / 4, [35..45, 90..95]),
            (BATCH_BYTES / 2, [25..35, 45..55]),
            (BATCH_BYTES * 2, [60..61, 9..9]),
            (1, [70..71, 0..0]),
        ] {
            units.bytes.push(bytes);
            ranges.into_iter().for_each(|range| units.enter(&probes, range));
        }
        let expected = [vec![80, 10, 20, 40], vec![30, 50], vec![60], vec![70]];
        assert_eq!(units.cut(&probes), expected);
    }
}
