//! `profile.proto`, gzipped, as `go tool pprof` and other viewers read it.
//!
//! What the format asks of a writer: string 0 is empty; mapping 1 is the program;
//! a stack is a list of locations, leaf first; a location has the address of the
//! call, which is one less than the return address, and one line per function
//! inlined there, innermost first; identifiers count from 1; times, periods and
//! values stand with their units. A sample's labels are the name of its thread and the
//! kind of its span. A location is named by its address and by how
//! much of it is shown, since the allocator's own functions are left out even
//! where they were inlined into the program's.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

use flate2::{Compression, GzBuilder};

use super::calls::{kept, unknown};
use super::dropped::DROPPED;
use super::facts::{facts, losses};
use super::protobuf::Message;
use crate::profile::symbols::Frame;
use crate::profile::{self, Group, Module, Profile, Site};

/// Types and units of a sample's values, in the order every heap profile has.
const SAMPLE_TYPES: [(&str, &str); 4] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];
const DEFAULT_SAMPLE_TYPE: &str = "inuse_space";

/// Field numbers of the messages, by message.
mod field {
    pub(super) mod profile {
        pub(in super::super) const SAMPLE_TYPE: u64 = 1;
        pub(in super::super) const SAMPLE: u64 = 2;
        pub(in super::super) const MAPPING: u64 = 3;
        pub(in super::super) const LOCATION: u64 = 4;
        pub(in super::super) const FUNCTION: u64 = 5;
        pub(in super::super) const STRING: u64 = 6;
        pub(in super::super) const DROP_FRAMES: u64 = 7;
        pub(in super::super) const TIME_NANOS: u64 = 9;
        pub(in super::super) const DURATION_NANOS: u64 = 10;
        pub(in super::super) const PERIOD_TYPE: u64 = 11;
        pub(in super::super) const PERIOD: u64 = 12;
        pub(in super::super) const COMMENT: u64 = 13;
        pub(in super::super) const DEFAULT_KIND: u64 = 14;
    }
    pub(super) mod value_type {
        pub(in super::super) const TYPE: u64 = 1;
        pub(in super::super) const UNIT: u64 = 2;
    }
    pub(super) mod sample {
        pub(in super::super) const LOCATIONS: u64 = 1;
        pub(in super::super) const VALUES: u64 = 2;
        pub(in super::super) const LABEL: u64 = 3;
    }
    pub(super) mod label {
        pub(in super::super) const KEY: u64 = 1;
        pub(in super::super) const TEXT: u64 = 2;
    }
    pub(super) mod mapping {
        pub(in super::super) const ID: u64 = 1;
        pub(in super::super) const START: u64 = 2;
        pub(in super::super) const LIMIT: u64 = 3;
        pub(in super::super) const OFFSET: u64 = 4;
        pub(in super::super) const FILE: u64 = 5;
        pub(in super::super) const BUILD_ID: u64 = 6;
        /// Functions, file names, line numbers, inline frames.
        pub(in super::super) const HAS: [u64; 4] = [7, 8, 9, 10];
    }
    pub(super) mod location {
        pub(in super::super) const ID: u64 = 1;
        pub(in super::super) const MAPPING: u64 = 2;
        pub(in super::super) const ADDRESS: u64 = 3;
        pub(in super::super) const LINE: u64 = 4;
    }
    pub(super) mod line {
        pub(in super::super) const FUNCTION: u64 = 1;
        pub(in super::super) const NUMBER: u64 = 2;
    }
    pub(super) mod function {
        pub(in super::super) const ID: u64 = 1;
        pub(in super::super) const NAME: u64 = 2;
        pub(in super::super) const FILE: u64 = 4;
    }
}

impl Profile {
    /// Writes the profile for `go tool pprof`: `profile.proto`, gzipped, with the
    /// sample types `alloc_objects`, `alloc_space`, `inuse_objects` and
    /// `inuse_space`, functions named, inlined ones included. Samples are labelled by
    /// `thread` and `span`, so that `-tags` lists these and `-tagfocus=span=…` chooses.
    ///
    /// Resolves names on the first report of a profile: that reads the files of
    /// the modules.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut gzipped = Vec::new();
    /// spanalloc::profile::capture().write_pprof(&mut gzipped)?;
    /// assert_eq!(gzipped[..2], [0x1f, 0x8b]);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_pprof<W: Write>(&self, out: W) -> io::Result<()> {
        profile::quietly(|| gzip(&encoded(self, true, false), out))
    }

    /// The same with addresses and build-ids in place of names: reads no file and
    /// takes milliseconds. `go tool pprof PROGRAM PROFILE` finds files, lines and, as far as it can
    /// (that of Go 1.19 some), names later, if `PROGRAM` has debug information; it may be a copy of
    /// one that was stripped.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut gzipped = Vec::new();
    /// spanalloc::profile::capture().write_pprof_raw(&mut gzipped)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_pprof_raw<W: Write>(&self, out: W) -> io::Result<()> {
        profile::quietly(|| gzip(&encoded(self, false, true), out))
    }
}

