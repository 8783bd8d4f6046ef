//! The operators `new` and `delete` of C++, by their mangled names.
//!
//! A program may bring operators of its own. C++ lets it replace only the basic ones, of
//! one object or an array, with and without an alignment: the C++ library's other forms
//! call those, and so must ours. Where any of them is replaced, every form but the four
//! that call no other leaves the call to the C++ library.
//!
//! It also goes on when there is no memory: its operator calls `malloc` again, asks the
//! program's handler, and throws or does not. It is looked for behind this library only
//! then, so C programs need no C++ library.

use core::ffi::{CStr, c_void};
use core::mem::transmute;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::next::Next;
use super::{c, rules};
use crate::sys::fatal::die;

/// Calls no other form.
const BASIC: bool = false;
/// Calls a basic one, which may be the program's.
const DERIVED: bool = true;

const UNKNOWN: u8 = 0;
const OURS: u8 = 1;
const REPLACED: u8 = 2;

/// Whose the operators are that a program can replace.
static BASICS: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Whether the program has an operator of its own. One load, but for the first time.
#[inline(always)]
fn replaced() -> bool {
    BASICS.load(Relaxed) != OURS && look()
}

#[cold]
fn look() -> bool {
    if BASICS.load(Relaxed) == UNKNOWN {
        let basics = [
            c"_Znwm",
            c"_Znam",
            c"_ZnwmSt11align_val_t",
            c"_ZnamSt11align_val_t",
            c"_ZdlPv",
            c"_ZdaPv",
            c"_ZdlPvSt11align_val_t",
            c"_ZdaPvSt11align_val_t",
        ];
        let replaced = basics.into_iter().any(super::is_replaced);
        BASICS.store(if replaced { REPLACED } else { OURS }, Relaxed);
    }
    BASICS.load(Relaxed) == REPLACED
}

/// The operator that the C++ library has in place of ours.
#[cold]
fn of_library(next: &Next) -> *mut c_void {
    match next.find() {
        Some(found) => found,
        None => die("no memory for `operator new`, and no C++ library to say so"),
    }
}

/// A mangled name as C has it.
macro_rules! name {
    ($symbol:literal) => {
        match CStr::from_bytes_with_nul(concat!($symbol, "\0").as_bytes()) {
            Ok(name) => name,
            Err(_) => c"",
        }
    };
}
/// Plain and nothrowing forms: the arguments behind the size are for the C++ library.
macro_rules! new {
    ($($kind:ident $symbol:literal $name:ident($($tag:ident)?);)*) => {$(
        #[unsafe(export_name = $symbol)]
        #[unsafe(link_section = ".spanalloc.text")]
        extern "C-unwind" fn $name(bytes: usize $(, $tag: *const c_void)?) -> *mut c_void {
            if !($kind && replaced()) {
                let block = c::malloc(bytes);
                if !block.is_null() {
                    return block;
                }
            }
            type New = extern "C-unwind" fn(usize $(, new!(pointer $tag))?) -> *mut c_void;
            static NEXT: Next = Next::new(name!($symbol));
            // SAFETY: the operator of that name has this type.
            let new: New = unsafe { transmute(of_library(&NEXT)) };
            new(bytes $(, $tag)?)
        }
    )*};
    (pointer $tag:ident) => { *const c_void };
}

/// The same for types that ask for more alignment than any block has.
macro_rules! new_aligned {
    ($($kind:ident $symbol:literal $name:ident($($tag:ident)?);)*) => {$(
        #[unsafe(export_name = $symbol)]
        extern "C-unwind" fn $name(
            bytes: usize,
            align: usize
            $(, $tag: *const c_void)?
        ) -> *mut c_void {
            if !($kind && replaced()) {
                let block = rules::allocate_aligned(bytes, align);
                if !block.is_null() {
                    return block;
                }
            }
            type New = extern "C-unwind" fn(usize, usize $(, new!(pointer $tag))?) -> *mut c_void;
            static NEXT: Next = Next::new(name!($symbol));
            // SAFETY: the operator of that name has this type.
            let new: New = unsafe { transmute(of_library(&NEXT)) };
            new(bytes, align $(, $tag)?)
        }
    )*};
}

/// Neither a size nor an alignment is needed to free; see [`c`].
macro_rules! delete {
    ($($kind:ident $symbol:literal $name:ident($($more:ident)*);)*) => {$(
        #[unsafe(export_name = $symbol)]
        #[unsafe(link_section = ".spanalloc.text")]
        unsafe extern "C" fn $name(block: *mut c_void $(, $more: usize)*) {
            if $kind && replaced() {
                type Delete = unsafe extern "C" fn(*mut c_void $(, delete!(word $more))*);
                static NEXT: Next = Next::new(name!($symbol));
                if let Some(next) = NEXT.find() {
                    // SAFETY: the operator of that name has this type.
                    let delete: Delete = unsafe { transmute(next) };
                    // SAFETY: the caller's contract.
                    return unsafe { delete(block $(, $more)*) };
                }
            }
            // SAFETY: the caller's contract.
            unsafe { c::free(block) }
        }
    )*};
    (word $more:ident) => { usize };
}

new! {
    BASIC "_Znwm" new();
    DERIVED "_Znam" new_array();
    DERIVED "_ZnwmRKSt9nothrow_t" new_nothrow(tag);
    DERIVED "_ZnamRKSt9nothrow_t" new_array_nothrow(tag);
}

new_aligned! {
    BASIC "_ZnwmSt11align_val_t" new_at();
    DERIVED "_ZnamSt11align_val_t" new_array_at();
    DERIVED "_ZnwmSt11align_val_tRKSt9nothrow_t" new_at_nothrow(tag);
    DERIVED "_ZnamSt11align_val_tRKSt9nothrow_t" new_array_at_nothrow(tag);
}

delete! {
    BASIC "_ZdlPv" delete();
    DERIVED "_ZdaPv" delete_array();
    DERIVED "_ZdlPvm" delete_sized(bytes);
    DERIVED "_ZdaPvm" delete_array_sized(bytes);
    BASIC "_ZdlPvSt11align_val_t" delete_at(align);
    DERIVED "_ZdaPvSt11align_val_t" delete_array_at(align);
    DERIVED "_ZdlPvmSt11align_val_t" delete_sized_at(bytes align);
    DERIVED "_ZdaPvmSt11align_val_t" delete_array_sized_at(bytes align);
    DERIVED "_ZdlPvRKSt9nothrow_t" delete_nothrow(tag);
    DERIVED "_ZdaPvRKSt9nothrow_t" delete_array_nothrow(tag);
    DERIVED "_ZdlPvSt11align_val_tRKSt9nothrow_t" delete_at_nothrow(align tag);
    DERIVED "_ZdaPvSt11align_val_tRKSt9nothrow_t" delete_array_at_nothrow(align tag);
}
