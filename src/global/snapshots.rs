//! The allocator's counts over time: kept, compared, judged, written down.
//!
//! A program takes snapshots at times of its own, or has a thread take one every so often. What
//! grew between two of them says which size class leaks; the trend of a figure over all of them
//! says whether anything does. Written as lines of JSON, one run can be held against another.
//!
//! # Invariants
//!
//! 1. Snapshots are in the order of their times, which are all different.
//! 2. In a child of a fork the thread is gone, maybe with the lock: nobody there waits for either.

use crate::Stats;
use crate::collections::observe::{Trend, TrendDetector};
#[cfg(feature = "profile")]
use crate::report::whole::whole;
use crate::sys::process;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The fewest snapshots that show a change.
const KEEP_MIN: usize = 2;
/// No time that is read is later: there is room for those that are taken afterwards.
#[cfg(feature = "profile")]
const LATEST: Duration = Duration::from_secs(u64::MAX / 2);

/// Snapshots of the allocator's counts, the latest ones of a series.
///
/// Costs what [`stats`](crate::stats) costs for each one taken, and about 10 KiB to keep it.
///
/// ```
/// # #[global_allocator]
/// # static GLOBAL: spanalloc::SpanAlloc = spanalloc::SpanAlloc::new();
/// use spanalloc::Snapshots;
///
/// let mut snapshots = Snapshots::new(100);
/// snapshots.take();
/// let kept: Vec<Box<[u8; 200]>> = (0..1000).map(|_| Box::new([1; 200])).collect();
/// snapshots.take();
/// let grown = snapshots.growth().into_iter().find(|growth| growth.block_bytes == 208).unwrap();
/// assert_eq!(grown.live_blocks, 1000);
/// # drop(kept);
/// ```
#[derive(Clone, Debug)]
pub struct Snapshots {
    kept: VecDeque<Snapshot>,
    keep: usize,
    start: Instant,
}

/// The counts at a time.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "profile", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// Since the series began.
    pub at: Duration,
    /// What was counted until then.
    pub stats: Stats,
}

/// How the blocks of one size changed from the oldest snapshot to the latest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassGrowth {
    /// Size of a block, the largest of the row for large ones.
    pub block_bytes: u64,
    /// Blocks that came to be live, less those that ceased to be.
    pub live_blocks: i64,
    /// The same in bytes.
    pub live_bytes: i64,
    /// Allocations meanwhile.
    pub allocs: u64,
    /// Bytes of the blocks that they got.
    pub allocated_bytes: u64,
}