pub(super) fn gzip<W: Write>(message: &Message, out: W) -> io::Result<()> {
    let mut gzip = GzBuilder::new().mtime(0).write(out, Compression::default());
    gzip.write_all(message.as_bytes())?;
    gzip.finish()?.flush()
}

/// The profile, with names or without; `drops` asks the reader to leave out the allocator's
/// functions.
pub(super) fn encoded(profile: &Profile, symbolized: bool, drops: bool) -> Message {
    use field::profile::*;

    let mut encoder = Encoder::new(profile, symbolized);
    for (kind, unit) in SAMPLE_TYPES {
        encoder.value_type(SAMPLE_TYPE, kind, unit);
    }
    encoder.mappings();
    encoder.samples();
    encoder.value_type(PERIOD_TYPE, "space", "bytes");
    encoder.out.number(PERIOD, profile.interval_bytes);
    encoder.out.number(TIME_NANOS, profile.time_unix_ns);
    encoder.out.number(DURATION_NANOS, profile.duration_ns);
    let kind = encoder.string(DEFAULT_SAMPLE_TYPE);
    encoder.out.number(DEFAULT_KIND, kind);
    for comment in std::iter::once(facts(profile)).chain(losses(&profile.losses)) {
        let comment = encoder.string(&comment);
        encoder.out.number(COMMENT, comment);
    }
    if drops {
        let dropped = encoder.string(DROPPED);
        encoder.out.number(DROP_FRAMES, dropped);
    }
    for string in &encoder.strings {
        encoder.out.text(STRING, string);
    }
    encoder.out
}

struct Encoder<'a> {
    profile: &'a Profile,
    symbolized: bool,
    out: Message,
    strings: Vec<Arc<str>>,
    string_ids: HashMap<Arc<str>, u64>,
    /// By name and file.
    functions: HashMap<(u64, u64), u64>,
    /// By mapping, return address, and which of its functions are shown.
    locations: HashMap<(u64, u64, usize, usize), u64>,
    /// Start and end of each mapping, its identifier being its place + 1.
    mappings: Vec<(u64, u64)>,
}

impl<'a> Encoder<'a> {
    fn new(profile: &'a Profile, symbolized: bool) -> Self {
        Self {
            profile,
            symbolized,
            out: Message::default(),
            strings: vec!["".into()],
            string_ids: HashMap::from([("".into(), 0)]),
            functions: HashMap::new(),
            locations: HashMap::new(),
            mappings: Vec::new(),
        }
    }

    fn string(&mut self, text: &str) -> u64 {
        if let Some(id) = self.string_ids.get(text) {
            return *id;
        }
        self.new_string(text.into())
    }

    fn shared_string(&mut self, text: &Arc<str>) -> u64 {
        let known = self.string_ids.get(text).copied();
        known.unwrap_or_else(|| self.new_string(text.clone()))
    }

    fn new_string(&mut self, text: Arc<str>) -> u64 {
        let id = self.strings.len() as u64;
        self.strings.push(text.clone());
        self.string_ids.insert(text, id);
        id
    }

    fn value_type(&mut self, field: u64, kind: &str, unit: &str) {
        let (kind, unit) = (self.string(kind), self.string(unit));
        self.out.message(field, |out| {
            out.number(field::value_type::TYPE, kind);
            out.number(field::value_type::UNIT, unit);
        });
    }

    /// The modules, the program first.
    fn mappings(&mut self) {
        use field::mapping::*;

        let addresses = if self.symbolized { self.profile.addresses() } else { Vec::new() };
        let mut modules: Vec<_> = self.profile.modules.iter().collect();
        modules.sort_by_key(|module| (!module.main, module.start));
        for (at, module) in modules.into_iter().enumerate() {
            self.mappings.push((module.start, module.end));
            let file = self.string(&module.path.to_string_lossy());
            let build_id = self.string(&module.build_id);
            let named = self.named(module, &addresses);
            self.out.message(field::profile::MAPPING, |out| {
                out.number(ID, at as u64 + 1);
                out.number(START, module.start);
                out.number(LIMIT, module.end);
                out.number(OFFSET, module.file_offset);
                out.number(FILE, file);
                out.number(BUILD_ID, build_id);
                HAS.iter().zip(named).for_each(|(has, named)| out.flag(*has, named));
            });
        }
    }

