//! Keeps the code of the allocator where it is for as long as the process lives.
//!
//! A shared library that a program opens may have an allocator of its own, and may be closed
//! again. But what is there of it outside knows of no closing: threads that allocated run a
//! function of ours when they end, a thread of ours gives memory back, and a report may be due
//! when the process ends. So the loader is told never to unload the library. Its heap would
//! stay in any case.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use core::slice;

/// Has the module that this code is part of stay loaded. To be called before `main`, or while
/// the loader opens the module. The program itself stays anyway.
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) fn stay_loaded() {
    // SAFETY: `is_elsewhere` is a function for this, which looks at no data.
    if unsafe { libc::dl_iterate_phdr(Some(is_elsewhere), ptr::null_mut()) } == ELSEWHERE {
        pin();
    }
}

const HERE: c_int = 1;
const ELSEWHERE: c_int = 2;

/// Whether this code is part of the executable, which every loader names first; ends there.
///
/// # Safety
/// Called by `dl_iterate_phdr`.
#[unsafe(link_section = ".spanalloc.text")]
unsafe extern "C" fn is_elsewhere(
    info: *mut libc::dl_phdr_info,
    _bytes: usize,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: the loader passes a valid record.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return HERE;
    }
    // SAFETY: the loader's record names its own table of headers.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let code = address().addr() as u64;
    let has_it = |header: &libc::Elf64_Phdr| {
        let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
        header.p_type == libc::PT_LOAD && code.wrapping_sub(start) < header.p_memsz
    };
    if headers.iter().any(has_it) { HERE } else { ELSEWHERE }
}

/// An address of this module's.
fn address() -> *const c_void {
    (stay_loaded as fn() as *const ()).cast()
}

/// Opens the module once more, with the flag by which it is never unloaded. If that fails it is
/// as if nothing had been tried.
#[cold]
#[unsafe(link_section = ".spanalloc.rare")]
fn pin() {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: an out-parameter.
    if unsafe { libc::dladdr(address(), info.as_mut_ptr()) } == 0 {
        return;
    }
    // SAFETY: filled, since the call knew the address.
    let name = unsafe { info.assume_init() }.dli_fname;
    if !name.is_null() {
        // SAFETY: the loader's names are terminated; of what is loaded nothing runs anew.
        unsafe { libc::dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE) };
    }
}
