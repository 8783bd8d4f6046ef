//! What changed between two profiles.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::calls::{Call, Weight, calls};
use super::facts::{counted, facts};
use super::folded::push_stack;
use super::shown::write_frames;
use super::whole::whole;
use crate::profile::symbols::Frame;
use crate::profile::{self, Amount, Profile, Site};

/// The difference of one figure between two profiles, by stack; displays as text.
///
/// Stacks are matched by the names of their functions, so the profiles may be of
/// different runs, and of different builds where names are the same.
///
/// The text has up to 20 stacks, each with its change and the error bar of that (the truth lies
/// within in about 95 of 100 cases), its values before and after, and the samples that both rest
/// on: those that changed most first, and last those whose change is within its error.
#[derive(Clone, Debug)]
pub struct Diff {
    pub(super) weight: Weight,
    /// Those that grew most first.
    pub(super) changes: Vec<Change>,
    /// Whether both profiles are of one run, so that the later one has the samples of the earlier.
    one_run: bool,
    subtitle: String,
    facts: String,
}

#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) frames: Vec<Arc<Frame>>,
    before: Site,
    after: Site,
}

/// By how much the time at which a run began may differ between two of its profiles: it is found by
/// two clocks, one read after the other.
const CLOCKS_NS: u64 = 10_000_000;

/// Whether two profiles are of one run, as far as process and time tell.
fn is_one_run(before: &Profile, after: &Profile) -> bool {
    let start =
        |profile: &Profile| i128::from(profile.time_unix_ns) - i128::from(profile.duration_ns);
    let off = (start(after) - start(before)).unsigned_abs();
    // A later run of the same number began after the earlier profile was captured.
    before.process == after.process && off < u128::from(CLOCKS_NS.min(before.duration_ns))
}

impl Profile {
    /// How a figure of this profile differs from that of an earlier one.
    ///
    /// Of two profiles of one run, which process and time tell, the error bars are those of what
    /// changed between them: what both hold is the same in both. Otherwise they are those of two
    /// estimates.
    ///
    /// Resolves names on the first report of a profile: that reads the files of
    /// the modules.
    ///
    /// # Examples
    ///
    /// ```
    /// use spanalloc::report::Weight;
    ///
    /// let before = spanalloc::profile::capture();
    /// // …
    /// let after = spanalloc::profile::capture();
    /// println!("{}", after.diff(&before, Weight::InUseBytes));
    /// ```
    pub fn diff(&self, before: &Profile, weight: Weight) -> Diff {
        profile::quietly(|| {
            let mut changes = BTreeMap::<Vec<Arc<str>>, Change>::new();
            let mut enter = |call: Call, is_after: bool| {
                let key = call.frames.iter().map(|frame| frame.function.clone()).collect();
                let change = changes.entry(key).or_insert_with(|| Change {
                    frames: call.frames,
                    before: Site::default(),
                    after: Site::default(),
                });
                if is_after {
                    change.after = call.site;
                } else {
                    change.before = call.site;
                }
            };
            calls(before).into_iter().for_each(|call| enter(call, false));
            calls(self).into_iter().for_each(|call| enter(call, true));
            let mut changes: Vec<_> = changes.into_values().collect();
            changes.sort_by_key(|change| std::cmp::Reverse(change.grown(weight)));
            // Of what was allocated nothing is ever taken back.
            let shrank =
                |change: &Change| change.after.allocated.samples < change.before.allocated.samples;
            let one_run = is_one_run(before, self) && !changes.iter().any(shrank);
            let subtitle = subtitle(&changes, weight);
            Diff { weight, changes, one_run, subtitle, facts: facts(self) }
        })
    }
}

fn subtitle(changes: &[Change], weight: Weight) -> String {
    let total = |of: fn(&Change) -> &Site| {
        let value = |change| weight.value(weight.amount(of(change)));
        weight.figure(changes.iter().map(value).sum())
    };
    format!("{} before, {} after", total(|change| &change.before), total(|change| &change.after))
}

impl Change {
    fn amounts(&self, weight: Weight) -> (&Amount, &Amount) {
        (weight.amount(&self.before), weight.amount(&self.after))
    }

    pub(super) fn values(&self, weight: Weight) -> (u64, u64) {
        let (before, after) = self.amounts(weight);
        (weight.value(before), weight.value(after))
    }

    pub(super) fn samples(&self, weight: Weight) -> u64 {
        let (before, after) = self.amounts(weight);
        before.samples + after.samples
    }

