//! What a capture holds: plain data, with addresses not yet resolved to names.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::ages::Lifetimes;
use super::symbols::Symbols;

/// A heap profile: what was sampled up to the moment it was captured.
///
/// Its figures are estimates unless the interval was 1 byte all along; how far
/// to trust one follows from its number of samples
/// ([`Amount::relative_error`]). Addresses are resolved to names only when a
/// report is written.
///
/// # Examples
///
/// ```
/// spanalloc::profile::start(64 * 1024)?;
/// let held = vec![0_u8; 1 << 20];
/// let profile = spanalloc::profile::capture();
/// assert_eq!(profile.interval_bytes, 64 * 1024);
/// # drop(held);
/// # Ok::<(), spanalloc::profile::IntervalError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Profile {
    /// Mean bytes between samples at the time of the capture; 0 if sampling was
    /// off. Each sample was weighed with the interval of its own time.
    pub interval_bytes: u64,
    /// When it was captured, in nanoseconds since 1970.
    pub time_unix_ns: u64,
    /// How long ago gathering began, in nanoseconds: at the first sample since the
    /// process started or since [`reset`](super::reset).
    #[serde(default)]
    pub duration_ns: u64,
    /// When the program held most, in nanoseconds since gathering began.
    #[serde(default)]
    pub peak_after_ns: u64,
    /// The process.
    #[serde(default)]
    pub process: u32,
    /// How the stacks were walked.
    pub unwinding: Unwinding,
    /// One entry per distinct stack, name of a thread, and kind of span, in no
    /// particular order; reports add up those that differ in the latter two alone.
    pub sites: Vec<Site>,
    /// One entry per block size seen, ascending.
    pub sizes: Vec<BlockSize>,
    /// One entry per name of a thread that allocated, most allocated first. Names are the system's,
    /// 15 bytes at most, and stay for the life of the process: the first 254 are told apart, what
    /// threads of further names allocate counts together as `(others)`.
    #[serde(default)]
    pub threads: Vec<Group>,
    /// One entry per kind of `tracing` span that something was allocated in; as many are told
    /// apart.
    #[serde(default)]
    pub spans: Vec<Group>,
    /// Modules with code, as loaded at the time of the capture.
    pub modules: Vec<Module>,
    /// What is missing from the figures above, and why.
    pub losses: Losses,
    /// Bytes of memory that the profiler's own tables took: up to 1 KiB for a site and 20 bytes
    /// for each of its frames, 256 MiB at most.
    pub profiler_bytes: u64,
    /// Filled by the first report.
    #[serde(skip)]
    pub(crate) symbols: OnceLock<Symbols>,
}

impl Profile {
    /// Every return address once, ascending.
    pub(crate) fn addresses(&self) -> Vec<u64> {
        // Stacks have most of theirs in common.
        let all = self.sites.iter().flat_map(|site| site.frames.iter().copied());
        let mut addresses: Vec<u64> = all.collect::<HashSet<_>>().into_iter().collect();
        addresses.sort_unstable();
        addresses
    }

    /// The names of the addresses, resolved on the first call.
    pub(crate) fn symbols(&self) -> &Symbols {
        self.symbols.get_or_init(|| super::quietly(|| Symbols::resolve(self)))
    }
}

/// How stacks were walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Unwinding {
    /// Too few samples yet to choose; by both ways, the unwind tables' kept.
    Undecided,
    /// By the unwind tables (CFI) of the modules.
    UnwindTables,
    /// Along frame pointers, which were found to tell the same.
    FramePointers,
}

/// A stack and what was allocated at it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Site {
    /// Return addresses, leaf first.
    pub frames: Vec<u64>,
    /// Everything allocated here while sampling was on; blocks that changed their size in place
    /// with the most they were ever asked for.
    pub allocated: Amount,
    /// What of it was not freed yet.
    pub in_use: Amount,
    /// What of it was in use when the program held most. The moment is that of the highest
    /// estimate, and so one at which the estimate was high: the sum over all sites is too much,
    /// also for its error bar, in a program whose memory stays level for long.
    #[serde(default)]
    pub peak: Amount,
    /// How long the objects lived that were freed.
    #[serde(default)]
    pub lifetimes: Lifetimes,
    /// How long those in use have lived so far, summed over all, in microseconds.
    #[serde(default)]
    pub in_use_ages_us: u64,
    /// Place in [`Profile::threads`] of the name of the thread that allocated; none
    /// where it is not known.
    #[serde(default)]
    pub thread: Option<u32>,
    /// Place in [`Profile::spans`] of the kind of span that it was in, as for threads.
    #[serde(default)]
    pub span: Option<u32>,
}

impl Site {
    /// How long an object in use has lived so far on average; none without one, or where ages were
    /// not told, as in older files.
    pub(crate) fn mean_age(&self) -> Option<Duration> {
        let age_us = self.in_use_ages_us.checked_div(self.in_use.objects)?;
        (self.in_use_ages_us != 0).then_some(Duration::from_micros(age_us))
    }

