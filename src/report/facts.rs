//! What every report says of how its profile was made.

use super::units::Bytes;
use crate::profile::{Losses, Profile, Unwinding};

/// The interval, how stacks were walked and whether anything is missing, in a few words.
pub(super) fn facts(profile: &Profile) -> String {
    let interval = match profile.interval_bytes {
        0 => "sampling now off".to_owned(),
        1 => "every allocation".to_owned(),
        bytes => format!("one per {}", Bytes(bytes)),
    };
    let stacks = match profile.unwinding {
        Unwinding::Undecided => "unwind tables (still comparing with frame pointers)",
        Unwinding::UnwindTables => "unwind tables",
        Unwinding::FramePointers => "frame pointers",
    };
    let mut facts = format!("{interval}; stacks by {stacks}");
    let Losses { reentrant, out_of_memory, frees, .. } = profile.losses;
    let missing =
        [(reentrant + out_of_memory, "samples dropped"), (frees, "frees of samples unnoticed")];
    for (count, what) in missing.into_iter().filter(|(count, _)| *count != 0) {
        facts += &format!("; {count} {what}");
    }
    facts
}

/// What is missing from a profile, a sentence for each kind of loss that there was.
pub(super) fn losses(losses: &Losses) -> Vec<String> {
    let kinds = [
        (losses.reentrant, "samples were dropped: the thread was inside the profiler"),
        (losses.out_of_memory, "samples were dropped: the profiler's memory was at its bound"),
        (losses.frees, "frees went unnoticed: their blocks may count as in use"),
        (
            losses.without_unwinder,
            "samples have short stacks: the unwinder was busy, not loaded, or had no room",
        ),
        (losses.broken_stacks, "stacks end at a frame whose caller could not be found"),
        (losses.truncated_stacks, "stacks were deeper than is kept"),
        (losses.modules_without_unwind_table, "modules have no usable unwind table"),
    ];
    let told = kinds.iter().filter(|(count, _)| *count != 0);
    told.map(|(count, what)| format!("{count} {what}")).collect()
}
