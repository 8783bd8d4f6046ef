//! The names in one file: its debug information and its symbols.
//!
//! The file is mapped, and `addr2line` reads the mapping. What that would leave behind
//! is bounded twice: its tables by [`batches`](super::batches), each read with a context
//! of its own, and the file's pages by letting them go now and then while it reads. The
//! latter uses that every name and address is read through a hook, which is there to
//! relocate it; ours changes nothing and sees how far the reading has come.
//!
//! Debug information that is split off into other files is left to `addr2line`'s own
//! loader, without these bounds.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use addr2line::gimli::{self, EndianSlice, Reader, Relocate, RelocateReader, RunTimeEndian};
use addr2line::{Context, FrameIter, Loader};
use memmap2::{Mmap, UncheckedAdvice};
use object::{Object, ObjectSection, SymbolMap, SymbolMapName};

use super::batches::batches;
use super::line_tables::with_module;
use super::symbols::{Frame, Interner, demangled};

/// Bytes of the file, about, that may be resident at once.
const RESIDENT_BYTES_MAX: usize = 4 << 20;
/// Bytes that the kernel maps around one that is read, mostly.
const FAULT_BYTES: usize = 64 << 10;

/// Opens a module's file. What is no file by now, such as a pipe at the number by which a file in
/// memory was opened, is not: opening it might wait for ever.
fn open(path: &Path) -> Option<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// The build-id that a file has, in hexadecimal digits; empty without one.
pub(super) fn build_id(path: &Path) -> String {
    let id = || {
        let image = Image::of(&open(path)?)?;
        let object = object::File::parse(&*image.map).ok()?;
        Some(object.build_id().ok()??.iter().map(|byte| format!("{byte:02x}")).collect())
    };
    id().unwrap_or_default()
}

/// Calls `found` with each of `probes`, ascending addresses in the file, and the frames
/// there, innermost first; without any where nothing is known. Returns without a call if
/// the file cannot be read.
pub(super) fn name_all(
    path: &Path,
    probes: &[u64],
    interner: &mut Interner,
    mut found: impl FnMut(u64, Vec<Arc<Frame>>),
) {
    if whole(path, probes, interner, &mut found).is_none() {
        split(path, probes, interner, &mut found);
    }
}