    /// How much more there is. An object more or less in the same bytes, by as many samples, is one
    /// that rounding gave to another site.
    pub(super) fn grown(&self, weight: Weight) -> i128 {
        let (before, after) = self.amounts(weight);
        let same = (before.samples, before.bytes) == (after.samples, after.bytes);
        if same && before.objects.abs_diff(after.objects) <= 1 {
            return 0;
        }
        let (before, after) = self.values(weight);
        i128::from(after) - i128::from(before)
    }
}

/// A variance and the samples that it rests on.
#[derive(Clone, Copy)]
struct Spread(f64, u64);

impl Spread {
    fn of(weight: Weight, amount: &Amount) -> Self {
        Self(weight.variance(amount), amount.samples)
    }

    /// Of what is in this and not in the other, which is a part of it.
    fn less(self, part: Self) -> Self {
        let (variance, samples) = (self.0 - part.0, self.1.saturating_sub(part.1));
        // Errors that were read from a file are rounded, and so may be the difference away.
        let rounding = if samples > 0 { self.0.sqrt() } else { 0.0 };
        Self(variance.max(rounding), samples)
    }

    /// The square of the error bar.
    fn bar_squared(self) -> f64 {
        let bar = Amount { samples: self.1, ..Amount::default() }.bar();
        self.0 * bar * bar
    }
}

/// Stacks shown as text.
const SHOWN: usize = 20;

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = self.changes.iter().filter(|change| change.grown(self.weight) != 0);
        let stacks = match changed.clone().count() {
            1 => "1 stack differs".to_owned(),
            many => format!("{many} stacks differ"),
        };
        writeln!(f, "{}: {}, {stacks}:", self.weight.title(), self.subtitle)?;
        writeln!(f, "({})", self.facts)?;
        let mut largest: Vec<_> = changed.collect();
        largest.sort_by_key(|change| {
            (self.is_within_error(change), std::cmp::Reverse(change.grown(self.weight).abs()))
        });
        let certain = largest.iter().filter(|change| !self.is_within_error(change)).count();
        for (at, change) in largest.into_iter().take(SHOWN).enumerate() {
            if at == certain {
                writeln!(f, "Changes within their error:")?;
            }
            self.row(f, change)?;
        }
        Ok(())
    }
}

impl Diff {
    /// The error bar of a difference, in the unit of the values.
    ///
    /// Of two runs both values are off on their own. Of one run the later profile has all samples
    /// of the earlier: what was allocated is off by what was added alone, and what is in use by
    /// what was added and what was freed since, some of which may have been both and cancel out.
    /// Peaks may be of one moment or of two, and count as of two.
    pub(super) fn error(&self, change: &Change) -> f64 {
        let spread = |amount: &Amount| Spread::of(self.weight, amount);
        let (before, after) = change.amounts(self.weight);
        let apart = spread(before).bar_squared() + spread(after).bar_squared();
        let added = spread(&change.after.allocated).less(spread(&change.before.allocated));
        let freed = |site: &Site| spread(&site.allocated).less(spread(&site.in_use));
        let squared = match self.weight {
            _ if !self.one_run => apart,
            Weight::AllocatedBytes | Weight::AllocatedObjects => added.bar_squared(),
            Weight::InUseBytes | Weight::InUseObjects => {
                let freed = freed(&change.after).less(freed(&change.before));
                Spread(added.0 + freed.0, added.1 + freed.1).bar_squared().min(apart)
            }
            Weight::PeakBytes | Weight::PeakObjects => apart,
        };
        // Not by `hypot`: see `snapshot::root`.
        squared.sqrt()
    }

    /// Whether the change of a stack is within its error.
    fn is_within_error(&self, change: &Change) -> bool {
        change.grown(self.weight).unsigned_abs() as f64 <= self.error(change)
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, change: &Change) -> fmt::Result {
        let (before, after) = change.values(self.weight);
        let sign = if after >= before { '+' } else { '-' };
        let grown = format!("{sign}{}", self.weight.figure(before.abs_diff(after)));
        let error = self.weight.figure(self.error(change).round() as u64);
        let [before, after] = [before, after].map(|value| self.weight.figure(value));
        let samples = counted(change.samples(self.weight), "sample");
        writeln!(f, "{grown:>13} ±{error}: {before} → {after}  {samples}")?;
        write_frames(f, &change.frames)
    }

