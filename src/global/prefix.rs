//! Where a dump at exit goes: a prefix in which `%p` stands for the process id, `%n` for
//! the program's name, `%h` for the host's, `%d` for the number of the dump in its process, in four
//! digits or more, and `%%` for a percent sign. With `%p` each process has files of
//! its own, so that forked children write them, too. The system gives a process id again
//! after a while (32,768 processes and threads by default on some), so where there are
//! files of another process by that name, `%p` is the id with a number behind it.

use crate::sys::program;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::slice;

/// What the library to preload appends where a prefix names no process: it serves every
/// process that a program starts.
#[cfg(feature = "preload")]
const OF_PROCESS: &[u8] = b".%n.%p";

/// Processes of one id that have files of their own; a later one takes the last's place.
const LIVES_MAX: u32 = 1000;

/// The dumps of one process so far.
#[derive(Debug)]
pub(super) struct Dumps {
    /// Which process of its id this is, as far as files show; 0 until the first dump.
    life: u32,
    number: u32,
    /// The last one of which all was written.
    whole: u32,
    /// Up to here they were removed, but for the one above.
    removed: u32,
}

impl Dumps {
    pub(super) const NONE: Self = Self { life: 0, number: 0, whole: 0, removed: 0 };
}

/// How a dump went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// All of it is there.
    Whole,
    /// A part of it is there, or there was no room for it.
    Partial,
    /// None of it is there.
    Nothing,
}

/// A prefix that is still to be expanded.
#[derive(Clone)]
pub(super) struct Prefix {
    template: PathBuf,
    /// No two processes have the same.
    pub(super) per_process: bool,
}

impl Prefix {
    /// A relative one is taken from the directory `here`, whose name is no template: a `%` in it is
    /// one.
    pub(super) fn new(template: &Path, here: Option<&Path>) -> Self {
        let template = here.map_or(template.to_owned(), |here| literal(here).join(template));
        // Without `.` and the like; one that is relative still is so for want of a directory.
        let template = match template.is_absolute() {
            true => std::path::absolute(&template).unwrap_or(template),
            false => template,
        };
        let mut per_process = false;
        each(template.as_os_str().as_bytes(), |part, _| per_process |= part == Part::Process);
        Self { template, per_process }
    }

    /// The same, with a file name that tells processes apart.
    #[cfg(feature = "preload")]
    pub(super) fn of_process(self) -> Self {
        if self.per_process {
            return self;
        }
        let mut template = self.template.into_os_string().into_vec();
        template.extend_from_slice(OF_PROCESS);
        Self { template: OsString::from_vec(template).into(), per_process: true }
    }

    /// The prefix for this process's next dump: where it names the process, one that was not
    /// `taken` at the first.
    pub(super) fn expand(&self, dumps: &mut Dumps, taken: impl Fn(&Path) -> bool) -> PathBuf {
        dumps.number = dumps.number.saturating_add(1);
        let is_first = dumps.life == 0;
        dumps.life = dumps.life.max(1);
        let mut expanded = self.expand_with(dumps);
        while is_first && self.per_process && dumps.life < LIVES_MAX && taken(&expanded) {
            dumps.life += 1;
            expanded = self.expand_with(dumps);
        }
        expanded
    }

    /// The prefixes of the dumps that are to go now that the last one went so, if they are numbered
    /// and `keep` are to stay: those up to `keep` before it, also where others failed since. Not
    /// before there is a newer one or no room for it, and the last that is whole stays.
    pub(super) fn surplus(&self, dumps: &mut Dumps, keep: u32, outcome: Outcome) -> Vec<PathBuf> {
        let last = dumps.number.saturating_sub(keep);
        let whole = match outcome {
            Outcome::Whole => std::mem::replace(&mut dumps.whole, dumps.number),
            Outcome::Partial => dumps.whole,
            Outcome::Nothing => return Vec::new(),
        };
        if keep == 0 || !self.is_numbered() {
            return Vec::new();
        }
        let spared = (1..=dumps.removed).contains(&whole).then_some(whole);
        let first = dumps.removed + 1;
        dumps.removed = dumps.removed.max(last);
        let numbers = spared.into_iter().chain(first..=last).filter(|n| *n != dumps.whole);
        numbers.map(|number| self.expand_with(&Dumps { number, ..*dumps })).collect()
    }

    fn is_numbered(&self) -> bool {
        has_number(self.template.as_os_str().as_bytes())
    }