impl Snapshots {
    /// An empty series that keeps the latest `keep` snapshots.
    ///
    /// # Panics
    ///
    /// When `keep` is below 2: one snapshot shows no change.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        assert!(keep >= KEEP_MIN, "keep is {keep}: a change needs at least {KEEP_MIN} snapshots");
        Self { kept: VecDeque::new(), keep, start: Instant::now() }
    }

    /// Takes a snapshot now. Allocates.
    pub fn take(&mut self) -> &Snapshot {
        self.keep(super::stats())
    }

    fn keep(&mut self, stats: Stats) -> &Snapshot {
        // Later than the one before, however coarse the clock is (invariant 1).
        let least = self.kept.back().map(|last| last.at + Duration::from_nanos(1));
        let at = self.start.elapsed().max(least.unwrap_or_default());
        if self.kept.len() == self.keep {
            self.kept.pop_front();
        }
        self.kept.push_back(Snapshot { at, stats });
        &self.kept[self.kept.len() - 1]
    }

    /// The snapshots, the oldest first.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Snapshot> + ExactSizeIterator + Clone {
        self.kept.iter()
    }

    /// What changed from the oldest snapshot to the latest one, by block size, the largest growth
    /// of live bytes first; sizes without any allocation meanwhile and without a change are left
    /// out. Nothing with fewer than two snapshots.
    #[must_use]
    pub fn growth(&self) -> Vec<ClassGrowth> {
        let (Some(oldest), Some(latest)) = (self.kept.front(), self.kept.back()) else {
            return Vec::new();
        };
        let rows = |stats: &Stats| [stats.classes.clone(), stats.large.clone()].concat();
        let before = rows(&oldest.stats);
        let changed = rows(&latest.stats).into_iter().map(|after| {
            let before = before.iter().find(|before| before.block_bytes == after.block_bytes);
            let before = before.cloned().unwrap_or_default();
            ClassGrowth {
                block_bytes: after.block_bytes,
                live_blocks: after.live_blocks.wrapping_sub(before.live_blocks) as i64,
                live_bytes: after.live_bytes.wrapping_sub(before.live_bytes) as i64,
                allocs: after.allocs.saturating_sub(before.allocs),
                allocated_bytes: after.allocated_bytes.saturating_sub(before.allocated_bytes),
            }
        });
        let mut changed: Vec<_> =
            changed.filter(|growth| growth.allocs > 0 || growth.live_blocks != 0).collect();
        changed.sort_by_key(|growth| (-growth.live_bytes, growth.block_bytes));
        changed
    }

    /// The trend of a figure over all snapshots that are kept, by a [`TrendDetector`] with this
    /// confidence; [`Trend::Undecided`] with fewer than 8 of them.
    ///
    /// ```
    /// use spanalloc::Snapshots;
    /// use spanalloc::observe::Trend;
    ///
    /// let mut snapshots = Snapshots::new(12);
    /// (0..12).for_each(|_| _ = snapshots.take());
    /// assert_eq!(snapshots.trend(0.99, |_| 7), Trend::Steady);
    /// ```
    ///
    /// # Panics
    ///
    /// When `confidence` is not between 0.5 and 1, exclusively.
    #[must_use]
    pub fn trend(&self, confidence: f64, figure: impl Fn(&Stats) -> u64) -> Trend {
        // A detector of the fewest points that one may have stays undecided with fewer.
        let mut detector = TrendDetector::new(self.kept.len().max(8), confidence);
        for snapshot in &self.kept {
            detector.record(snapshot.at, figure(&snapshot.stats));
        }
        detector.trend()
    }

    /// Writes the snapshots, each as a line of JSON, in long pieces.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    #[cfg(feature = "profile")]
    pub fn write_json<W: std::io::Write>(&self, out: W) -> std::io::Result<()> {
        whole(out, |out| {
            for snapshot in &self.kept {
                serde_json::to_writer(&mut *out, snapshot)?;
                std::io::Write::write_all(out, b"\n")?;
            }
            Ok(())
        })
    }

    /// Reads what [`write_json`](Self::write_json) wrote, all of it.
    ///
    /// ```
    /// use spanalloc::Snapshots;
    ///
    /// let mut before = Snapshots::new(10);
    /// (0..3).for_each(|_| _ = before.take());
    /// let mut file = Vec::new();
    /// before.write_json(&mut file)?;
    /// let after = Snapshots::read_json(&file[..])?;
    /// assert!(after.iter().eq(before.iter()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `from`; `InvalidData` with the number of a line that is no snapshot, or whose
    /// time is not later than that of the line before, or later than any clock tells.
    #[cfg(feature = "profile")]
    pub fn read_json<R: std::io::BufRead>(from: R) -> std::io::Result<Self> {
        let mut kept = VecDeque::<Snapshot>::new();
        for (line, text) in from.lines().enumerate() {
            let invalid = |what: String| {
                let text = format!("line {} of the snapshots: {what}", line + 1);
                std::io::Error::new(std::io::ErrorKind::InvalidData, text)
            };
            let read: Snapshot =
                serde_json::from_str(&text?).map_err(|error| invalid(error.to_string()))?;
            if kept.back().is_some_and(|last| last.at >= read.at) {
                return Err(invalid(format!("{:?} is not later than the line before", read.at)));
            }
            if read.at > LATEST {
                return Err(invalid(format!("no clock tells {:?}", read.at)));
            }
            kept.push_back(read);
        }
        let keep = kept.len().max(KEEP_MIN);
        let last = kept.back().map_or(Duration::ZERO, |last| last.at);
        // Those that are taken from here on come after them.
        let now = Instant::now();
        Ok(Self { kept, keep, start: now.checked_sub(last).unwrap_or(now) })
    }
}

/// A thread that takes snapshots. Dropping it ends the thread. A child of a fork has what was kept
/// at that moment, or nothing if a snapshot was being taken, and no thread.
///
/// ```
/// use spanalloc::Snapshotter;
/// use std::time::Duration;
///
/// let snapshotter = Snapshotter::start(Duration::from_millis(1), 1000)?;
/// while snapshotter.snapshots().iter().count() < 10 {
///     std::thread::sleep(Duration::from_millis(1)); // The program does its work.
/// }
/// let snapshots = snapshotter.stop();
/// assert!(snapshots.iter().count() > 10);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Snapshotter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// In which the thread runs.
    process: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    snapshots: Snapshots,
    end: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshotter {
    /// Takes a snapshot at once and one after every `interval`, of which it keeps the latest
    /// `keep`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) when `interval` is zero; what the system
    /// says when it starts no thread.
    ///
    /// # Panics
    ///
    /// When `keep` is below 2.
    pub fn start(interval: Duration, keep: usize) -> std::io::Result<Self> {
        if interval.is_zero() {
            let message = "interval is 0: it must be longer";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
        }
        let mut snapshots = Snapshots::new(keep);
        snapshots.take();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { snapshots, end: false }),
            ended: Condvar::new(),
        });
        let its = Arc::clone(&shared);
        let work = move || {
            let mut state = its.state();
            loop {
                let waited = its.ended.wait_timeout_while(state, interval, |state| !state.end);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                if state.end {
                    return;
                }
                // Meanwhile others have the lock: the interval may be shorter than this takes.
                drop(state);
                let stats = super::stats();
                state = its.state();
                state.snapshots.keep(stats);
            }
        };
        let thread = thread::Builder::new().name("snapshotter".into()).spawn(work)?;
        Ok(Self { shared, thread: Some(thread), process: process::here() })
    }

    /// A copy of what is kept now.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        self.state().map_or_else(|| Snapshots::new(KEEP_MIN), |state| state.snapshots.clone())
    }

    /// Takes a last snapshot, ends the thread and returns what is kept.
    #[must_use]
    pub fn stop(mut self) -> Snapshots {
        self.end();
        let mut snapshots = self.snapshots();
        snapshots.take();
        snapshots
    }

    fn is_in_child(&self) -> bool {
        self.process != process::here()
    }

    /// None if a thread that a fork left behind holds it.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        if !self.is_in_child() {
            return Some(self.shared.state());
        }
        match self.shared.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.is_in_child() {
            // By invariant 2. Even to let go of it would be to look at a thread that is not there.
            return std::mem::forget(thread);
        }
        self.shared.state().end = true;
        self.shared.ended.notify_all();
        // It does not panic; if it did, what it took stays.
        _ = thread.join();
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(all(test, feature = "profile"))]
mod tests {
    use super::*;

