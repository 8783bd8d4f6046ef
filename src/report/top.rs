//! The largest sites as text.

use std::fmt;
use std::io;

use super::calls::{Call, Weight, calls, largest};
use super::facts::{counted, facts, head, losses, nothing};
use super::shown::write_frames;
use super::units::{count, percent, time};
use crate::profile::{self, Profile};

/// The largest sites of a profile; displays as text.
///
/// Each row gives its value with its error bar (the truth lies within in about 95 of
/// 100 cases), its share of the total, the number of samples it rests on, how long what is in use
/// has lived so far, how long lived what was freed, and its stack from
/// the allocating function outwards: eight frames, or more until four of the program's own are
/// among them. Frames of the standard library in a row are counted in one line, and long names
/// have `…` for generic arguments; [`rows`](Top::rows) has all of both.
#[derive(Clone, Debug)]
pub struct Top {
    pub(super) weight: Weight,
    total: u64,
    pub(super) calls: Vec<Call>,
    sites: u64,
    /// What there is to say where there is no site.
    nothing: &'static str,
    /// Empty where they are said elsewhere.
    facts: String,
}

impl Profile {
    /// The `n` sites with the largest value, to be displayed.
    ///
    /// Resolves names on the first report of a profile: that reads the files of
    /// the modules.
    ///
    /// # Examples
    ///
    /// ```
    /// use spanalloc::report::Weight;
    ///
    /// println!("{}", spanalloc::profile::capture().top(10, Weight::InUseBytes));
    /// ```
    pub fn top(&self, n: usize, weight: Weight) -> Top {
        profile::quietly(|| Top::of(self, &calls(self), n, weight, facts(self)))
    }
}

/// Sites of each figure in a dump's file.
const SITES_MAX: usize = 10;

/// Writes how the profile was made, and the largest sites in use, allocated and at the peak.
pub(crate) fn write(profile: &Profile, calls: &[Call], mut out: impl io::Write) -> io::Result<()> {
    let samples = calls.iter().map(|call| call.site.allocated.samples).sum();
    writeln!(out, "{}", head(profile, samples))?;
    for loss in losses(&profile.losses) {
        writeln!(out, "{loss}")?;
    }
    for weight in [Weight::InUseBytes, Weight::AllocatedBytes, Weight::PeakBytes] {
        let top = Top::of(profile, calls, SITES_MAX, weight, String::new());
        write!(out, "\n{}", fmt::from_fn(|f| top.table(f)))?;
    }
    Ok(())
}

impl fmt::Display for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        profile::quietly(|| self.table(f))
    }
}

