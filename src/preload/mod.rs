//! Floor 6, with the feature `preload`: the C ABI, for programs that were never compiled
//! for this allocator.
//!
//! ```sh
//! cargo rustc --profile preload --lib --features preload --crate-type cdylib
//! LD_PRELOAD=target/preload/libspanalloc.so SPANALLOC=sample=512KiB,dump=out/run python3 app.py
//! ```
//!
//! The loader takes `malloc`, `free` and their like from the library instead of from the
//! C library; so does what the library itself allocates for its reports. Whatever glibc
//! promises of them holds here: [`rules`] has its rules on sizes, alignments and
//! `errno`. Pointers that were allocated elsewhere go where they came from ([`next`]).
//!
//! | file | what |
//! | --- | --- |
//! | [`c`] | `malloc` to `mallinfo2` |
//! | [`cpp`] | the operators `new` and `delete` |
//! | [`exit`] | `_exit`, by which children of a fork end |
//! | `hooks` | functions of which the profiler must hear |
//! | [`rules`] | sizes, alignments, `errno` |
//! | [`next`] | the functions that the program would have had without the library |
//!
//! # Invariants
//!
//! 1. Nothing here needs memory, a lock or a symbol of the loader's before the first
//!    block is handed out: the loader and the C library allocate before they are ready.

use core::ffi::{CStr, c_void};
use core::mem::MaybeUninit;

mod c;
mod cpp;
mod exit;
#[cfg(feature = "profile")]
mod hooks;
mod next;
mod rules;

pub(crate) use exit::{enter, interrupts, leave};

// What the standard library unwinds with, from the compiler's archive: the same code in a
// library of its own costs every process that has no other use for it a tenth of its start.
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

/// Whether the program's `malloc` is this one. It is not where the library was opened by a
/// program that runs already.
pub(crate) fn serves_malloc() -> bool {
    is_ours(c"malloc")
}

/// Whether the program's function of this name is this library's. Its address here would not
/// say so: it is the program's, too, for a name that others can stand before.
fn is_ours(name: &CStr) -> bool {
    let base = |address: *const c_void| {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: an out-parameter; any address may be asked for.
        let known = unsafe { libc::dladdr(address, info.as_mut_ptr()) } != 0;
        // SAFETY: zeros are a value of the type, and the call writes no other kind.
        known.then_some(unsafe { info.assume_init() }.dli_fbase)
    };
    // SAFETY: a terminated name.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // A function that has no name outside.
    base(found).is_some_and(|found| base(is_ours as *const c_void) == Some(found))
}
