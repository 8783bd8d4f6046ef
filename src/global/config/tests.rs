//! What the variable may be, and what is said about slips.

use super::values::size;
use super::*;
use crate::heap::scavenge::DECAY_NEVER_MS;

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
    assert_eq!([size("8k"), size("4M"), size("1g")], [8 << 10, 4 << 20, 1 << 30].map(Some));
    assert_eq!(size("3 GB"), Some(3_000_000_000));
    for (unit, bytes) in [
        ("", 1),
        ("b", 1),
        ("k", 1 << 10),
        ("m", 1 << 20),
        ("g", 1 << 30),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
    ] {
        for unit in [unit, &unit.to_uppercase()] {
            assert_eq!(size(&format!("7{unit}")), Some(7 * bytes), "{unit}");
        }
    }
    for wrong in ["", "KiB", "-1", "1.5MiB", "12Q", "1 2", "99999999999999999999", "99999999999GiB"]
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
    assert_eq!(decay("decay= never"), Some(DECAY_NEVER_MS));
    assert_eq!(decay("dump=x,decay=2 s"), Some(2000));
    assert_eq!((decay("decay=3min"), decay("decay=1h")), (Some(180_000), Some(3_600_000)));
    for wrong in
        ["decay=", "decay=0", "decay=1.5s", "decay=9999999s", "decay=1d", "decay=nev", "decay"]
    {
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
    let signal = |text: &str| parsed(text).0.signal;
    assert_eq!(signal("signal=SIGHUP"), Some(libc::SIGHUP));
    assert_eq!(signal("signal= USR1 "), Some(libc::SIGUSR1));
    assert_eq!(signal("signal=sigusr1"), Some(libc::SIGUSR1));
    assert_eq!(signal("signal=usr2"), Some(libc::SIGUSR2));
    assert_eq!(signal("signal=40"), Some(40));
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    for number in [first, last] {
        assert_eq!(signal(&format!("signal={number}")), Some(number));
    }
    for number in [first - 1, last + 1] {
        assert_eq!(signal(&format!("signal={number}")), None);
    }
    let all = [
        ("every", "has no value", "every=10min"),
        ("every=", "is not a time", "every=10min"),
        ("every=10d", "is not a time", "from 1 s"),
        ("every=999ms", "is too short", "from 1 s"),
        ("signal", "has no value", "USR2"),
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
    let least = [("16MiB", Some(16 << 20)), ("16777216", Some(16 << 20)), ("16777215", None)];
    for (text, bytes) in least {
        assert_eq!(parsed(&format!("grown={text}")).0.grown_bytes, bytes, "{text}");
    }
    for (wrong, what) in [
        ("grown", "has no value"),
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
    // More than there ever will be: all.
    assert_eq!(keep("keep=4294967295"), Some(u32::MAX));
    assert_eq!(keep("keep=99999999999"), Some(u32::MAX));
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
    assert_eq!(config.formats, Formats::named(b"folded+json", |_, _| ()));
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
        let name = wrong.strip_prefix("formats=json+").map(str::as_bytes);
        assert_eq!(problems[0].which, name);
        assert_eq!((config.formats, problems.len()), (Some(Formats::JSON), 1), "the rest");
    }
    let (config, problems) = parsed("formats=json,formats=png");
    assert_eq!((config.formats, problems.len()), (Some(Formats::JSON), 1), "the last good one");
}

#[test]
fn a_key_may_have_blanks_about_it() {
    let (config, problems) = parsed(" dump = out/a , sample =1,keep\t= 2");
    assert_eq!((config.dump, config.sample_bytes), (Some(&b"out/a"[..]), Some(1)));
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn what_is_hardly_meant_so_applies_and_is_told() {
    let more = "has a part more inside, which is taken for its value";
    for (text, dump, what, which) in [
        ("dump=out/%x.%d", "out/%x.%d", "has what stands for nothing and stays so", "%x"),
        ("dump=out/a sample=1", "out/a sample=1", more, "sample"),
        ("dump=out/a; every = 10min", "out/a; every = 10min", more, "every"),
    ] {
        let (config, problems) = parsed(text);
        assert_eq!(config.dump, Some(dump.as_bytes()));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((problems[0].what, problems[0].which), (what, Some(which.as_bytes())));
    }
    for fine in ["dump=out/a b=c", "dump=out/my sample", "dump=out/x.sample=1", "dump=a%%x"] {
        assert_eq!(parsed(fine).1, [], "{fine}");
    }
    let problems = parsed("sample=512KiB dump=out/a").1;
    assert_eq!(problems.iter().map(|p| p.what).collect::<Vec<_>>(), [more, "is not a size"]);
    assert!(problems[0].accepted.contains("commas between parts"));
}

#[test]
fn to_keep_some_is_for_dumps_with_a_number() {
    for (text, told) in [
        ("keep=2,dump=out/a", true),
        ("dump=out/a.%%d,keep=2", true),
        ("dump=out/a.%d,keep=2", false),
        ("keep=2", false),
        ("dump=out/a,keep=no", false),
    ] {
        let problems = parsed(text).1;
        let of_keep = |problem: &&Problem| problem.what.starts_with("keeps nothing");
        let told_of = problems.iter().find(of_keep).map(|problem| problem.part);
        assert_eq!(told_of, told.then_some(&b"keep=2"[..]), "{text}");
    }
}

#[test]
fn a_format_that_the_build_lacks_is_named_and_the_others_are_written() {
    let (config, problems) = parsed("formats=text+svg+pprof+dhat");
    let lacks = |feature: &str| problems.iter().any(|problem| problem.what.contains(feature));
    assert_eq!(lacks("needs a build with the feature `flamegraph`"), !cfg!(feature = "flamegraph"));
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

#[test]
fn the_list_of_keys_names_each() {
    for part in KEYS.split(", ") {
        let name = part.split('=').next().unwrap();
        assert!(Key::named(name.as_bytes()).is_some(), "{name}");
        let (_, problems) = parsed(name);
        assert_eq!((problems.len(), problems[0].what), (1, "has no value"), "{name}");
    }
    assert_eq!(KEYS.matches('=').count(), 10);
}
