//! The dump when the process ends.
//!
//! The handler is registered with `atexit`, so it runs when `main` returns and
//! at `std::process::exit`, and not at an abort or a signal. A forked child
//! inherits the handler but is another process, and leaves the files to its
//! parent, unless their names tell processes apart (`%p`). What `vfork` makes is never
//! such a child: it borrows its parent's memory.

use std::ffi::c_void;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use super::dump;
use super::dump_live;
use super::files::{Failure, check, is_there, remove};
use super::prefix::{Dumps, Outcome, Prefix};
use super::sampling::quietly;
use crate::sys::background;
use crate::sys::bell::Bell;
use crate::sys::lock::Lock;
use crate::sys::os::{Linux, Os, unmap};
use crate::sys::process;
use crate::sys::signals;
use crate::sys::stderr::Line;
use crate::sys::thread::without_cancellation;

static AT_EXIT: Lock<Option<AtExit>> = Lock::new(None);
/// The dumps to that prefix so far. Locked while one is written, so that the one at exit is the
/// last. Whoever waits for it holds no other lock, and a fork does not take it.
static DUMPS: Lock<Dumps> = Lock::new(Dumps::NONE);
/// How many numbered dumps of a process stay; 0 for all.
static KEEP: AtomicU32 = AtomicU32::new(0);
/// Addresses kept for the report of a process that may map no more; never touched. Null without.
static RESERVE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
const RESERVE_BYTES: usize = 16 << 20;
/// Set, under the lock of `AT_EXIT`, by who registers the handler.
static REGISTERED: AtomicBool = AtomicBool::new(false);

struct AtExit {
    prefix: Prefix,
    process: u64,
    /// Asked for by the environment, which wins over code.
    by_environment: bool,
}

/// Writes the reports when the process ends, as [`dump`](crate::dump) would: when `main`
/// returns and at `std::process::exit`, but not at an abort or a signal.
///
/// A relative prefix is taken from the directory that is current now. The last
/// call counts, unless the environment variable `SPANALLOC` says `dump=`, which
/// wins; with its keys `every=`, `grown=` and `signal=` the reports are also written while the
/// program runs.
/// In the prefix `%p` stands for the process id, `%n` for the program's name, `%h` for the host's,
/// which in a container is the container's, `%d` for the number of the dump in its process (`0001`
/// and so on, in each process) and `%%` for `%`; any other `%` stays as it is. A forked child
/// writes files of its own where the prefix has `%p`, and none otherwise. Where an earlier process
/// had the same id, `%p` is the id with `-2` and so on behind it, and its files stay. A dump that
/// fails prints one line that names the files that could not be written and the error, writes the
/// others, and changes neither the exit code nor the files that were there.
///
/// # Errors
///
/// A prefix without a file name, such as `out/`: nothing is changed then.
///
/// # Examples
///
/// ```no_run
/// spanalloc::dump_at_exit("flamegraphs/my-app")?;
/// # std::io::Result::Ok(())
/// ```
pub fn dump_at_exit(prefix: impl AsRef<Path>) -> io::Result<()> {
    quietly(|| {
        check(prefix.as_ref())?;
        arm(prefix.as_ref(), false);
        Ok(())
    })
}

pub(super) fn arm(prefix: &Path, by_environment: bool) {
    // Where the current directory is gone the prefix stays relative.
    let prefix = Prefix::new(prefix, std::env::current_dir().ok().as_deref());
    #[cfg(feature = "preload")]
    let prefix = if by_environment { prefix.of_process() } else { prefix };
    let armed = AtExit { prefix, process: process::here(), by_environment };
    let mut at_exit = AT_EXIT.lock();
    let keeps = !by_environment
        && at_exit.as_ref().is_some_and(|old| old.by_environment && old.process == armed.process);
    // What is replaced is freed after the lock is left.
    let _old = if keeps { Some(armed) } else { at_exit.replace(armed) };
    // Under the lock: who finds nothing there knows whether there was something.
    let is_first = !REGISTERED.swap(true, Ordering::Relaxed);
    drop(at_exit);
    dump_live::begin_here();
    if is_first {
        let reserve = Linux.reserve(RESERVE_BYTES).map_or(ptr::null_mut(), NonNull::as_ptr);
        RESERVE.store(reserve, Ordering::Relaxed);
        // SAFETY: `run` is a function of the program, there until it ends.
        if unsafe { libc::atexit(run) } != 0 {
            Line::new().text("no dump at exit: the C library takes no more exit handlers").write();
        }
    }
}

