//! Reports while the program runs: by `every=` and `signal=` of the environment variable.
//!
//! A thread waits for the time and for the signal, and writes what the dump at exit would write
//! now, to the prefix of the variable or of [`dump_at_exit`](super::dump_at_exit::dump_at_exit).
//! It exists only where one of the two was asked for: nothing of this is on any path of an
//! allocation, or in a program without them.
//!
//! # Invariants
//!
//! 1. The signal's handler rings [`BELL`] and does nothing else.
//! 2. All signals are blocked in the thread, and what it allocates is not sampled.
//! 3. A process has one such thread at most: it is started before `main`, and in a forked child,
//!    which has none yet, where that writes files of its own. It ends when the process does.

use core::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::dump_at_exit::{Live, WRITER_STACK_BYTES, write_now};
use super::sampling::quietly;
use crate::sys::bell::Bell;
use crate::sys::stderr::Line;
use crate::sys::{background, signals, thread};

static BELL: Bell = Bell::new();
/// Milliseconds from one dump to the next, 0 for none.
static EVERY_MS: AtomicU32 = AtomicU32::new(0);
/// Whether the process that began this has such a thread.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Begins to write reports, before `main`.
pub(super) fn begin(every_ms: Option<u32>, signal: Option<c_int>) {
    let signal = signal.filter(|signal| is_free(*signal));
    if every_ms.is_none() && signal.is_none() {
        return;
    }
    EVERY_MS.store(every_ms.unwrap_or(0), Relaxed);
    BEGUN.store(start(), Relaxed);
    // Also without the thread: whoever sends the signal wants reports, not the program's end.
    if let Some(signal) = signal
        && !signals::handle(signal, on_signal)
    {
        Line::new().text("SPANALLOC: the system refuses a handler for signal=").write();
    }
}

/// Whether the signal may be taken; says so if not.
fn is_free(signal: c_int) -> bool {
    let free = signals::is_default(signal);
    if !free {
        let line = Line::new().text("SPANALLOC: signal ").number(signal.unsigned_abs().into());
        line.text(" is handled or ignored already and stays so: it writes no reports").write();
    }
    free
}

/// In a child of a fork that is to write files of its own.
pub(super) fn after_fork_in_child() {
    if BEGUN.load(Relaxed) {
        start();
    }
}

fn start() -> bool {
    // Rings from here on count, also those before the thread runs.
    let seen = ptr::without_provenance_mut(BELL.rings() as usize);
    let started = background::spawn(run, seen, WRITER_STACK_BYTES);
    if !started {
        Line::new().text("no reports while the program runs: no thread can be started").write();
    }
    started
}

extern "C" fn on_signal(_: c_int) {
    BELL.ring();
}

extern "C" fn run(seen: *mut c_void) -> *mut c_void {
    thread::set_name(c"spanalloc-dump");
    quietly(|| wait_and_write(seen.addr() as u32));
    ptr::null_mut()
}

/// The thread.
fn wait_and_write(mut seen: u32) {
    let every = Some(EVERY_MS.load(Relaxed)).filter(|ms| *ms > 0);
    let every = every.map(|ms| Duration::from_millis(ms.into()));
    let mut next = every.map(|every| Instant::now() + every);
    // A failure that lasts is said once.
    let (mut said, mut said_where) = (String::new(), false);
    loop {
        BELL.wait(seen, next.map(|next| next.saturating_duration_since(Instant::now())));
        let (rings, now) = (BELL.rings(), Instant::now());
        let is_due = next.is_some_and(|next| next <= now);
        if is_due {
            // Counted from now: dumps that take longer than that do not pile up.
            next = every.map(|every| now + every);
        }
        // Signals during a dump ask for one more.
        let is_asked = rings != seen;
        seen = rings;
        if !is_due && !is_asked {
            continue;
        }
        match write_now(&mut said) {
            Live::Armed => {}
            Live::NoPrefix if is_asked || !said_where => {
                said_where = true;
                let line = Line::new().text("no reports: nothing says where they go");
                line.text("; accepted: dump=PREFIX, or dump_at_exit in the program").write();
            }
            Live::NoPrefix => {}
            Live::Ended => return,
        }
    }
}