    #[test]
    fn a_bare_file_is_written_in_long_pieces() {
        struct Calls(usize, usize);
        impl std::io::Write for Calls {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                (self.0, self.1) = (self.0 + 1, self.1 + bytes.len());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut snapshots = Snapshots::new(3);
        (0..3).for_each(|_| _ = snapshots.take());
        let mut out = Calls(0, 0);
        snapshots.write_json(&mut out).unwrap();
        assert!(out.0 <= out.1 / 4096 + 2, "{} calls for {} bytes", out.0, out.1);
    }

    #[test]
    fn growth_is_of_classes_and_large_blocks_that_changed() {
        use crate::report::ClassStats;
        let row = |block_bytes, allocs, frees: u64, live_blocks: u64| ClassStats {
            block_bytes,
            allocs,
            frees,
            live_blocks,
            live_bytes: live_blocks * block_bytes,
            allocated_bytes: allocs * block_bytes,
            ..<_>::default()
        };
        let stats = |classes, large| Stats { classes, large, ..Stats::default() };
        let mut snapshots = Snapshots::new(2);
        assert!(snapshots.growth().is_empty());
        snapshots.keep(stats(
            vec![row(16, 10, 0, 10), row(32, 9, 2, 7), row(48, 5, 5, 0), row(64, 3, 1, 2)],
            vec![row(1 << 16, 4, 1, 3)],
        ));
        assert!(snapshots.growth().is_empty(), "one shows no change");
        snapshots.keep(stats(
            vec![row(16, 30, 5, 25), row(32, 9, 6, 3), row(48, 8, 8, 0), row(64, 3, 1, 2)],
            vec![row(1 << 16, 4, 1, 3), row(1 << 17, 2, 1, 1)],
        ));
        let growth = |block_bytes, live_blocks, allocs| ClassGrowth {
            block_bytes,
            live_blocks,
            live_bytes: live_blocks * block_bytes as i64,
            allocs,
            allocated_bytes: allocs * block_bytes,
        };
        // What was only freed, or allocated and freed, changed; two sizes did not.
        let expected =
            [growth(1 << 17, 1, 2), growth(16, 15, 20), growth(48, 0, 3), growth(32, -4, 0)];
        assert_eq!(snapshots.growth(), expected);
    }

    #[test]
    fn what_is_read_keeps_as_many_and_goes_on_behind() {
        let line = |ns: u32| {
            let snapshot = Snapshot { at: Duration::new(7, ns), stats: Stats::default() };
            serde_json::to_string(&snapshot).unwrap() + "\n"
        };
        let read = |times: &[u32]| {
            let text: String = times.iter().map(|ns| line(*ns)).collect();
            Snapshots::read_json(text.as_bytes())
        };
        let mut three = read(&[5, 6, 7]).unwrap();
        thread::sleep(Duration::from_millis(5));
        let behind = three.take().at - Duration::new(7, 7);
        let passed = Duration::from_millis(5)..Duration::from_secs(60);
        assert!(passed.contains(&behind), "{behind:?} by the clock, from the last one on");
        three.take();
        let times: Vec<_> = three.iter().map(|snapshot| snapshot.at).collect();
        assert_eq!((times.len(), times[0]), (3, Duration::new(7, 7)), "the latest three stay");
        let mut one = read(&[5]).unwrap();
        (0..3).for_each(|_| _ = one.take());
        assert_eq!(one.iter().count(), 2);
        let error = read(&[5, 5]).unwrap_err().to_string();
        assert!(error.ends_with("7.000000005s is not later than the line before"), "{error}");
    }
}
