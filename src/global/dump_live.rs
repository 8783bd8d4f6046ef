//! Reports while the program runs: by `every=`, `grown=` and `signal=` of the environment variable.
//!
//! A thread waits for the time, for memory to grow and for the signal, and writes what the dump at
//! exit would write now, to the prefix of the variable or of
//! [`dump_at_exit`](super::dump_at_exit::dump_at_exit). It exists only where one of the three was
//! asked for: nothing of this is on any path of an allocation, or in a program without them.
//!
//! # Invariants
//!
//! 1. The signal's handler rings [`BELL`] and does nothing else.
//! 2. All signals are blocked in the thread, and what it allocates is not sampled.
//! 3. A process has one such thread at most, and is then `THREAD_OF`: it is started before `main`,
//!    and in a forked child, which has none yet, where that writes files of its own. It ends when
//!    the process does.

use core::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::dump_at_exit::{Live, WRITER_STACK_BYTES, write_now};
use super::sampling::quietly;
use super::slow::HEAP;
use crate::sys::bell::Bell;
use crate::sys::stderr::Line;
use crate::sys::{background, signals, thread};

static BELL: Bell = Bell::new();
/// Milliseconds from one dump to the next, 0 for none.
static EVERY_MS: AtomicU32 = AtomicU32::new(0);
/// Bytes more that are in use from one dump to the next, 0 for none.
static GROWN_BYTES: AtomicU64 = AtomicU64::new(0);
/// Between two looks at what is in use.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Whether the environment asked for such a thread.
static BEGUN: AtomicBool = AtomicBool::new(false);
/// The process that has it, 0 for none.
static THREAD_OF: AtomicU32 = AtomicU32::new(0);

/// Begins to write reports, before `main`.
pub(super) fn begin(every_ms: Option<u32>, grown_bytes: Option<u64>, signal: Option<c_int>) {
    let signal = signal.filter(|signal| is_free(*signal));
    if every_ms.is_none() && grown_bytes.is_none() && signal.is_none() {
        return;
    }
    EVERY_MS.store(every_ms.unwrap_or(0), Relaxed);
    GROWN_BYTES.store(grown_bytes.unwrap_or(0), Relaxed);
    BEGUN.store(true, Relaxed);
    begin_here();
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

/// Starts the thread if it was asked for and this process has none: one that was forked, and is to
/// write files of its own, or says where only now.
pub(super) fn begin_here() {
    let process = std::process::id();
    if !BEGUN.load(Relaxed) || THREAD_OF.swap(process, Relaxed) == process {
        return;
    }
    // Rings from here on count, also those before the thread runs.
    let seen = ptr::without_provenance_mut(BELL.rings() as usize);
    // SAFETY: the argument is a number; what `run` uses is static.
    if !unsafe { background::spawn(run, seen, WRITER_STACK_BYTES) } {
        THREAD_OF.store(0, Relaxed);
        Line::new().text("no reports while the program runs: no thread can be started").write();
    }
}

/// In a child: the thread is gone. In a namespace of its own the child may have its parent's
/// number.
pub(super) fn after_fork_in_child() {
    THREAD_OF.store(0, Relaxed);
}

extern "C" fn on_signal(_: c_int) {
    BELL.ring();
}

extern "C" fn run(seen: *mut c_void) -> *mut c_void {
    thread::settle(c"spanalloc-dump");
    quietly(|| wait_and_write(seen.addr() as u32));
    ptr::null_mut()
}

/// What is in use, in steps that each have a dump.
struct Growth {
    step_bytes: u64,
    /// The highest multiple that was passed.
    reached: u64,
}

impl Growth {
    /// How many multiples `used_bytes` are, if that many were not passed before.
    fn due(&self, used_bytes: u64) -> Option<u64> {
        let now = used_bytes.checked_div(self.step_bytes)?;
        (now > self.reached).then_some(now)
    }
}

/// When the next dump is due: not later than by one interval, whatever the clock says. It may have
/// gone back, when the process was restored on another machine.
fn not_far(next: Instant, now: Instant, every: Option<Duration>) -> Instant {
    every.map_or(next, |every| next.min(now + every))
}

/// The thread.
fn wait_and_write(mut seen: u32) {
    let every = Some(EVERY_MS.load(Relaxed)).filter(|ms| *ms > 0);
    let every = every.map(|ms| Duration::from_millis(ms.into()));
    let mut next = every.map(|every| Instant::now() + every);
    let mut growth = Growth { step_bytes: GROWN_BYTES.load(Relaxed), reached: 0 };
    let looks = (growth.step_bytes > 0).then_some(LOOK_EVERY);
    // A failure that lasts is said once.
    let (mut said, mut said_where) = (String::new(), false);
    loop {
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        BELL.wait(seen, left.into_iter().chain(looks).min());
        let (rings, now) = (BELL.rings(), Instant::now());
        next = next.map(|next| not_far(next, now, every));
        let is_due = next.is_some_and(|next| next <= now);
        if is_due {
            // Counted from now: dumps that take longer than that do not pile up.
            next = every.map(|every| now + every);
        }
        // Without what is free: dumps need memory themselves, and leave it free for a while.
        let grown = growth.due(HEAP.used_bytes());
        // Signals during a dump ask for one more.
        let is_asked = rings != seen;
        seen = rings;
        if !is_due && !is_asked && grown.is_none() {
            continue;
        }
        match write_now(&mut said) {
            // A dump of whatever reason shows what has grown.
            Live::Armed => growth.reached = grown.unwrap_or(growth.reached),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_back_puts_a_dump_off_by_one_interval() {
        let (now, every) = (Instant::now(), Duration::from_secs(60));
        for (ahead, left) in [(0, 0), (59, 59), (60, 60), (61, 60), (1 << 20, 60)] {
            let next = not_far(now + Duration::from_secs(ahead), now, Some(every));
            assert_eq!(next, now + Duration::from_secs(left));
        }
    }

    #[test]
    fn each_multiple_is_passed_once() {
        let mut growth = Growth { step_bytes: 10, reached: 0 };
        let due = [0, 9, 10, 19, 25, 5, 29, 61, 61].map(|used| {
            let due = growth.due(used);
            growth.reached = due.unwrap_or(growth.reached);
            due
        });
        assert_eq!(due, [None, None, Some(1), None, Some(2), None, None, Some(6), None]);
        let none = Growth { step_bytes: 0, reached: 0 };
        assert_eq!(none.due(u64::MAX), None, "without a step nothing is due");
    }
}
