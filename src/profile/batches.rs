//! Which addresses of a file to name together, so that the memory for it is bounded.
//!
//! `addr2line` keeps what it has read of a unit of debug information, about as much
//! again as the unit itself, and the pages of the file that it read stay resident.
//! So the addresses are sorted by unit, and cut where the units of a batch would be
//! more than [`BATCH_BYTES`]; each batch is named with a loader of its own. A unit is
//! never cut: one that is larger is a batch by itself. Sections that are compressed are
//! unpacked whole by every loader, so there is one batch of these.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use addr2line::gimli::{Dwarf, EndianSlice, Error, RunTimeEndian, SectionId};
use memmap2::Mmap;
use object::{Object, ObjectSection};

/// Bytes of `.debug_info` read for one batch; with the lines and strings that belong to
/// them, and the tables made of all, several times that much memory.
const BATCH_BYTES: u64 = 4 << 20;

type Section<'a> = EndianSlice<'a, RunTimeEndian>;

/// Cuts `probes`, ascending addresses in the file at `path`, into batches. One holds
/// them all where the file is small or its units cannot be told.
pub(super) fn batches(path: &Path, probes: &[u64]) -> Vec<Vec<u64>> {
    by_unit(path, probes).unwrap_or_else(|| vec![probes.to_vec()])
}

fn by_unit(path: &Path, probes: &[u64]) -> Option<Vec<Vec<u64>>> {
    let file = File::open(path).ok()?;
    // SAFETY: the file is one that was loaded to run. Whoever writes to such a file
    // breaks the program itself; this reads it as the loaders of the batches do.
    let map = unsafe { Mmap::map(&file) }.ok()?;
    let object = object::File::parse(&*map).ok()?;
    let info = object.section_by_name(".debug_info")?;
    let compressed = info.compressed_file_range().ok()?.format != object::CompressionFormat::None;
    if compressed || info.size() <= BATCH_BYTES {
        return None;
    }
    let section = |name: &str| object.section_by_name(name).and_then(|found| found.data().ok());
    let load = |id: SectionId| {
        Ok::<_, Error>(Section::new(section(id.name()).unwrap_or_default(), endian(&object)))
    };
    let units = Units::of(&Dwarf::load(load).ok()?, probes).ok()?;
    Some(units.cut(probes))
}

fn endian(object: &object::File<'_>) -> RunTimeEndian {
    if object.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big }
}

/// Which units of debug information some addresses are in.
struct Units {
    /// By address the number of its unit; 0 for none.
    of: Vec<usize>,
    /// By number the size of a unit; that of none is 0.
    bytes: Vec<u64>,
}

impl Units {
    fn of(dwarf: &Dwarf<Section<'_>>, probes: &[u64]) -> Result<Self, Error> {
        let mut units = Self { of: vec![0; probes.len()], bytes: vec![0] };
        let mut headers = dwarf.units();
        while let Some(header) = headers.next()? {
            units.bytes.push(header.unit_length() as u64);
            // One that cannot be read has no names to give either.
            let Ok(unit) = dwarf.unit(header) else { continue };
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
        let mut units = Units { of: vec![0; 8], bytes: vec![0] };
        let probes = [10, 20, 30, 40, 50, 60, 70, 80];
        // The third unit has two ranges, around the second; the fourth is too large.
        for (bytes, ranges) in [
            (BATCH_BYTES / 2, vec![10..21]),
            (BATCH_BYTES / 4, vec![35..45, 90..95]),
            (BATCH_BYTES / 2, vec![25..35, 45..55, 9..9]),
            (BATCH_BYTES * 2, vec![60..61]),
            (1, vec![70..71]),
        ] {
            units.bytes.push(bytes);
            ranges.into_iter().for_each(|range| units.enter(&probes, range));
        }
        let expected = [vec![80, 10, 20, 40], vec![30, 50], vec![60], vec![70]];
        assert_eq!(units.cut(&probes), expected);
    }

    #[test]
    fn this_programs_addresses_are_all_in_a_batch_once() {
        let program = std::env::current_exe().unwrap();
        let file = File::open(&program).unwrap();
        // SAFETY: nobody writes to a test's file while it runs.
        let map = unsafe { Mmap::map(&file) }.unwrap();
        let text = object::File::parse(&*map).unwrap();
        let text = text.section_by_name(".text").unwrap();
        let step = (text.size() / 1000) as usize;
        let range = text.address()..text.address() + text.size();
        let probes: Vec<u64> = range.step_by(step).collect();
        let batches = batches(&program, &probes);
        assert!(batches.len() > 1, "{} batches", batches.len());
        let mut all = batches.concat();
        all.sort_unstable();
        assert_eq!(all, probes);
    }
}
