//! Children that a fork made.

use std::thread;
use std::time::{Duration, Instant};

/// The exit code of a forked child, 9 for another end; one that does not end in time is killed.
pub(crate) fn code_of(process: libc::pid_t, patience: Duration) -> i32 {
    let (start, mut status) = (Instant::now(), 0);
    loop {
        // SAFETY: looks at our own child.
        let ended = unsafe { libc::waitpid(process, &raw mut status, libc::WNOHANG) };
        if ended != 0 {
            assert_eq!(ended, process);
            return if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 9 };
        }
        if start.elapsed() > patience {
            // SAFETY: ends our own child, which was not waited for.
            unsafe { libc::kill(process, libc::SIGKILL) };
        }
        thread::sleep(Duration::from_millis(1));
    }
}
