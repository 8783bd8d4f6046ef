//! The operators `new` and `delete` of C++, by their mangled names.
//!
//! When there is no memory the C++ library's own operator goes on: it calls `malloc`
//! again, asks the program's handler, and throws or does not. That is found behind this
//! library only then, so C programs need no C++ library.

use core::ffi::{CStr, c_void};
use core::mem::transmute;

use super::{c, next, rules};
use crate::sys::fatal::die;

/// The operator that the C++ library has under this name.
#[cold]
fn of_library(name: &CStr) -> *mut c_void {
    let found = next::find(name);
    if found.is_null() {
        die("no memory for `operator new`, and no C++ library to say so");
    }
    found
}

/// Plain and nothrowing forms: the arguments behind the size are for the C++ library.
macro_rules! new {
    ($($symbol:literal $name:ident($($tag:ident)?);)*) => {$(
        #[unsafe(export_name = $symbol)]
        #[unsafe(link_section = ".spanalloc.text")]
        extern "C-unwind" fn $name(bytes: usize $(, $tag: *const c_void)?) -> *mut c_void {
            let block = c::malloc(bytes);
            if !block.is_null() {
                return block;
            }
            type New = extern "C-unwind" fn(usize $(, new!(pointer $tag))?) -> *mut c_void;
            const NAME: &CStr = new!(name $symbol);
            // SAFETY: the operator of that name has this type.
            let new: New = unsafe { transmute(of_library(NAME)) };
            new(bytes $(, $tag)?)
        }
    )*};
    (pointer $tag:ident) => { *const c_void };
    (name $symbol:literal) => {
        match CStr::from_bytes_with_nul(concat!($symbol, "\0").as_bytes()) {
            Ok(name) => name,
            Err(_) => c"",
        }
    };
}

/// The same for types that ask for more alignment than any block has.
macro_rules! new_aligned {
    ($($symbol:literal $name:ident($($tag:ident)?);)*) => {$(
        #[unsafe(export_name = $symbol)]
        extern "C-unwind" fn $name(
            bytes: usize,
            align: usize
            $(, $tag: *const c_void)?
        ) -> *mut c_void {
            let block = rules::allocate_aligned(bytes, align);
            if !block.is_null() {
                return block;
            }
            type New = extern "C-unwind" fn(usize, usize $(, new!(pointer $tag))?) -> *mut c_void;
            const NAME: &CStr = new!(name $symbol);
            // SAFETY: the operator of that name has this type.
            let new: New = unsafe { transmute(of_library(NAME)) };
            new(bytes, align $(, $tag)?)
        }
    )*};
}

/// Neither a size nor an alignment is needed to free; see [`c`].
macro_rules! delete {
    ($($symbol:literal $name:ident($($more:ident)*);)*) => {$(
        #[unsafe(export_name = $symbol)]
        #[unsafe(link_section = ".spanalloc.text")]
        unsafe extern "C" fn $name(block: *mut c_void $(, $more: usize)*) {
            $(let _ = $more;)*
            // SAFETY: the caller's contract.
            unsafe { c::free(block) }
        }
    )*};
}

new! {
    "_Znwm" new();
    "_Znam" new_array();
    "_ZnwmRKSt9nothrow_t" new_nothrow(tag);
    "_ZnamRKSt9nothrow_t" new_array_nothrow(tag);
}

new_aligned! {
    "_ZnwmSt11align_val_t" new_at();
    "_ZnamSt11align_val_t" new_array_at();
    "_ZnwmSt11align_val_tRKSt9nothrow_t" new_at_nothrow(tag);
    "_ZnamSt11align_val_tRKSt9nothrow_t" new_array_at_nothrow(tag);
}

delete! {
    "_ZdlPv" delete();
    "_ZdaPv" delete_array();
    "_ZdlPvm" delete_sized(bytes);
    "_ZdaPvm" delete_array_sized(bytes);
    "_ZdlPvSt11align_val_t" delete_at(align);
    "_ZdaPvSt11align_val_t" delete_array_at(align);
    "_ZdlPvmSt11align_val_t" delete_sized_at(bytes align);
    "_ZdaPvmSt11align_val_t" delete_array_sized_at(bytes align);
    "_ZdlPvRKSt9nothrow_t" delete_nothrow(tag);
    "_ZdaPvRKSt9nothrow_t" delete_array_nothrow(tag);
    "_ZdlPvSt11align_val_tRKSt9nothrow_t" delete_at_nothrow(align tag);
    "_ZdaPvSt11align_val_tRKSt9nothrow_t" delete_array_at_nothrow(align tag);
}