/// The handler.
extern "C" fn run() {
    // Called by a signal handler that interrupted the allocator, it would wait for itself.
    #[cfg(feature = "preload")]
    if crate::preload::is_inside() {
        return;
    }
    without_cancellation(|| quietly(run_quietly));
}

fn run_quietly() {
    let process = process::here();
    let Some(at_exit) = AT_EXIT.lock().take_if(|at_exit| at_exit.process == process) else {
        return;
    };
    if let Some(reserve) = NonNull::new(RESERVE.swap(ptr::null_mut(), Ordering::Relaxed)) {
        // SAFETY: mapped by `arm`, and used by nobody.
        unsafe { unmap(reserve, RESERVE_BYTES) };
    }
    if may_write_here() {
        return write(&at_exit);
    }
    write_elsewhere(&at_exit);
}

/// Writes on a thread of its own, and waits for it. Not one of the standard library's: in a forked
/// child a lock of that may be held that each thread takes when it begins.
fn write_elsewhere(at_exit: &AtExit) {
    static WRITTEN: Bell = Bell::new();
    extern "C" fn writer(at_exit: *mut c_void) -> *mut c_void {
        // SAFETY: whoever has started this thread keeps it until the bell rings.
        let at_exit = unsafe { &*at_exit.cast::<AtExit>() };
        quietly(|| write(at_exit));
        WRITTEN.ring();
        ptr::null_mut()
    }
    let (seen, its) = (WRITTEN.rings(), ptr::from_ref(at_exit).cast_mut().cast());
    // SAFETY: `at_exit` stays until the bell has rung, below.
    if !unsafe { background::spawn(writer, its, WRITER_STACK_BYTES) } {
        // It may be enough.
        return write(at_exit);
    }
    while WRITTEN.rings() == seen {
        WRITTEN.wait(seen, None);
    }
}

/// What a report needs to read the program's files, and without them, beside copies of the profile.
const NAMES_BYTES: usize = 64 << 20;
const TABLES_BYTES: usize = RESERVE_BYTES;

/// Whether there is memory for a report. A process that may not have it would end by an abort in
/// the middle of it, and at its exit with another exit code.
fn has_room(bytes: usize) -> bool {
    let bytes = bytes + profile_bytes();
    let Some(room) = Linux.reserve(bytes) else { return false };
    // SAFETY: just mapped, used by nobody.
    unsafe { unmap(room, bytes) };
    true
}

#[cfg(feature = "profile")]
fn profile_bytes() -> usize {
    crate::profile::memory_bytes()
}

#[cfg(not(feature = "profile"))]
fn profile_bytes() -> usize {
    0
}

/// Whether a report may read the program's files; there is nothing to name without the profiler.
fn has_room_for_names() -> bool {
    !cfg!(feature = "profile") || has_room(NAMES_BYTES)
}

/// Whether a report may be written on this thread: it may be one with a small stack, or run a
/// signal handler on one. Or it has drawn before, and at exit lost what that left in its
/// thread-local values, without which it cannot draw again.
fn may_write_here() -> bool {
    #[cfg(feature = "flamegraph")]
    if crate::report::flame::has_drawn_here() {
        return false;
    }
    #[cfg(feature = "profile")]
    return crate::sys::stack::has_room(WRITER_STACK_BYTES / 4);
    #[cfg(not(feature = "profile"))]
    true
}

pub(super) const WRITER_STACK_BYTES: usize = 2 << 20;

fn write(at_exit: &AtExit) {
    outlive_long_files();
    let has_names = has_room_for_names();
    if !has_names {
        Line::new().text("memory is short: the report at exit has no names").write();
    }
    if let Err(failure) = write_next(&at_exit.prefix, &mut DUMPS.lock(), has_names) {
        say(&failure);
    }
}

/// What [`write_now`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Live {
    /// There is a dump at exit.
    Armed,
    /// Nobody has said where to yet.
    NoPrefix,
    /// There is none in this process any more.
    Ended,
}

