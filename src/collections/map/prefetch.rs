//! Asking for cache lines ahead of need.
//!
//! A lookup reads the tops of a bucket and only then knows which key to read.
//! Asking for a line of entries as soon as the bucket is known makes one wait of
//! two. It is in vain for a key that is absent, so that only as many lines are asked
//! for as the operation will touch in all likelihood.

/// Asks for the cache line at `address`, which need not be valid.
#[inline(always)]
pub(super) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch accesses nothing, and every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch accesses nothing, and changes neither memory nor flags.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
}
