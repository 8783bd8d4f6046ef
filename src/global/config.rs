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
//! | `decay` | time, such as `50ms` | how long free pages stay before they go back |
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

/// A part of the variable that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Problem<'a> {
    /// The part, from comma to comma.
    part: &'a [u8],
    what: &'static str,
    accepted: &'static str,
}

/// Keys this build knows.
const KEYS: &str = if cfg!(feature = "profile") {
    "sample=SIZE, dump=PREFIX, every=TIME, grown=SIZE, keep=NUMBER, signal=NAME, formats=NAME+NAME, decay=TIME, huge=WHEN, trace=scavenge"
} else {
    "dump=PREFIX, every=TIME, grown=SIZE, keep=NUMBER, signal=NAME, decay=TIME, huge=WHEN, trace=scavenge"
};
#[cfg(feature = "profile")]
const SIZES: &str = "bytes as a whole number with or without B, KiB, MiB, GiB, KB, MB or GB, in letters of either case (0 turns sampling off)";
const PREFIXES: &str = "a path that ends in the beginning of a file name, such as dump=out/app";

const TIMES: &str = "a whole number with or without ms, or with s, min or h, from 1 ms to 4294967295 ms, which is 49 days (decay=500ms)";

const INTERVALS: &str =
    "a whole number of ms, s, min or h, from 1 s to 4294967295 ms, which is 49 days (every=10min)";
/// The shortest of them, in milliseconds.
const INTERVAL_MS_MIN: u32 = 1000;

const STEPS: &str =
    "bytes as a whole number with or without KiB, MiB, GiB, KB, MB or GB, from 16MiB (grown=1GiB)";
/// The least of them, in bytes: what is given back counts as in use meanwhile, 8 MiB of it at a time.
const STEP_BYTES_MIN: u64 = 16 << 20;

const KEEPS: &str = "how many dumps stay that %d numbers, a whole number from 1 (keep=24)";

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