    fn expand_with(&self, dumps: &Dumps) -> PathBuf {
        let id = std::process::id();
        let process = if dumps.life > 1 { format!("{id}-{}", dumps.life) } else { id.to_string() };
        let mut expanded = Vec::new();
        each(self.template.as_os_str().as_bytes(), |part, _| match part {
            Part::Byte(byte) => expanded.push(byte),
            Part::Unknown => expanded.push(b'%'),
            Part::Process => expanded.extend(process.bytes()),
            Part::Name => expanded.extend(program_name()),
            Part::Host => expanded.extend(host_name()),
            Part::Number => expanded.extend(format!("{:04}", dumps.number).bytes()),
        });
        OsString::from_vec(expanded).into()
    }
}

/// Whether the prefix has the number of the dump. Allocates nothing.
pub(super) fn has_number(template: &[u8]) -> bool {
    let mut numbered = false;
    each(template, |part, _| numbered |= part == Part::Number);
    numbered
}

/// The first `%` of a prefix that stands for nothing, with the character behind it. Allocates
/// nothing.
pub(super) fn unknown_place(template: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    each(template, |part, rest| {
        if part == Part::Unknown && found.is_none() {
            let is_inside = |byte: &&u8| **byte & 0xc0 == 0x80;
            let more = rest.iter().skip(2).take_while(is_inside).count();
            found = Some(&rest[..rest.len().min(2) + more]);
        }
    });
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// A percent sign that stands for itself, for want of something else.
    Unknown,
    Process,
    Name,
    Host,
    Number,
}

/// Each part of a template, with what of it is left from there on.
fn each<'a>(template: &'a [u8], mut visit: impl FnMut(Part, &'a [u8])) {
    let mut rest = template;
    while let [first, after @ ..] = rest {
        let (part, left) = match rest {
            [b'%', b'p', after @ ..] => (Part::Process, after),
            [b'%', b'n', after @ ..] => (Part::Name, after),
            [b'%', b'h', after @ ..] => (Part::Host, after),
            [b'%', b'd', after @ ..] => (Part::Number, after),
            [b'%', b'%', after @ ..] => (Part::Byte(b'%'), after),
            [b'%', ..] => (Part::Unknown, after),
            _ => (Part::Byte(*first), after),
        };
        visit(part, rest);
        rest = left;
    }
}

/// A template that stands for this very path.
fn literal(path: &Path) -> PathBuf {
    let mut template = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        template.extend_from_slice(if *byte == b'%' { b"%%" } else { slice::from_ref(byte) });
    }
    OsString::from_vec(template).into()
}

/// The file name of the program; empty where the system does not tell.
fn program_name() -> Vec<u8> {
    program::file().file_name().unwrap_or_default().as_bytes().to_vec()
}

/// The host's name, which in a container is the container's.
fn host_name() -> Vec<u8> {
    part_of_a_name(program::host())
}

