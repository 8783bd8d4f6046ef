//! Takes the snapshot that a capture is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::busily;
use super::classes::Row;
use super::labels::{Label, Labels};
use super::lifetimes::BUCKETS;
use super::peak::Moment;
use super::recorder::Lost;
use super::sites::{Figures, Origin, Sites};
use super::snapshot::{
    Amount, BlockSize, Group, Lifetimes, Losses, Module, Off, Profile, Site, Unwinding,
};
use super::stack::Mode;
use super::sums::{Rounding, Sums, Weight};
use crate::sys::modules::LoadedModule;
use crate::sys::os::monotonic_ns;
use crate::sys::program;

/// The profile as it stands. Sites are copied a sixteenth at a time, so with
/// other threads running it is not of one instant.
///
/// Costs a copy of the site table; no names are resolved and no file is read.
///
/// # Examples
///
/// ```
/// let profile = spanalloc::profile::capture();
/// println!("{} sites", profile.sites.len());
/// ```
#[must_use]
pub fn capture() -> Profile {
    super::quietly(|| {
        let recorder = &super::PROFILER;
        if super::interval() != 0 {
            recorder.walker.unwinders.load();
        }
        let (times, moment) =
            busily(|| (recorder.peak.times(monotonic_ns()), recorder.peak.moment()));
        let (duration_ns, peak_after_ns) = times;
        // Next to the other clock: both together tell when the run began.
        let time_unix_ns = unix_ns();
        let (copies, frames) = copied(&recorder.sites, moment);
        let threads = Groups::of(&recorder.threads, &copies, |origin| origin.thread);
        let spans = Groups::of(&recorder.spans, &copies, |origin| origin.span);
        let sites = sites(&copies, &frames, monotonic_ns(), |origin| {
            (threads.place(origin.thread), spans.place(origin.span))
        });
        Profile {
            time_unix_ns,
            duration_ns,
            peak_after_ns,
            sizes: sizes(),
            threads: threads.groups,
            spans: spans.groups,
            ..of_sites(sites, super::interval(), &recorder.lost)
        }
    })
}

/// The profile that the sites of a trace make, which began at that time.
pub(super) fn of_trace(traced: &Sites, began_ns: u64, lost: &Lost) -> Profile {
    super::quietly(|| {
        let (copies, frames) = copied(traced, Moment::FIRST);
        let now_ns = monotonic_ns();
        let sites = sites(&copies, &frames, now_ns, |_| (None, None));
        let duration_ns = now_ns.saturating_sub(began_ns);
        Profile { duration_ns, peak_after_ns: duration_ns, ..of_sites(sites, 1, lost) }
    })
}

fn of_sites(sites: Vec<Site>, interval_bytes: u64, lost: &Lost) -> Profile {
    let recorder = &super::PROFILER;
    Profile {
        interval_bytes,
        time_unix_ns: unix_ns(),
        duration_ns: 0,
        peak_after_ns: 0,
        process: std::process::id(),
        unwinding: match recorder.walker.mode() {
            Mode::Trial => Unwinding::Undecided,
            Mode::Cfi => Unwinding::UnwindTables,
            Mode::FramePointers => Unwinding::FramePointers,
        },
        sites,
        sizes: Vec::new(),
        threads: Vec::new(),
        spans: Vec::new(),
        modules: busily(|| recorder.walker.unwinders.modules()),
        losses: losses(lost, recorder.walker.unwinders.modules_without_cfi()),
        profiler_bytes: super::memory_bytes() as u64,
        symbols: OnceLock::new(),
    }
}

/// Now, in nanoseconds since 1970; 0 where the clock stands before that.
fn unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A site as it is in the table, but for its frames.
struct Copy {
    frames: usize,
    origin: Origin,
    figures: Figures,
}

/// Copies the sites, and the frames of all one after the other: a site's lock is
/// held meanwhile, so that nothing may be allocated for each.
fn copied(table: &Sites, moment: Moment) -> (Vec<Copy>, Vec<u64>) {
    let (sites, frames) = busily(|| table.size());
    // What other threads add meanwhile fits the surplus, or is left out.
    let (sites, frames) = (sites + sites / 8 + 64, frames + frames / 8 + 4096);
    let mut all_frames = Vec::with_capacity(frames);
    let mut copies = Vec::with_capacity(sites);
    let copy = |frames: &[u64], origin, figures: &Figures| {
        let fits = all_frames.len() + frames.len() <= all_frames.capacity();
        if fits && copies.len() < copies.capacity() {
            all_frames.extend_from_slice(frames);
            copies.push(Copy { frames: frames.len(), origin, figures: *figures });
        }
    };
    busily(|| table.for_each(moment, copy));
    (copies, all_frames)
}

