//! The keys of the variable: how each is named, what it accepts, and what it sets.

use super::super::prefix::unknown_place;
use super::values::{decay, milliseconds, number, signal, size};
use super::{Config, names_file};
use crate::sys::os::Huge;

#[cfg(feature = "profile")]
use super::super::formats::Formats;

/// A key.
pub(super) struct Key {
    name: &'static [u8],
    /// What its values may be.
    pub(super) accepted: &'static str,
    /// Takes a value; says what is wrong with it, if anything, and with which piece of it.
    pub(super) set: for<'a> fn(&mut Config<'a>, &'a [u8], Say<'_, 'a>),
}

/// Told of what is wrong, and with which piece of the value.
type Say<'s, 'a> = &'s mut dyn FnMut(&'static str, Option<&'a [u8]>);

impl Key {
    pub(super) fn named(name: &[u8]) -> Option<&'static Self> {
        ALL.iter().find(|key| key.name == name)
    }
}

/// The keys that this build knows.
pub(super) const KEYS: &str = if cfg!(feature = "profile") {
    "sample=SIZE, dump=PREFIX, every=TIME, grown=SIZE, keep=NUMBER, signal=NAME, formats=NAME+NAME, decay=TIME, huge=WHEN, trace=scavenge"
} else {
    "dump=PREFIX, every=TIME, grown=SIZE, keep=NUMBER, signal=NAME, decay=TIME, huge=WHEN, trace=scavenge"
};
/// What stands between parts.
pub(super) const COMMAS: &str = "commas between parts (sample=512KiB,dump=out/app)";
pub(super) const KEEPS: &str =
    "how many dumps stay that %d numbers, a whole number from 1 (dump=out/app.%d,keep=24)";

/// The shortest time between dumps, in milliseconds.
const INTERVAL_MS_MIN: u32 = 1000;
/// The least growth between dumps, in bytes: what is given back counts as in use meanwhile, 8 MiB
/// of it at a time.
const STEP_BYTES_MIN: u64 = 16 << 20;

static ALL: [Key; 10] = [
    SAMPLE,
    Key {
        name: b"dump",
        accepted: "a path that ends in the beginning of a file name, such as dump=out/app; in it %p stands for the process, %n for the program, %h for the host, %d for the number of the dump, %% for a percent sign",
        set: |config, prefix, say| {
            if !names_file(prefix) {
                return say("names no file", None);
            }
            config.dump = Some(prefix);
            if let Some(place) = unknown_place(prefix) {
                say("has what stands for nothing and stays so", Some(place));
            }
        },
    },
    Key {
        name: b"every",
        accepted: "a whole number with or without ms, or with s, min or h, from 1 s to 4294967295 ms, which is 49 days (every=10min)",
        set: |config, value, say| match milliseconds(value) {
            Some(ms) if ms >= INTERVAL_MS_MIN => config.every_ms = Some(ms),
            Some(_) => say("is too short", None),
            None => say("is not a time", None),
        },
    },
    Key {
        name: b"grown",
        accepted: "bytes as a whole number with or without KiB, MiB, GiB (or K, M, G), KB, MB or GB, from 16MiB (grown=1GiB)",
        set: |config, value, say| match size(value) {
            Some(bytes) if bytes >= STEP_BYTES_MIN => config.grown_bytes = Some(bytes),
            Some(_) => say("is too small", None),
            None => say("is not a size", None),
        },
    },
    Key {
        name: b"keep",
        accepted: KEEPS,
        set: |config, value, say| match number(value) {
            Some((keep @ 1.., b"")) => {
                config.keep = Some(u32::try_from(keep).unwrap_or(u32::MAX));
            }
            _ => say("is not how many dumps are to stay", None),
        },
    },
    Key {
        name: b"signal",
        accepted: "HUP, USR1, USR2, or the number of a real-time signal (signal=USR2)",
        set: |config, value, say| match signal(value) {
            Some(signal) => config.signal = Some(signal),
            None => say("names no signal to wait for", None),
        },
    },
    FORMATS,
    Key {
        name: b"decay",
        accepted: "a whole number with or without ms, or with s, min or h, from 1 ms to 4294967295 ms, which is 49 days, or never (decay=500ms)",
        set: |config, value, say| match decay(value) {
            Some(ms) => config.decay_ms = Some(ms),
            None => say("is not a time", None),
        },
    },
    Key {
        name: b"huge",
        accepted: "huge=off (none are asked for), huge=on (as without it) or huge=early (from the first block on)",
        set: |config, value, say| match value {
            b"off" => config.huge = Some(Huge::Off),
            b"on" => config.huge = Some(Huge::Dense),
            b"early" => config.huge = Some(Huge::Early),
            _ => say("does not say when to ask for huge pages", None),
        },
    },
    Key {
        name: b"trace",
        accepted: "trace=scavenge",
        set: |config, value, say| match value {
            b"scavenge" => config.trace = true,
            _ => say("names nothing to trace", None),
        },
    },
];

#[cfg(feature = "profile")]
const SAMPLE: Key = Key {
    name: b"sample",
    accepted: "bytes as a whole number with or without B, KiB, MiB, GiB (or K, M, G), KB, MB or GB, in letters of either case (0 turns sampling off)",
    set: |config, value, say| match size(value) {
        Some(bytes) => config.sample_bytes = Some(bytes),
        None => say("is not a size", None),
    },
};

#[cfg(feature = "profile")]
const FORMATS: Key = Key {
    name: b"formats",
    accepted: Formats::ACCEPTED,
    set: |config, value, say| {
        if value.is_empty() {
            return say("has no value", None);
        }
        let formats = Formats::named(value, |what, name| say(what, Some(name)));
        config.formats = formats.or(config.formats);
    },
};

#[cfg(not(feature = "profile"))]
const SAMPLE: Key = needs_profile(b"sample");
#[cfg(not(feature = "profile"))]
const FORMATS: Key = needs_profile(b"formats");

#[cfg(not(feature = "profile"))]
const fn needs_profile(name: &'static [u8]) -> Key {
    let set: for<'a> fn(&mut Config<'a>, &'a [u8], Say<'_, 'a>) =
        |_, _, say| say("needs a build with the feature `profile`", None);
    Key { name, accepted: KEYS, set }
}