    /// Which of functions, file names, line numbers and inlined frames are known of a module.
    /// Where none are, `pprof` looks for them itself, in the file that it is given. `addresses` are
    /// the profile's that have names, ascending.
    fn named(&self, module: &Module, addresses: &[u64]) -> [bool; 4] {
        let first = addresses.partition_point(|address| *address <= module.start);
        let inside = addresses[first..].iter().take_while(|address| **address <= module.end);
        let mut named = [false; 4];
        for address in inside {
            let frames = self.profile.symbols().frames(*address);
            let any = |has: fn(&Frame) -> bool| frames.iter().any(|frame| has(frame));
            named[0] |= frames.iter().any(|frame| !module.is_placeholder(frame));
            named[1] |= any(|frame| frame.file.is_some());
            named[2] |= any(|frame| frame.line.is_some());
            named[3] |= frames.len() > 1;
        }
        named
    }

    fn samples(&mut self) {
        let mut merged = BTreeMap::<(Vec<u64>, [(u64, u64); 2]), [u64; 4]>::new();
        for site in &self.profile.sites {
            let stack = if self.symbolized { self.stack(site) } else { self.raw_stack(site) };
            let labels = [
                self.label("thread", &self.profile.threads, site.thread),
                self.label("span", &self.profile.spans, site.span),
            ];
            let values = merged.entry((stack, labels)).or_default();
            let (allocated, in_use) = (&site.allocated, &site.in_use);
            let more = [allocated.objects, allocated.bytes, in_use.objects, in_use.bytes];
            values.iter_mut().zip(more).for_each(|(value, more)| *value += more);
        }
        for ((stack, labels), values) in merged {
            self.out.message(field::profile::SAMPLE, |out| {
                out.packed(field::sample::LOCATIONS, &stack);
                out.packed(field::sample::VALUES, &values);
                for (key, text) in labels.into_iter().filter(|(_, text)| *text != 0) {
                    out.message(field::sample::LABEL, |out| {
                        out.number(field::label::KEY, key);
                        out.number(field::label::TEXT, text);
                    });
                }
            });
        }
    }

    /// Key and text of a label, as strings' numbers; 0 for what has no name.
    fn label(&mut self, key: &str, groups: &[Group], at: Option<u32>) -> (u64, u64) {
        let group = at.and_then(|at| groups.get(at as usize));
        match group.filter(|group| !group.name.is_empty()) {
            Some(group) => (self.string(key), self.string(&group.name)),
            None => (0, 0),
        }
    }

    fn raw_stack(&mut self, site: &Site) -> Vec<u64> {
        site.frames.iter().map(|address| self.location(*address, &[], 0)).collect()
    }

    /// The locations of a stack, leaf first, without the allocator's functions.
    fn stack(&mut self, site: &Site) -> Vec<u64> {
        let symbols = self.profile.symbols();
        let of = |address: &u64| symbols.frames(*address);
        let all: Vec<&Frame> = site.frames.iter().flat_map(of).map(|frame| &**frame).collect();
        let kept = kept(&all);
        let mut first = 0;
        let mut stack = Vec::with_capacity(site.frames.len());
        for address in &site.frames {
            let frames = of(address);
            let from = kept.start.saturating_sub(first).min(frames.len());
            let to = kept.end.saturating_sub(first).min(frames.len());
            if from < to {
                stack.push(self.location(*address, &frames[from..to], from));
            }
            first += frames.len();
        }
        if stack.is_empty() {
            stack.push(self.location(0, &[Arc::new(unknown())], 0));
        }
        stack
    }

    /// The location of these functions, which follow `skipped` others, at a return
    /// address.
    fn location(&mut self, address: u64, frames: &[Arc<Frame>], skipped: usize) -> u64 {
        use field::location::*;

        // The call is before the address it returns to.
        let call = address.saturating_sub(1);
        let inside = |(start, end): &(u64, u64)| (*start..*end).contains(&call);
        let mapping = self.mappings.iter().position(inside).map_or(0, |at| at as u64 + 1);
        let next = self.locations.len() as u64 + 1;
        let id = *self.locations.entry((mapping, address, skipped, frames.len())).or_insert(next);
        if id != next {
            return id;
        }
        let line = |frame: &Arc<Frame>| (self.function(frame), frame.line.unwrap_or(0));
        let lines: Vec<_> = frames.iter().map(line).collect();
        self.out.message(field::profile::LOCATION, |out| {
            out.number(ID, id);
            out.number(MAPPING, mapping);
            out.number(ADDRESS, call);
            for (function, number) in lines {
                out.message(LINE, |out| {
                    out.number(field::line::FUNCTION, function);
                    out.number(field::line::NUMBER, number.into());
                });
            }
        });
        id
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        use field::function::*;

        let name = self.shared_string(&frame.function);
        let file = frame.file.as_ref().map_or(0, |file| self.shared_string(file));
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry((name, file)).or_insert(next);
        if id == next {
            self.out.message(field::profile::FUNCTION, |out| {
                out.number(ID, id);
                out.number(NAME, name);
                // No system name: of one that is the same `pprof` takes the name for mangled, and
                // what stands in `<…>` for parameters that it need not show.
                out.number(FILE, file);
            });
        }
        id
    }
}

#[cfg(test)]
mod tests;
