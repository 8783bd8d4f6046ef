//! What a reader makes of a profile that is written for `pprof`.

use std::io::Read;
use std::sync::OnceLock;

use super::*;
use crate::profile::Losses;
use crate::profile::symbols::Symbols;

#[test]
fn equal_stacks_are_one_sample_and_strings_begin_empty() {
    let profile = Profile::of_sites(&[(&[0x11, 2], 3, 3), (&[0x11, 2], 6, 0)]);
    let mut encoder = Encoder::new(&profile, true);
    encoder.samples();
    assert_eq!((encoder.locations.len(), encoder.functions.len()), (2, 2));
    assert!(encoder.strings.iter().map(|string| &**string).eq(["", "0x10", "0x1"]));
    let mut one = Message::default();
    one.message(field::profile::SAMPLE, |out| {
        out.packed(field::sample::LOCATIONS, &[1, 2]);
        out.packed(field::sample::VALUES, &[9, 90, 3, 30]);
    });
    assert!(encoder.out.as_bytes().ends_with(one.as_bytes()));
}

#[test]
fn a_module_says_what_is_known_of_it() {
    let frame = |function: &str, file: Option<&str>, line| {
        Arc::new(Frame { function: function.into(), file: file.map(Into::into), line })
    };
    let module = |path: &str, start| Module {
        path: path.into(),
        bias: 0,
        start,
        end: start + 0x1000,
        file_offset: 0,
        build_id: String::new(),
        main: false,
    };
    let mut profile = Profile::of_sites(&[(&[0x1011, 0x2021, 0x3031], 3, 3)]);
    profile.symbols = std::sync::OnceLock::from(Symbols::known(HashMap::from([
        (0x1011, [frame("f", Some("f.rs"), Some(7)), frame("g", Some("f.rs"), None)].into()),
        (0x2021, [frame("h", None, None)].into()),
        (0x3031, [frame("stripped+0x3030", None, None)].into()),
    ])));
    let encoder = Encoder::new(&profile, true);
    let addresses = profile.addresses();
    let named = |path, start| encoder.named(&module(path, start), &addresses);
    assert_eq!(named("/bin/whole", 0x1000), [true; 4]);
    assert_eq!(named("/bin/symbols", 0x2000), [true, false, false, false]);
    assert_eq!(named("/bin/stripped", 0x3000), [false; 4]);
    assert_eq!(named("/bin/unused", 0x4000), [false; 4]);
}

#[test]
fn an_empty_profile_and_the_same_profile_twice() {
    let gzipped = |profile: &Profile| {
        let mut out = Vec::new();
        profile.write_pprof(&mut out).unwrap();
        out
    };
    let profile = || Profile::of_sites(&[(&[0x11, 2], 3, 3), (&[0x21, 2], 6, 0)]);
    assert_eq!(gzipped(&profile()), gzipped(&profile()));
    let mut plain = Vec::new();
    let empty = gzipped(&Profile::of_sites(&[]));
    flate2::read::GzDecoder::new(&empty[..]).read_to_end(&mut plain).unwrap();
    assert!(plain.windows(11).any(|window| window == b"inuse_space"));
}

/// A message as it is read, by numbers of the schema that are written out below.
struct Fields<'a>(Vec<(u64, Value<'a>)>);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads an integer off the front.
fn integer(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().expect("a message ends behind a field");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

impl<'a> Fields<'a> {
    fn of(mut bytes: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = integer(&mut bytes);
            let value = integer(&mut bytes);
            let value = match key & 7 {
                0 => Value::Number(value),
                2 => {
                    let (value, rest) = bytes.split_at(value as usize);
                    bytes = rest;
                    Value::Bytes(value)
                }
                kind => panic!("type {kind}"),
            };
            fields.push((key >> 3, value));
        }
        Self(fields)
    }

    fn numbers(&self, field: u64) -> Vec<u64> {
        let all = self.0.iter().filter(|(at, _)| *at == field);
        let number = |(_, value): &(u64, Value<'_>)| match value {
            Value::Number(number) => *number,
            Value::Bytes(_) => panic!("field {field} is no number"),
        };
        all.map(number).collect()
    }

    /// The number of a field that comes once, or is 0.
    fn number(&self, field: u64) -> u64 {
        let numbers = self.numbers(field);
        assert!(numbers.len() <= 1, "field {field}");
        numbers.first().copied().unwrap_or(0)
    }

    fn bytes(&self, field: u64) -> Vec<&'a [u8]> {
        let all = self.0.iter().filter(|(at, _)| *at == field);
        let bytes = |(_, value): &(u64, Value<'a>)| match value {
            Value::Bytes(bytes) => *bytes,
            Value::Number(_) => panic!("field {field} is a number"),
        };
        all.map(bytes).collect()
    }

    fn messages(&self, field: u64) -> Vec<Self> {
        self.bytes(field).into_iter().map(Self::of).collect()
    }

    fn packed(&self, field: u64) -> Vec<u64> {
        let mut integers = Vec::new();
        for mut bytes in self.bytes(field) {
            while !bytes.is_empty() {
                integers.push(integer(&mut bytes));
            }
        }
        integers
    }

    /// The text whose number a field of this profile's holds.
    fn text(&self, number: u64) -> &'a str {
        std::str::from_utf8(self.bytes(6)[number as usize]).unwrap()
    }
}

