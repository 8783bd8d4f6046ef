//! The environment variable `SPANALLOC`: `key=value` pairs joined by commas.
//!
//! | key | value | meaning |
//! | --- | --- | --- |
//! | `sample` | size, such as `512KiB` | mean bytes between samples; 0 turns sampling off |
//! | `dump` | path prefix | at exit, write reports to files that begin so; see [`prefix`](super::prefix) |
//! | `every` | time, such as `10min` | the reports of the dump at exit also every so often; see [`dump_live`](super::dump_live) |
//! | `grown` | size, such as `1GiB` | the same each time that memory in use has grown past a further multiple of it |
//! | `keep` | number | how many numbered dumps (`%d`) of a process stay |
//! | `signal` | `HUP`, `USR1`, `USR2`, a number | the same at this signal |
//! | `decay` | time, such as `50ms`, or `never` | how long free pages stay before they go back |
//! | `huge` | `off`, `on` or `early` | when huge pages are asked for |
//! | `trace` | `scavenge` | a line on standard error for each time that free pages went back |
//! | `formats` | names joined by `+`, such as `svg+pprof` | which reports a dump writes |
//!
//! It wins over what the program was built with. Parsing allocates nothing and
//! never panics, so the allocator may ask for the interval on its first
//! allocation; what is wrong with the variable is said once, before `main`.
//!
//! A program that runs with more rights than who started it (`AT_SECURE`: setuid, file
//! capabilities) ignores it, as the C library does with such variables: a dump would write
//! files with these rights.

use core::ffi::{CStr, c_int};

#[cfg(feature = "profile")]
use super::formats::Formats;
use super::prefix::{has_number, unknown_place};
use crate::heap::scavenge::DECAY_NEVER_MS;
use crate::sys::os::Huge;
use crate::sys::stderr::Line;

const VARIABLE: &CStr = c"SPANALLOC";

/// What the variable asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Config<'a> {
    /// Mean bytes between samples; none if it does not say.
    #[cfg(feature = "profile")]
    pub(super) sample_bytes: Option<u64>,
    /// Path prefix of the dump at exit; none if it does not say.
    pub(super) dump: Option<&'a [u8]>,
    /// Milliseconds from one dump to the next while the program runs; none without.
    pub(super) every_ms: Option<u32>,
    /// Reports are written when memory in use passes a further multiple of so many bytes; none
    /// without.
    pub(super) grown_bytes: Option<u64>,
    /// How many numbered dumps of a process stay; all without.
    pub(super) keep: Option<u32>,
    /// The signal at which reports are written; none without.
    pub(super) signal: Option<c_int>,
    /// Milliseconds that free pages stay; none if it does not say.
    pub(super) decay_ms: Option<u32>,
    /// Whether the scavenger says what it does.
    pub(super) trace: bool,
    /// When huge pages are asked for; none if it does not say.
    pub(super) huge: Option<Huge>,
    /// What a dump writes; none if it does not say.
    #[cfg(feature = "profile")]
    pub(super) formats: Option<Formats>,
}

/// A part of the variable that was not understood, or is probably a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Problem<'a> {
    /// The part, from comma to comma.
    part: &'a [u8],
    what: &'static str,
    /// The offending piece of `part`, unless it is all of it.
    which: Option<&'a [u8]>,
    accepted: &'static str,
}

/// Keys of any build.
const KNOWN: [&[u8]; 10] = [
    b"sample", b"dump", b"every", b"grown", b"keep", b"signal", b"decay", b"huge", b"trace",
    b"formats",
];

/// Keys this build knows.
const KEYS: &str = if cfg!(feature = "profile") {
    "sample=SIZE, dump=PREFIX, every=TIME, grown=SIZE, keep=NUMBER, signal=NAME, formats=NAME+NAME, decay=TIME, huge=WHEN, trace=scavenge"
} else {
    "dump=PREFIX, every=TIME, grown=SIZE, keep=NUMBER, signal=NAME, decay=TIME, huge=WHEN, trace=scavenge"
};
#[cfg(feature = "profile")]
const SIZES: &str = "bytes as a whole number with or without B, KiB, MiB, GiB, KB, MB or GB, in letters of either case (0 turns sampling off)";
const PREFIXES: &str = "a path that ends in the beginning of a file name, such as dump=out/app";

const PLACES: &str = "%p for the process, %n for the program, %h for the host, %d for the number of the dump, %% for a percent sign";

const COMMAS: &str = "commas between parts (sample=512KiB,dump=out/app)";

const TIMES: &str = "a whole number with or without ms, or with s, min or h, from 1 ms to 4294967295 ms, which is 49 days, or never (decay=500ms)";

const INTERVALS: &str =
    "a whole number of ms, s, min or h, from 1 s to 4294967295 ms, which is 49 days (every=10min)";
/// The shortest of them, in milliseconds.
const INTERVAL_MS_MIN: u32 = 1000;

