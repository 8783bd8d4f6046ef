//! The modules (executable and shared objects) that are loaded in this process,
//! as the loader tells.
//!
//! Takes the loader's lock, so it is never called while sampling. A child that was forked
//! while another thread was in the loader would wait for that lock for ever: see
//! [`forked`].
//!
//! # Invariants
//!
//! 1. While the callback of [`for_each`] runs the loader unloads nothing, so
//!    the slices it is given are readable.

use core::ffi::{CStr, c_int, c_void};
use core::ops::Range;
use core::ptr::with_exposed_provenance;
use core::slice;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::lock::Lock;
use super::starts::without_starts;
use super::thread::without_cancellation;

/// A module, borrowed from the loader.
pub(crate) struct LoadedModule<'a> {
    /// Path as the loader knows it; musl's gives the executable one, too.
    pub(crate) name: &'a CStr,
    /// Whether it is the executable, which every loader names first.
    pub(crate) is_main: bool,
    /// What is added to an address of the file to get one of the process; wraps.
    pub(crate) bias: u64,
    /// Where its program headers lie: no other module's do, while several may have one bias.
    pub(crate) headers: u64,
    /// Where its dynamic section lies.
    #[cfg(not(target_feature = "crt-static"))]
    pub(crate) dynamic: Option<u64>,
    /// Executable addresses.
    pub(crate) code: Range<u64>,
    /// Where `code.start` lies in the file.
    pub(crate) code_offset: u64,
    /// The index of the unwind table, with its address.
    pub(crate) eh_frame_hdr: Option<Table<'a>>,
    /// The unwind table, up to the end of the segment that holds it.
    pub(crate) eh_frame: Option<Table<'a>>,
    pub(crate) build_id: &'a [u8],
}

/// A table of a module and the address it is loaded at.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) address: u64,
    pub(crate) bytes: &'a [u8],
}

/// Held while the loader holds its own lock for us, and across a fork: in the child
/// nobody would release the loader's.
static ASKING: Lock<()> = Lock::new(());

/// The lock to hold across a fork, before any other that is held while allocating.
pub(crate) fn lock() -> &'static Lock<()> {
    &ASKING
}

/// Calls `visit` with each loaded module that has code; whether the loader could be asked, in a
/// forked child.
pub(crate) fn for_each<F: FnMut(LoadedModule<'_>)>(mut visit: F) -> bool {
    let mut is_first = true;
    each_record(|info| {
        let is_main = core::mem::take(&mut is_first);
        if info.dlpi_phdr.is_null() {
            return;
        }
        // SAFETY: the loader's record names its own table of headers.
        let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        // SAFETY: by invariant 1, and both come from the loader's record.
        if let Some(module) = unsafe { describe(info, headers) } {
            visit(LoadedModule { is_main, ..module });
        }
    })
}

/// Calls `visit` with where the program headers of each loaded module lie; nothing is read.
#[cfg(not(target_feature = "crt-static"))]
pub(crate) fn each_headers(mut visit: impl FnMut(u64)) {
    each_record(|info| visit(info.dlpi_phdr.addr() as u64));
}

/// Whether the loader's lock can be had.
static LOADER: AtomicU8 = AtomicU8::new(ANSWERS);

const ANSWERS: u8 = 0;
/// Since a fork.
const UNSURE: u8 = 1;
/// Somebody held its lock who is not in this process.
const LOST: u8 = 2;

/// Milliseconds after which the loader counts as lost.
const PATIENCE_MS: u32 = 250;

/// In a forked child: another thread of its parent may have been in the loader, one that allocates
/// nothing, too, of which nobody here knows.
pub(crate) fn forked() {
    LOADER.store(UNSURE, Relaxed);
}

/// Whether the loader's lock can be had: a child of our own, which no handler and no `wait`
/// of the program's hears of, goes first.
#[cold]
fn answers() -> bool {
    let state = || LOADER.load(Relaxed);
    if state() == UNSURE {
        LOADER.store(without_cancellation(goes_first), Relaxed);
    }
    state() == ANSWERS
}

