//! Keeps the code of the allocator where it is for as long as the process lives.
//!
//! A shared library that a program opens may have an allocator of its own, and may be closed
//! again. But what is there of it outside knows of no closing: threads that allocated run a
//! function of ours when they end, a thread of ours gives memory back, and a report may be due
//! when the process ends. So the loader is told never to unload the library. Its heap would
//! stay in any case.
//!
//! The profiler reads unwind tables in place where they stay as well.

#[cfg(feature = "profile")]
use core::ffi::CStr;
#[cfg(all(feature = "profile", target_env = "gnu"))]
use core::ffi::c_char;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use core::slice;

#[cfg(feature = "profile")]
use super::modules;

/// Has the module that this code is part of stay loaded. To be called before `main`, or while
/// the loader opens the module. The program itself stays anyway. A library to preload is never
/// closed.
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) fn stay_loaded() {
    if is_in_library() {
        pin();
    }
}

/// Whether this code is part of a library that may have been opened while the program runs.
#[unsafe(link_section = ".spanalloc.text")]
fn is_in_library() -> bool {
    if cfg!(feature = "preload") {
        return false;
    }
    // SAFETY: `where_is_code` is a function for this, which looks at no data.
    let answer = unsafe { libc::dl_iterate_phdr(Some(where_is_code), ptr::null_mut()) };
    answer == ELSEWHERE
}

const HERE: c_int = 1;
const ELSEWHERE: c_int = 2;

/// Says whether this code is part of the executable, which every loader names first: [`HERE`] or
/// [`ELSEWHERE`]. Ends the walk.
///
/// # Safety
/// Called by `dl_iterate_phdr`.
#[unsafe(link_section = ".spanalloc.text")]
unsafe extern "C" fn where_is_code(
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
    (address as fn() -> *const c_void as *const ()).cast()
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
        unsafe { libc::dlopen(name, KEEP) };
    }
}

/// Of what is loaded already, never to be unloaded.
const KEEP: c_int = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;

/// Calls `visit` with where the program headers lie of each module that should stay loaded until the process ends. Of a
/// program these are all there are, to be called where [`stay_loaded`] is: those that it is linked
/// with, and what a constructor may have opened, which nothing tells apart. Of a library that may
/// have been opened while the program runs it is the library alone: what else is there is the
/// program's to close.
#[cfg(feature = "profile")]
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) fn each_linked(mut visit: impl FnMut(u64)) {
    if cfg!(target_env = "gnu") && is_in_library() {
        let here = address().addr() as u64;
        modules::for_each(|module| {
            if module.code.contains(&here) {
                visit(module.headers);
            }
        });
        return;
    }
    modules::each_headers(visit);
}

/// Has the module of that name and dynamic section stay loaded; whether it does. Not to be called while the
/// loader names its modules: it holds a lock then. The loader of musl unloads nothing.
#[cfg(feature = "profile")]
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn keep(dynamic: Option<u64>, name: &CStr) -> bool {
    #[cfg(target_env = "gnu")]
    // What has no path is no file, but a part of the kernel's.
    return name.to_bytes().contains(&b'/') && dynamic.is_some() && pinned(name) == dynamic;
    #[cfg(not(target_env = "gnu"))]
    {
        _ = (dynamic, name);
        true
    }
}

/// Has the module of that name stay loaded; where its dynamic section lies, if there is such a
/// module still.
#[cfg(all(feature = "profile", target_env = "gnu"))]
#[unsafe(link_section = ".spanalloc.rare")]
fn pinned(name: &CStr) -> Option<u64> {
    // SAFETY: a terminated name; of what is loaded nothing runs anew.
    let handle = unsafe { libc::dlopen(name.as_ptr(), KEEP) };
    if handle.is_null() {
        return None;
    }
    let mut map = ptr::null::<LinkMap>();
    // SAFETY: a handle, and an out-parameter for a pointer.
    let told = unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) };
    // SAFETY: the record of a module that stays.
    (told == 0 && !map.is_null()).then(|| unsafe { (*map).dynamic })
}

/// How glibc's record of a module begins.
#[cfg(all(feature = "profile", target_env = "gnu"))]
#[repr(C)]
struct LinkMap {
    bias: u64,
    name: *const c_char,
    dynamic: u64,
}