const MARK: &str = "std::sys::backtrace::__rust_begin_short_backtrace";

/// Stacks through three modules, of which the program is neither first nor lowest; at one address
/// with three functions inlined into another, of which three stacks show different ones.
fn of_modules() -> Profile {
    let frame = |function: &str, file: Option<&str>, line| {
        Arc::new(Frame { function: function.into(), file: file.map(Into::into), line })
    };
    let module = |path: &str, start, file_offset, build_id: &str| Module {
        path: path.into(),
        bias: 0,
        start,
        end: start + 0x1000,
        file_offset,
        build_id: build_id.into(),
        main: path == "/bin/app",
    };
    // The last call of a module returns to where it ends, and none to where it begins.
    let (program, end_of_a, in_b, begin_of_b) = (0x9101, 0x6000, 0x1102, 0x1000);
    let mut profile = Profile::of_sites(&[
        (&[program, end_of_a], 30, 3),
        (&[in_b, program], 60, 6),
        (&[in_b, program, end_of_a], 90, 9),
        (&[begin_of_b], 120, 12),
        (&[], 150, 15),
    ]);
    let known: [(u64, Box<[_]>); 4] = [
        (
            program,
            [
                frame("alloc::raw_vec::finish_grow", Some("raw_vec.rs"), Some(11)),
                frame("alloc::raw_vec::grow_one", Some("raw_vec.rs"), Some(12)),
                frame("app::run", Some("app.rs"), Some(13)),
                frame(MARK, Some("backtrace.rs"), Some(14)),
            ]
            .into(),
        ),
        (end_of_a, [frame("a::thread", Some("a.rs"), Some(21)), frame(MARK, None, None)].into()),
        (in_b, [frame("hashbrown::raw::grow", Some("raw.rs"), None)].into()),
        (begin_of_b, [frame("app::run", None, Some(31))].into()),
    ];
    profile.symbols = OnceLock::from(Symbols::known(HashMap::from(known)));
    profile.modules = vec![
        module("/lib/a", 0x5000, 0x500, "aa"),
        module("/lib/b", 0x1000, 0x100, "bb"),
        module("/bin/app", 0x9000, 0x900, "cc"),
    ];
    let group = |name: &str| Group {
        name: name.into(),
        allocated: Default::default(),
        in_use: Default::default(),
    };
    profile.threads = vec![group(""), group("worker")];
    profile.spans = vec![group("request"), group("")];
    let sites = &mut profile.sites;
    (sites[0].thread, sites[0].span) = (Some(1), Some(0));
    (sites[1].thread, sites[1].span) = (Some(0), Some(0));
    (sites[2].thread, sites[2].span) = (Some(1), Some(1));
    profile.interval_bytes = 4097;
    profile.time_unix_ns = 1_700_000_000_000_000_007;
    profile.duration_ns = 2_000_000_009;
    profile.losses = Losses { frees: 3, truncated_stacks: 2, ..Losses::default() };
    profile
}

#[test]
fn a_reader_finds_when_and_how_the_profile_was_made() {
    let profile = of_modules();
    let message = encoded(&profile, true, true);
    let read = Fields::of(message.as_bytes());
    let mut fields: Vec<u64> = read.0.iter().map(|(field, _)| *field).collect();
    fields.sort_unstable();
    fields.dedup();
    assert_eq!(fields, [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14]);
    assert_eq!(read.text(0), "");
    let types = |field| {
        let of = |kind: &Fields<'_>| (read.text(kind.number(1)), read.text(kind.number(2)));
        read.messages(field).iter().map(of).collect::<Vec<_>>()
    };
    let expected = [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ];
    assert_eq!(types(1), expected);
    assert_eq!(types(11), [("space", "bytes")]);
    assert_eq!(read.number(12), 4097);
    assert_eq!(read.number(9), 1_700_000_000_000_000_007);
    assert_eq!(read.number(10), 2_000_000_009);
    assert_eq!(read.text(read.number(14)), "inuse_space");
    assert_eq!(read.text(read.number(7)), DROPPED);
    let comments: Vec<&str> = read.numbers(13).into_iter().map(|at| read.text(at)).collect();
    let told = losses(&profile.losses);
    assert_eq!(comments, [&facts(&profile), &told[0], &told[1]]);
    assert!(Fields::of(encoded(&profile, true, false).as_bytes()).numbers(7).is_empty());
}

