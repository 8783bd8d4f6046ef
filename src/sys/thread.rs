//! Thread exit and fork, through pthreads.

use core::ffi::{CStr, c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A function to run when a thread ends, keyed by a non-null value of that thread.
///
/// `0` is not yet made; a key is stored plus one.
#[derive(Debug)]
pub(crate) struct ExitKey(AtomicU32);

impl ExitKey {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Makes the key, if the process has one left. Call once, before [`arm`](Self::arm).
    pub(crate) fn create(&self, at_exit: unsafe extern "C" fn(*mut c_void)) {
        let mut key: libc::pthread_key_t = 0;
        // SAFETY: `key` is a live out-parameter.
        if unsafe { libc::pthread_key_create(&mut key, Some(at_exit)) } == 0 {
            self.0.store(key + 1, Relaxed);
        }
    }

    /// Has the function called with `value` when this thread ends. `false` if there is no key, or
    /// no memory to keep the value in: it will not be called.
    #[must_use]
    pub(crate) fn arm(&self, value: *mut c_void) -> bool {
        let key = self.0.load(Relaxed);
        // SAFETY: a key of 1 or more was made by `create`.
        key != 0 && unsafe { libc::pthread_setspecific(key - 1, value) } == 0
    }
}

/// Runs `work` without this thread's being cancelled in it, however many files that reads and
/// writes: the unwinding by which threads are cancelled does not go through Rust.
pub(crate) fn without_cancellation<R>(work: impl FnOnce() -> R) -> R {
    unsafe extern "C" {
        fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
    }
    const DISABLE: c_int = 1;
    let mut before = 0;
    // SAFETY: an out-parameter.
    unsafe { pthread_setcancelstate(DISABLE, &raw mut before) };
    let result = work();
    // SAFETY: the state that the call above gave.
    unsafe { pthread_setcancelstate(before, &raw mut before) };
    result
}

/// Registers handlers around `fork`: before it, then in the parent, in the child.
pub(crate) fn at_fork(
    before: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) {
    // SAFETY: the handlers are functions that live as long as the program.
    unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
}

/// Makes this thread, which the allocator has started, one of its own: it has the name, in at most
/// 15 bytes, and the scheduling of the thread that happened to start it, which may be a real-time
/// one.
#[cold]
#[unsafe(link_section = ".spanalloc.rare")]
pub(crate) fn settle(name: &CStr) {
    // SAFETY: a terminated name, which the kernel copies.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    // SAFETY: has no preconditions.
    let here = unsafe { libc::pthread_self() };
    let (mut policy, mut before) = (libc::SCHED_OTHER, MaybeUninit::<libc::sched_param>::uninit());
    // SAFETY: this thread, and out-parameters.
    unsafe { libc::pthread_getschedparam(here, &raw mut policy, before.as_mut_ptr()) };
    if matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR) {
        // Of the usual policy zeroes are the only ones.
        let usual = MaybeUninit::<libc::sched_param>::zeroed();
        // SAFETY: this thread, and parameters.
        unsafe { libc::pthread_setschedparam(here, libc::SCHED_OTHER, usual.as_ptr()) };
    }
}

/// The name of this thread as the kernel knows it, or that of the program; `main`
/// for the thread the process began with.
#[cfg(feature = "profile")]
pub(crate) fn name() -> ThreadName {
    const MAIN: &[u8] = b"main";
    let mut name = ThreadName([0; NAME_BYTES]);
    // SAFETY: takes no arguments.
    let process = unsafe { libc::getpid() };
    // SAFETY: takes no arguments.
    if unsafe { libc::gettid() } == process {
        name.0[..MAIN.len()].copy_from_slice(MAIN);
        return name;
    }
    // SAFETY: the kernel writes at most 16 bytes, the last of them 0.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.0.as_mut_ptr()) };
    name
}

/// What the kernel keeps of a thread's name, with the byte 0 that ends it.
#[cfg(feature = "profile")]
const NAME_BYTES: usize = 16;

/// A thread's name.
#[cfg(feature = "profile")]
pub(crate) struct ThreadName([u8; NAME_BYTES]);

#[cfg(feature = "profile")]
impl ThreadName {
    pub(crate) fn to_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        &self.0[..end]
    }
}
