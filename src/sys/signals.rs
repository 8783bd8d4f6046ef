//! What the process does about a signal.

use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ptr;

/// Whether nobody has said yet what this signal is to do: neither handled nor ignored.
pub(crate) fn is_default(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: an out-parameter; nothing is changed.
    let known = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } == 0;
    // SAFETY: zeros are a value of the type, and the call writes no other kind.
    known && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_DFL
}

/// Has the signal call `handler`, which must be fit to interrupt anything. System calls go on
/// behind it; a thread that has a stack for signals runs it there.
pub(crate) fn handle(signal: c_int, handler: extern "C" fn(c_int)) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeros are a value of the type.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: an out-parameter.
    unsafe { libc::sigemptyset(&raw mut action.sa_mask) };
    // SAFETY: a whole action, whose handler lives as long as the program and may run anywhere by
    // the caller's promise.
    unsafe { libc::sigaction(signal, action, ptr::null_mut()) == 0 }
}
