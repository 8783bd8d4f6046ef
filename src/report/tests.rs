//! What texts and rows say of one profile or two: each figure under its own name.

use super::facts::losses;
use super::{Diff, Weight};
use crate::profile::{Losses, Profile};

const WEIGHTS: [Weight; 6] = [
    Weight::AllocatedBytes,
    Weight::AllocatedObjects,
    Weight::InUseBytes,
    Weight::InUseObjects,
    Weight::PeakBytes,
    Weight::PeakObjects,
];

#[test]
fn each_loss_has_its_sentence() {
    let told = losses(&Losses {
        reentrant: 2,
        out_of_memory: 3,
        frees: 4,
        without_unwinder: 5,
        broken_stacks: 6,
        truncated_stacks: 7,
        modules_without_unwind_table: 8,
    });
    let expected = [
        ("2 samples dropped", "inside the profiler"),
        ("3 samples dropped", "memory was at its bound"),
        ("4 frees unnoticed", "in use"),
        ("5 samples with a short stack", "unwinder"),
        ("6 stacks broken off", "caller"),
        ("7 stacks cut off", "deeper"),
        ("8 modules without", "unwind table"),
    ];
    assert_eq!(told.len(), expected.len());
    for (told, (start, word)) in told.iter().zip(expected) {
        assert!(told.starts_with(start) && told.contains(word), "{told}");
    }
    assert!(losses(&Losses::default()).is_empty());
}

/// A profile of one site with other figures in each part, and errors that are another share of
/// the objects than of the bytes.
fn of_distinct() -> Profile {
    let mut profile = Profile::of_sites(&[(&[0x11, 2], 300, 30)]);
    let site = &mut profile.sites[0];
    for (amount, tens) in [(&mut site.allocated, 100), (&mut site.in_use, 10), (&mut site.peak, 50)]
    {
        amount.samples = 100;
        (amount.objects, amount.objects_error) = (10 * tens, tens);
        (amount.bytes, amount.bytes_error) = (1000 * tens, 300 * tens);
    }
    profile
}

#[test]
fn each_weight_is_of_its_own_figure_with_its_error() {
    let profile = of_distinct();
    let expected = [
        (100_000, "±59%"),
        (1000, "±20%"),
        (10_000, "±59%"),
        (100, "±20%"),
        (50_000, "±59%"),
        (500, "±20%"),
    ];
    for (weight, (value, error)) in WEIGHTS.into_iter().zip(expected) {
        let top = profile.top(1, weight);
        assert_eq!(top.rows().next().unwrap().value, value, "{weight:?}");
        let text = top.to_string();
        let row: Vec<_> = text.lines().nth(2).unwrap().split_whitespace().collect();
        assert!(row.contains(&error), "{weight:?}: {text}");
    }
}

/// A profile of a run that began at that time, with so many samples of weight 3/2 at one stack.
fn of_run(allocated: u64, in_use: u64, start_ns: u64, duration_ns: u64) -> Profile {
    let mut profile = Profile::of_sites(&[(&[0x11], allocated * 3 / 2, in_use * 3 / 2)]);
    profile.duration_ns = duration_ns;
    profile.time_unix_ns = start_ns + duration_ns;
    profile
}

fn error(diff: &Diff) -> u64 {
    diff.rows().next().unwrap().error
}

#[test]
fn what_only_one_of_two_runs_has_is_no_part_of_the_other() {
    const SECOND: u64 = 1_000_000_000;
    let error = |before: &Profile, after: &Profile, weight| error(&after.diff(before, weight));
    let before = of_run(1000, 1000, 5 * SECOND, SECOND);
    let near = of_run(1040, 1040, 5 * SECOND + 9_000_000, SECOND);
    let far = of_run(1040, 1040, 5 * SECOND + 11_000_000, SECOND);
    let later = of_run(1040, 1040, 4 * SECOND, 3 * SECOND);
    for weight in WEIGHTS {
        let apart = error(&before, &far, weight);
        // Of one run the error is that of the 40 that came: a seventh. Peaks may be of two moments.
        let is_peak = matches!(weight, Weight::PeakBytes | Weight::PeakObjects);
        let expected = if is_peak { apart } else { apart / 7 };
        let one = error(&before, &near, weight);
        assert!(one.abs_diff(expected) <= expected / 20 + 1, "{weight:?}: {one} of {apart}");
        assert_eq!(error(&before, &later, weight), apart, "{weight:?}");
    }
    // A run of two milliseconds was over before one began that began five after it.
    let (short, next) = (of_run(1000, 1000, 5, 2_000_000), of_run(1040, 1040, 5_000_005, SECOND));
    assert_eq!(
        error(&short, &next, Weight::AllocatedBytes),
        error(&before, &far, Weight::AllocatedBytes)
    );
}

#[test]
fn errors_that_were_rounded_to_the_same_leave_one_in_their_difference() {
    let mut after = of_run(1002, 1002, 5, 1_000_000_000);
    let mut before = of_run(1000, 1000, 5, 1_000_000_000);
    for profile in [&mut before, &mut after] {
        profile.sites[0].allocated.bytes_error = 274;
        profile.sites[0].in_use.bytes_error = 274;
    }
    let allocated = error(&after.diff(&before, Weight::AllocatedBytes));
    // The root of what rounding may hide, a variance of 274, in an error bar of two samples.
    assert_eq!(allocated, 40);
}

#[test]
fn a_text_shows_twenty_stacks_and_counts_all() {
    let frames: Vec<[u64; 1]> = (1..=25).map(|n| [n * 16 + 1]).collect();
    let sites: Vec<(&[u64], u64, u64)> =
        frames.iter().zip(1..).map(|(frames, n)| (&frames[..], 30 * n, 30 * n)).collect();
    let diff = Profile::of_sites(&sites).diff(&Profile::of_sites(&[]), Weight::InUseObjects);
    let text = diff.to_string();
    assert!(text.lines().next().unwrap().ends_with(", 25 stacks differ:"), "{text}");
    // Two lines of head, and two of each stack.
    assert_eq!(text.lines().count(), 2 + 2 * 20, "{text}");
    assert_eq!(text.lines().nth(3).unwrap().trim(), "0x190", "the one that grew most is first");
    assert_eq!(diff.rows().count(), 25);
}

#[test]
fn a_stack_without_a_value_before_and_after_is_no_folded_line() {
    let before = Profile::of_sites(&[(&[0x11], 30, 0), (&[0x21], 30, 3), (&[0x41], 3, 3)]);
    let after = Profile::of_sites(&[(&[0x11], 60, 0), (&[0x31], 30, 6), (&[0x41], 3, 3)]);
    let mut folded = Vec::new();
    after.diff(&before, Weight::InUseBytes).write_folded(&mut folded).unwrap();
    let folded = String::from_utf8(folded).unwrap();
    let mut lines: Vec<_> = folded.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0x20 30 0", "0x30 0 60", "0x40 30 30"]);
}