/// The state of the loader, as a child that asks it finds. Where none can be made, since the system
/// or a limit refuses, it is as unsure as before.
fn goes_first() -> u8 {
    unsafe extern "C" fn nothing(_: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
        1
    }
    // SAFETY: a copy of this process that shares nothing and signals nobody when it ends.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) } as libc::pid_t;
    match child {
        0 => {
            // SAFETY: `nothing` looks at nothing.
            unsafe { libc::dl_iterate_phdr(Some(nothing), core::ptr::null_mut()) };
            loop {
                // SAFETY: ends the copy, without any handler.
                unsafe { libc::syscall(libc::SYS_exit_group, 0) };
            }
        }
        1.. => {
            let ended = |options| {
                let mut status = 0;
                // SAFETY: `status` is live for the call.
                let said =
                    unsafe { libc::waitpid(child, &raw mut status, libc::__WCLONE | options) };
                (said != 0).then_some(said == child && status == 0)
            };
            for _ in 0..PATIENCE_MS {
                if let Some(well) = ended(libc::WNOHANG) {
                    return if well { ANSWERS } else { LOST };
                }
                // SAFETY: waits for nothing but the time.
                unsafe { libc::poll(core::ptr::null_mut(), 0, 1) };
            }
            // SAFETY: our own child, which has not been waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
            ended(0);
            LOST
        }
        _ => UNSURE,
    }
}

/// Whether the loader could be asked.
fn each_record<F: FnMut(&libc::dl_phdr_info)>(mut visit: F) -> bool {
    let _asking = ASKING.lock();
    if LOADER.load(Relaxed) != ANSWERS && !answers() {
        return false;
    }
    let data = (&raw mut visit).cast();
    without_starts(|| {
        // SAFETY: `one::<F>` expects the pointer to `visit` that it is given here,
        // and the call returns before `visit` ends.
        unsafe { libc::dl_iterate_phdr(Some(one::<F>), data) }
    });
    true
}

/// # Safety
/// Called by `dl_iterate_phdr`, with `data` from [`each_record`] of the same `F`.
#[unsafe(link_section = ".spanalloc.text")]
unsafe extern "C" fn one<F: FnMut(&libc::dl_phdr_info)>(
    info: *mut libc::dl_phdr_info,
    _bytes: usize,
    data: *mut c_void,
) -> c_int {
    // SAFETY: `data` is the `visit` of `each_record`, which nobody else uses now.
    let visit = unsafe { &mut *data.cast::<F>() };
    // SAFETY: the loader passes a valid record.
    visit(unsafe { &*info });
    0
}

/// # Safety
/// `info` and `headers` describe a module that stays loaded for `'a`.
#[unsafe(link_section = ".spanalloc.sample")]
unsafe fn describe<'a>(
    info: &libc::dl_phdr_info,
    headers: &'a [libc::Elf64_Phdr],
) -> Option<LoadedModule<'a>> {
    let bias = info.dlpi_addr;
    let loads = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let start = |header: &libc::Elf64_Phdr| bias.wrapping_add(header.p_vaddr);
    let executable = || loads().filter(|header| header.p_flags & libc::PF_X != 0);
    let first = executable().min_by_key(|header| header.p_vaddr)?;
    let code_end = executable().map(|header| start(header) + header.p_memsz).max()?;
    let eh_frame_hdr = headers
        .iter()
        .find(|header| header.p_type == libc::PT_GNU_EH_FRAME)
        // SAFETY: the header names a loaded range of the module.
        .map(|header| unsafe { table(start(header), header.p_memsz) });
    let eh_frame = eh_frame_hdr.and_then(eh_frame_address).and_then(|address| {
        let segment = loads().find(|h| (start(h)..start(h) + h.p_memsz).contains(&address))?;
        // SAFETY: the range ends with the loaded segment that holds its start.
        Some(unsafe { table(address, start(segment) + segment.p_memsz - address) })
    });
    let mut id: &[u8] = &[];
    // A loop, so that its code lies here and not among the program's.
    for header in headers.iter().filter(|header| header.p_type == libc::PT_NOTE) {
        // SAFETY: the header names a loaded range of the module.
        let notes = unsafe { table(start(header), header.p_memsz) };
        if let Some(found) = build_id(notes.bytes) {
            id = found;
            break;
        }
    }
    let name = if info.dlpi_name.is_null() {
        c""
    } else {
        // SAFETY: the loader's names are terminated and live as long as the module.
        unsafe { CStr::from_ptr(info.dlpi_name) }
    };
    Some(LoadedModule {
        name,
        is_main: false,
        bias,
        headers: headers.as_ptr().addr() as u64,
        #[cfg(not(target_feature = "crt-static"))]
        dynamic: headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC).map(start),
        code: start(first)..code_end,
        code_offset: first.p_offset,
        eh_frame_hdr,
        eh_frame,
        build_id: id,
    })
}

