//! The scavenger: free slots that nobody has used for a while go back to the OS.
//!
//! A background thread exists only while there is something to give back (but see
//! `in_passing` for C programs). Who frees enough slots starts it; it ticks, gives back
//! what was free and dirty for a whole tick, and ends when nothing is left. How long a
//! tick is, is the *decay* setting. So memory of an idle program returns within two
//! ticks, memory that a busy one is about to reuse stays, and the free of a block in a
//! span does not wait for the kernel: the slots being purged are out of the page heap
//! meanwhile, and its lock is not held. (A C program's does, once a tick: `in_passing`.)
//!
//! # Invariants
//!
//! 1. `running` is set by whoever starts the thread or begins a tick in passing. It is cleared when
//!    the thread decides, under the space lock, to end, when the tick is over, or when nothing is to
//!    go back by itself any more. So there is one scavenger at most.

use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering::*};

use super::Heap;
use super::geometry::SLOT_BYTES;
use super::thread::ThreadHeap;
use crate::sys::os::{Os, page_bytes};
use pace::Pace;
use trace::Trace;

#[cfg_attr(not(feature = "preload"), path = "scavenge/background.rs")]
#[cfg_attr(feature = "preload", path = "scavenge/in_passing.rs")]
mod pace;
mod trace;

/// The decay by which nothing goes back unless asked for, and no thread is started. (It is 49 days
/// otherwise, which comes to the same.)
pub(crate) const DECAY_NEVER_MS: u32 = u32::MAX;
/// Dirty free slots that are worth a thread: 1 MiB.
const WORTHWHILE_SLOTS: usize = 16;
/// Bytes put aside by threads, all together, that are.
const WORTHWHILE_BYTES: usize = 256 << 10;
/// Spans half free that are worth it.
const SPARSE_SPANS: u32 = 32;
/// Once the system has refused this many slots in a tick and taken none, the others are not tried
/// one by one.
const REFUSED_MAX: usize = 64;
/// Slots given back by one call: bounds what is out of the page heap at a time.
const BATCH_SLOTS: usize = 128;

/// The bytes put aside by one of `threads` threads from which on a scavenger is wanted: a thread
/// sees its own alone, and assumes that all keep as much.
pub(super) fn worthwhile_bytes(threads: u64) -> u64 {
    let together = if pace::TICKS_WHILE_ALL_SLEEP { threads.max(1) } else { 1 };
    WORTHWHILE_BYTES as u64 / together
}

/// Whether `time_ns` have passed since `before_ns`. Also where the clock went back, as it does when
/// a process is restored on another machine or after its restart: how long ago it was nobody knows
/// then.
fn has_passed(now_ns: u64, before_ns: u64, time_ns: u64) -> bool {
    now_ns.checked_sub(before_ns).is_none_or(|passed_ns| passed_ns >= time_ns)
}

/// Free slots that were to go back at a tick, and those of them that the system did not take.
struct Tick {
    tried: usize,
    refused: usize,
}

/// A word in lines of its own: who frees other threads' blocks writes it time and again, and every
/// slow path reads what would lie beside it.
#[derive(Debug)]
#[repr(align(128))]
struct Apart(AtomicU32);

/// The scavenger's state.
#[derive(Debug)]
pub(crate) struct Scavenger {
    running: AtomicBool,
    /// Somebody freed enough; to be started where no lock is held.
    wanted: AtomicBool,
    pace: Pace,
    trace: Trace,
    /// 0 until set.
    tick_ms: AtomicU32,
    /// A thread thins spans.
    thinning: AtomicBool,
    /// Visits of spans to thin them, so far.
    passes: AtomicU16,
    /// Times since the last visit that a span was found to be half free.
    sparse: Apart,
    /// Pages inside spans that are given back now, and those that ever were.
    thinned: AtomicUsize,
    thinned_total: AtomicUsize,
    /// Free slots that the system did not take back at the last tick, as of locked pages.
    refused: AtomicUsize,
}