    /// Writes folded stacks with two values, before and after: the input of
    /// `flamegraph.pl` and `inferno` for differential flamegraphs.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_folded<W: io::Write>(&self, out: W) -> io::Result<()> {
        profile::quietly(|| whole(out, |out| io::Write::write_all(out, self.folded().as_bytes())))
    }

    fn folded(&self) -> String {
        let mut text = String::new();
        for change in &self.changes {
            let (before, after) = change.values(self.weight);
            if (before, after) != (0, 0) {
                push_stack(&mut text, &change.frames);
                text.push_str(&format!(" {before} {after}\n"));
            }
        }
        text
    }

    /// Writes a differential flamegraph: its widths are those after, red what
    /// grew, blue what shrank.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// # Examples
    ///
    /// ```
    /// use spanalloc::report::Weight;
    ///
    /// let (before, after) = (spanalloc::profile::capture(), spanalloc::profile::capture());
    /// let mut svg = Vec::new();
    /// after.diff(&before, Weight::InUseBytes).write_flamegraph(&mut svg)?;
    /// # std::io::Result::Ok(())
    /// ```
    #[cfg(feature = "flamegraph")]
    pub fn write_flamegraph<W: io::Write>(&self, out: W) -> io::Result<()> {
        profile::quietly(|| whole(out, |out| self.draw(out)))
    }

    #[cfg(feature = "flamegraph")]
    fn draw(&self, mut out: impl io::Write) -> io::Result<()> {
        let title = format!("Change of {}", self.weight.title().to_lowercase());
        let subtitle = format!("{}; {}", self.subtitle, self.facts);
        let total = |of: fn((u64, u64)) -> u64| -> u64 {
            self.changes.iter().map(|change| of(change.values(self.weight))).sum()
        };
        // Widths are those after: what is gone by then has none.
        if total(|(_, after)| after) == 0 {
            let before = total(|(before, _)| before);
            let nothing = if before == 0 { "There were no samples." } else { "Nothing is left." };
            return out.write_all(super::flame::empty(&title, &subtitle, nothing).as_bytes());
        }
        let mut options = inferno::flamegraph::Options::default();
        options.title = title;
        super::flame::picture(options, self.weight, subtitle, &self.folded(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference() -> Diff {
        let before = Profile::of_sites(&[(&[0x11, 2], 300, 300), (&[0x21, 2], 30, 30)]);
        let after = Profile::of_sites(&[(&[0x11, 2], 900, 900), (&[0x31, 2], 9, 9)]);
        after.diff(&before, Weight::InUseBytes)
    }

    #[test]
    fn stacks_are_matched_by_name_and_sorted_by_change() {
        let text = difference().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "Bytes in use: 3.22 KiB before, 8.88 KiB after, 3 stacks differ:");
        assert_eq!(lines[1], "(one per 4.00 KiB; stacks by unwind tables)");
        let row = lines[2].trim();
        assert_eq!(row, "+5.86 KiB ±589 B: 2.93 KiB → 8.79 KiB  800 samples", "{text}");
        assert_eq!(lines[3].trim(), "0x10");
        assert!(lines[5].trim().starts_with("-300 B") && lines[8].trim().starts_with("+90 B"));
    }

    #[test]
    fn changes_within_their_error_are_listed_last() {
        let before = Profile::of_sites(&[(&[0x11], 9000, 9000), (&[0x21], 30, 30)]);
        let after = Profile::of_sites(&[(&[0x11], 9060, 9060), (&[0x31], 9, 9)]);
        let text = after.diff(&before, Weight::InUseBytes).to_string();
        let rows: Vec<_> = text.lines().skip(2).map(str::trim).collect();
        // Twenty samples, and six.
        assert!(rows[0].starts_with("-300 B") && rows[2].starts_with("+90 B"), "{text}");
        assert_eq!(rows[4], "Changes within their error:");
        assert!(rows[5].starts_with("+600 B ±") && rows.len() == 7, "{text}");
        let text = before.diff(&before, Weight::InUseBytes).to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    /// Amounts of so many samples of weight 3/2 and 10 bytes: the variance is 75 bytes² for each.
    fn amount(samples: u64) -> Amount {
        let mut sum = Amount::default();
        let one = Profile::of_sites(&[(&[1], 2, 0)]).sites[0].allocated;
        (0..samples).for_each(|_| sum.add(&one));
        sum
    }

    /// A profile of one site, in use at first, of a run that began at that time.
    fn profile(allocated: u64, in_use: u64, start_ns: u64) -> Profile {
        let mut profile = Profile::of_sites(&[(&[0x11], 3, 3)]);
        let site = &mut profile.sites[0];
        (site.allocated, site.in_use) = (amount(allocated), amount(in_use));
        profile.duration_ns = 1_000_000_000 * allocated;
        profile.time_unix_ns = start_ns + profile.duration_ns;
        profile
    }

    #[test]
    fn what_two_captures_of_a_run_share_has_no_error_in_their_difference() {
        let error = |before: &Profile, after: &Profile, weight| {
            let diff = after.diff(before, weight);
            diff.error(&diff.changes[0])
        };
        let bytes_error = |samples: u64| {
            let amount = amount(samples);
            amount.bytes as f64 * amount.bytes_error_bar()
        };
        let near = |one: f64, other: f64| (one - other).abs() <= 0.02 * other.abs();
        let (before, after) = (profile(1000, 1000, 5), profile(1050, 1040, 1_000_005));
        // 50 samples more, 10 fewer: those that are in both are the same.
        let allocated = error(&before, &after, Weight::AllocatedBytes);
        assert!(near(allocated, bytes_error(50)), "{allocated}");
        let in_use = error(&before, &after, Weight::InUseBytes);
        assert!(near(in_use, bytes_error(60)), "{in_use}");
        // Everything is exchanged for other objects: as two runs.
        let churned = profile(2_000_000, 1000, 5);
        let in_use = error(&before, &churned, Weight::InUseBytes);
        assert!(near(in_use, 2.0_f64.sqrt() * bytes_error(1000)), "{in_use}");
        // Another run, and one of which there was more before.
        let other = profile(1050, 1040, 30_000_000_000);
        for other in [other, Profile { process: 8, ..after.clone() }] {
            let allocated = error(&before, &other, Weight::AllocatedBytes);
            assert!(near(allocated, (2050.0_f64 / 1000.0).sqrt() * bytes_error(1000)));
        }
        let allocated = error(&after, &before, Weight::AllocatedBytes);
        assert!(near(allocated, (2050.0_f64 / 1000.0).sqrt() * bytes_error(1000)));
        assert_eq!(error(&before, &before, Weight::InUseBytes), 0.0);
    }

    #[test]
    fn what_is_only_rounded_otherwise_is_no_change() {
        let (before, mut after) = (profile(30, 30, 5), profile(30, 30, 5));
        after.sites[0].in_use.objects += 1;
        assert_eq!(after.diff(&before, Weight::InUseObjects).rows().count(), 0);
        let text = after.diff(&before, Weight::InUseObjects).to_string();
        assert!(text.contains(", 0 stacks differ:"), "{text}");
        after.sites[0].in_use.samples += 1;
        assert_eq!(after.diff(&before, Weight::InUseObjects).rows().count(), 1);
    }

    #[test]
    fn one_is_no_plural() {
        let (before, after) = (Profile::of_sites(&[]), Profile::of_sites(&[(&[2], 2, 2)]));
        let text = after.diff(&before, Weight::InUseBytes).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with(", 1 stack differs:"), "{text}");
        assert!(lines[3].ends_with("  1 sample"), "{text}");
    }

    #[test]
    fn folded_lines_have_both_values() {
        assert_eq!(difference().folded(), "0x1;0x10 3000 9000\n0x1;0x30 0 90\n0x1;0x20 300 0\n");
    }

    #[cfg(feature = "flamegraph")]
    #[test]
    fn the_picture_tells_what_grew_from_what_is_new() {
        let mut svg = Vec::new();
        difference().write_flamegraph(&mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert!(svg.contains("3.22 KiB before, 8.88 KiB after"));
        assert!(svg.contains("9,000 bytes, 99.01%; +"), "{svg}");
        let mut nothing = Vec::new();
        let empty = Profile::of_sites(&[]);
        empty.diff(&empty, Weight::InUseBytes).write_flamegraph(&mut nothing).unwrap();
        assert!(String::from_utf8(nothing).unwrap().contains("no samples"));
        let (mut freed, before) = (Vec::new(), Profile::of_sites(&[(&[0x11, 2], 300, 300)]));
        empty.diff(&before, Weight::InUseBytes).write_flamegraph(&mut freed).unwrap();
        let freed = String::from_utf8(freed).unwrap();
        assert!(freed.contains("Nothing is left.") && freed.contains(">Change of bytes in use<"));
    }
}