/// # Safety
/// The range is loaded and stays so for `'a`.
unsafe fn table<'a>(address: u64, bytes: u64) -> Table<'a> {
    let start = with_exposed_provenance(address as usize);
    // SAFETY: the caller's contract.
    Table { address, bytes: unsafe { slice::from_raw_parts(start, bytes as usize) } }
}

/// Where the table that the index belongs to begins. Every linker in use writes
/// the pointer relative to itself in four bytes; another form yields `None`.
#[unsafe(link_section = ".spanalloc.sample")]
fn eh_frame_address(index: Table<'_>) -> Option<u64> {
    const PC_RELATIVE_I32: u8 = 0x1b;
    let &[1, PC_RELATIVE_I32, _, _, a, b, c, d, ..] = index.bytes else { return None };
    let distance = i32::from_le_bytes([a, b, c, d]);
    (index.address + 4).checked_add_signed(distance.into())
}

/// The build-id among ELF notes: header of name size, value size and type, then
/// name and value, each padded to four bytes.
#[unsafe(link_section = ".spanalloc.sample")]
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const BUILD_ID: u32 = 3;
    loop {
        let (header, rest) = notes.split_at_checked(12)?;
        let word = |at: usize| header[at..at + 4].try_into().map(u32::from_le_bytes).ok();
        let (name_bytes, value_bytes) = (word(0)? as usize, word(4)? as usize);
        let (name, rest) = rest.split_at_checked(name_bytes.next_multiple_of(4))?;
        if word(8)? == BUILD_ID && name == b"GNU\0" {
            return rest.get(..value_bytes);
        }
        notes = rest.get(value_bytes.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_this_executable_with_its_unwind_table() {
        let here = (finds_this_executable_with_its_unwind_table as *const ()).addr() as u64;
        let mut found = 0;
        let asked = for_each(|module| {
            if module.code.contains(&here) {
                found += 1;
                assert!(module.is_main);
                assert!(module.eh_frame_hdr.is_some());
                assert!(module.eh_frame.is_some_and(|table| table.bytes.len() > 1000));
            }
        });
        assert!(asked && found == 1, "{found}");
    }

    #[test]
    #[cfg(not(feature = "preload"))]
    fn no_thread_is_started_while_the_loader_lists_its_modules() {
        use crate::sys::starts::may_start;

        let mut seen = 0;
        for_each(|_| {
            seen += 1;
            assert!(!may_start());
        });
        assert!(seen > 0 && may_start());
    }

    #[test]
    fn reads_a_build_id_behind_another_note() {
        let mut notes = Vec::new();
        for (kind, name, value) in
            [(5_u32, b"GNU\0", &b"other"[..]), (3, b"GNU\0", &b"\x01\x02\x03"[..])]
        {
            notes.extend(4_u32.to_le_bytes());
            notes.extend((value.len() as u32).to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(name);
            notes.extend(value);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id(&notes), Some(&b"\x01\x02\x03"[..]));
        assert_eq!(build_id(&notes[..20]), None);
    }
}