/// From the file alone; none, with no call, if that is not enough.
fn whole(
    path: &Path,
    probes: &[u64],
    interner: &mut Interner,
    found: &mut impl FnMut(u64, Vec<Arc<Frame>>),
) -> Option<()> {
    let image = Image::of(&open(path)?)?;
    let object = object::File::parse(&*image.map).ok()?;
    let load = |id: gimli::SectionId| {
        let section = object.section_by_name(id.name());
        let data = section.map_or(Ok(Cow::default()), |section| section.uncompressed_data());
        data.map_err(|_| gimli::Error::Io)
    };
    let sections = gimli::DwarfSections::load(load).ok()?;
    let little = object.is_little_endian();
    let endian = if little { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let mut dwarf = sections
        .borrow(|data: &Cow<'_, [u8]>| RelocateReader::new(EndianSlice::new(data, endian), &image));
    dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
    let batches = batches(&dwarf, probes)?;
    #[allow(clippy::arc_with_non_send_sync, reason = "a context takes no other pointer")]
    let dwarf = Arc::new(dwarf);
    let symbols = Symbols { object: &object, map: OnceCell::new() };
    for batch in batches {
        let context = Context::from_arc_dwarf(dwarf.clone()).ok();
        for probe in batch {
            let frames = context.as_ref().map(|context| context.find_frames(probe));
            let frames = frames.and_then(|frames| frames.skip_all_loads().ok());
            let named = named(frames, || symbols.at(probe), interner);
            // Texts are read where no hook sees it.
            image.touch(FAULT_BYTES * (named.len() + 1));
            found(probe, named);
        }
    }
    Some(())
}

/// From the file and those that it names.
fn split(
    path: &Path,
    probes: &[u64],
    interner: &mut Interner,
    found: &mut impl FnMut(u64, Vec<Arc<Frame>>),
) {
    // As the loader opens it by itself.
    let Some(Ok(loader)) = open(path).map(|_| Loader::new(path)) else { return };
    for &probe in probes {
        let symbol = || loader.find_symbol(probe);
        found(probe, named(loader.find_frames(probe).ok(), symbol, interner));
    }
}

/// The functions at an address; by the symbol where the debug information has no name.
fn named<'a, R: Reader>(
    mut frames: Option<FrameIter<'_, R>>,
    symbol: impl Fn() -> Option<&'a str>,
    interner: &mut Interner,
) -> Vec<Arc<Frame>> {
    let mut named = Vec::new();
    let mut next = || frames.as_mut().and_then(|frames| frames.next().ok().flatten());
    let mut after = next();
    while let Some(frame) = after {
        after = next();
        let raw = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let Some(raw) = raw.or_else(|| symbol().map(Cow::from)) else { continue };
        let place = frame.location.as_ref();
        let (file, line) = (place.and_then(|place| place.file), place.and_then(|place| place.line));
        let whole = file.and_then(|file| with_module(&raw, file));
        let name = match whole {
            // What was not inlined has a symbol.
            Some(whole) if after.is_none() => symbol().map_or(whole, demangled),
            Some(whole) => whole,
            None => demangled(&raw),
        };
        named.push(interner.frame(&name, file, line));
    }
    if named.is_empty() {
        named.extend(symbol().map(|symbol| interner.frame(&demangled(symbol), None, None)));
    }
    named
}

/// The symbols of a file, sorted when the first is asked for.
struct Symbols<'a, 'file> {
    object: &'a object::File<'file>,
    map: OnceCell<SymbolMap<SymbolMapName<'file>>>,
}

impl<'file> Symbols<'_, 'file> {
    fn at(&self, probe: u64) -> Option<&'file str> {
        let map = self.map.get_or_init(|| self.object.symbol_map());
        map.containing(probe).map(|symbol| symbol.name())
    }
}

/// A file, mapped, and how much of it was read since its pages were let go.
#[derive(Debug)]
struct Image {
    map: Mmap,
    /// Where in its section the last value was read.
    last: Cell<usize>,
    touched_bytes: Cell<usize>,
}

impl Image {
    fn of(file: &File) -> Option<Self> {
        // SAFETY: the file is one that was loaded to run; whoever changes such a file
        // breaks the program itself.
        let map = unsafe { Mmap::map(file) }.ok()?;
        Some(Self { map, last: Cell::new(0), touched_bytes: Cell::new(0) })
    }

    /// Something was read this far into a section: the pages since the last time, or
    /// those around it.
    fn read_at(&self, offset: usize) {
        self.touch(self.last.replace(offset).abs_diff(offset).min(FAULT_BYTES));
    }

    fn touch(&self, bytes: usize) {
        let touched = self.touched_bytes.get() + bytes;
        self.touched_bytes.set(touched % RESIDENT_BYTES_MAX);
        if touched >= RESIDENT_BYTES_MAX {
            // SAFETY: nobody writes to the mapping, so its pages are those of the file,
            // and come back from there with the same contents when they are read.
            // Should it fail, they stay resident.
            let _ = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }
}

impl Relocate for &Image {
    fn relocate_address(&self, offset: usize, value: u64) -> gimli::Result<u64> {
        self.read_at(offset);
        Ok(value)
    }

    fn relocate_offset(&self, offset: usize, value: usize) -> gimli::Result<usize> {
        self.read_at(offset);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_pipe_without_a_writer_is_no_file_and_not_waited_for() {
        let path = std::env::temp_dir().join(format!("spanalloc-pipe-{}", std::process::id()));
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: a terminated path.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let (opened, id) = (open(&path), build_id(&path));
        let mut found = 0;
        name_all(&path, &[1], &mut Interner::default(), |_, _| found += 1);
        std::fs::remove_file(&path).unwrap();
        assert!(opened.is_none() && id.is_empty() && found == 0);
        assert!(open(&std::env::current_exe().unwrap()).is_some());
    }
}
