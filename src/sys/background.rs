//! Background threads, through pthreads.
//!
//! # Invariants
//!
//! 1. A thread has the stack that was asked for to itself: glibc takes static thread-local values,
//!    its own, the program's and those of libraries, out of what is asked for, so that is asked for
//!    on top ([`prepare`]). Where it is not known and a stack is refused the usual one serves.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;
#[cfg(all(not(feature = "preload"), not(target_feature = "crt-static")))]
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
    // SAFETY: initialized attributes.
    unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) };
    let mut usual = 0;
    // SAFETY: initialized attributes, and an out-parameter.
    unsafe { libc::pthread_attr_getstacksize(attributes, &raw mut usual) };
    let mut made = false;
    with_signals_blocked(|| {
        let asked = stack_bytes + taken_bytes();
        [asked, usual.max(stack_bytes)].into_iter().any(|bytes| {
            // SAFETY: initialized attributes. Should it be refused, the size of before serves.
            unsafe { libc::pthread_attr_setstacksize(attributes, bytes) };
            let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
            // SAFETY: an out-parameter and initialized attributes; `run` may be run by
            // any thread with `argument`, which is the caller's promise to itself.
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

/// What the C library takes out of the stack of each thread, in bytes; 0 if it is not known.
#[cfg(all(not(feature = "preload"), not(target_feature = "crt-static")))]
static TAKEN_BYTES: AtomicUsize = AtomicUsize::new(0);

#[cfg(all(not(feature = "preload"), not(target_feature = "crt-static")))]
fn taken_bytes() -> usize {
    TAKEN_BYTES.load(Relaxed)
}

/// By preload nobody asks: what is opened late or started often is not to pay for it.
#[cfg(any(feature = "preload", target_feature = "crt-static"))]
fn taken_bytes() -> usize {
    0
}

/// Asks what the C library takes (invariant 1). To be called before `main`, or while the loader
/// opens the module: later another thread may hold the loader's lock and wait for this one.
#[cfg(all(not(feature = "preload"), not(target_feature = "crt-static")))]
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) fn prepare() {
    type MinStack = unsafe extern "C" fn(*const libc::pthread_attr_t) -> libc::size_t;
    // By name, as the standard library does: it is glibc's own, and a program that was linked with
    // it would depend on that.
    // SAFETY: a terminated name.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__pthread_get_minstack".as_ptr()) };
    if found.is_null() {
        // musl's, which takes nothing. The program is not to find our error.
        // SAFETY: no preconditions.
        unsafe { libc::dlerror() };
        return;
    }
    // SAFETY: glibc's function of that name is of this type.
    let min_stack = unsafe { core::mem::transmute::<*mut c_void, MinStack>(found) };
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: an out-parameter.
    if unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) } == 0 {
        // SAFETY: initialized attributes, which it does not look at.
        TAKEN_BYTES.store(unsafe { min_stack(attributes.as_ptr()) }, Relaxed);
        // SAFETY: initialized, and not used after this.
        unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    }
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

/// A small stack, enough for whatever of the allocator runs there.
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