/// Writes what the dump at exit would write; a failure is said if it is not the one that was
/// `said` last.
pub(super) fn write_now(said: &mut String) -> Live {
    let mut dumps = DUMPS.lock();
    let process = process::here();
    let at_exit = AT_EXIT.lock();
    let own = at_exit.as_ref().filter(|at_exit| at_exit.process == process);
    let prefix = own.map(|at_exit| at_exit.prefix.clone());
    let was_armed = REGISTERED.load(Ordering::Relaxed);
    drop(at_exit);
    let Some(prefix) = prefix else {
        return if was_armed { Live::Ended } else { Live::NoPrefix };
    };
    let has_names = has_room_for_names();
    let written = if has_names || has_room(TABLES_BYTES) {
        write_next(&prefix, &mut dumps, has_names)
    } else {
        Err(Failure::other("memory is short: it is left out"))
    };
    match written {
        Ok(()) if has_names => said.clear(),
        Ok(()) if NO_NAMES != *said => {
            Line::new().text(NO_NAMES).write();
            NO_NAMES.clone_into(said);
        }
        Ok(()) => {}
        Err(failure) if failure.what != *said => {
            say(&failure);
            *said = failure.what;
        }
        Err(_) => {}
    }
    Live::Armed
}

const NO_NAMES: &str = "memory is short: reports have no names";

fn write_next(prefix: &Prefix, dumps: &mut Dumps, has_names: bool) -> Result<(), Failure> {
    let path = prefix.expand(dumps, is_there);
    // Of an earlier process, whose files these replace.
    let was_there = is_there(&path);
    let write = || dump::write(&path);
    let written = catch_unwind(AssertUnwindSafe(|| match has_names {
        #[cfg(feature = "profile")]
        false => crate::profile::symbols::without_files(write),
        _ => write(),
    }));
    let written = written.unwrap_or_else(|_| Err(Failure::other("the report panicked")));
    let outcome = match &written {
        Ok(_) => Outcome::Whole,
        Err(failure) if failure.is_for_room() => Outcome::Partial,
        Err(_) if !was_there && is_there(&path) => Outcome::Partial,
        Err(_) => Outcome::Nothing,
    };
    for old in prefix.surplus(dumps, KEEP.load(Ordering::Relaxed), outcome) {
        remove(&old);
    }
    written.map(|_| ())
}

fn say(failure: &Failure) {
    let line = Line::new().text("dump failed: ");
    line.shortened(failure.path.as_os_str().as_bytes()).text(&failure.what).write();
}

/// How many dumps that `%d` numbers stay.
pub(super) fn keep(dumps: u32) {
    KEEP.store(dumps, Ordering::Relaxed);
}

/// Where files are limited in length (`RLIMIT_FSIZE`), a report that would be longer is one that
/// cannot be written, rather than the end of the process by a signal, with another exit code.
/// From here on the process does nothing but end; a handler of the program's is left to it.
fn outlive_long_files() {
    if signals::is_default(libc::SIGXFSZ) {
        // SAFETY: ignoring a signal runs nothing.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    }
}

/// For a process that ends without its handlers, by `_exit`: as [`run`]. The thread may be in
/// a signal handler, but in no slow path of the allocator's.
#[cfg(feature = "preload")]
pub(crate) fn at_bare_exit() {
    // Without a system call more: a process may be one that is killed for it.
    if !REGISTERED.load(Ordering::Relaxed) {
        return;
    }
    let process = process::here();
    let armed = AT_EXIT
        .try_lock()
        .is_some_and(|at_exit| at_exit.as_ref().is_some_and(|at_exit| at_exit.process == process));
    if armed {
        super::slow::leave_own_heap();
        run();
    }
}

/// Keeps the handler as it is until one of the two below.
pub(super) fn before_fork() {
    AT_EXIT.acquire();
}

/// In the parent.
pub(super) fn after_fork_in_parent() {
    AT_EXIT.release();
}

/// In the child, whose files are its own from here on, if they can be: whether they are.
pub(super) fn after_fork_in_child() -> bool {
    AT_EXIT.release();
    // A thread that wrote is not here any more.
    DUMPS.release();
    *DUMPS.lock() = Dumps::NONE;
    if let Some(at_exit) = AT_EXIT.lock().as_mut()
        && at_exit.prefix.per_process
    {
        at_exit.process = process::here();
        return true;
    }
    false
}
