//! The operators `new` and `delete` of C++, by their mangled names.
//!
//! A program may bring operators of its own. C++ lets it replace only the basic ones, of
//! one object or an array, with and without an alignment: the C++ library's other forms
//! call those, and so must ours. Where any of them is replaced, every form but the four
//! that call no other calls the one that it calls in the C++ library.
//!
//! A program may also bring a `malloc` and no operators. Those of the C++ library call it then.
//!
//! That library goes on when there is no memory: its operator calls `malloc` again, asks the
//! program's handler, and throws or does not. It is looked for behind this library only
//! then, so C programs need no C++ library; and for the forms that do not throw, where they call
//! an operator of the program's that does.

use core::ffi::{CStr, c_void};
use core::mem::transmute;
use core::ptr;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::names::{bound, is_here};
use super::next::Next;
use super::{c, own, rules};
use crate::global::by_pointer;
use crate::sys::fatal::die;

const UNKNOWN: u8 = 0;
const OURS: u8 = 1;
/// Bits beside that one: the program has a basic operator of its own; a `malloc` or `free`.
const OPERATORS: u8 = 2;
const MALLOC: u8 = 4;

/// Whose the functions are that a program can replace.
static WHOSE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Whether any is the program's, of those that the bits name. One load, but for the first time.
#[inline(always)]
fn replaced(bits: u8) -> bool {
    WHOSE.load(Relaxed) != OURS && look() & bits != 0
}

#[cold]
#[unsafe(link_section = ".spanalloc.text")]
fn look() -> u8 {
    if WHOSE.load(Relaxed) == UNKNOWN {
        let basics = [
            bound!("_Znwm"),
            bound!("_Znam"),
            bound!("_ZnwmSt11align_val_t"),
            bound!("_ZnamSt11align_val_t"),
            bound!("_ZdlPv"),
            bound!("_ZdaPv"),
            bound!("_ZdlPvSt11align_val_t"),
            bound!("_ZdaPvSt11align_val_t"),
        ];
        let blocks = [bound!("malloc"), bound!("free")];
        let operators = if basics.into_iter().all(is_here) { 0 } else { OPERATORS };
        let malloc = if blocks.into_iter().all(is_here) { 0 } else { MALLOC };
        WHOSE.store(OURS | operators | malloc, Relaxed);
    }
    WHOSE.load(Relaxed)
}

/// A block for a form that calls another one, or that is `basic` and calls none; null if it is that
/// other's to give, or there is no memory.
#[unsafe(link_section = ".spanalloc.text")]
fn allocate(basic: bool, bytes: usize) -> *mut c_void {
    if !basic && replaced(OPERATORS) {
        ptr::null_mut()
    } else if replaced(MALLOC) {
        c::malloc_by_program(bytes.max(1))
    } else {
        own::malloc(bytes)
    }
}

/// As [`allocate`].
#[unsafe(link_section = ".spanalloc.text")]
fn allocate_aligned(basic: bool, bytes: usize, align: usize) -> *mut c_void {
    if !basic && replaced(OPERATORS) {
        ptr::null_mut()
    } else if replaced(MALLOC) {
        c::aligned_by_program(bytes.max(1), align)
    } else {
        rules::allocate_aligned(bytes, align)
    }
}

