//! A line for each tick or release that gave memory back, for who asks for it; the idea is that of
//! Go's `GODEBUG=scavtrace=1`. What is live rises from line to line in a program that leaks.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::heap::Heap;
use crate::heap::class::ClassId;
use crate::sys::os::Os;
use crate::sys::stderr::Line;

/// Whether ticks are traced.
#[derive(Debug)]
pub(super) struct Trace(AtomicBool);

impl Trace {
    pub(super) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }
}

impl<O: Os> Heap<O> {
    /// Turns the lines on standard error on or off.
    pub(crate) fn trace_scavenging(&self, on: bool) {
        self.scavenger.trace.0.store(on, Relaxed);
    }

    /// Takes a step, and writes its line if it gave memory back and that is to be traced. No lock
    /// is held.
    pub(super) fn traced<R>(&self, step: impl FnOnce() -> R) -> R {
        let held = self.scavenger.trace.0.load(Relaxed).then(|| self.held_bytes());
        let result = step();
        if let Some(held) = held {
            self.trace(held);
        }
        result
    }

    /// Writes the line of a step before which `held` bytes were held, if it gave some back.
    #[cold]
    fn trace(&self, held: u64) {
        let left = self.held_bytes();
        if left >= held {
            return;
        }
        let counts = self.counts();
        let large: u64 = counts.large.iter().map(|row| row.live_bytes).sum();
        let blocks = ClassId::all().zip(&counts.classes);
        let small: u64 = blocks.map(|(class, row)| row.live * class.block_bytes() as u64).sum();
        let line = Line::new().text("scavenged: held ").number(held >> 10);
        let line = line.text(" KiB, then ").number(left >> 10);
        line.text(" KiB; live ").number((small + large) >> 10).text(" KiB").write();
    }
}
