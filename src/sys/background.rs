//! Background threads, through pthreads.
//!
//! # Invariants
//!
//! 1. A thread has the stack that was asked for to itself, but for a few KiB: glibc takes static
//!    thread-local values out of what is asked for, so those of the program are asked for on top.
//!    Where libraries have large ones, too, and so small a stack is refused, the usual one serves.
//! 2. No thread is started where none may be ([`starts`](super::starts)).

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;
use core::slice;

use super::os::keep_errno;

/// What a thread runs.
type Body = extern "C" fn(*mut c_void) -> *mut c_void;

/// A small stack, enough for whatever of the allocator runs there.
#[cfg(not(feature = "preload"))]
pub(crate) const SMALL_STACK_BYTES: usize = 128 * 1024;

/// Starts a detached thread with a stack of `stack_bytes` and all signals blocked, so that
/// no handler of the program ever runs on it. `false` when the system refuses.
///
/// # Safety
///
/// `run` may be called with `argument` on another thread, at any later time.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) unsafe fn spawn(run: Body, argument: *mut c_void, stack_bytes: usize) -> bool {
    // SAFETY: passed on.
    keep_errno(|| unsafe { spawn_detached(run, argument, stack_bytes) })
}

/// As [`spawn`], but for `errno`.
///
/// # Safety
///
/// As there.
#[unsafe(link_section = ".spanalloc.rare")]
unsafe fn spawn_detached(run: Body, argument: *mut c_void, stack_bytes: usize) -> bool {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: an out-parameter.
    if unsafe { libc::pthread_attr_init(attributes) } != 0 {
        return false;
    }
    // SAFETY: initialized attributes.
    unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) };
    let mut usual = 0;
    // SAFETY: initialized attributes, and an out-parameter.
    unsafe { libc::pthread_attr_getstacksize(attributes, &raw mut usual) };
    let mut made = false;
    with_signals_blocked(|| {
        let asked = stack_bytes + program_values_bytes();
        [asked, usual.max(stack_bytes)].into_iter().any(|bytes| {
            // SAFETY: initialized attributes. Should it be refused, the size of before serves.
            unsafe { libc::pthread_attr_setstacksize(attributes, bytes) };
            let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
            // SAFETY: an out-parameter and initialized attributes; the rest is passed on.
            let error =
                unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes, run, argument) };
            // What the stack is too small for; anything else another size does not change.
            made = error == 0;
            error != libc::EINVAL
        })
    });
    // SAFETY: initialized, and not used after this.
    unsafe { libc::pthread_attr_destroy(attributes) };
    made
}

/// Bytes of the program's own thread-local values, by the headers that the kernel has mapped it by:
/// asked without a lock of the loader's, and where there is no loader.
#[unsafe(link_section = ".spanalloc.rare")]
fn program_values_bytes() -> usize {
    // SAFETY: asks for numbers.
    let [headers, count] = [libc::AT_PHDR, libc::AT_PHNUM].map(|of| unsafe { libc::getauxval(of) });
    if headers == 0 {
        return 0;
    }
    let headers = ptr::with_exposed_provenance::<libc::Elf64_Phdr>(headers as usize);
    // SAFETY: the program's own headers, which stay as they are while it runs.
    let headers = unsafe { slice::from_raw_parts(headers, count as usize) };
    let values = headers.iter().filter(|header| header.p_type == libc::PT_TLS);
    values.map(|header| (header.p_memsz + header.p_align) as usize).sum()
}

/// Runs `work` while this thread takes no signals; threads it starts inherit that.
fn with_signals_blocked<R>(work: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: an out-parameter.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: a filled set, and an out-parameter.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let result = work();
    // SAFETY: the mask that the call above wrote.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}

/// Sleeps for `milliseconds`, or less when interrupted.
#[cfg(not(feature = "preload"))]
pub(crate) fn sleep_ms(milliseconds: u32) {
    let time = libc::timespec {
        tv_sec: (milliseconds / 1000).into(),
        tv_nsec: (milliseconds % 1000) as libc::c_long * 1_000_000,
    };
    // SAFETY: `time` is live; the remaining time is not asked for.
    unsafe { libc::nanosleep(&time, ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const BYTES: usize = 40 << 10;

    thread_local! {
        static LARGE: [Cell<u8>; BYTES] = const { [const { Cell::new(0) }; BYTES] };
    }

    #[test]
    fn thread_local_values_of_the_program_are_known() {
        assert_eq!(LARGE.with(|large| std::hint::black_box(large)[BYTES / 2].get()), 0);
        let bytes = program_values_bytes();
        assert!((BYTES..2 * BYTES).contains(&bytes), "{bytes}");
    }
}
