//! The system call behind locks and bells: waiting for a word to change, and waking who waits.

use core::ptr;
use core::sync::atomic::AtomicU32;

use super::os::keep_errno;

/// Waits at `word` while it is `value` (`FUTEX_WAIT`), for `time` at most, or less: every waiter
/// looks again. Or wakes `value` waiters (`FUTEX_WAKE`). Of this process alone; `errno` stays.
#[unsafe(link_section = ".spanalloc.text")]
pub(super) fn futex(word: &AtomicU32, operation: i32, value: u32, time: Option<&libc::timespec>) {
    let time = time.map_or(ptr::null(), ptr::from_ref);
    let operation = operation | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is live for the call, and so is the time.
    keep_errno(|| unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, time) });
}