/// Finds what may be needed while a library is opened, when `dlsym` may wait for ever.
#[cfg(feature = "profile")]
#[unsafe(link_section = ".spanalloc.rare")]
pub(super) fn prepare() {
    if replaced(OPERATORS) {
        for next in [&NOTHROW, &ARRAY_NOTHROW, &NOTHROW_AT, &ARRAY_NOTHROW_AT] {
            _ = next.find();
        }
    }
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

const BASIC: bool = true;
const DERIVED: bool = false;

/// Returns a block for a type from this thread's list, where all is ours, if it has one.
macro_rules! pop {
    ($bytes:ident) => {
        if WHOSE.load(Relaxed) == OURS {
            let block = by_pointer::pop($bytes);
            if !block.is_null() {
                return block.cast();
            }
        }
    };
    ($bytes:ident $align:ident) => {};
}

/// A block for a type, or for one that asks for more alignment than any block has.
macro_rules! allocate {
    ($kind:ident $bytes:ident) => {
        allocate($kind, $bytes)
    };
    ($kind:ident $bytes:ident $align:ident) => {
        allocate_aligned($kind, $bytes, $align)
    };
}

macro_rules! word {
    ($argument:ident) => {
        usize
    };
}

/// The forms that call no other, and allocate or have the C++ library say why not.
macro_rules! new {
    ($($symbol:literal $name:ident($($align:ident)?);)*) => {$(
        #[unsafe(export_name = $symbol)]
        #[unsafe(link_section = ".spanalloc.text")]
        extern "C-unwind" fn $name(bytes: usize $(, $align: usize)?) -> *mut c_void {
            pop!(bytes $($align)?);

            #[cold]
            #[inline(never)]
            #[unsafe(link_section = ".spanalloc.text")]
            extern "C-unwind" fn otherwise(bytes: usize $(, $align: usize)?) -> *mut c_void {
                let block = allocate!(BASIC bytes $($align)?);
                if !block.is_null() {
                    return block;
                }
                type New = extern "C-unwind" fn(usize $(, word!($align))?) -> *mut c_void;
                static NEXT: Next = Next::new(name!($symbol));
                // SAFETY: the operator of that name has this type.
                let new: New = unsafe { transmute(of_library(&NEXT)) };
                new(bytes $(, $align)?)
            }
            otherwise(bytes $(, $align)?)
        }
    )*};
}

/// The forms of arrays, which call those.
macro_rules! new_array {
    ($($symbol:literal $name:ident($($align:ident)?) by $basic:literal;)*) => {$(
        #[unsafe(export_name = $symbol)]
        #[unsafe(link_section = ".spanalloc.text")]
        extern "C-unwind" fn $name(bytes: usize $(, $align: usize)?) -> *mut c_void {
            pop!(bytes $($align)?);

            #[cold]
            #[inline(never)]
            #[unsafe(link_section = ".spanalloc.text")]
            extern "C-unwind" fn otherwise(bytes: usize $(, $align: usize)?) -> *mut c_void {
                let block = allocate!(DERIVED bytes $($align)?);
                if !block.is_null() {
                    return block;
                }
                type New = extern "C-unwind" fn(usize $(, word!($align))?) -> *mut c_void;
                let new = bound!($basic);
                // SAFETY: the operator of that name has this type.
                let new: New = unsafe { transmute(new) };
                new(bytes $(, $align)?)
            }
            otherwise(bytes $(, $align)?)
        }
    )*};
}

/// The forms that do not throw what those throw. Where the C++ library is part of a plugin and not
/// to be found, there is no handler to ask: null. What an operator of the program's throws there
/// passes through.
macro_rules! new_nothrow {
    ($($symbol:literal $name:ident($($align:ident)?) by $basic:literal, $next:ident;)*) => {$(
        static $next: Next = Next::new(name!($symbol));

        #[unsafe(export_name = $symbol)]
        #[unsafe(link_section = ".spanalloc.text")]
        extern "C-unwind" fn $name(
            bytes: usize,
            $($align: usize,)?
            tag: *const c_void,
        ) -> *mut c_void {
            pop!(bytes $($align)?);

            #[cold]
            #[inline(never)]
            #[unsafe(link_section = ".spanalloc.text")]
            extern "C-unwind" fn otherwise(
                bytes: usize,
                $($align: usize,)?
                tag: *const c_void,
            ) -> *mut c_void {
                let block = allocate!(DERIVED bytes $($align)?);
                if !block.is_null() {
                    return block;
                }
                if let Some(new) = $next.find() {
                    type Tag = *const c_void;
                    type New =
                        extern "C-unwind" fn(usize $(, word!($align))?, Tag) -> *mut c_void;
                    // SAFETY: the operator of that name has this type.
                    let new: New = unsafe { transmute(new) };
                    return new(bytes $(, $align)?, tag);
                }
                if !replaced(OPERATORS) {
                    return block;
                }
                type New = extern "C-unwind" fn(usize $(, word!($align))?) -> *mut c_void;
                let new = bound!($basic);
                // SAFETY: the operator of that name has this type.
                let new: New = unsafe { transmute(new) };
                new(bytes $(, $align)?)
            }
            otherwise(bytes $(, $align)?, tag)
        }
    )*};
}

/// Neither a size nor an alignment is needed to free; see [`c`].
macro_rules! delete {
    ($(
        $symbol:literal $name:ident($($more:ident)*)
        $(by $basic:literal($($passed:ident)?))?;
    )*) => {$(
        #[unsafe(export_name = $symbol)]
        #[unsafe(link_section = ".spanalloc.text")]
        unsafe extern "C" fn $name(block: *mut c_void $(, $more: usize)*) {
            $(if replaced(OPERATORS) {
                type Delete = unsafe extern "C" fn(*mut c_void $(, word!($passed))?);
                let delete = bound!($basic);
                // SAFETY: the operator of that name has this type.
                let delete: Delete = unsafe { transmute(delete) };
                // SAFETY: the caller's contract.
                return unsafe { delete(block $(, $passed)?) };
            })?
            if replaced(MALLOC) {
                // SAFETY: the caller's contract.
                return unsafe { c::free_by_program(block) };
            }
            // SAFETY: the caller's contract.
            unsafe { own::free(block) }
        }
    )*};
}

new! {
    "_Znwm" new();
    "_ZnwmSt11align_val_t" new_at(align);
}

new_array! {
    "_Znam" new_array() by "_Znwm";
    "_ZnamSt11align_val_t" new_array_at(align) by "_ZnwmSt11align_val_t";
}

new_nothrow! {
    "_ZnwmRKSt9nothrow_t" new_nothrow() by "_Znwm", NOTHROW;
    "_ZnamRKSt9nothrow_t" new_array_nothrow() by "_Znam", ARRAY_NOTHROW;
    "_ZnwmSt11align_val_tRKSt9nothrow_t" new_at_nothrow(align)
        by "_ZnwmSt11align_val_t", NOTHROW_AT;
    "_ZnamSt11align_val_tRKSt9nothrow_t" new_array_at_nothrow(align)
        by "_ZnamSt11align_val_t", ARRAY_NOTHROW_AT;
}

delete! {
    "_ZdlPv" delete();
    "_ZdaPv" delete_array() by "_ZdlPv"();
    "_ZdlPvm" delete_sized(_bytes) by "_ZdlPv"();
    "_ZdaPvm" delete_array_sized(_bytes) by "_ZdaPv"();
    "_ZdlPvSt11align_val_t" delete_at(_align);
    "_ZdaPvSt11align_val_t" delete_array_at(align) by "_ZdlPvSt11align_val_t"(align);
    "_ZdlPvmSt11align_val_t" delete_sized_at(_bytes align) by "_ZdlPvSt11align_val_t"(align);
    "_ZdaPvmSt11align_val_t" delete_array_sized_at(_bytes align)
        by "_ZdaPvSt11align_val_t"(align);
    "_ZdlPvRKSt9nothrow_t" delete_nothrow(_tag) by "_ZdlPv"();
    "_ZdaPvRKSt9nothrow_t" delete_array_nothrow(_tag) by "_ZdaPv"();
    "_ZdlPvSt11align_val_tRKSt9nothrow_t" delete_at_nothrow(align _tag)
        by "_ZdlPvSt11align_val_t"(align);
    "_ZdaPvSt11align_val_tRKSt9nothrow_t" delete_array_at_nothrow(align _tag)
        by "_ZdaPvSt11align_val_t"(align);
}
