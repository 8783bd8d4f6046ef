//! What a name of this library's means in the program: the function that the loader has bound it
//! to, which is the program's own where that brings one.
//!
//! Read from the library's table of addresses, where the loader has put it, rather than asked for:
//! `dlsym` takes the loader's lock, which a thread holds that waits in an initializer, perhaps for
//! one that is here; and it forgets the error that `dlerror` was to tell.
//!
//! # Invariants
//!
//! 1. The entries are there before any function of this library is called from outside.

use core::ffi::c_void;

/// The function that the program calls by a name which this library has, too; with `weak`, by one
/// that the C library may have, and null if it has not. One load.
macro_rules! bound {
    (weak $symbol:literal) => {
        $crate::preload::names::bound!(@ concat!(".weak ", $symbol), $symbol)
    };
    ($symbol:literal) => {
        $crate::preload::names::bound!(@ "", $symbol)
    };
    (@ $directive:expr, $symbol:literal) => {{
        let function: *const core::ffi::c_void;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: reads an entry of the library's own table.
        unsafe {
            core::arch::asm!(
                $directive,
                concat!("mov {function}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
                function = out(reg) function,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: reads an entry of the library's own table.
        unsafe {
            core::arch::asm!(
                $directive,
                concat!("adrp {function}, :got:", $symbol),
                concat!("ldr {function}, [{function}, :got_lo12:", $symbol, "]"),
                function = out(reg) function,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        function
    }};
}
pub(super) use bound;

/// Whether a function lies in this library. One that does not may still lead here: an executable
/// may have the address of a function that it has not be one of its own, and jump on from there.
#[unsafe(link_section = ".spanalloc.text")]
pub(super) fn is_here(function: *const c_void) -> bool {
    unsafe extern "C" {
        /// Where the linker has placed the file's first byte, of this library.
        #[link_name = "__ehdr_start"]
        static FILE: libc::Elf64_Ehdr;
    }
    let file = &raw const FILE;
    // SAFETY: as every loaded object, this one begins with that header.
    let header = unsafe { &*file };
    let table = file.wrapping_byte_add(header.e_phoff as usize).cast::<libc::Elf64_Phdr>();
    // SAFETY: it stands there, and is loaded with what it lists.
    let segments = unsafe { core::slice::from_raw_parts(table, header.e_phnum.into()) };
    let offset = function.addr().wrapping_sub(file.addr()) as u64;
    segments.iter().any(|segment| {
        segment.p_type == libc::PT_LOAD && offset.wrapping_sub(segment.p_vaddr) < segment.p_memsz
    })
}
