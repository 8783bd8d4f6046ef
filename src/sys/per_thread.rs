//! Values that each thread has one of, reached without a call.
//!
//! In a program `thread_local!` is that. In a shared library it is a call of
//! `__tls_get_addr`, which now and then allocates, so that an allocator would come
//! back to itself. There, with the feature `preload`, a value lies in the block that
//! the loader gives every thread (the *initial-exec* model of ELF's thread-local
//! storage): its offset from the thread pointer is one word that the loader fills in.
//!
//! # Invariants
//!
//! 1. Each symbol is defined by one [`per_thread!`], of its type's size and alignment,
//!    and begins as zeroes, which are a value of the type.

/// Declares a value per thread: `static NAME: Type = INITIAL, "symbol";`, where the
/// initial value is the one of zeroes. `NAME.with` gives a reference.
#[cfg(not(feature = "preload"))]
macro_rules! per_thread {
    ($(#[$doc:meta])* $vis:vis static $name:ident: $type:ty = $initial:expr, $symbol:literal;) => {
        thread_local! {
            $(#[$doc])*
            $vis static $name: $type = const { $initial };
        }
        const _: fn() = $crate::sys::per_thread::begins_as_zeroes::<$type>;
    };
}

#[cfg(feature = "preload")]
macro_rules! per_thread {
    ($(#[$doc:meta])* $vis:vis static $name:ident: $type:ty = $initial:expr, $symbol:literal;) => {
        core::arch::global_asm!(
            concat!(".pushsection .tbss.", $symbol, ",\"awT\",@nobits"),
            ".balign {align}",
            concat!(".globl ", $symbol),
            concat!(".hidden ", $symbol),
            concat!(".type ", $symbol, ", @object"),
            concat!(".size ", $symbol, ", {size}"),
            concat!($symbol, ":"),
            ".zero {size}",
            ".popsection",
            align = const align_of::<$type>(),
            size = const size_of::<$type>(),
        );

        $(#[$doc])*
        #[allow(
            non_camel_case_types,
            clippy::upper_case_acronyms,
            reason = "named as the static that it stands for"
        )]
        #[derive(Clone, Copy)]
        $vis struct $name;

        impl $name {
            #[inline(always)]
            $vis fn with<R>(self, work: impl FnOnce(&$type) -> R) -> R {
                let place: *const $type;
                #[cfg(target_arch = "x86_64")]
                // SAFETY: reads the thread pointer and a word that the loader wrote
                // before anything of this library ran.
                unsafe {
                    core::arch::asm!(
                        "mov {place}, qword ptr fs:[0]",
                        concat!("add {place}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"),
                        place = out(reg) place,
                        options(pure, nomem, nostack),
                    );
                }
                #[cfg(target_arch = "aarch64")]
                // SAFETY: as above.
                unsafe {
                    core::arch::asm!(
                        concat!("adrp {place}, :gottprel:", $symbol),
                        concat!("ldr {place}, [{place}, :gottprel_lo12:", $symbol, "]"),
                        "mrs {thread}, tpidr_el0",
                        "add {place}, {place}, {thread}",
                        place = out(reg) place,
                        thread = out(reg) _,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                // SAFETY: by invariant 1; this thread's own for as long as it runs.
                work(unsafe { &*place })
            }
        }

        const _: $type = $initial;
        const _: fn() = $crate::sys::per_thread::begins_as_zeroes::<$type>;
    };
}

pub(crate) use per_thread;

/// Named for each type by the macro: accepted only where zeroes are a value.
pub(crate) fn begins_as_zeroes<T: crate::base::zeroed::Zeroed>() {}
