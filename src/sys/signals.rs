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

#[cfg(test)]
mod tests {
    use std::os::unix::thread::JoinHandleExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;
    use crate::sys::asleep::{Sleeper, eventually};

    static HANDLED: AtomicU32 = AtomicU32::new(0);

    extern "C" fn count(_: c_int) {
        HANDLED.fetch_add(1, SeqCst);
    }

    #[test]
    fn a_read_that_a_signal_interrupts_goes_on() {
        assert!(is_default(libc::SIGUSR2));
        assert!(handle(libc::SIGUSR2, count) && !is_default(libc::SIGUSR2));
        let mut ends = [0; 2];
        // SAFETY: an out-parameter of two.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        let waits = Arc::new(Sleeper::new());
        let reader = {
            let waits = waits.clone();
            std::thread::spawn(move || {
                let mut byte = 0_u8;
                waits.is_me();
                // SAFETY: room for one byte.
                unsafe { libc::read(ends[0], (&raw mut byte).cast(), 1) }
            })
        };
        waits.wait();
        // A number, and with musl a pointer.
        let thread = reader.as_pthread_t() as _;
        // SAFETY: a thread that was not joined yet.
        assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR2) }, 0);
        eventually("the handler runs", || HANDLED.load(SeqCst) == 1);
        // SAFETY: one byte.
        assert_eq!(unsafe { libc::write(ends[1], c"!".as_ptr().cast(), 1) }, 1);
        assert_eq!(reader.join().unwrap(), 1);
    }
}