/// Reads the variable; `wrong` is told of each part that is not understood. The
/// last of several values counts.
pub(super) fn parse<'a>(text: &'a [u8], mut wrong: impl FnMut(Problem<'a>)) -> Config<'a> {
    let mut config = Config::default();
    for part in text.split(|byte| *byte == b',') {
        let part = part.trim_ascii();
        if part.is_empty() {
            continue;
        }
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let key = halves.next().unwrap_or_default();
        let problem = |what, accepted| Problem { part, what, accepted };
        match (key, halves.next()) {
            #[cfg(feature = "profile")]
            (b"sample", Some(value)) => match size(value.trim_ascii()) {
                Some(bytes) => config.sample_bytes = Some(bytes),
                None => wrong(problem("is not a size", SIZES)),
            },
            (b"dump", Some(value)) => match value.trim_ascii() {
                value if !names_file(value) => wrong(problem("names no file", PREFIXES)),
                prefix => config.dump = Some(prefix),
            },
            #[cfg(feature = "profile")]
            (b"formats", Some(b"")) => wrong(problem("has no value", Formats::ACCEPTED)),
            #[cfg(feature = "profile")]
            (b"formats", Some(value)) => {
                config.formats = Formats::named(value, |what| {
                    wrong(problem(what, Formats::ACCEPTED));
                });
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
                }
                _ => wrong(problem("is not how many dumps are to stay", KEEPS)),
            },
            (b"signal", value) => match value.and_then(|value| signal(value.trim_ascii())) {
                Some(signal) => config.signal = Some(signal),
                None => wrong(problem("names no signal to wait for", SIGNALS)),
            },
            (b"decay", Some(value)) => match milliseconds(value.trim_ascii()) {
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
    config
}

impl Problem<'_> {
    /// Says what is wrong, in one line on standard error.
    pub(super) fn report(self) {
        let line = Line::new().text("SPANALLOC: \"").shortened(self.part).text("\" ");
        line.text(self.what).text("; accepted: ").text(self.accepted).write();
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
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Config<'_>, Vec<Problem<'_>>) {
        let mut problems = Vec::new();
        let config = parse(text.as_bytes(), |problem| problems.push(problem));
        (config, problems)
    }

    #[test]
    fn sizes_have_units() {
        let size = |text: &str| size(text.as_bytes());
        assert_eq!(size("0"), Some(0));
        assert_eq!(size("524288"), Some(524_288));
        assert_eq!(size("512KiB"), Some(512 << 10));
        assert_eq!(size("2mib"), Some(2 << 20));
        assert_eq!(size("3 GB"), Some(3_000_000_000));
        for wrong in
            ["", "KiB", "-1", "1.5MiB", "12Q", "1 2", "99999999999999999999", "99999999999GiB"]
        {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn both_keys_apply_in_any_order() {
        let (config, problems) = parsed("dump=out/app, sample=1MB");
        let expected =
            Config { sample_bytes: Some(1_000_000), dump: Some(b"out/app"), ..Config::default() };
        assert_eq!(config, expected);
        assert!(problems.is_empty());
        assert_eq!(parsed("sample=1,,sample=2,").0.sample_bytes, Some(2));
        assert_eq!(parsed("").0, Config::default());
        assert_eq!(parsed("dump=a=b").0.dump, Some(&b"a=b"[..]));
        assert_eq!(parsed("sample= 8 KiB").0.sample_bytes, Some(8192));
        for wrong in ["dump=", "dump=out/", "dump=.", "dump=out/..", "dump=/"] {
            let (config, problems) = parsed(wrong);
            assert_eq!((config.dump, problems[0].what), (None, "names no file"), "{wrong}");
        }
    }

    #[test]
    fn times_have_units() {
        let decay = |text| parsed(text).0.decay_ms;
        assert_eq!(decay("decay=50ms"), Some(50));
        assert_eq!(decay("decay=250"), Some(250));
        assert_eq!(decay("dump=x,decay=2 s"), Some(2000));
        assert_eq!((decay("decay=3min"), decay("decay=1h")), (Some(180_000), Some(3_600_000)));
        for wrong in ["decay=", "decay=0", "decay=1.5s", "decay=9999999s", "decay=1d", "decay"] {
            let (config, problems) = parsed(wrong);
            assert_eq!((config.decay_ms, problems.len()), (None, 1), "{wrong}");
            assert!(problems[0].accepted.contains("4294967295"), "{wrong}");
        }
    }

    #[test]
    fn reports_while_the_program_runs_have_a_time_or_a_signal() {
        let (config, problems) = parsed("dump=x,every=10min,signal=USR2");
        assert_eq!((config.every_ms, config.signal), (Some(600_000), Some(libc::SIGUSR2)));
        assert!(problems.is_empty());
        let signal = |text| parsed(text).0.signal;
        assert_eq!(signal("signal=SIGHUP"), Some(libc::SIGHUP));
        assert_eq!(signal("signal= USR1 "), Some(libc::SIGUSR1));
        assert_eq!(signal("signal=sigusr1"), Some(libc::SIGUSR1));
        assert_eq!(signal("signal=usr2"), Some(libc::SIGUSR2));
        assert_eq!(signal("signal=40"), Some(40));
        let all = [
            ("every", "is not a time", "every=10min"),
            ("every=", "is not a time", "every=10min"),
            ("every=10d", "is not a time", "from 1 s"),
            ("every=999ms", "is too short", "from 1 s"),
            ("signal", "names no signal to wait for", "USR2"),
            ("signal=KILL", "names no signal to wait for", "USR2"),
            ("signal=9", "names no signal to wait for", "USR2"),
            ("signal=65", "names no signal to wait for", "USR2"),
        ];
        for (wrong, what, accepted) in all {
            let (config, problems) = parsed(wrong);
            assert_eq!((config.every_ms, config.signal, problems.len()), (None, None, 1));
            assert_eq!(problems[0].what, what, "{wrong}");
            assert!(problems[0].accepted.contains(accepted), "{wrong}");
        }
        let (config, problems) = parsed("dump=out/,signal=USR2");
        assert_eq!((config.signal, problems.len()), (Some(libc::SIGUSR2), 1), "stays asked for");
    }

    #[test]
    fn memory_grows_by_sizes_from_a_mebibyte_on() {
        let (config, problems) = parsed("grown= 2 GiB ,dump=x");
        assert_eq!((config.grown_bytes, problems.len()), (Some(2 << 30), 0));
        for (wrong, what) in [
            ("grown", "is not a size"),
            ("grown=", "is not a size"),
            ("grown=1.5GiB", "is not a size"),
            ("grown=0", "is too small"),
            ("grown=16000KiB", "is too small"),
        ] {
            let (config, problems) = parsed(wrong);
            assert_eq!((config.grown_bytes, problems.len()), (None, 1), "{wrong}");
            assert_eq!(problems[0].what, what, "{wrong}");
            assert!(problems[0].accepted.contains("from 16MiB"), "{wrong}");
        }
    }

    #[test]
    fn only_the_scavenger_is_traced() {
        let (config, problems) = parsed("trace=scavenge");
        assert!(config.trace && problems.is_empty());
        assert!(parsed("trace= scavenge ").0.trace);
        for wrong in ["trace", "trace=", "trace=all"] {
            let (config, problems) = parsed(wrong);
            assert_eq!((config.trace, problems.len()), (false, 1), "{wrong}");
            assert_eq!(problems[0].accepted, "trace=scavenge");
        }
    }

    #[test]
    fn how_many_dumps_stay_is_a_number_from_one() {
        let keep = |text| parsed(text).0.keep;
        assert_eq!([keep("keep=24"), keep("keep= 1 "), keep("")], [Some(24), Some(1), None]);
        for wrong in ["keep", "keep=", "keep=0", "keep=-1", "keep=3MiB"] {
            let (config, problems) = parsed(wrong);
            assert_eq!((config.keep, problems.len()), (None, 1), "{wrong}");
            assert!(problems[0].accepted.contains("keep=24"));
        }
    }

    #[test]
    fn huge_pages_are_on_off_or_early() {
        let huge = |text| parsed(text).0.huge;
        assert_eq!(
            [huge("huge=off"), huge("huge= on "), huge("huge=early"), huge("")],
            [Some(Huge::Off), Some(Huge::Dense), Some(Huge::Early), None]
        );
        for wrong in ["huge", "huge=", "huge=no"] {
            let (config, problems) = parsed(wrong);
            assert_eq!((config.huge, problems.len()), (None, 1), "{wrong}");
            assert!(problems[0].accepted.contains("huge=off"));
        }
    }

    #[test]
    fn formats_are_named_one_by_one() {
        let (config, problems) = parsed("formats=json+folded");
        assert_eq!(config.formats, Formats::named(b"folded+json", |_| ()));
        assert!(config.formats.is_some() && problems.is_empty());
        for (wrong, what) in [
            ("formats=", "has no value"),
            ("formats=png", "names an unknown format, which is not written"),
            ("formats", "has no value"),
        ] {
            let (config, problems) = parsed(wrong);
            assert_eq!((problems.len(), problems[0].what), (1, what));
            assert_eq!(config.formats, None);
            assert!(problems[0].accepted.contains("text+json"), "{wrong}");
        }
        for wrong in ["formats=json+png", "formats=json+"] {
            let (config, problems) = parsed(wrong);
            assert_eq!(problems[0].what, "names an unknown format, which is not written");
            assert_eq!((config.formats, problems.len()), (Some(Formats::JSON), 1), "the rest");
        }
    }

    #[test]
    fn a_format_that_the_build_lacks_is_named_and_the_others_are_written() {
        let (config, problems) = parsed("formats=text+svg+pprof+dhat");
        let lacks = |feature: &str| problems.iter().any(|problem| problem.what.contains(feature));
        assert_eq!(
            lacks("needs a build with the feature `flamegraph`"),
            !cfg!(feature = "flamegraph")
        );
        assert_eq!(lacks("needs a build with the feature `pprof`"), !cfg!(feature = "pprof"));
        let formats = config.formats.unwrap();
        assert!(formats.has(Formats::TEXT) && formats.has(Formats::DHAT));
        assert!(!formats.has(Formats::JSON) && !formats.has(Formats::HTML));
        #[cfg(not(feature = "pprof"))]
        assert_eq!(parsed("formats=pprof").0.formats, None, "the defaults");
    }

    #[test]
    fn a_wrong_part_is_named_and_the_rest_applies() {
        let (config, problems) = parsed("sample=lots,dump=x,colour=red,dump,dump=dir/");
        assert_eq!(config, Config { dump: Some(b"x"), ..Config::default() });
        let named: Vec<_> = problems.iter().map(|problem| (problem.part, problem.what)).collect();
        assert_eq!(
            named,
            [
                (&b"sample=lots"[..], "is not a size"),
                (b"colour=red", "is no known key"),
                (b"dump", "has no value"),
                (b"dump=dir/", "names no file"),
            ]
        );
        assert!(problems[0].accepted.contains("without B, KiB"));
        assert!(problems[1].accepted.contains("sample=SIZE, dump=PREFIX"));
    }
}
