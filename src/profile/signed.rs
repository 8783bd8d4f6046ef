//! Unwind tables of functions that sign their return addresses.
//!
//! On AArch64 `DW_CFA_AARCH64_negate_ra_state` says from where on in a function its return address
//! carries a signature. The unwinder cuts signatures off wherever one may be and need not know; but
//! to `framehop` the instruction is an unknown one, and it walks such a function by its frame
//! pointer, if it has one, and takes what lies there for the end of the frame, which with GCC it is
//! not: the stack breaks off, or goes on with what was never called. Distributions build their C
//! libraries so. Therefore a module that signs gets a copy of its table in which these instructions
//! do nothing.
//!
//! Tables are as *Linux Standard Base Core* has them, the instructions as DWARF 5, 6.4.2. An entry
//! that is not understood stays as it is.

/// Bytes at the table's beginning by which is told whether the module signs: what is built so does
/// in most functions, and to read all of every table would make it resident.
const LOOK_BYTES: usize = 64 << 10;

const NOTHING: u8 = 0;
/// The two forms that the instruction has.
const NEGATE_WITH_PC: u8 = 0x2c;
const NEGATE: u8 = 0x2d;

/// A copy of `table` that says nothing of signatures; none if it says nothing itself.
#[unsafe(link_section = ".spanalloc.sample")]
pub(super) fn without_signs(table: &[u8]) -> Option<Vec<u8>> {
    let mut signs = false;
    each_sign(table, LOOK_BYTES, |_| signs = true);
    signs.then(|| {
        let mut copy = table.to_vec();
        each_sign(table, table.len(), |at| copy[at] = NOTHING);
        copy
    })
}

/// Calls `found` with the place of each such instruction in the entries that begin below `limit`.
#[unsafe(link_section = ".spanalloc.sample")]
fn each_sign(table: &[u8], limit: usize, mut found: impl FnMut(usize)) {
    let mut at = 0;
    while at < limit
        && let Some((body, end)) = entry(table, at)
    {
        let _not_understood = one_entry(table, body, end, &mut found);
        at = end;
    }
}

/// Where what follows its length begins in the entry at `at`, and ends; none behind the last.
fn entry(table: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut bytes = Bytes { table, at };
    // Longer than 4 GiB no entry is.
    let length = bytes.word().filter(|length| (1..u32::MAX).contains(length))?;
    let end = bytes.at.checked_add(length as usize).filter(|end| *end <= table.len())?;
    Some((bytes.at, end))
}

fn one_entry(table: &[u8], body: usize, end: usize, found: impl FnMut(usize)) -> Option<()> {
    let table = table.get(..end)?;
    let mut bytes = Bytes { table, at: body };
    // 0 for what functions have in common, else the distance to that.
    let common = match bytes.word()? {
        0 => Common::read(&mut bytes)?,
        distance => {
            let (body, end) = entry(table, body.checked_sub(distance as usize)?)?;
            let mut before = Bytes { table: table.get(..end)?, at: body };
            let common = before.word().filter(|id| *id == 0).and(Common::read(&mut before))?;
            bytes.skip(2 * common.pointer_bytes)?;
            if common.is_augmented {
                let augmentation_bytes = bytes.number()?;
                bytes.skip(augmentation_bytes)?;
            }
            common
        }
    };
    instructions(&mut bytes, common.pointer_bytes, found)
}

/// What an entry says of those that refer to it.
struct Common {
    /// Bytes of an address.
    pointer_bytes: usize,
    /// Each has more, after its length.
    is_augmented: bool,
}

impl Common {
    /// Reads up to the entry's first instruction.
    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        let version = bytes.next()?;
        let start = bytes.at;
        while bytes.next()? != 0 {}
        let letters = bytes.table.get(start..bytes.at - 1)?;
        // Factors of code and data, and the register that holds the return address.
        bytes.number()?;
        bytes.number()?;
        if version == 1 {
            bytes.skip(1)?
        } else {
            _ = bytes.number()?
        }
        let mut pointer_bytes = 8;
        let Some((b'z', letters)) = letters.split_first() else {
            return letters.is_empty().then_some(Self { pointer_bytes, is_augmented: false });
        };
        let behind = bytes.number()?.checked_add(bytes.at)?;
        for letter in letters {
            match letter {
                b'R' => pointer_bytes = pointer(bytes.next()?)?,
                b'P' => {
                    let form = bytes.next()?;
                    bytes.skip(pointer(form)?)?;
                }
                b'L' => bytes.skip(1)?,
                _ => {}
            }
        }
        bytes.at = behind;
        Some(Self { pointer_bytes, is_augmented: true })
    }
}

