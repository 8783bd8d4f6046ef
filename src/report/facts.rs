//! What every report says of how its profile was made.

use super::calls::Weight;
use super::units::{Bytes, count};
use crate::profile::{Amount, BlockSize, Losses, Profile, Unwinding};

/// Process, time, samples and facts: the head of a report that has no other.
pub(super) fn head(profile: &Profile, samples: u64) -> String {
    let (seconds, samples) = (profile.duration_ns as f64 / 1e9, counted(samples, "sample"));
    format!("process {}, {seconds:.1} s; {samples}, {}", profile.process, facts(profile))
}

/// The interval, how stacks were walked and whether anything is missing, in a few words.
pub(super) fn facts(profile: &Profile) -> String {
    let is_empty = profile.sites.iter().all(|site| site.allocated.samples == 0);
    let now = if had_another_interval(profile) { "now " } else { "" };
    let interval = match profile.interval_bytes {
        0 if is_empty => "sampling off".to_owned(),
        0 => "sampling now off".to_owned(),
        1 => format!("{now}every allocation"),
        bytes => format!("{now}one per {}", Bytes(bytes)),
    };
    let stacks = match profile.unwinding {
        Unwinding::Undecided => "unwind tables (still comparing with frame pointers)",
        Unwinding::UnwindTables => "unwind tables",
        Unwinding::FramePointers => "frame pointers",
    };
    let mut facts = interval;
    if !is_empty {
        facts += &format!("; stacks by {stacks}");
    }
    let Losses { reentrant, out_of_memory, frees, .. } = profile.losses;
    let missing =
        [(reentrant + out_of_memory, "sample", "dropped"), (frees, "free", "of samples unnoticed")];
    for (count, noun, what) in missing.into_iter().filter(|(count, ..)| *count != 0) {
        facts += &format!("; {} {what}", counted(count, noun));
    }
    facts
}

/// Whether samples were taken at another interval than the one at the capture, as far as they show:
/// each weighs as its own says, and large blocks the same at all.
fn had_another_interval(profile: &Profile) -> bool {
    if profile.interval_bytes <= 1 {
        let mut all = Amount::default();
        profile.sites.iter().for_each(|site| all.add(&site.allocated));
        return !all.is_exact();
    }
    let objects: u64 = profile.sizes.iter().map(|size| size.allocated.objects).sum();
    let expected = |size: &BlockSize| size.objects_at(profile.interval_bytes);
    let expected: f64 = profile.sizes.iter().map(expected).sum();
    // Objects are rounded, and blocks of a size those of nearly the same.
    let rounding = profile.sizes.len() as f64 / 2.0 + expected / 20.0;
    (objects as f64 - expected).abs() > rounding
}

/// What is missing from a profile, a sentence for each kind of loss that there was.
pub(super) fn losses(losses: &Losses) -> Vec<String> {
    let kinds = [
        (losses.reentrant, "sample", "dropped: the thread was inside the profiler"),
        (losses.out_of_memory, "sample", "dropped: the profiler's memory was at its bound"),
        (losses.frees, "free", "unnoticed: what was freed may count as in use"),
        (
            losses.without_unwinder,
            "sample",
            "with a short stack: the unwinder was busy, not loaded, or had no room",
        ),
        (
            losses.broken_stacks,
            "stack",
            "broken off at a frame whose caller could not be found; modules opened by dlopen \
             after sampling began are known from the next capture on: call `profile::capture` \
             or `profile::start` after opening a library",
        ),
        (losses.truncated_stacks, "stack", "cut off: deeper than is kept"),
        (losses.modules_without_unwind_table, "module", "without a usable unwind table"),
    ];
    let told = kinds.into_iter().filter(|(count, ..)| *count != 0);
    told.map(|(count, noun, what)| format!("{} {what}", counted(count, noun))).collect()
}

