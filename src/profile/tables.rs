//! The unwind tables of modules, read in place or copied, as `framehop` takes them.

use core::ops::{Deref, Range};
use std::sync::Arc;

use framehop::{ExplicitModuleSectionInfo, Module};

use crate::sys::modules::{LoadedModule, Table};

/// Bound on the copies of tables of modules that may be unloaded.
pub(super) const COPIED_BYTES_MAX: usize = 16 << 20;

/// Bytes of tables that may still be copied.
pub(super) struct Room(pub(super) usize);

impl Room {
    /// Whether so many bytes fit; they are used up then, and only then.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// A table, read in place or copied.
#[derive(Clone)]
pub(super) enum Bytes {
    InPlace(&'static [u8]),
    Copied(Arc<[u8]>),
}

/// A table with the addresses it is loaded at.
pub(super) struct Placed {
    range: Range<u64>,
    bytes: Bytes,
}

impl Placed {
    pub(super) fn new(table: Table<'_>, bytes: Bytes) -> Self {
        Self { range: table.address..table.address + table.bytes.len() as u64, bytes }
    }

    pub(super) fn copy(table: Table<'_>) -> Self {
        Self::new(table, Bytes::Copied(table.bytes.into()))
    }

    /// # Safety
    /// The table's module is never unloaded.
    pub(super) unsafe fn in_place(table: Table<'_>) -> Self {
        let (start, len) = (table.bytes.as_ptr(), table.bytes.len());
        // SAFETY: the caller's contract makes the bytes last for ever, and
        // loaded tables are never written.
        Self::new(table, Bytes::InPlace(unsafe { core::slice::from_raw_parts(start, len) }))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::InPlace(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

/// The module as framehop wants it: addresses of the file, that is without bias. It keeps distances
/// from a base in 32 bits, so that is where the module begins: some are linked for high addresses,
/// and some lie below what they are linked for, so that their bias wraps.
#[unsafe(link_section = ".spanalloc.sample")]
pub(super) fn describe(
    module: &LoadedModule<'_>,
    (index, table): (Placed, Placed),
) -> Module<Bytes> {
    let in_file = |address: u64| address.wrapping_sub(module.bias);
    let range_in_file = |range: &Range<u64>| in_file(range.start)..in_file(range.end);
    let base = module.code.start.min(index.range.start).min(table.range.start);
    let sections = ExplicitModuleSectionInfo {
        base_svma: in_file(base),
        text_svma: Some(range_in_file(&module.code)),
        eh_frame_hdr_svma: Some(range_in_file(&index.range)),
        eh_frame_hdr: Some(index.bytes),
        eh_frame_svma: Some(range_in_file(&table.range)),
        eh_frame: Some(table.bytes),
        text: None,
        stubs_svma: None,
        stub_helper_svma: None,
        got_svma: None,
        unwind_info: None,
        debug_frame: None,
        text_segment_svma: None,
        text_segment: None,
    };
    Module::new(String::new(), module.code.clone(), base, sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_too_large_to_copy_leaves_room_for_others() {
        let mut room = Room(COPIED_BYTES_MAX);
        let sizes = [20 << 20, 10 << 10, COPIED_BYTES_MAX, COPIED_BYTES_MAX - (10 << 10), 1];
        assert_eq!(sizes.map(|bytes| room.take(bytes)), [false, true, false, true, false]);
    }
}