/// The sites of copies, as of now; `places` are those of an origin's thread and span.
fn sites(
    copies: &[Copy],
    frames: &[u64],
    now_ns: u64,
    places: impl Fn(Origin) -> (Option<u32>, Option<u32>),
) -> Vec<Site> {
    let mut rest = frames;
    // Most sites have few samples: rounded each on its own, their sum would be far off.
    let [mut all, mut live, mut peak] = [(); 3].map(|()| Rounding::default());
    let mut freed = [(); BUCKETS].map(|()| Rounding::default());
    let site = |copy: &Copy| {
        let (frames, others) = rest.split_at(copy.frames);
        rest = others;
        let (thread, span) = places(copy.origin);
        let figures = &copy.figures;
        let part = |sums: &Sums, rounding: &mut Rounding, most| Amount {
            objects: rounding.objects(sums, most),
            ..amount(sums)
        };
        let allocated = part(&figures.alloc, &mut all, u64::MAX);
        Site {
            frames: frames.to_vec(),
            allocated,
            in_use: part(&figures.live, &mut live, allocated.objects),
            peak: part(&figures.peak, &mut peak, allocated.objects),
            lifetimes: Lifetimes::of(figures.lifetimes.parts(&mut freed)),
            in_use_ages_us: figures.live.ages_us(now_ns),
            thread,
            span,
        }
    };
    copies.iter().map(site).collect()
}

/// What was sampled of each block size, ascending.
pub(crate) fn sizes() -> Vec<BlockSize> {
    let mut sizes = Vec::new();
    let size = |row: Row| sizes.push(BlockSize::of(&row));
    busily(|| super::PROFILER.classes.for_each(size));
    sizes.sort_by_key(|size| size.block_bytes);
    sizes
}

impl BlockSize {
    fn of(row: &Row) -> Self {
        Self {
            block_bytes: row.block_bytes,
            allocated: amount(&row.alloc),
            in_use: amount(&row.live),
            lifetimes: Lifetimes::of(row.lifetimes.objects()),
            weight: row.alloc.weight(),
            weighted_bytes: row.alloc.bytes_weight(),
        }
    }

    /// For how many objects the samples would stand, had all been taken at this interval.
    pub(crate) fn objects_at(&self, interval_bytes: u64) -> f64 {
        let Amount { samples, objects, block_bytes, .. } = self.allocated;
        let block_bytes = block_bytes.checked_div(objects).unwrap_or(self.block_bytes);
        let weight =
            Weight::new(usize::try_from(block_bytes).unwrap_or(usize::MAX), interval_bytes);
        samples as f64 * Sums::of(weight, 0, 0).weight()
    }
}

/// What was sampled under each label, most allocated first.
struct Groups {
    groups: Vec<Group>,
    /// The label of each, in the same order.
    labels: Vec<Label>,
}

impl Groups {
    /// The groups of the labels that `label` gives for sites' origins.
    fn of(labels: &Labels, copies: &[Copy], label: impl Fn(Origin) -> Label) -> Self {
        let mut sums = BTreeMap::<Label, (Sums, Sums)>::new();
        for copy in copies {
            let (alloc, live) = sums.entry(label(copy.origin)).or_default();
            alloc.add(&copy.figures.alloc);
            live.add(&copy.figures.live);
        }
        let mut found: Vec<_> = sums.into_iter().collect();
        found.sort_by_key(|(_, (alloc, _))| std::cmp::Reverse(alloc.requested_bytes()));
        let group = |(label, (alloc, live)): &(Label, (Sums, Sums))| Group {
            name: busily(|| labels.name(*label))
                .map_or_else(|| Group::OTHERS.to_owned(), |name| name.text()),
            allocated: amount(alloc),
            in_use: amount(live),
        };
        Self {
            groups: found.iter().map(group).collect(),
            labels: found.iter().map(|(label, _)| *label).collect(),
        }
    }

    /// Where the group of a label is.
    fn place(&self, label: Label) -> Option<u32> {
        let at = self.labels.iter().position(|known| *known == label)?;
        u32::try_from(at).ok()
    }
}

fn amount(sums: &Sums) -> Amount {
    let (objects_error, bytes_error) = (sums.objects_error(), sums.requested_error());
    Amount {
        samples: sums.samples,
        objects: sums.objects(),
        bytes: sums.requested_bytes(),
        block_bytes: sums.block_bytes(),
        objects_error,
        bytes_error,
        off: Off::new((objects_error, bytes_error), sums.variances()),
    }
}

fn losses(lost: &Lost, modules_without_cfi: usize) -> Losses {
    Losses {
        reentrant: lost.reentrant.get(),
        out_of_memory: lost.out_of_memory.get(),
        frees: lost.frees.get(),
        without_unwinder: lost.without_unwinder.get(),
        broken_stacks: lost.broken_stacks.get(),
        truncated_stacks: lost.truncated_stacks.get(),
        modules_without_unwind_table: modules_without_cfi as u64,
    }
}