/// Why a figure is empty, of a profile with that many samples and bytes between them now.
pub(super) fn nothing(weight: Weight, samples: u64, interval_bytes: u64) -> &'static str {
    use Weight::{
        AllocatedBytes, AllocatedObjects, InUseBytes, InUseObjects, PeakBytes, PeakObjects,
    };
    match weight {
        _ if samples == 0 && interval_bytes == 0 => {
            "Nothing was sampled: set SPANALLOC=sample=512KiB, or call profile::start."
        }
        _ if samples == 0 => "There were no samples.",
        InUseBytes | InUseObjects => "Nothing that was sampled is in use.",
        PeakBytes | PeakObjects => "Nothing that was sampled was in use at the peak.",
        AllocatedBytes | AllocatedObjects => "Nothing was allocated.",
    }
}

/// So many of them: `1 sample`, `2,000 samples`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A count as `16,870,540`; one of ten digits or more is scaled.
pub(super) fn grouped(value: u64) -> String {
    let digits = count(value, 9);
    if !(1_000..1_000_000_000).contains(&value) {
        return digits;
    }
    let first = (digits.len() - 1) % 3 + 1;
    let mut text = digits[..first].to_owned();
    for at in (first..digits.len()).step_by(3) {
        text += ",";
        text += &digits[at..at + 3];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_that_was_not_all_along_is_the_one_of_now() {
        let of = |interval_bytes, sizes: Vec<BlockSize>| {
            let mut profile = Profile::of_sites(&[(&[0x11, 2], 3, 1)]);
            let allocated = &mut profile.sites[0].allocated;
            *allocated = Amount::default();
            sizes.iter().for_each(|size| allocated.add(&size.allocated));
            (profile.interval_bytes, profile.sizes) = (interval_bytes, sizes);
            facts(&profile).split(';').next().unwrap().to_owned()
        };
        let sizes = |interval| {
            [(16, 10), (64, 24), (1024, 30), (40_960, 3), (1 << 20, 2)].map(|(block, samples)| {
                BlockSize::sampled(interval, block, &vec![block - 3; samples])
            })
        };
        let one = |interval| sizes(interval).to_vec();
        let both = |first, second| [one(first), one(second)].concat();
        assert_eq!(of(1, one(1)), "every allocation");
        assert_eq!(of(1, Vec::new()), "every allocation");
        assert_eq!(of(1, both(1, 4096)), "now every allocation");
        for interval in [64, 4096, 512 << 10] {
            let said = format!("one per {}", Bytes(interval));
            assert_eq!(of(interval, one(interval)), said);
            assert_eq!(of(interval, both(interval, 1)), format!("now {said}"));
            assert_eq!(of(interval, both(interval, interval * 4)), format!("now {said}"));
            assert_eq!(of(interval, one(interval / 4)), format!("now {said}"));
        }
        assert_eq!(of(0, one(4096)), "sampling now off");
    }

    #[test]
    fn of_a_profile_without_samples_no_stacks_are_told() {
        let mut profile = Profile::of_sites(&[]);
        profile.unwinding = Unwinding::Undecided;
        assert_eq!(facts(&profile), "one per 4.00 KiB");
        profile.interval_bytes = 0;
        assert_eq!(facts(&profile), "sampling off");
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        let expected = [(0, "0"), (999, "999"), (1000, "1,000"), (16_870_540, "16,870,540")];
        for (value, text) in expected.into_iter().chain([(123_456, "123,456"), (7 << 30, "7.52G")])
        {
            assert_eq!(grouped(value), text);
        }
    }

    #[test]
    fn one_of_a_kind_is_no_plural() {
        assert_eq!(
            [0, 1, 2000].map(|n| counted(n, "stack")),
            ["0 stacks", "1 stack", "2,000 stacks"]
        );
        let told = losses(&Losses { reentrant: 1, truncated_stacks: 2, ..Losses::default() });
        assert_eq!(told[0], "1 sample dropped: the thread was inside the profiler");
        assert_eq!(told[1], "2 stacks cut off: deeper than is kept");
        assert_eq!(told.len(), 2);
        let told = losses(&Losses { broken_stacks: 1, ..Losses::default() });
        assert!(
            told[0].starts_with("1 stack broken off ") && told[0].contains("dlopen"),
            "{told:?}"
        );
    }
}