impl Scavenger {
    pub(crate) const fn new() -> Self {
        Self {
            running: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            pace: Pace::new(),
            trace: Trace::new(),
            tick_ms: AtomicU32::new(0),
            thinning: AtomicBool::new(false),
            passes: AtomicU16::new(0),
            sparse: Apart(AtomicU32::new(0)),
            thinned: AtomicUsize::new(0),
            thinned_total: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    /// Whether no other thread thins spans: then this one may until it ends it.
    pub(super) fn begin_thinning(&self) -> bool {
        !self.thinning.swap(true, Acquire)
    }

    pub(super) fn end_thinning(&self) {
        self.thinning.store(false, Release);
    }

    /// The number of this visit of spans.
    pub(super) fn next_pass(&self) -> u16 {
        self.sparse.0.store(0, Relaxed);
        match self.passes.fetch_add(1, Relaxed).wrapping_add(1) {
            // That of a span which was not visited yet.
            0 => self.passes.fetch_add(1, Relaxed).wrapping_add(1),
            pass => pass,
        }
    }

    /// Milliseconds between ticks.
    fn tick_ms(&self) -> u32 {
        match self.tick_ms.load(Relaxed) {
            0 => pace::TICK_MS,
            set => set,
        }
    }

    /// Whether nothing goes back without being asked for.
    fn is_off(&self) -> bool {
        self.tick_ms() == DECAY_NEVER_MS
    }

    /// Asks for a scavenger, unless there is one or is to be none. By who found something to do: of
    /// those that find nothing each reads one word.
    #[inline]
    fn want(&self) {
        if !self.running.load(Relaxed) && !self.is_off() {
            self.wanted.store(true, Relaxed);
        }
    }

    /// In a forked child the thread is gone.
    pub(crate) fn forked(&self) {
        self.running.store(false, Relaxed);
        self.thinning.store(false, Relaxed);
    }
}

impl<O: Os> Heap<O> {
    /// Notes that `free_dirty` slots are free. The space lock is held.
    #[inline]
    pub(crate) fn note_free(&self, free_dirty: usize) {
        if free_dirty >= WORTHWHILE_SLOTS {
            self.scavenger.want();
        }
    }

    /// Notes that the table of large blocks keeps `bytes`. Its lock is held.
    pub(super) fn note_kept(&self, bytes: usize) {
        self.note_kept_from(WORTHWHILE_BYTES, bytes);
    }

    /// Notes that a thread's depot or shelf keeps `bytes`. The lock is held, if there is one.
    #[inline]
    pub(super) fn note_kept_by(&self, thread_heap: &ThreadHeap, bytes: usize) {
        self.note_kept_from(thread_heap.worthwhile_bytes.get() as usize, bytes);
    }

    #[inline]
    fn note_kept_from(&self, worthwhile_bytes: usize, bytes: usize) {
        if bytes >= worthwhile_bytes {
            self.scavenger.want();
        }
    }

    /// Notes that pages inside a span went back.
    pub(super) fn note_thinned(&self, pages: u32) {
        self.scavenger.thinned.fetch_add(pages as usize, Relaxed);
        self.scavenger.thinned_total.fetch_add(pages as usize, Relaxed);
    }

    /// Notes that pages inside a span are in use again, or its slots free.
    pub(super) fn note_no_longer_thinned(&self, pages: u32) {
        self.scavenger.thinned.fetch_sub(pages as usize, Relaxed);
    }

    /// Whether so many spans were found to be sparse that they are worth a thread.
    pub(super) fn is_sparse(&self) -> bool {
        self.scavenger.sparse.0.load(Relaxed) > SPARSE_SPANS
    }

    /// Notes that a parked span is half free, or its owner has mail.
    pub(crate) fn note_sparse(&self) {
        let before = self.scavenger.sparse.0.fetch_add(1, Relaxed);
        if pace::THINS && before >= SPARSE_SPANS {
            self.scavenger.want();
        }
    }

    /// Starts the scavenger if that was found worthwhile. No lock is held. Cost
    /// when it was not: one load.
    ///
    /// # Safety
    ///
    /// The heap is never dropped.
    #[inline]
    pub(crate) unsafe fn tend(&self) {
        if self.scavenger.wanted.load(Relaxed) {
            self.pace();
        }
    }

    /// One tick. Returns the slots that are still dirty and free, or as good as that.
    #[unsafe(link_section = ".spanalloc.rare")]
    pub(crate) fn scavenge_tick(&self) -> usize {
        self.traced(|| self.tick())
    }

    /// As [`scavenge_tick`](Self::scavenge_tick), untraced. Not inlined: a closure has no section.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.rare")]
    fn tick(&self) -> usize {
        let kept_bytes = self.reap(false);
        let waiting = if pace::THINS { self.thin(false) } else { 0 };
        self.release_kept(false);
        let kept_bytes = kept_bytes + self.large.lock().kept.bytes();
        self.scavenge_slots(pace::SLOTS_MAX) + kept_bytes / SLOT_BYTES + waiting
    }

    /// Gives the slots back that were free for a tick, some `slots_max` of them, and, if that was
    /// all, lets the others age. Returns how many are still dirty and free, and not such that the
    /// system refused.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn scavenge_slots(&self, slots_max: usize) -> usize {
        let mut tick = Tick { tried: 0, refused: 0 };
        for which in 0..2 {
            while tick.tried < slots_max && self.scavenge_batch(which, &mut tick) {}
        }
        let Tick { tried, refused } = tick;
        self.scavenger.refused.store(refused, Relaxed);
        let mut space = self.space.lock();
        if tried < slots_max {
            space.each().into_iter().for_each(|pages| pages.age());
        }
        space.counts().free_dirty.saturating_sub(refused)
    }

    /// Gives one run of slots back; `false` if there is none.
    #[unsafe(link_section = ".spanalloc.rare")]
    fn scavenge_batch(&self, which: usize, tick: &mut Tick) -> bool {
        // So that no fork finds slots that belong to nobody.
        let _reaping = self.reaping.lock();
        let taken = self.space.lock().each()[which].scavenge(&self.os, BATCH_SLOTS);
        let Some((taken, start, bytes)) = taken else { return false };
        let took_none = tick.tried == tick.refused;
        tick.tried += bytes / SLOT_BYTES;
        // SAFETY: the slots are in no span and out of the page heap.
        if unsafe { self.os.purge(start, bytes) } {
            self.space.lock().each()[which].scavenged(taken, true);
            return true;
        }
        // One page that the program locked, or a mapping too many, and the kernel stops there.
        // Where many were refused and none taken all will be, as under `mlockall`.
        if took_none && tick.refused >= REFUSED_MAX {
            tick.refused += bytes / SLOT_BYTES;
            self.space.lock().each()[which].scavenged(taken, false);
            return true;
        }
        for (slot, index) in taken.singles().zip(0..) {
            // SAFETY: a slot of those above.
            let start = unsafe { start.add(index * SLOT_BYTES) };
            // SAFETY: as above.
            let clean = unsafe { self.os.purge(start, SLOT_BYTES) };
            tick.refused += usize::from(!clean);
            self.space.lock().each()[which].scavenged(slot, clean);
        }
        true
    }

    /// Gives all free slots back at once, and all free pages inside spans; their bytes.
    pub(crate) fn release_free(&self) -> usize {
        self.release(true)
    }

    /// Gives all free slots back at once, and the free pages of spans that nothing was freed into
    /// since they were last looked at, or of `all`; their bytes.
    pub(crate) fn release(&self, all: bool) -> usize {
        let before = self.space.lock().counts().scavenged_total;
        let thinned_before = self.scavenger.thinned_total.load(Relaxed);
        let mut kept = 0;
        self.traced(|| {
            self.collect_left();
            self.empty_shared_lists();
            self.reap(true);
            self.thin(all);
            // Those that came free just now are old enough the second time.
            self.scavenge_slots(usize::MAX);
            self.scavenge_slots(usize::MAX);
            kept = self.release_kept(true);
        });
        let after = self.space.lock().counts().scavenged_total;
        let thinned = self.scavenger.thinned_total.load(Relaxed).wrapping_sub(thinned_before);
        (after - before) as usize * SLOT_BYTES + thinned * page_bytes() + kept
    }

    /// Sets the time between ticks, a millisecond at least, or [`DECAY_NEVER_MS`].
    pub(crate) fn set_decay_ms(&self, decay_ms: u32) {
        let before = self.scavenger.tick_ms.swap(decay_ms.max(1), Relaxed);
        if before == DECAY_NEVER_MS {
            // What was freed meanwhile has told nobody.
            self.scavenger.wanted.store(true, Relaxed);
        }
    }

    /// As it is set.
    pub(crate) fn decay_ms(&self) -> u32 {
        self.scavenger.tick_ms()
    }

    /// Bytes that the heap holds: slots in use, but for pages given back, or free with old
    /// contents, mappings of large blocks, freed ones included, records.
    pub(crate) fn held_bytes(&self) -> u64 {
        let (used, free) = self.used_and_free_bytes();
        used + free
    }

    /// As [`held_bytes`](Self::held_bytes), without slots and mappings that are free.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_and_free_bytes().0
    }

