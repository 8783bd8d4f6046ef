//! Background threads, through pthreads.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use super::os::keep_errno;

/// Starts a detached thread with a stack of `stack_bytes` and all signals blocked, so that
/// no handler of the program ever runs on it. `false` when the system refuses.
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn spawn(run: Body, argument: *mut c_void, stack_bytes: usize) -> bool {
    keep_errno(|| spawn_detached(run, argument, stack_bytes))
}

/// What a thread runs.
type Body = extern "C" fn(*mut c_void) -> *mut c_void;

#[unsafe(link_section = ".spanalloc.rare")]
fn spawn_detached(run: Body, argument: *mut c_void, stack_bytes: usize) -> bool {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: an out-parameter.
    if unsafe { libc::pthread_attr_init(attributes) } != 0 {
        return false;
    }
    // SAFETY: initialized attributes. Should it be refused, the usual size serves.
    unsafe { libc::pthread_attr_setstacksize(attributes, stack_bytes) };
    // SAFETY: initialized attributes.
    unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) };
    let made = with_signals_blocked(|| {
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        // SAFETY: an out-parameter and initialized attributes; `run` may be run by
        // any thread with `argument`, which is the caller's promise to itself.
        unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes, run, argument) == 0 }
    });
    // SAFETY: initialized, and not used after this.
    unsafe { libc::pthread_attr_destroy(attributes) };
    made
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

/// A small stack: room for large static TLS, which glibc takes from the stack.
#[cfg(not(feature = "preload"))]
pub(crate) const SMALL_STACK_BYTES: usize = 128 * 1024;

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
