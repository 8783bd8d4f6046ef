//! Everything a dump knows, as JSON for machines and for later versions, and the
//! way back from it.
//!
//! `version` is raised when a field changes its meaning or goes; new fields may
//! come without, and a reader takes their default where they are missing.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::stats::Stats;
use super::whole::whole;
use crate::profile::symbols::{Frame, Interner, Symbols};
use crate::profile::{self, Profile};

const FORMAT: &str = "spanalloc";
/// Version of the format.
const VERSION: u32 = 1;

/// What a dump's `PREFIX.json` holds: read from there, or taken of the running program by
/// [`capture`](Self::capture).
///
/// # Examples
///
/// ```
/// # let directory = std::env::temp_dir().join(format!("json-{}", std::process::id()));
/// # let prefix = directory.join("app");
/// use spanalloc::report::{Dump, Weight};
///
/// spanalloc::dump(&prefix)?;
/// let dump = Dump::read_json(std::fs::File::open(prefix.with_extension("json"))?)?;
/// println!("{}\n{}", dump.stats, dump.profile.top(10, Weight::InUseBytes));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dump {
    /// The allocator's counters.
    pub stats: Stats,
    /// The profile, with the names that were resolved when it was written: reports
    /// of it read no other file.
    pub profile: Profile,
}

/// Why a dump cannot be read. Its source is the error of the reader, an [`io::Error`], or of what
/// was read; there is none where that is of another format or a later version.
#[derive(Debug)]
pub struct DumpError(Reason);

#[derive(Debug)]
enum Reason {
    Io(io::Error),
    Json(serde_json::Error),
    Format(String),
    Version(u32),
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Io(error) => write!(f, "the dump cannot be read: {error}"),
            Reason::Json(error) => write!(f, "this is no dump: {error}"),
            Reason::Format(format) => {
                write!(f, "format {format:?} is not a dump's; accepted: {FORMAT:?}")
            }
            Reason::Version(version) => {
                write!(f, "version {version} is not known; accepted: up to {VERSION}")
            }
        }
    }
}

impl std::error::Error for DumpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Reason::Io(error) => Some(error),
            Reason::Json(error) => Some(error),
            Reason::Format(_) | Reason::Version(_) => None,
        }
    }
}

/// What tells whether the rest can be read.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
}

#[derive(Deserialize)]
struct ReadDocument {
    stats: Stats,
    profile: Profile,
    symbols: Vec<Symbol<String>>,
}

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    version: u32,
    stats: &'a Stats,
    profile: &'a Profile,
    symbols: Addresses<'a>,
}

/// The addresses of a profile with their names, looked up one by one.
struct Addresses<'a> {
    addresses: Vec<u64>,
    symbols: &'a Symbols,
}

impl Serialize for Addresses<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.addresses.iter().map(|address| Symbol {
            address: *address,
            functions: self.symbols.frames(*address).iter().map(function).collect(),
        }))
    }
}

fn function(frame: &Arc<Frame>) -> Function<&str> {
    Function { name: &frame.function, file: frame.file.as_deref(), line: frame.line }
}

/// The names of a return address.
#[derive(Serialize, Deserialize)]
struct Symbol<T> {
    address: u64,
    /// Inlined functions from the innermost outwards.
    functions: Vec<Function<T>>,
}

#[derive(Serialize, Deserialize)]
struct Function<T> {
    name: T,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    file: Option<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

fn none<T>() -> Option<T> {
    None
}

impl Dump {
    /// Reads what this version or an earlier one wrote.
    ///
    /// # Errors
    ///
    /// Those of `from`, as the source of the error; what is no dump, of another format, or of a
    /// later version.
    pub fn read_json(mut from: impl io::Read) -> Result<Self, DumpError> {
        profile::quietly(|| {
            let mut text = Vec::new();
            let json = |error| DumpError(Reason::Json(error));
            from.read_to_end(&mut text).map_err(|error| DumpError(Reason::Io(error)))?;
            let header: Header = serde_json::from_slice(&text).map_err(json)?;
            if header.format != FORMAT {
                return Err(DumpError(Reason::Format(header.format)));
            }
            if header.version > VERSION {
                return Err(DumpError(Reason::Version(header.version)));
            }
            let read: ReadDocument = serde_json::from_slice(&text).map_err(json)?;
            // A new cell: nothing was resolved before.
            let _ = read.profile.symbols.set(known(read.symbols));
            Ok(Self { stats: read.stats, profile: read.profile })
        })
    }