    fn used_and_free_bytes(&self) -> (u64, u64) {
        let table = self.large.lock();
        let (mapped_bytes, kept_bytes) = (table.mapped_bytes, table.kept.bytes() as u64);
        drop(table);
        let space = self.space.lock();
        let counts = space.counts();
        let thinned_bytes = self.scavenger.thinned.load(Relaxed) * page_bytes();
        let slots_bytes = (counts.in_use * SLOT_BYTES).saturating_sub(thinned_bytes);
        let used = (slots_bytes + space.records_bytes()) as u64 + mapped_bytes;
        (used, (counts.free_dirty * SLOT_BYTES) as u64 + kept_bytes)
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering::Relaxed;

    #[test]
    fn a_clock_that_went_back_puts_nothing_off() {
        let passed = [(5, 5, 0), (14, 5, 10), (15, 5, 10), (4, 5, 10), (0, u64::MAX, 10)]
            .map(|(now, before, time)| super::has_passed(now, before, time));
        assert_eq!(passed, [true, false, true, true, true]);
    }

    #[test]
    fn no_visit_has_the_number_of_a_span_that_was_not_visited() {
        let scavenger = super::Scavenger::new();
        scavenger.passes.store(u16::MAX - 1, Relaxed);
        assert_eq!([(); 3].map(|()| scavenger.next_pass()), [u16::MAX, 1, 2]);
    }
}
