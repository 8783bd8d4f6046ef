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

mod keys;
mod values;

use core::ffi::{CStr, c_int};

#[cfg(feature = "profile")]
use super::formats::Formats;
use super::prefix::has_number;
use crate::sys::os::Huge;
use crate::sys::stderr::Line;
use keys::{COMMAS, KEEPS, KEYS, Key};

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
    for Part { part, key, value } in parts(text) {
        let mut say = |what, which, accepted| wrong(Problem { part, what, which, accepted });
        if let Some(key) = value.and_then(key_inside) {
            let what = "has a part more inside, which is taken for its value";
            say(what, Some(key), COMMAS);
        }
        let Some(key) = Key::named(key) else {
            say("is no known key", None, KEYS);
            continue;
        };
        match value {
            Some(value) => {
                (key.set)(&mut config, value, &mut |what, which| say(what, which, key.accepted));
            }
            None => say("has no value", None, key.accepted),
        }
    }
    // Without `dump` the program may say where, and with a number.
    if config.keep.is_some()
        && config.dump.is_some_and(|prefix| !has_number(prefix))
        && let Some(Part { part, .. }) = parts(text).filter(|part| part.key == b"keep").last()
    {
        let what = "keeps nothing: without %d in dump= each dump replaces the one before";
        wrong(Problem { part, what, which: None, accepted: KEEPS });
    }
    config
}

/// A part of the variable, from comma to comma: a key, and a value if there is one.
struct Part<'a> {
    part: &'a [u8],
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

fn parts(text: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let parts = text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    parts.filter(|part| !part.is_empty()).map(|part| {
        let mut halves = part.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
        Part { part, key: halves.next().unwrap_or_default(), value: halves.next() }
    })
}

/// A known key that follows a blank or a semicolon inside a value, as it would be if these, rather
/// than commas, stood between parts.
fn key_inside(value: &[u8]) -> Option<&[u8]> {
    let marks = value.iter().enumerate().filter(|(_, byte)| b" \t\n;".contains(byte));
    let mut rests = marks.map(|(at, _)| &value[at + 1..]);
    rests.find_map(|rest| {
        let (key, after) =
            rest.split_at(rest.iter().take_while(|b| b.is_ascii_lowercase()).count());
        let is_key = Key::named(key).is_some() && after.trim_ascii_start().starts_with(b"=");
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

#[cfg(all(test, feature = "profile"))]
mod tests;