const STEPS: &str =
    "bytes as a whole number with or without KiB, MiB, GiB, KB, MB or GB, from 16MiB (grown=1GiB)";
/// The least of them, in bytes: what is given back counts as in use meanwhile, 8 MiB of it at a
/// time.
const STEP_BYTES_MIN: u64 = 16 << 20;

const KEEPS: &str =
    "how many dumps stay that %d numbers, a whole number from 1 (dump=out/app.%d,keep=24)";

const SIGNALS: &str = "HUP, USR1, USR2, or the number of a real-time signal (signal=USR2)";

const TRACES: &str = "trace=scavenge";

const HUGE: &str = "huge=off (none are asked for), huge=on (as without it) or huge=early (from the first block on)";

/// The value of the variable, if it is set. The environment must not be changed
/// while the result is in use, which holds before `main`.
pub(super) fn variable() -> Option<&'static [u8]> {
    // SAFETY: no preconditions.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return None;
    }
    // SAFETY: the name is terminated.
    let value = unsafe { libc::getenv(VARIABLE.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: the C library's values are terminated strings.
    Some(unsafe { CStr::from_ptr(value) }.to_bytes())
}

/// The sampling interval that the environment asks for. Allocates nothing; what
/// is wrong is not said here.
#[cfg(feature = "profile")]
pub(super) fn sample_bytes() -> Option<u64> {
    parse(variable()?, |_| ()).sample_bytes
}

/// Reads the variable; `wrong` is told of each part that is not understood, and of what is hardly
/// meant as it is taken. The last of several values that are understood counts.
pub(super) fn parse<'a>(text: &'a [u8], mut wrong: impl FnMut(Problem<'a>)) -> Config<'a> {
    let mut config = Config::default();
    let mut keep_part = &b""[..];
    for part in text.split(|byte| *byte == b',') {
        let part = part.trim_ascii();
        if part.is_empty() {
            continue;
        }
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let key = halves.next().unwrap_or_default().trim_ascii_end();
        let problem = |what, accepted| Problem { part, what, which: None, accepted };
        let value = halves.next();
        if let Some(key) = value.and_then(key_inside) {
            let problem = problem("has a part more inside, which is taken for its value", COMMAS);
            wrong(Problem { which: Some(key), ..problem });
        }
        match (key, value) {
            #[cfg(feature = "profile")]
            (b"sample", Some(value)) => match size(value.trim_ascii()) {
                Some(bytes) => config.sample_bytes = Some(bytes),
                None => wrong(problem("is not a size", SIZES)),
            },
            (b"dump", Some(value)) => match value.trim_ascii() {
                value if !names_file(value) => wrong(problem("names no file", PREFIXES)),
                prefix => {
                    config.dump = Some(prefix);
                    if let Some(place) = unknown_place(prefix) {
                        let problem = problem("has what stands for nothing and stays so", PLACES);
                        wrong(Problem { which: Some(place), ..problem });
                    }
                }
            },
            #[cfg(feature = "profile")]
            (b"formats", Some(b"")) => wrong(problem("has no value", Formats::ACCEPTED)),
            #[cfg(feature = "profile")]
            (b"formats", Some(value)) => {
                let formats = Formats::named(value, |what, name| {
                    wrong(Problem { which: Some(name), ..problem(what, Formats::ACCEPTED) });
                });
                config.formats = formats.or(config.formats);
            }
            #[cfg(feature = "profile")]
            (b"formats", None) => wrong(problem("has no value", Formats::ACCEPTED)),
            #[cfg(feature = "profile")]
            (b"sample", None) => wrong(problem("has no value", SIZES)),
            (b"dump", None) => wrong(problem("has no value", PREFIXES)),
            (b"every", value) => match value.and_then(|value| milliseconds(value.trim_ascii())) {
                Some(ms) if ms >= INTERVAL_MS_MIN => config.every_ms = Some(ms),
                Some(_) => wrong(problem("is too short", INTERVALS)),
                None => wrong(problem("is not a time", INTERVALS)),
            },
            (b"grown", value) => match value.and_then(|value| size(value.trim_ascii())) {
                Some(bytes) if bytes >= STEP_BYTES_MIN => config.grown_bytes = Some(bytes),
                Some(_) => wrong(problem("is too small", STEPS)),
                None => wrong(problem("is not a size", STEPS)),
            },
            (b"keep", value) => match value.and_then(|value| number(value.trim_ascii())) {
                Some((keep @ 1.., b"")) => {
                    config.keep = Some(u32::try_from(keep).unwrap_or(u32::MAX));
                    keep_part = part;
                }
                _ => wrong(problem("is not how many dumps are to stay", KEEPS)),
            },
            (b"signal", value) => match value.and_then(|value| signal(value.trim_ascii())) {
                Some(signal) => config.signal = Some(signal),
                None => wrong(problem("names no signal to wait for", SIGNALS)),
            },
            (b"decay", Some(value)) => match decay(value.trim_ascii()) {
                Some(ms) => config.decay_ms = Some(ms),
                None => wrong(problem("is not a time", TIMES)),
            },
            (b"decay", None) => wrong(problem("has no value", TIMES)),
            (b"huge", value) => match value.map(<[u8]>::trim_ascii) {
                Some(b"off") => config.huge = Some(Huge::Off),
                Some(b"on") => config.huge = Some(Huge::Dense),
                Some(b"early") => config.huge = Some(Huge::Early),
                _ => wrong(problem("does not say when to ask for huge pages", HUGE)),
            },
            (b"trace", Some(value)) if value.trim_ascii() == b"scavenge" => config.trace = true,
            (b"trace", _) => wrong(problem("names nothing to trace", TRACES)),
            #[cfg(not(feature = "profile"))]
            (b"sample" | b"formats", _) => {
                wrong(problem("needs a build with the feature `profile`", KEYS));
            }
            _ => wrong(problem("is no known key", KEYS)),
        }
    }
    // Without `dump` the program may say where, and with a number.
    if config.keep.is_some() && config.dump.is_some_and(|prefix| !has_number(prefix)) {
        let what = "keeps nothing: without %d in dump= each dump replaces the one before";
        wrong(Problem { part: keep_part, what, which: None, accepted: KEEPS });
    }
    config
}

/// A known key that follows a blank or a semicolon inside a value, as it would be if these, rather
/// than commas, stood between parts.
fn key_inside(value: &[u8]) -> Option<&[u8]> {
    let marks = value.iter().enumerate().filter(|(_, byte)| b" \t\n;".contains(byte));
    let mut rests = marks.map(|(at, _)| &value[at + 1..]);
    rests.find_map(|rest| {
        let (key, after) =
            rest.split_at(rest.iter().take_while(|b| b.is_ascii_lowercase()).count());
        let is_key = KNOWN.contains(&key) && after.trim_ascii_start().starts_with(b"=");
        is_key.then_some(key)
    })
}

impl Problem<'_> {
    /// Says what is wrong, in one line on standard error.
    pub(super) fn report(self) {
        let line = Line::new().text("SPANALLOC: \"").shortened(self.part).text("\" ");
        let mut line = line.text(self.what);
        if let Some(which) = self.which {
            line = line.text(": \"").shortened(which).text("\"");
        }
        line.text("; accepted: ").text(self.accepted).write();
    }
}

/// Whether a path ends in the beginning of a file name.
pub(super) fn names_file(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    !matches!(name, b"" | b"." | b"..")
}

/// A time in milliseconds, which is also the unit when none is given.
fn milliseconds(text: &[u8]) -> Option<u32> {
    let (number, unit) = number(text)?;
    let scale = match unit {
        b"" | b"ms" => 1,
        b"s" => 1000,
        b"min" => 60_000,
        b"h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(scale)?.try_into().ok().filter(|ms| *ms > 0)
}

/// As [`milliseconds`], or `never`.
fn decay(text: &[u8]) -> Option<u32> {
    if text == b"never" { Some(DECAY_NEVER_MS) } else { milliseconds(text) }
}

/// A signal by its name, with or without `SIG`, whose letters may be of any case, or the number of
/// a real-time signal.
fn signal(text: &[u8]) -> Option<c_int> {
    const NAMES: [(&[u8], c_int); 3] =
        [(b"HUP", libc::SIGHUP), (b"USR1", libc::SIGUSR1), (b"USR2", libc::SIGUSR2)];
    let sig = text.split_at_checked(3).filter(|(sig, _)| sig.eq_ignore_ascii_case(b"SIG"));
    let name = sig.map_or(text, |(_, name)| name);
    if let Some((_, signal)) = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) {
        return Some(*signal);
    }
    let (number, rest) = number(text)?;
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    let signal = c_int::try_from(number).ok()?;
    (rest.is_empty() && real_time.contains(&signal)).then_some(signal)
}

/// A whole number and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at_checked(digits).filter(|(digits, _)| !digits.is_empty())?;
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    Some((number, unit.trim_ascii()))
}

/// A number of bytes with an optional unit, whose letters may be of any case.
fn size(text: &[u8]) -> Option<u64> {
    const UNITS: [(&[u8], u64); 8] = [
        (b"", 1),
        (b"b", 1),
        (b"kb", 1_000),
        (b"mb", 1_000_000),
        (b"gb", 1_000_000_000),
        (b"kib", 1 << 10),
        (b"mib", 1 << 20),
        (b"gib", 1 << 30),
    ];
    let (number, unit) = number(text)?;
    let (_, scale) = UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
    number.checked_mul(*scale)
}

#[cfg(all(test, feature = "profile"))]
mod tests;
