//! The dump when the process ends, and what happens before `main`.
//!
//! The handler is registered with `atexit`, so it runs when `main` returns and
//! at `std::process::exit`, and not at an abort or a signal. A forked child
//! inherits the handler but has another process id, and leaves the files to its
//! parent.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::config;
use super::dump::dump;
use super::sampling::quietly;
use crate::sys::lock::Lock;
use crate::sys::stderr::Line;

static AT_EXIT: Lock<Option<AtExit>> = Lock::new(None);
/// Set once the handler is registered.
static REGISTERED: AtomicBool = AtomicBool::new(false);

struct AtExit {
    prefix: PathBuf,
    process: u32,
    /// Asked for by the environment, which wins over code.
    by_environment: bool,
}

/// Writes all reports when the process ends, as [`dump`] would: when `main`
/// returns and at `std::process::exit`, but not at an abort or a signal.
///
/// A relative prefix is taken from the directory that is current now. The last
/// call counts, unless the environment variable `SPANALLOC` says `dump=`, which
/// wins. A dump that fails prints one line that names the path and the error, and
/// changes neither the exit code nor the files that were there.
///
/// # Examples
///
/// ```no_run
/// spanalloc::dump_at_exit("flamegraphs/my-app");
/// ```
pub fn dump_at_exit(prefix: impl AsRef<Path>) {
    quietly(|| arm(prefix.as_ref(), false));
}

fn arm(prefix: &Path, by_environment: bool) {
    // Where the current directory is gone the prefix stays relative.
    let prefix = std::path::absolute(prefix).unwrap_or_else(|_| prefix.to_owned());
    let armed = AtExit { prefix, process: std::process::id(), by_environment };
    let mut at_exit = AT_EXIT.lock();
    let keeps = !by_environment
        && at_exit.as_ref().is_some_and(|old| old.by_environment && old.process == armed.process);
    // What is replaced is freed after the lock is left.
    let _old = if keeps { Some(armed) } else { at_exit.replace(armed) };
    drop(at_exit);
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: `run` is a function of the program, there until it ends.
        if unsafe { libc::atexit(run) } != 0 {
            Line::new().text("no dump at exit: the C library takes no more exit handlers").write();
        }
    }
}

/// The handler.
extern "C" fn run() {
    let Some(at_exit) = AT_EXIT.lock().take() else { return };
    if at_exit.process != std::process::id() {
        return;
    }
    let failure = match catch_unwind(AssertUnwindSafe(|| dump(&at_exit.prefix))) {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error,
        Err(_) => io::Error::other(format!("{}: the report panicked", at_exit.prefix.display())),
    };
    Line::new().text("dump failed: ").text(&failure.to_string()).write();
}

/// Runs before `main`: what the environment asks for.
extern "C" fn start() {
    // Wakes the allocator, which then knows the interval it was built with.
    quietly(|| drop(std::hint::black_box(Box::new(0_u8))));
    #[cfg(feature = "profile")]
    crate::profile::prepare();
    let Some(variable) = config::variable() else { return };
    let asked = config::parse(variable, config::Problem::report);
    #[cfg(feature = "profile")]
    if let Some(formats) = asked.formats {
        formats.choose();
    }
    if let Some(decay_ms) = asked.decay_ms {
        super::limit::decay_by_environment(decay_ms);
    }
    if let Some(prefix) = asked.dump {
        quietly(|| arm(Path::new(OsStr::from_bytes(prefix)), true));
    }
}

/// The dynamic loader calls what this section lists, after the C library's own
/// start and before `main`.
#[used]
// SAFETY: the section holds pointers to functions of this type.
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;