impl Module {
    /// A module as the loader tells of it.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn of(module: &LoadedModule<'_>) -> Self {
        let path = if module.is_main {
            program::file()
        } else {
            PathBuf::from(std::ffi::OsStr::from_bytes(module.name.to_bytes()))
        };
        let mut build_id = String::with_capacity(module.build_id.len() * 2);
        for byte in module.build_id {
            // Writing to a string never fails.
            let _ = write!(build_id, "{byte:02x}");
        }
        Self {
            path,
            bias: module.bias,
            start: module.code.start,
            end: module.code.end,
            file_offset: module.code_offset,
            build_id,
            main: module.is_main,
        }
    }
}

#[cfg(test)]
impl BlockSize {
    /// Samples at an interval, all in use, of so many bytes asked for each.
    pub(crate) fn sampled(interval: u64, block_bytes: u64, asked: &[u64]) -> Self {
        let weight = Weight::new(block_bytes as usize, interval);
        let mut row = Row::FREE;
        row.block_bytes = block_bytes;
        asked.iter().for_each(|bytes| row.alloc.add(&Sums::of(weight, *bytes, block_bytes)));
        row.live = row.alloc;
        Self::of(&row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::alone::alone;

    #[test]
    fn each_loss_is_told_under_its_own_name() {
        let lost = Lost::new();
        for (counter, times) in [
            (&lost.reentrant, 1),
            (&lost.out_of_memory, 2),
            (&lost.frees, 3),
            (&lost.without_unwinder, 4),
            (&lost.broken_stacks, 5),
            (&lost.truncated_stacks, 6),
        ] {
            (0..times).for_each(|_| counter.raise());
        }
        let expected = Losses {
            reentrant: 1,
            out_of_memory: 2,
            frees: 3,
            without_unwinder: 4,
            broken_stacks: 5,
            truncated_stacks: 6,
            modules_without_unwind_table: 7,
        };
        assert_eq!(losses(&lost, 7), expected);
    }

    #[test]
    fn a_trace_tells_when_and_where_it_was_taken() {
        let (before, began_ns) = (unix_ns(), monotonic_ns() - 5_000_000);
        let profile = of_trace(&Sites::new(), began_ns, &Lost::new());
        assert!((before..=unix_ns()).contains(&profile.time_unix_ns) && before > 1 << 60);
        assert_eq!((profile.process, profile.interval_bytes), (std::process::id(), 1));
        assert!((5_000_000..=monotonic_ns() - began_ns).contains(&profile.duration_ns));
        assert_eq!(profile.peak_after_ns, profile.duration_ns);
    }

    #[test]
    fn a_capture_tells_when_the_run_began_and_was_at_its_peak() {
        const MS: u64 = 1_000_000;
        if !alone(concat!(
            "profile::capture::tests::",
            "a_capture_tells_when_the_run_began_and_was_at_its_peak"
        )) {
            return;
        }
        let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
        let (began_unix_ns, began_ns) = (unix_ns(), monotonic_ns());
        super::super::on_alloc(16, 30, 32, 1);
        pause();
        super::super::on_alloc(48, 3000, 4096, 1);
        let peak_ns = monotonic_ns();
        pause();
        super::super::on_free(48);
        let profile = capture();
        let passed_ns = monotonic_ns() - began_ns;
        assert!((20 * MS..=peak_ns - began_ns).contains(&profile.peak_after_ns), "{profile:?}");
        assert!((profile.peak_after_ns + 20 * MS..=passed_ns).contains(&profile.duration_ns));
        let unix_ns = began_unix_ns + profile.duration_ns;
        assert!(profile.time_unix_ns.abs_diff(unix_ns) < 10_000 * MS);
        assert_eq!(profile.process, std::process::id());
        let bytes = |of: fn(&Site) -> u64| profile.sites.iter().map(of).sum::<u64>();
        assert_eq!(bytes(|site| site.peak.bytes), 3030);
        assert_eq!(bytes(|site| site.in_use.bytes), 30);
    }

    #[test]
    fn lifetimes_of_many_small_sites_add_up_to_what_was_freed() {
        // A weight of 3/2, whose probability is 2/3.
        let weight = Weight::new(10_986, 10_000);
        let mut figures = Figures { alloc: Sums::of(weight, 24, 32), ..Figures::default() };
        figures.lifetimes.add(weight, 5000);
        let copies: Vec<_> =
            (0..2000).map(|_| Copy { frames: 0, origin: Origin::NONE, figures }).collect();
        let sites = sites(&copies, &[], 0, |_| (None, None));
        let allocated: u64 = sites.iter().map(|site| site.allocated.objects).sum();
        let freed: u64 = sites.iter().map(|site| site.lifetimes.total()).sum();
        assert!(allocated.abs_diff(3000) <= 1, "{allocated}");
        assert!(freed.abs_diff(allocated) <= 1, "{freed} of {allocated} freed");
    }
}