impl Top {
    fn of(profile: &Profile, calls: &[Call], n: usize, weight: Weight, facts: String) -> Self {
        let total = calls.iter().map(|call| call.value(weight)).sum();
        let all = largest(calls, weight);
        let sites = all.len() as u64;
        let samples = calls.iter().map(|call| call.site.allocated.samples).sum();
        let nothing = nothing(weight, samples, profile.interval_bytes);
        let calls = all.into_iter().take(n).cloned().collect();
        Self { weight, total, calls, sites, nothing, facts }
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.calls.len();
        let total = self.weight.figure(self.total);
        let title = self.weight.title();
        match self.sites {
            0 => writeln!(f, "{title}: {total}. {}", self.nothing)?,
            sites => {
                writeln!(f, "{title}: {total} in {}, the largest {shown}:", counted(sites, "site"))?
            }
        }
        if !self.facts.is_empty() {
            writeln!(f, "({})", self.facts)?;
        }
        for call in &self.calls {
            self.row(f, call)?;
        }
        Ok(())
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, call: &Call) -> fmt::Result {
        let (value, amount) = (call.value(self.weight), call.amount(self.weight));
        let share = (self.total != 0).then(|| value as f64 / self.total as f64);
        let error = self.weight.error_bar(amount) * 100.0;
        let (value, share) = (self.weight.figure(value), percent(share));
        let samples = counted(amount.samples, "sample");
        write!(f, "{value:>12} ±{error:.0}% {share:>7}  {samples}")?;
        let is_of_now = matches!(self.weight, Weight::InUseBytes | Weight::InUseObjects);
        if let Some(age) = call.site.mean_age().filter(|_| is_of_now) {
            write!(f, "; alive {} on average", time(age))?;
        }
        let lifetimes = &call.site.lifetimes;
        if let (Some(median), Some(most)) = (lifetimes.quantile(0.5), lifetimes.quantile(0.9)) {
            let freed = count(lifetimes.total(), 9);
            write!(f, "; {freed} freed, half ")?;
            // Of the last lifetimes there is no upper bound.
            match lifetimes.is_beyond(0.5) {
                true => write!(f, "beyond {median:.1?}, ")?,
                false => write!(f, "within {median:.1?}, ")?,
            }
            match lifetimes.is_beyond(0.9) {
                true => write!(f, "10% beyond {most:.1?}")?,
                false => write!(f, "90% within {most:.1?}")?,
            }
        }
        writeln!(f)?;
        write_frames(f, &call.frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Lifetimes;

    #[test]
    fn rows_carry_value_error_share_samples_and_stack() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 150, 0), (&[0x21, 2], 450, 6)]);
        let text = profile.top(1, Weight::AllocatedBytes).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "Bytes allocated: 5.86 KiB in 2 sites, the largest 1:");
        assert_eq!(lines[1], "(one per 4.00 KiB; stacks by unwind tables)");
        let row: Vec<_> = lines[2].split_whitespace().collect();
        assert_eq!(row[..6], ["4.39", "KiB", "±8%", "75.0%", "300", "samples;"]);
        assert!(lines[2].ends_with("444 freed, half within 4.0µs, 90% within 4.0µs"), "{text}");
        assert_eq!(lines[3].trim(), "0x20");
        assert_eq!(lines[4].trim(), "0x1");
        assert_eq!(lines.len(), 5);
        let text = profile.top(9, Weight::InUseBytes).to_string();
        assert!(text.starts_with("Bytes in use: 60 B in 1 site, the largest 1:"), "{text}");
    }

    #[test]
    fn a_file_has_a_head_and_the_three_figures() {
        let mut profile = Profile::of_sites(&[(&[0x11, 2], 150, 0), (&[0x21, 2], 450, 6)]);
        profile.losses.frees = 1;
        let mut text = Vec::new();
        write(&profile, &calls(&profile), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut parts = text.split("\n\n");
        let head = "2.0 s; 400 samples, one per 4.00 KiB; stacks by unwind tables; 1 free of \
            samples unnoticed\n1 free unnoticed: what was freed may count as in use";
        assert!(parts.next().unwrap().ends_with(head), "{text}");
        let titles: Vec<_> = parts.map(|part| part.lines().next().unwrap()).collect();
        let expected = [
            "Bytes in use: 60 B in 1 site, the largest 1:",
            "Bytes allocated: 5.86 KiB in 2 sites, the largest 2:",
            "Bytes in use at the peak: 60 B in 1 site, the largest 1:",
        ];
        assert_eq!(titles, expected);
        assert!(text.contains("0x20\n"), "{text}");
    }

    #[test]
    fn lifetimes_without_an_end_are_beyond_the_last_bound() {
        let mut profile = Profile::of_sites(&[(&[2], 3, 3)]);
        let mut lived = |last| {
            let mut objects = vec![0; Lifetimes::buckets()];
            (objects[1], objects[Lifetimes::buckets() - 1]) = (10 - last, last);
            profile.sites[0].lifetimes.objects = objects;
            let text = profile.top(1, Weight::InUseBytes).to_string();
            text.lines().nth(2).unwrap().rsplit_once("; ").unwrap().1.to_owned()
        };
        assert_eq!(lived(1), "10 freed, half within 4.0µs, 90% within 4.0µs");
        assert_eq!(lived(3), "10 freed, half within 4.0µs, 10% beyond 1099511.6s");
        assert_eq!(lived(6), "10 freed, half beyond 1099511.6s, 10% beyond 1099511.6s");
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut profile = Profile::of_sites(&[(&[2], 3, 3)]);
        profile.losses.reentrant = 2;
        profile.losses.out_of_memory = 40;
        profile.losses.frees = 5;
        let text = profile.top(5, Weight::InUseBytes).to_string();
        assert!(text.contains("; 42 samples dropped; 5 frees of samples unnoticed)"), "{text}");
        assert!(text.starts_with("Bytes in use: 30 B in 1 site, the largest 1:"), "{text}");
    }

    #[test]
    fn ages_are_told_of_what_is_in_use() {
        let mut profile = Profile::of_sites(&[(&[2], 30, 10)]);
        profile.sites[0].in_use_ages_us = 10 * 2_460_000_000;
        let row = |profile: &Profile, weight| {
            profile.top(1, weight).to_string().lines().nth(2).unwrap().to_owned()
        };
        let text = row(&profile, Weight::InUseObjects);
        assert!(
            text.contains(" samples; alive 41 min on average; 20 freed, half within"),
            "{text}"
        );
        assert!(!row(&profile, Weight::AllocatedBytes).contains("alive"));
        profile.sites[0].in_use_ages_us = 0;
        assert!(!row(&profile, Weight::InUseBytes).contains("alive"));
    }

    #[test]
    fn deep_stacks_are_cut_and_say_so() {
        let frames: Vec<u64> = (1..=20).collect();
        let text = Profile::of_sites(&[(&frames, 3, 3)]).top(5, Weight::InUseObjects).to_string();
        assert!(text.contains("… 12 more"), "{text}");
    }

    #[test]
    fn where_nothing_was_sampled_the_way_to_samples_is_said() {
        let mut profile = Profile::of_sites(&[]);
        (profile.interval_bytes, profile.unwinding) = (0, crate::profile::Unwinding::Undecided);
        let text = profile.top(5, Weight::InUseBytes).to_string();
        let hint = "Nothing was sampled: set SPANALLOC=sample=512KiB, or call profile::start.";
        assert_eq!(text, format!("Bytes in use: 0 B. {hint}\n(sampling off)\n"));
        profile.interval_bytes = 4096;
        let text = profile.top(5, Weight::InUseBytes).to_string();
        assert_eq!(text, "Bytes in use: 0 B. There were no samples.\n(one per 4.00 KiB)\n");
    }

    #[test]
    fn sites_without_a_value_are_left_out() {
        let text = Profile::of_sites(&[(&[2], 3, 0)]).top(5, Weight::InUseBytes).to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains(": 0 B. Nothing that was sampled is in use.\n"), "{text}");
    }
}