/// The same, and none of its bytes begins a directory.
fn part_of_a_name(mut text: Vec<u8>) -> Vec<u8> {
    text.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'_');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(template: &str) -> Prefix {
        Prefix::new(Path::new(template), None)
    }

    #[test]
    fn a_percent_sign_of_the_current_directory_is_one() {
        let process = std::process::id();
        let here = Path::new("/srv/100%/%p%%d");
        for (template, expanded, per_process) in [
            ("./out//app", "/srv/100%/%p%%d/out/app".to_owned(), false),
            ("%p", format!("/srv/100%/%p%%d/{process}"), true),
            ("/tmp/%p", format!("/tmp/{process}"), true),
        ] {
            let prefix = Prefix::new(Path::new(template), Some(here));
            assert_eq!(prefix.expand(&mut { Dumps::NONE }, |_| false), Path::new(&expanded));
            assert_eq!((prefix.per_process, prefix.is_numbered()), (per_process, false));
        }
    }

    #[test]
    fn names_process_and_program() {
        let process = std::process::id();
        let name = String::from_utf8(program_name()).unwrap();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim_end();
        assert!(!host.is_empty());
        for (template, expanded, per_process) in [
            ("out/app", "out/app".to_owned(), false),
            ("out/%p/100%%-%n%", format!("out/{process}/100%-{name}%"), true),
            ("%%p%x", "%p%x".to_owned(), false),
            ("out/%h.%%h", format!("out/{host}.%h"), false),
        ] {
            let prefix = prefix(template);
            assert_eq!(prefix.expand(&mut { Dumps::NONE }, |_| false), Path::new(&expanded));
            assert_eq!(prefix.per_process, per_process, "{template}");
        }
    }

    #[test]
    fn what_stands_for_nothing_is_told() {
        for (template, unknown) in [
            ("out/%p.%n.%h.%d.%%x", None),
            ("%%%x%y", Some("%x")),
            ("out/%é", Some("%é")),
            ("out/100%", Some("%")),
        ] {
            assert_eq!(
                unknown_place(template.as_bytes()),
                unknown.map(str::as_bytes),
                "{template}"
            );
        }
    }

    #[test]
    fn no_host_has_a_directory_of_its_own() {
        assert_eq!(part_of_a_name(b"/a/b".to_vec()), b"_a_b");
        assert_eq!(part_of_a_name(b"plain-1.org".to_vec()), b"plain-1.org");
    }

    #[test]
    fn a_process_id_that_comes_again_takes_no_files_away() {
        let process = std::process::id();
        let (own, shared) = (prefix("out/%p.x"), prefix("out/app"));
        let taken = [format!("out/{process}.x"), format!("out/{process}-2.x"), "out/app".into()];
        let is_taken = |path: &Path| taken.iter().any(|name| Path::new(name) == path);
        let mut dumps = Dumps::NONE;
        assert_eq!(own.expand(&mut dumps, is_taken), Path::new(&format!("out/{process}-3.x")));
        // Its own files do not count: a later dump replaces them.
        assert_eq!(own.expand(&mut dumps, |_| true), Path::new(&format!("out/{process}-3.x")));
        // Without `%p` the last run counts.
        assert_eq!(shared.expand(&mut { Dumps::NONE }, is_taken), Path::new("out/app"));
        let last = own.expand(&mut { Dumps::NONE }, |_| true);
        assert_eq!(last, Path::new(&format!("out/{process}-{LIVES_MAX}.x")));
    }

    /// What goes after each of these dumps.
    fn gone(template: &str, keep: u32, outcomes: &[Outcome]) -> Vec<Vec<PathBuf>> {
        let (prefix, mut dumps) = (prefix(template), Dumps::NONE);
        let one = |outcome: &Outcome| {
            prefix.expand(&mut dumps, |_| false);
            prefix.surplus(&mut dumps, keep, *outcome)
        };
        outcomes.iter().map(one).collect()
    }

    fn numbered(numbers: &[u32]) -> Vec<PathBuf> {
        numbers.iter().map(|number| format!("out/{number:04}/x").into()).collect()
    }

    #[test]
    fn what_goes_is_numbered_and_of_this_process() {
        let all = [Outcome::Whole; 5];
        let none: [&[u32]; 5] = [&[]; 5];
        assert_eq!(gone("out/%d/x", 3, &all), [&[][..], &[], &[], &[1], &[2]].map(numbered));
        assert_eq!(gone("out/%d/x", 0, &all), none.map(numbered));
        assert_eq!(gone("out/x", 3, &all), none.map(numbered));
    }

    #[test]
    fn what_failures_left_goes_with_the_next_dump_that_is_whole() {
        use Outcome::{Nothing, Whole};
        let went = gone("out/%d/x", 2, &[Whole, Whole, Nothing, Nothing, Nothing, Whole, Whole]);
        assert_eq!(went, [&[][..], &[], &[], &[], &[], &[1, 2, 3, 4], &[5]].map(numbered));
    }

    #[test]
    fn where_dumps_are_not_whole_the_oldest_go_and_the_last_that_is_stays() {
        use Outcome::{Nothing, Partial, Whole};
        let went = gone("out/%d/x", 2, &[Whole, Whole, Partial, Partial, Partial, Partial, Whole]);
        assert_eq!(went, [&[][..], &[], &[1], &[], &[3], &[4], &[2, 5]].map(numbered));
        let went = gone("out/%d/x", 1, &[Partial, Partial, Nothing, Whole, Partial, Whole, Whole]);
        assert_eq!(went, [&[][..], &[1], &[], &[2, 3], &[], &[4, 5], &[6]].map(numbered));
    }

    #[test]
    fn dumps_are_numbered() {
        let (prefix, mut dumps) = (prefix("out/%d/%p"), Dumps::NONE);
        let process = std::process::id();
        for number in ["0001", "0002", "0003"] {
            let taken = prefix.expand(&mut dumps, |path| path.starts_with("out/0002"));
            assert_eq!(taken, Path::new(&format!("out/{number}/{process}")));
        }
    }
}
