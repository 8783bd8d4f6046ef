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
//! | `glibc` | names by which glibc's own `malloc` is called |
//! | [`exit`] | `_exit`, by which children of a fork end |
//! | `hooks` | functions of which the profiler must hear |
//! | [`names`] | whose function a name is in the program |
//! | `streams` | a lock of the C library's that comes before ours at a fork |
//! | [`own`] | what the entries do |
//! | [`rules`] | sizes, alignments, `errno` |
//! | [`next`] | the functions that the program would have had without the library |
//!
//! # Invariants
//!
//! 1. Nothing here needs memory, a lock or a symbol of the loader's before the first
//!    block is handed out: the loader and the C library allocate before they are ready.

use core::ffi::{CStr, c_int, c_void};
use core::mem::MaybeUninit;

mod c;
mod cpp;
mod exit;
#[cfg(target_env = "gnu")]
mod glibc;
#[cfg(feature = "profile")]
mod hooks;
mod names;
mod next;
mod own;
mod rules;
#[cfg(target_env = "gnu")]
mod streams;

pub(crate) use exit::{enter, interrupts, is_inside, leave};
#[cfg(feature = "profile")]
pub(crate) use hooks::prepare;
#[cfg(target_env = "gnu")]
pub(crate) use streams::{after_fork_in_child, after_fork_in_parent, before_fork};

/// Other C libraries have no such lock that is known.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn before_fork() {}
#[cfg(not(target_env = "gnu"))]
pub(crate) fn after_fork_in_parent() {}
#[cfg(not(target_env = "gnu"))]
pub(crate) fn after_fork_in_child() {}

// What the standard library unwinds with, from the compiler's archive: the same code in a
// library of its own costs every process that has no other use for it a tenth of its start.
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

/// Whether the program's `malloc` and `free` are these. They are not where the program brings its
/// own, another library stands before this one, or this was opened by a program that runs already.
/// Then nothing may be allocated here by the language's means, which would be freed by that `free`.
pub(crate) fn serves_malloc() -> bool {
    !is_replaced(c"malloc") && !is_replaced(c"free")
}

/// Whether the program brings a function of this name itself. The address that the function
/// has here would not tell: it is the program's, too, for a name that others can stand before.
fn is_replaced(name: &CStr) -> bool {
    // SAFETY: a terminated name.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // A function that has no name outside.
    let here = object_of(is_replaced as *const c_void);
    // An executable may have an undefined function's address be one in its own code, from
    // where it jumps to the first object that defines it: this one.
    object_of(found).is_some_and(|(base, defines)| defines && Some((base, true)) != here)
}

/// Where the object that `address` lies in is loaded, and whether it defines what it has there;
/// true for what has no name.
fn object_of(address: *const c_void) -> Option<(*mut c_void, bool)> {
    unsafe extern "C" {
        fn dladdr1(
            address: *const c_void,
            info: *mut libc::Dl_info,
            symbol: *mut *const libc::Elf64_Sym,
            which: c_int,
        ) -> c_int;
    }
    /// The symbol table's entry is asked for.
    const RTLD_DL_SYMENT: c_int = 1;
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    let mut symbol = core::ptr::null();
    // SAFETY: out-parameters; any address may be asked for.
    let known = unsafe { dladdr1(address, info.as_mut_ptr(), &raw mut symbol, RTLD_DL_SYMENT) };
    // SAFETY: null, or an entry of an object that is loaded.
    let symbol = unsafe { symbol.as_ref() };
    // SAFETY: zeros are a value of the type, and the call writes no other kind.
    let base = unsafe { info.assume_init() }.dli_fbase;
    (known != 0).then_some((base, symbol.is_none_or(|symbol| symbol.st_shndx != 0)))
}
