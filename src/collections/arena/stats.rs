//! What an arena holds, in numbers.

use crate::base::counted::counted;
use std::fmt;

/// A snapshot of an arena, from [`Arena::stats`](super::Arena::stats).
///
/// Every byte is somewhere: `chunk_bytes == live_bytes + padding_bytes + returned_bytes +
/// tail_bytes + room_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArenaStats {
    /// Boxes made since the last reset.
    pub boxes: u64,
    /// Bytes asked for in blocks that have not come back.
    pub live_bytes: usize,
    /// Chunks held.
    pub chunks: usize,
    /// Bytes of all chunks.
    pub chunk_bytes: usize,
    /// Bytes lost to alignment, to size classes and to headers; also what is free in the blocks
    /// that tiny objects share, and blocks too large for a class that came back one by one.
    pub padding_bytes: usize,
    /// Bytes of blocks that came back and wait to be reused.
    pub returned_bytes: usize,
    /// Bytes left over at the end of chunks that were too full for the next block.
    pub tail_bytes: usize,
    /// Bytes still free in the newest chunk.
    pub room_bytes: usize,
    /// Boxes that were made in a block that had come back; those of [tiny](Self::tiny_objects)
    /// objects, which share blocks, are not among them.
    pub reused: u64,
    /// Objects below 16 bytes put in boxes.
    pub tiny_objects: u64,
    /// Blocks of 16 bytes taken for them.
    pub tiny_blocks: u64,
    /// Times the arena was reset.
    pub resets: u64,
}

impl ArenaStats {
    /// Bytes held in chunks but not part of a live block or of the newest chunk's room.
    #[must_use]
    pub fn waste_bytes(&self) -> usize {
        self.padding_bytes + self.returned_bytes + self.tail_bytes
    }

    /// The part of the blocks for tiny objects that combining has saved, from 0 to 1.
    #[must_use]
    pub fn tiny_saving(&self) -> f64 {
        match self.tiny_objects {
            0 => 0.0,
            objects => 1.0 - self.tiny_blocks as f64 / objects as f64,
        }
    }
}

impl fmt::Display for ArenaStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {} bytes, {}; {}, {} of them in reused blocks",
            counted(self.chunks as u64, "chunk", "chunks"),
            self.chunk_bytes,
            counted(self.resets, "reset", "resets"),
            counted(self.boxes, "box", "boxes"),
            self.reused
        )?;
        let whole = self.chunk_bytes.max(1) as f64;
        for (name, bytes) in [
            ("live", self.live_bytes),
            ("padding", self.padding_bytes),
            ("returned", self.returned_bytes),
            ("tail", self.tail_bytes),
            ("room", self.room_bytes),
        ] {
            writeln!(f, "{name:<10} {bytes:>14} {:>7.2} %", 100.0 * bytes as f64 / whole)?;
        }
        write!(
            f,
            "tiny: {} in {}, {:.1} % saved",
            counted(self.tiny_objects, "object", "objects"),
            counted(self.tiny_blocks, "block", "blocks"),
            100.0 * self.tiny_saving()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let mut stats = ArenaStats { chunks: 1, resets: 1, boxes: 1, ..ArenaStats::default() };
        (stats.tiny_objects, stats.tiny_blocks) = (1, 1);
        let text = stats.to_string();
        assert!(text.starts_with("1 chunk of 0 bytes, 1 reset; 1 box, 0 of them"), "{text}");
        assert!(text.ends_with("tiny: 1 object in 1 block, 0.0 % saved"), "{text}");
    }
}
