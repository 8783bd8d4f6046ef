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

/// The function that the program calls by a name which this library has, too. One
/// load.
macro_rules! bound {
    ($symbol:literal) => {{
        let function: *const core::ffi::c_void;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: reads an entry of the library's own table.
        unsafe {
            core::arch::asm!(
                concat!("mov {function}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
                function = out(reg) function,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: reads an entry of the library's own table.
        unsafe {
            core::arch::asm!(
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
