//! Timing with the clock's own cost known and taken off.
//!
//! A read of the clock costs tens of nanoseconds, more than many things one would like to time. So
//! single operations are timed in batches, and what a pair of reads costs is measured first.

use std::fmt;
use std::hint::black_box;

/// A stopwatch on `CLOCK_MONOTONIC_RAW`, which no time server bends.
///
/// ```
/// use spanalloc::observe::Timer;
///
/// let timer = Timer::calibrate();
/// println!("{timer}"); // CLOCK_MONOTONIC_RAW: a pair of reads takes 42.0 ns, …
/// let (sum, nanoseconds) = timer.time(|| (0..1000u64).sum::<u64>());
/// assert_eq!(sum, 499_500);
/// assert!(nanoseconds >= 0.0);
/// let mut value = 0u64;
/// let per_operation = timer.batch(1000, || value += 1);
/// assert_eq!(value, 1000);
/// assert!(per_operation >= 0.0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    overhead_ns: f64,
    resolution_ns: u64,
}

/// Pairs of reads that are timed.
const CALIBRATION_PAIRS: usize = 2001;

impl Timer {
    /// Measures what the clock costs. Takes about a tenth of a millisecond.
    #[must_use]
    pub fn calibrate() -> Self {
        let mut pairs: Vec<u64> = (0..CALIBRATION_PAIRS)
            .map(|_| {
                let start = now_ns();
                black_box(());
                now_ns() - start
            })
            .collect();
        pairs.sort_unstable();
        // Each is a multiple of the clock's step. The mean of many is finer than that, and that of
        // the middle half as deaf to outliers as the median.
        let middle = &pairs[CALIBRATION_PAIRS / 4..CALIBRATION_PAIRS * 3 / 4];
        let overhead_ns = middle.iter().sum::<u64>() as f64 / middle.len() as f64;
        let steps = pairs.windows(2).map(|pair| pair[1] - pair[0]);
        let resolution_ns = steps.filter(|&step| step > 0).min().unwrap_or(1);
        Self { overhead_ns, resolution_ns }
    }

    /// Nanoseconds that a pair of clock reads takes: the mean of the middle half of the pairs
    /// measured.
    #[must_use]
    pub fn overhead_ns(&self) -> f64 {
        self.overhead_ns
    }

    /// The smallest difference there was between what two pairs of reads took, in nanoseconds: the
    /// clock's step, as far as that can be seen; 1 when all took the same.
    #[must_use]
    pub fn resolution_ns(&self) -> u64 {
        self.resolution_ns
    }

    /// Runs `work` and returns its result and the nanoseconds it took, without the clock's share;
    /// 0 where it took no more than that. Below some ten times [`overhead_ns`](Self::overhead_ns)
    /// use [`batch`](Self::batch).
    pub fn time<R>(&self, work: impl FnOnce() -> R) -> (R, f64) {
        let start = now_ns();
        let result = black_box(work());
        let elapsed_ns = (now_ns() - start) as f64;
        (result, (elapsed_ns - self.overhead_ns).max(0.0))
    }

    /// Runs `work` so many times between two reads of the clock and returns the nanoseconds that
    /// one run took, the loop included.
    ///
    /// # Panics
    ///
    /// When `operations` is zero.
    pub fn batch(&self, operations: u64, mut work: impl FnMut()) -> f64 {
        assert!(operations > 0, "operations is 0: a batch has at least one");
        let ((), elapsed_ns) = self.time(|| {
            for _ in 0..operations {
                work();
                black_box(());
            }
        });
        elapsed_ns / operations as f64
    }
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CLOCK_MONOTONIC_RAW: a pair of reads takes {:.1} ns, which is taken off; steps of {} ns",
            self.overhead_ns, self.resolution_ns
        )
    }
}

/// The clock's reading in nanoseconds.
fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a place for the reading.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut now) };
    debug_assert_eq!(failed, 0, "Linux has had this clock since 2.6.28");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