#[test]
fn a_reader_finds_the_modules_with_the_program_first() {
    let message = encoded(&of_modules(), true, true);
    let read = Fields::of(message.as_bytes());
    let mappings = read.messages(3);
    let places: Vec<_> =
        mappings.iter().map(|one| [1, 2, 3, 4].map(|field| one.number(field))).collect();
    let expected =
        [[1, 0x9000, 0xa000, 0x900], [2, 0x1000, 0x2000, 0x100], [3, 0x5000, 0x6000, 0x500]];
    assert_eq!(places, expected);
    let files: Vec<_> =
        mappings.iter().map(|one| [5, 6].map(|at| read.text(one.number(at)))).collect();
    assert_eq!(files, [["/bin/app", "cc"], ["/lib/b", "bb"], ["/lib/a", "aa"]]);
    let known: Vec<_> =
        mappings.iter().map(|one| [7, 8, 9, 10].map(|field| one.number(field))).collect();
    assert_eq!(known, [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]);
}

#[test]
fn a_reader_finds_the_stacks_with_their_calls_lines_and_labels() {
    let message = encoded(&of_modules(), true, true);
    let read = Fields::of(message.as_bytes());
    let functions = read.messages(5);
    assert!(functions.iter().map(|function| function.number(1)).eq(1..=8));
    let line = |line: &Fields<'_>| {
        let function = &functions[line.number(1) as usize - 1];
        (read.text(function.number(2)), read.text(function.number(4)), line.number(2))
    };
    let finish = ("alloc::raw_vec::finish_grow", "raw_vec.rs", 11);
    let grow = ("alloc::raw_vec::grow_one", "raw_vec.rs", 12);
    let run = ("app::run", "app.rs", 13);
    let mark = (MARK, "backtrace.rs", 14);
    // Number, module, address of the call, and what was called there.
    let expected = [
        (1, 1, 0x9100, vec![grow, run, mark]),
        (2, 3, 0x5fff, vec![("a::thread", "a.rs", 21)]),
        (3, 2, 0x1101, vec![("hashbrown::raw::grow", "raw.rs", 0)]),
        (4, 1, 0x9100, vec![finish, grow, run]),
        (5, 1, 0x9100, vec![finish, grow, run, mark]),
        (6, 0, 0xfff, vec![("app::run", "", 31)]),
        (7, 0, 0, vec![("[stack unknown]", "", 0)]),
    ];
    let location = |one: &Fields<'_>| {
        let lines: Vec<_> = one.messages(4).iter().map(line).collect();
        (one.number(1), one.number(2), one.number(3), lines)
    };
    assert_eq!(read.messages(4).iter().map(location).collect::<Vec<_>>(), expected);
    let sample = |one: &Fields<'_>| {
        let label = |label: &Fields<'_>| [1, 2].map(|field| read.text(label.number(field)));
        let labels: Vec<_> = one.messages(3).iter().map(label).collect();
        (one.packed(1), one.packed(2), labels)
    };
    let samples: Vec<_> = read.messages(2).iter().map(sample).collect();
    let (thread, span) = (["thread", "worker"], ["span", "request"]);
    let expected = [
        (vec![1, 2], vec![30, 300, 3, 30], vec![thread, span]),
        (vec![3, 4], vec![60, 600, 6, 60], vec![span]),
        (vec![3, 5, 2], vec![90, 900, 9, 90], vec![thread]),
        (vec![6], vec![120, 1200, 12, 120], vec![]),
        (vec![7], vec![150, 1500, 15, 150], vec![]),
    ];
    assert_eq!(samples, expected);
}

#[test]
fn without_names_a_location_is_an_address() {
    let message = encoded(&of_modules(), false, true);
    let read = Fields::of(message.as_bytes());
    assert!(read.messages(5).is_empty());
    let location = |one: &Fields<'_>| (one.number(2), one.number(3), one.messages(4).len());
    let locations: Vec<_> = read.messages(4).iter().map(location).collect();
    assert_eq!(locations, [(1, 0x9100, 0), (3, 0x5fff, 0), (2, 0x1101, 0), (0, 0xfff, 0)]);
    let stacks: Vec<_> = read.messages(2).iter().map(|sample| sample.packed(1)).collect();
    assert_eq!(stacks, [vec![], vec![1, 2], vec![3, 1], vec![3, 1, 2], vec![4]]);
    let known = |one: &Fields<'_>| [7, 8, 9, 10].map(|field| one.number(field));
    assert!(read.messages(3).iter().all(|one| known(one) == [0; 4]));
}
