//! What a measurement measures with: clocks, counters, and a place to put readings.

use std::fmt::Write;
use std::panic::resume_unwind;
use std::thread;
use std::time::Instant;

use super::regrowth::reallocations;

/// Collects the readings of one round of an experiment.
///
/// A reading is a line: metric, variant, `x` or `-`, value, separated by tabs.
pub(crate) struct Probe {
    round: usize,
    quick: bool,
    lines: String,
}

impl Probe {
    pub(crate) fn new(round: usize, quick: bool) -> Self {
        // Large enough never to move, so that readings do not show up in what is measured.
        Self { round, quick, lines: String::with_capacity(1 << 20) }
    }

    /// One or the other, by the length of the run.
    pub(crate) fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Which round this is: a seed that differs from round to round.
    pub(crate) fn seed(&self) -> u64 {
        self.round as u64
    }

    /// The variants in an order that differs from round to round.
    pub(crate) fn turns<T: Copy>(&self, variants: &[T]) -> Vec<T> {
        let mut turns = variants.to_vec();
        turns.rotate_left(self.round % variants.len());
        turns
    }

    pub(crate) fn record(&mut self, metric: &str, variant: &str, value: f64) {
        // Writing to a string does not fail.
        let _ = writeln!(self.lines, "{metric}\t{variant}\t-\t{value}");
    }

    pub(crate) fn record_at(&mut self, metric: &str, variant: &str, x: f64, value: f64) {
        let _ = writeln!(self.lines, "{metric}\t{variant}\t{x}\t{value}");
    }

    /// Records what was counted; nothing where nobody counts.
    pub(crate) fn record_some(&mut self, metric: &str, variant: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.record(metric, variant, value);
        }
    }

    pub(crate) fn finish(self) -> String {
        self.lines
    }
}

/// Nanoseconds of processor time that `work` takes on this thread, and its result. What others do
/// on the machine does not count; a reading takes some hundred nanoseconds.
pub(crate) fn timed<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let start = processor_ns();
    let result = work();
    (processor_ns() - start, result)
}

/// Nanoseconds by the clock that `work` takes. For short work, most readings of which no other
/// process disturbs.
pub(crate) fn clocked(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64
}

fn processor_ns() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a place for the reading.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    assert_eq!(failed, 0, "Linux knows this clock");
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// Allocations that `work` makes, and its result. `None` where our allocator is not the global one:
/// it is the allocator that counts.
pub(crate) fn counted<R>(work: impl FnOnce() -> R) -> (Option<f64>, R) {
    let idle = allocs_between(|| ()).0;
    let (allocs, result) = allocs_between(work);
    (counts().then(|| allocs.saturating_sub(idle) as f64), result)
}

/// Whether our allocator serves this process.
pub(crate) fn counts() -> bool {
    spanalloc::stats().total().allocs > 0
}

fn allocs_between<R>(work: impl FnOnce() -> R) -> (u64, R) {
    let before = spanalloc::stats().total().allocs;
    let result = work();
    (spanalloc::stats().total().allocs - before, result)
}

/// Reallocations that `work` makes on this thread, and its result.
pub(crate) fn regrown<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let before = reallocations();
    let result = work();
    ((reallocations() - before) as f64, result)
}

/// The most bytes of blocks that `work` holds at a time beyond what was there before, and its
/// result; `None` where our allocator does not serve. Slow.
pub(crate) fn peak_blocks<R>(work: impl FnOnce() -> R) -> (Option<f64>, R) {
    let (result, usage) = spanalloc::measure(work);
    (counts().then_some(usage.peak_block_bytes as f64), result)
}

/// Bytes that the program holds, by our allocator's count.
pub(crate) fn live_bytes() -> Option<u64> {
    counts().then(|| spanalloc::stats().memory.live)
}

/// Runs `work` on a new thread. A thread's lists hold blocks on which it was decided before
/// sampling began, or changed; a new thread has none.
pub(crate) fn on_new_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// Bytes and objects that `work` allocates, exact: every allocation is sampled. Slow.
pub(crate) fn profiled<R: Send>(work: impl FnOnce() -> R + Send) -> (Option<(f64, f64)>, R) {
    if !counts() || spanalloc::profile::start(1).is_err() {
        return (None, work());
    }
    let before = allocated();
    let result = on_new_thread(work);
    let after = allocated();
    spanalloc::profile::stop();
    (Some((after.0 - before.0, after.1 - before.1)), result)
}

/// Bytes and objects that the profile has seen allocated.
pub(crate) fn allocated() -> (f64, f64) {
    let profile = spanalloc::profile::capture();
    let sum = |of: fn(&spanalloc::profile::Amount) -> u64| {
        profile.sites.iter().map(|site| of(&site.allocated)).sum::<u64>() as f64
    };
    (sum(|amount| amount.bytes), sum(|amount| amount.objects))
}

/// Page faults of this process that needed no disk, so far.
pub(crate) fn faults() -> f64 {
    // SAFETY: all zeroes is a value of the type.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a place for the answer.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(failed, 0, "getrusage knows RUSAGE_SELF");
    usage.ru_minflt as f64
}

/// The most memory that was resident during `work` above what was before, in bytes; `None` where
/// the kernel does not let a process reset its mark. What the allocator has free goes back first,
/// or it would serve `work` without growing; `None` also where it cannot be told to.
pub(crate) fn peak_resident<R>(work: impl FnOnce() -> R) -> (Option<f64>, R) {
    let released = give_back();
    let reset = released && std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status_bytes("VmHWM");
    let result = work();
    let grown = status_bytes("VmHWM").zip(before).map(|(after, before)| after - before);
    (grown.filter(|_| reset), result)
}

/// Gives what the program's allocator has free back to the kernel, if there is a way to.
fn give_back() -> bool {
    spanalloc::release_free_memory();
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: no preconditions.
        unsafe { libc::malloc_trim(0) };
        true
    }
    #[cfg(not(target_env = "gnu"))]
    counts()
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident() -> Option<f64> {
    status_bytes("VmRSS")
}

fn status_bytes(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

/// The value below which so much of the sorted values lies.
pub(crate) fn quantile(sorted: &[u32], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    f64::from(sorted[rank.clamp(1, sorted.len()) - 1])
}

/// Ignores a result, of a type with or without a `Drop`.
pub(crate) fn unused<T>(_: T) {}

/// Random numbers without state to share: SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// From 0 to 1, exclusively.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
}

/// A number like a random one, another for each number.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