    /// Writes what [`read_json`](Self::read_json) reads.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_json(&self, out: impl io::Write) -> io::Result<()> {
        whole(out, |out| write(&self.stats, &self.profile, out))
    }
}

fn known(symbols: Vec<Symbol<String>>) -> Symbols {
    let mut interner = Interner::default();
    let mut frame = |function: Function<String>| {
        interner.frame(&function.name, function.file.as_deref(), function.line)
    };
    let named = symbols
        .into_iter()
        .map(|symbol| (symbol.address, symbol.functions.into_iter().map(&mut frame).collect()));
    Symbols::known(named.collect())
}

/// Writes the document.
pub(crate) fn write(stats: &Stats, profile: &Profile, out: impl io::Write) -> io::Result<()> {
    profile::quietly(|| {
        let symbols = Addresses { addresses: profile.addresses(), symbols: profile.symbols() };
        let document = Document { format: FORMAT, version: VERSION, stats, profile, symbols };
        serde_json::to_writer(out, &document).map_err(io::Error::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Weight;

    #[test]
    fn what_is_written_is_read_again() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 3, 3), (&[0x21, 2], 30, 6)]);
        // Of one address two functions, of which one was inlined into the other; of one a name.
        let frame = |function: &str, file: Option<&str>, line| {
            Arc::new(Frame { function: function.into(), file: file.map(Into::into), line })
        };
        let inlined = [frame("f", Some("f.rs"), Some(7)), frame("g", Some("g.rs"), Some(70))];
        let known: [(u64, Box<[_]>); 3] = [
            (0x11, inlined.into()),
            (0x21, [frame("h", Some("h.rs"), None)].into()),
            (2, [frame("main", None, None)].into()),
        ];
        profile.symbols.set(Symbols::known(known.into())).unwrap();
        let dump = Dump { stats: Stats::default(), profile };
        let mut first = Vec::new();
        dump.write_json(&mut first).unwrap();
        let read = Dump::read_json(&first[..]).unwrap();
        let mut second = Vec::new();
        read.write_json(&mut second).unwrap();
        assert_eq!(first, second);
        for (address, functions) in [(0x11, 2), (0x21, 1), (2, 1)] {
            let of = |dump: &Dump| dump.profile.symbols().frames(address).to_vec();
            assert_eq!(of(&dump).len(), functions);
            assert_eq!(of(&read), of(&dump), "{address:#x}");
        }
        let top = |dump: &Dump| dump.profile.top(5, Weight::InUseBytes).to_string();
        assert_eq!(top(&read), top(&dump));
    }

    #[test]
    fn what_is_not_a_dump_is_refused_with_its_reason() {
        let error = |text: &str| Dump::read_json(text.as_bytes()).unwrap_err().to_string();
        assert!(error("{").contains("this is no dump"));
        assert!(error(r#"{"format": "other", "version": 1}"#).contains("\"other\""));
        let later = error(r#"{"format": "spanalloc", "version": 99}"#);
        assert!(later.contains("99") && later.contains("up to 1"), "{later}");
        let error = Dump::read_json(&b"{\"format\": \"\xff\"}"[..]).unwrap_err();
        assert!(error.to_string().contains("this is no dump"), "{error}");
    }

    #[test]
    fn an_error_of_the_reader_is_told_as_that() {
        use std::error::Error;
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::TimedOut.into())
            }
        }
        let error = Dump::read_json(Broken).unwrap_err();
        assert!(error.to_string().starts_with("the dump cannot be read: "), "{error}");
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::TimedOut));
        let error = Dump::read_json(&b"{"[..]).unwrap_err();
        assert!(error.source().is_some_and(|source| source.is::<serde_json::Error>()));
    }

    /// Written by the first version. It must be readable for ever, so what it holds
    /// is never changed.
    #[test]
    fn the_first_version_is_still_read() {
        let text = include_str!("../../tests/data/dump-v1.json");
        let dump = Dump::read_json(text.as_bytes()).unwrap();
        assert_eq!((dump.stats.total().allocs, dump.stats.total().allocated_bytes), (12, 0));
        let top = dump.profile.top(5, Weight::InUseBytes).to_string();
        assert!(top.contains("app::keep (src/app.rs:7)"), "{top}");
        assert_eq!(dump.profile.sites[0].in_use.bytes, 640);
    }
}