/// Bytes of a pointer of this form.
fn pointer(form: u8) -> Option<usize> {
    match form & 7 {
        0 | 4 => Some(8),
        2 => Some(2),
        3 => Some(4),
        _ => None,
    }
}

fn instructions(
    bytes: &mut Bytes<'_>,
    pointer_bytes: usize,
    mut found: impl FnMut(usize),
) -> Option<()> {
    while bytes.at < bytes.table.len() {
        let at = bytes.at;
        let numbers = match bytes.next()? {
            NEGATE | NEGATE_WITH_PC => {
                found(at);
                0
            }
            0x40..=0x7f | 0xc0..=0xff | NOTHING | 0x0a | 0x0b => 0,
            0x01 => {
                bytes.skip(pointer_bytes)?;
                0
            }
            power @ 0x02..=0x04 => {
                bytes.skip(1 << (power - 2))?;
                0
            }
            0x80..=0xbf | 0x06..=0x08 | 0x0d | 0x0e | 0x13 | 0x2e => 1,
            0x05 | 0x09 | 0x0c | 0x11 | 0x12 | 0x14 | 0x15 | 0x2f => 2,
            // An expression, after a register or without one.
            with @ (0x0f | 0x10 | 0x16) => {
                if with != 0x0f {
                    bytes.number()?;
                }
                let expression_bytes = bytes.number()?;
                bytes.skip(expression_bytes)?;
                0
            }
            _ => return None,
        };
        for _ in 0..numbers {
            bytes.number()?;
        }
    }
    Some(())
}

/// A table that is read on from a place.
struct Bytes<'a> {
    table: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.table.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn word(&mut self) -> Option<u32> {
        let word = self.table.get(self.at..)?.first_chunk()?;
        self.at += 4;
        Some(u32::from_le_bytes(*word))
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at = self.at.checked_add(bytes).filter(|at| *at <= self.table.len())?;
        Some(())
    }

    /// A number in seven bits a byte; whether it has a sign makes no difference to its length.
    fn number(&mut self) -> Option<usize> {
        let (mut number, mut shift) = (0_usize, 0);
        loop {
            let byte = self.next()?;
            number |= usize::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry with its length, padded as assemblers do.
    fn entry(body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), NOTHING);
        let mut entry = (body.len() as u32).to_le_bytes().to_vec();
        entry.extend(body);
        entry
    }

    /// A table of two functions with these instructions.
    fn table(first: &[u8], second: &[u8]) -> Vec<u8> {
        // What GCC writes: version 1, "zPLR", factors 4 and -8, register 30, and the augmentation.
        let mut common = vec![0, 0, 0, 0, 1, b'z', b'P', b'L', b'R', 0, 4, 0x78, 30];
        common.extend([7, 0x9b, NEGATE, NEGATE, 0, 0, 0x1b, 0x1b, 0x0c, 31, 0]);
        let mut table = entry(&common);
        for instructions in [first, second] {
            let mut function = (table.len() as u32 + 4).to_le_bytes().to_vec();
            function.extend([NEGATE; 8]);
            function.extend([4, NEGATE, 0, 0, 0]);
            function.extend(instructions);
            table.extend(entry(&function));
        }
        table.extend([0; 4]);
        // Behind the table there is something else.
        table.extend([NEGATE; 9]);
        table
    }

    #[test]
    fn signs_alone_are_taken_out() {
        // An advance, a frame of 45 bytes, registers kept 45 bytes from its end, an expression.
        let plain =
            [0x41, 0x0e, NEGATE, 0x9d, NEGATE, 0x05, 30, NEGATE, 0x10, 29, 2, NEGATE, NEGATE];
        assert_eq!(without_signs(&table(&plain, &plain)), None);
        let with = |byte| [&[0x41, byte][..], &plain, &[0x44, byte, 0x0a]].concat();
        for sign in [NEGATE, NEGATE_WITH_PC] {
            let signed = table(&plain, &with(sign));
            assert_eq!(without_signs(&signed), Some(table(&plain, &with(NOTHING))));
        }
    }

    #[test]
    fn what_is_not_understood_stays() {
        let unknown = table(&[NEGATE, 0x3f, NEGATE], &[NEGATE]);
        let first_alone = table(&[NOTHING, 0x3f, NEGATE], &[NOTHING]);
        assert_eq!(without_signs(&unknown), Some(first_alone));
        // Cut off anywhere, nothing but the end is missing.
        for bytes in 0..unknown.len() {
            let copy = without_signs(&unknown[..bytes]);
            assert!(copy.is_none_or(|copy| copy.len() == bytes));
        }
    }
}