    /// Adds the figures of another site.
    pub(crate) fn add(&mut self, other: &Self) {
        self.allocated.add(&other.allocated);
        self.in_use.add(&other.in_use);
        self.peak.add(&other.peak);
        self.lifetimes.add(&other.lifetimes);
        self.in_use_ages_us = self.in_use_ages_us.saturating_add(other.in_use_ages_us);
    }
}

/// What was allocated under a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Group {
    /// The name; empty for what was allocated under none.
    pub name: String,
    /// Everything allocated under it while sampling was on.
    pub allocated: Amount,
    /// What of it was not freed yet, wherever it is now.
    pub in_use: Amount,
}

impl Group {
    /// Stands for all names beyond those that are told apart.
    pub(crate) const OTHERS: &str = "(others)";
}

/// An estimate from samples, already weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Amount {
    /// Samples the estimate rests on.
    pub samples: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes that were asked for.
    pub bytes: u64,
    /// Bytes of the blocks handed out for them; the rest is waste.
    pub block_bytes: u64,
    /// Standard error of `objects`; 0 if every object was sampled.
    pub objects_error: u64,
    /// Standard error of `bytes`; 0 if every object was sampled.
    pub bytes_error: u64,
    #[serde(skip)]
    pub(crate) off: Off,
}

/// By how much the variances exceed the squares of the errors, which are rounded: without it the
/// error of a sum of hundreds of small amounts would be that of a few. Nothing that is shown, nor
/// read again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Off {
    objects: f64,
    bytes: f64,
}

impl PartialEq for Off {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Off {}

impl Off {
    /// Of errors and the variances that they are the roots of.
    pub(crate) fn new((objects, bytes): (u64, u64), variances: (f64, f64)) -> Self {
        Self { objects: variances.0 - square(objects), bytes: variances.1 - square(bytes) }
    }
}

impl Amount {
    /// The standard error of `bytes` relative to them, about `1/√samples` for small
    /// objects; 0 if every object was sampled, infinite without a sample.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        relative(self.bytes_error, self.bytes, self.samples)
    }

    /// The error bar of `bytes`, relative to them: the truth lies within it in about
    /// 95 of 100 cases. Infinite without a sample.
    #[must_use]
    pub fn bytes_error_bar(&self) -> f64 {
        self.relative_error() * self.bar()
    }

    /// The error bar of `objects`, relative to them, as for bytes.
    #[must_use]
    pub fn objects_error_bar(&self) -> f64 {
        relative(self.objects_error, self.objects, self.samples) * self.bar()
    }

    /// Whether each sample stands for itself alone, so that nothing is estimated. An error alone
    /// may be rounded to none.
    pub(crate) fn is_exact(&self) -> bool {
        self.samples == self.objects && self.objects_error == 0 && self.bytes_error == 0
    }

    /// Standard errors in an error bar. The error itself is estimated, and from few
    /// samples too often too low: one sample more is what makes up for that.
    pub(crate) fn bar(&self) -> f64 {
        /// Standard errors that hold 95 % of a normal distribution, to either side.
        const NORMAL: f64 = 1.96;
        let samples = self.samples.max(1) as f64;
        NORMAL * ((samples + 1.0) / samples).sqrt()
    }

    /// The squares of the standard errors of objects and bytes.
    pub(crate) fn variances(&self) -> (f64, f64) {
        let of = |error, off: f64| (square(error) + off).max(0.0);
        (of(self.objects_error, self.off.objects), of(self.bytes_error, self.off.bytes))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.block_bytes += other.block_bytes;
        // Variances add up.
        let objects = square(self.objects_error) + square(other.objects_error);
        let bytes = square(self.bytes_error) + square(other.bytes_error);
        let variances = (
            objects + self.off.objects + other.off.objects,
            bytes + self.off.bytes + other.off.bytes,
        );
        self.objects_error = root(variances.0, objects != 0.0);
        self.bytes_error = root(variances.1, bytes != 0.0);
        self.off = Off::new((self.objects_error, self.bytes_error), variances);
    }
}

fn square(error: u64) -> f64 {
    error as f64 * error as f64
}

/// The error of a variance; not 0 if there is any. Not by `hypot`, the only call for which a
/// program would need the mathematical library: loading it costs 400 KiB.
fn root(variance: f64, any: bool) -> u64 {
    (variance.max(0.0).sqrt().round() as u64).max(any.into())
}

fn relative(error: u64, value: u64, samples: u64) -> f64 {
    match samples {
        0 => f64::INFINITY,
        // Objects of no bytes.
        _ if error == 0 => 0.0,
        _ => error as f64 / value.max(1) as f64,
    }
}

/// What was sampled of one block size.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BlockSize {
    /// Size of the blocks; above 32 KiB the largest of an eighth of a doubling.
    pub block_bytes: u64,
    /// Everything allocated in such blocks while sampling was on.
    pub allocated: Amount,
    /// What of it was not freed yet.
    pub in_use: Amount,
    /// How long the objects lived that were freed.
    #[serde(default)]
    pub lifetimes: Lifetimes,
    /// The objects allocated, not rounded.
    #[serde(skip)]
    pub(crate) weight: f64,
    /// The bytes asked for, not rounded.
    #[serde(skip)]
    pub(crate) weighted_bytes: f64,
}

fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// An executable or shared object.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Module {
    /// Where the file is, as the loader knows it. What of it is not UTF-8 is replaced where a
    /// profile is written as JSON.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// What to subtract from an address of the process to get one of the file.
    pub bias: u64,
    /// First executable address in the process.
    pub start: u64,
    /// End of the executable addresses.
    pub end: u64,
    /// Where `start` lies in the file.
    pub file_offset: u64,
    /// The build-id in hexadecimal; empty if the file has none.
    pub build_id: String,
    /// Whether this is the program itself.
    pub main: bool,
}

/// What a profile misses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Losses {
    /// Samples dropped because the thread was inside the profiler already, as a
    /// signal handler that allocates may find it.
    pub reentrant: u64,
    /// Samples dropped because the profiler's memory was at its bound (see
    /// [`profile`](crate::profile)), or the system had none.
    pub out_of_memory: u64,
    /// Frees of sampled blocks that could not be noted at their time; the block
    /// counts as in use until its address is handed out again.
    pub frees: u64,
    /// Samples kept with what frame pointers gave, because the unwinder was
    /// busy or not loaded yet, or had too little room on the stack, as on that of a coroutine.
    pub without_unwinder: u64,
    /// Samples whose stack ends at a frame whose caller could not be found.
    pub broken_stacks: u64,
    /// Samples whose stack was deeper than is kept.
    pub truncated_stacks: u64,
    /// Modules whose unwind tables are missing or could not be used.
    pub modules_without_unwind_table: u64,
}

#[cfg(test)]
impl Profile {
    /// A profile without modules, so that a frame is named by its address less
    /// one: of each site its frames, objects allocated, and objects in use, of 10
    /// bytes each; two samples stand for three objects.
    pub(crate) fn of_sites(sites: &[(&[u64], u64, u64)]) -> Self {
        let amount = |objects: u64| Amount {
            samples: objects * 2 / 3,
            objects,
            bytes: objects * 10,
            block_bytes: objects * 16,
            objects_error: (objects as f64 * 0.75).sqrt().round() as u64,
            bytes_error: (objects as f64 * 75.0).sqrt().round() as u64,
            off: Off::default(),
        };
        let site = |(frames, allocated, in_use): &(&[u64], u64, u64)| Site {
            frames: frames.to_vec(),
            allocated: amount(*allocated),
            in_use: amount(*in_use),
            peak: amount(*in_use),
            lifetimes: Lifetimes::of(vec![0, allocated - in_use]),
            in_use_ages_us: in_use * 7,
            thread: None,
            span: None,
        };
        Self {
            interval_bytes: 4096,
            time_unix_ns: 1,
            duration_ns: 2_000_000_000,
            peak_after_ns: 1_000_000_000,
            process: 7,
            unwinding: Unwinding::UnwindTables,
            sites: sites.iter().map(site).collect(),
            sizes: Vec::new(),
            threads: Vec::new(),
            spans: Vec::new(),
            modules: Vec::new(),
            losses: Losses::default(),
            profiler_bytes: 0,
            symbols: OnceLock::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_many_small_amounts_add_up_as_variances() {
        let one = Amount { samples: 1, objects: 2, objects_error: 1, ..Amount::default() };
        let mut sum = Amount::default();
        (0..10_000).for_each(|_| sum.add(&one));
        assert_eq!((sum.objects, sum.objects_error, sum.bytes_error), (20_000, 100, 0));
        // A variance of 1.4 has the same error.
        let one = Amount { off: Off::new((1, 0), (1.44, 0.0)), ..one };
        let mut sum = Amount::default();
        (0..10_000).for_each(|_| sum.add(&one));
        assert_eq!(sum.objects_error, 120);
        let mut twice = sum;
        twice.add(&sum);
        assert_eq!(twice.objects_error, 170);
    }

    #[test]
    fn the_error_is_relative_and_its_bar_wider_for_few_samples() {
        let amount = |samples, bytes_error| Amount {
            samples,
            bytes: 1000,
            bytes_error,
            ..Amount::default()
        };
        assert_eq!(amount(100, 100).relative_error(), 0.1);
        assert_eq!(amount(7, 0).relative_error(), 0.0);
        assert_eq!(amount(0, 0).relative_error(), f64::INFINITY);
        assert!((amount(100, 100).bytes_error_bar() - 0.197).abs() < 0.001);
        assert!((amount(1, 100).bytes_error_bar() - 0.277).abs() < 0.001);
    }

    #[test]
    fn a_profile_survives_json() {
        let profile = Profile::of_sites(&[(&[3, 2], 30, 6)]);
        let text = serde_json::to_string(&profile).unwrap();
        let read: Profile = serde_json::from_str(&text).unwrap();
        assert_eq!(read.sites[0].frames, [3, 2]);
        assert_eq!(read.sites[0].in_use, profile.sites[0].in_use);
        assert_eq!(read.unwinding, Unwinding::UnwindTables);
    }
}
