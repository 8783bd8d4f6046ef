//! What every report says of how its profile was made.

use super::units::Bytes;
use crate::profile::{Profile, Unwinding};

/// The interval and how stacks were walked, in a few words.
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
    format!("{interval}; stacks by {stacks}")
}
