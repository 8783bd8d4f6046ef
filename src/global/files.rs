//! The files of one dump: what they are called, and how they come to be.
//!
//! A file is written beside its place, closed and then renamed, so that a failure leaves what was
//! there before. What a killed process left beside goes at a dump of another one to the same
//! prefix, when it is an hour old. (A prefix with `%p` comes again only with the number of the
//! process.)

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::config;
#[cfg(feature = "profile")]
use crate::report::Weight;
use crate::sys::os::monotonic_ns;

/// Figures of which there is a file each, with their names.
#[cfg(feature = "profile")]
pub(super) const WEIGHTS: [(&str, Weight); 3] =
    [("alloc", Weight::AllocatedBytes), ("inuse", Weight::InUseBytes), ("peak", Weight::PeakBytes)];

/// Files that are there once, with what follows the prefix in their names.
#[cfg(feature = "profile")]
const SINGLE: [&str; 8] = [
    ".classes.txt",
    ".top.txt",
    ".json",
    ".heap.pb.gz",
    ".heap.raw.pb.gz",
    ".dhat.json",
    ".speedscope.json",
    ".html",
];
#[cfg(not(feature = "profile"))]
const SINGLE: [&str; 1] = [".classes.txt"];
/// The same of files of which there is one for each figure, behind its name.
#[cfg(feature = "profile")]
const BY_WEIGHT: [&str; 3] = ["folded", "svg", "icicle.svg"];

/// Whether any file of a dump with this prefix is there.
pub(super) fn is_there(prefix: &Path) -> bool {
    suffixes().any(|suffix| with_suffix(prefix, &suffix).symlink_metadata().is_ok())
}

/// Removes the files of a dump with this prefix. What cannot be removed stays.
pub(super) fn remove(prefix: &Path) {
    for suffix in suffixes() {
        let _ = fs::remove_file(with_suffix(prefix, &suffix));
    }
}

/// What may follow the prefix in the names of a dump's files.
fn suffixes() -> impl Iterator<Item = String> {
    let single = SINGLE.into_iter().map(str::to_owned);
    #[cfg(feature = "profile")]
    let single = single.chain(WEIGHTS.into_iter().flat_map(|(name, _)| {
        BY_WEIGHT.into_iter().map(move |format| format!(".{name}.{format}"))
    }));
    single
}

/// Why a dump, or a part of it, was not written.
#[derive(Debug)]
pub(super) struct Failure {
    kind: io::ErrorKind,
    /// What it is about, to be shown first; it may be long.
    pub(super) path: PathBuf,
    /// What follows the path in the message.
    pub(super) what: String,
}

impl Failure {
    /// About no file.
    pub(super) fn other(what: &str) -> Self {
        Self { kind: io::ErrorKind::Other, path: PathBuf::new(), what: what.to_owned() }
    }

    /// Whether the disk, or what the user may have of it, is full.
    pub(super) fn is_for_room(&self) -> bool {
        matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::new(failure.kind, format!("{}{}", failure.path.display(), failure.what))
    }
}

/// Refuses a prefix that ends in no beginning of a file name.
pub(super) fn check(prefix: &Path) -> Result<(), Failure> {
    if config::names_file(prefix.as_os_str().as_encoded_bytes()) {
        return Ok(());
    }
    let accepted = "accepted: a path that ends in the beginning of a file name, such as out/app";
    let what = format!("dump prefix {prefix:?} names no file; {accepted}");
    Err(Failure { kind: io::ErrorKind::InvalidInput, path: PathBuf::new(), what })
}

/// When this process cleared up last, in milliseconds of the system's clock; 0 for never.
static SWEPT_MS: AtomicU64 = AtomicU64::new(0);

/// The files of one dump.
pub(super) struct Files<'a> {
    prefix: &'a Path,
    written: Vec<PathBuf>,
    /// Those that could not be written, by what follows the prefix in their names.
    failed: Vec<(String, io::Error)>,
}

impl<'a> Files<'a> {
    /// Creates the directory the files go to. The first one clears up there, and one an hour.
    pub(super) fn new(prefix: &'a Path) -> Result<Self, Failure> {
        check(prefix)?;
        let directory = prefix.parent().unwrap_or(Path::new(""));
        if !directory.as_os_str().is_empty() {
            fs::create_dir_all(directory).map_err(|error| {
                let (kind, what) = (error.kind(), format!(": {error}"));
                Failure { kind, path: directory.to_owned(), what }
            })?;
        }
        let (now_ms, swept_ms) = (monotonic_ns() / 1_000_000, SWEPT_MS.load(Ordering::Relaxed));
        if swept_ms == 0 || u128::from(now_ms.saturating_sub(swept_ms)) >= LEFT_AFTER.as_millis() {
            SWEPT_MS.store(now_ms.max(1), Ordering::Relaxed);
            sweep(prefix);
        }
        Ok(Self { prefix, written: Vec::new(), failed: Vec::new() })
    }

    /// Writes one file, or remembers that it cannot be written.
    pub(super) fn write(
        &mut self,
        suffix: &str,
        render: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) {
        let path = with_suffix(self.prefix, suffix);
        // Threads of one process may dump to one prefix at once.
        let thread = std::thread::current().id();
        // The time, for processes of several containers may have one number and one directory.
        let now_ns = monotonic_ns();
        let process = std::process::id();
        let beside = beside(&path, &format!(".{process}-{thread:?}-{now_ns:x}.part"));
        let done = File::create_new(&beside).and_then(|file| {
            let mut part = Part(Some(&beside));
            let mut out = BufWriter::new(file);
            render(&mut out)?;
            close(out.into_inner().map_err(io::IntoInnerError::into_error)?)?;
            fs::rename(&beside, &path)?;
            part.0 = None;
            Ok(())
        });
        match done {
            Ok(()) => self.written.push(path),
            Err(error) => self.failed.push((suffix.to_owned(), error)),
        }
    }

    /// What was written, if all was; otherwise each file that was not. Of those in a row that
    /// failed alike the system's words are said once.
    pub(super) fn done(self) -> Result<Vec<PathBuf>, Failure> {
        let Some((_, first)) = self.failed.first() else { return Ok(self.written) };
        let kind = first.kind();
        let mut what = String::new();
        for (at, (suffix, error)) in self.failed.iter().enumerate() {
            let error = error.to_string();
            let next = self.failed.get(at + 1).map(|(_, next)| next.to_string());
            what.push_str(suffix);
            match next {
                Some(next) if next == error => what.push_str(", "),
                Some(_) => what.push_str(&format!(": {error}; ")),
                None => what.push_str(&format!(": {error}")),
            }
        }
        Err(Failure { kind, path: self.prefix.to_owned(), what })
    }
}

/// What lies beside a file belongs to nobody any more when it was not written for this long.
const LEFT_AFTER: Duration = Duration::from_secs(3600);

/// Removes the parts of files of this prefix that processes left when they were killed: their names
/// never come again. What cannot be removed, or told the age of, stays.
fn sweep(prefix: &Path) {
    let (Some(directory), Some(name)) = (prefix.parent(), prefix.file_name()) else { return };
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = fs::read_dir(here) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let part = file.as_bytes().strip_prefix(name.as_bytes());
        let is_old = || {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(metadata.modified().ok()?.elapsed().ok()? >= LEFT_AFTER)
        };
        let part = part.and_then(|part| str::from_utf8(part).ok());
        if part.is_some_and(is_part) && is_old() == Some(true) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether what follows a prefix is the end of a name that [`Files::write`] gives a part of a file.
fn is_part(rest: &str) -> bool {
    let marks = || {
        let (rest, time) = rest.strip_suffix(".part")?.rsplit_once("-")?;
        let (rest, thread) = rest.strip_suffix(')')?.rsplit_once("-ThreadId(")?;
        let (suffix, process) = rest.rsplit_once('.')?;
        Some((suffix, [(process, 10), (thread, 10), (time, 16)]))
    };
    marks().is_some_and(|(suffix, numbers)| {
        numbers.iter().all(|(text, radix)| {
            !text.is_empty() && text.chars().all(|digit| digit.is_digit(*radix))
        }) && suffixes().any(|ours| ours == suffix)
    })
}

/// Closes a file. What was written may reach a server, or a quota, only now.
fn close(file: File) -> io::Result<()> {
    // SAFETY: the file's own number, given up here.
    if unsafe { libc::close(file.into_raw_fd()) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // Closed all the same, and the system goes on with what it had begun.
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

/// A file that is not whole: removed when it does not become so, also by a panic.
struct Part<'a>(Option<&'a Path>);

impl Drop for Part<'_> {
    fn drop(&mut self) {
        // If it cannot go the error before matters.
        let _ = self.0.map(fs::remove_file);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Bytes that a file's name may have.
const NAME_BYTES_MAX: usize = 255;

/// The path with something behind it, and the end of its file name left out if that would be
/// too long, though the path is not.
fn beside(path: &Path, mark: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let kept = name.len().min(NAME_BYTES_MAX.saturating_sub(mark.len()));
    path.with_file_name(OsStr::from_bytes(&[&name[..kept], mark.as_bytes()].concat()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::{AsRawFd, FromRawFd};

    use super::*;
    use crate::sys::alone::alone;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("spanalloc-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_beside() {
        let directory = scratch("failure");
        let prefix = directory.join("app");
        let mut files = Files::new(&prefix).unwrap();
        files.write(".txt", |out| out.write_all(b"old"));
        files.write(".txt", |out| {
            out.write_all(b"new")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let message = io::Error::from(files.done().unwrap_err()).to_string();
        assert!(message.contains("app.txt: "), "{message}");
        assert_eq!(fs::read(directory.join("app.txt")).unwrap(), b"old");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn every_file_is_tried_and_each_that_fails_is_named() {
        let directory = scratch("each");
        let prefix = directory.join("app");
        let mut files = Files::new(&prefix).unwrap();
        let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
        files.write(".a", |_| full());
        files.write(".b", |out| out.write_all(b"b"));
        files.write(".c", |_| full());
        files.write(".d", |_| Err(io::Error::other("odd")));
        let failure = files.done().unwrap_err();
        assert!(failure.is_for_room() && !Failure::other("odd").is_for_room());
        let error = io::Error::from(failure);
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let said = io::Error::from(io::ErrorKind::StorageFull);
        let all = format!("{}.a, .c: {said}; .d: odd", prefix.display());
        assert_eq!(error.to_string(), all);
        assert_eq!(fs::read(directory.join("app.b")).unwrap(), b"b");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_a_user_may_have_of_a_disk_is_room_too() {
        let directory = scratch("quota");
        let prefix = directory.join("app");
        for (kind, is_for_room) in [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::QuotaExceeded, true),
            (io::ErrorKind::PermissionDenied, false),
        ] {
            let mut files = Files::new(&prefix).unwrap();
            files.write(".a", |_| Err(kind.into()));
            assert_eq!(files.done().unwrap_err().is_for_room(), is_for_room, "{kind}");
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_first_dump_of_a_process_clears_up_and_the_next_one_does_not() {
        if !alone(concat!(
            "global::files::tests::",
            "the_first_dump_of_a_process_clears_up_and_the_next_one_does_not"
        )) {
            return;
        }
        let directory = scratch("first");
        let left = directory.join("app.classes.txt.17-ThreadId(2)-1a2b.part");
        for stays in [false, true] {
            let old = std::time::SystemTime::now() - LEFT_AFTER - Duration::from_secs(60);
            File::create(&left).unwrap().set_modified(old).unwrap();
            Files::new(&directory.join("app")).unwrap();
            assert_eq!(left.exists(), stays);
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn missing_directories_are_created() {
        let directory = scratch("missing");
        let prefix = directory.join("a/b/app");
        let mut files = Files::new(&prefix).unwrap();
        files.write(".txt", |out| out.write_all(b"x"));
        assert_eq!(files.done().unwrap(), [directory.join("a/b/app.txt")]);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_name_may_be_as_long_as_the_system_allows() {
        let directory = scratch("long");
        let prefix = directory.join("é".repeat(125));
        let mut files = Files::new(&prefix).unwrap();
        files.write(".html", |out| out.write_all(b"x"));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        assert_eq!(fs::read(with_suffix(&prefix, ".html")).unwrap(), b"x");
        files.write(".html2", |_| Ok(()));
        let failure = files.done().unwrap_err();
        assert!(failure.what.starts_with(".html2: "), "{failure:?}");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_error_at_the_close_keeps_the_old_file() {
        let directory = scratch("close");
        let prefix = directory.join("app");
        let mut files = Files::new(&prefix).unwrap();
        files.write(".txt", |out| out.write_all(b"old"));
        files.write(".txt", |out| {
            // What a full disk far away says at the close is had here of a number that is no
            // file's, and that no other thread is given meanwhile.
            // SAFETY: a number of a file that is open.
            let far = unsafe { libc::fcntl(out.get_ref().as_raw_fd(), libc::F_DUPFD, 900) };
            assert!(
                far >= 0,
                "a process may have 1,000 files open: {}",
                io::Error::last_os_error()
            );
            // SAFETY: it is ours.
            unsafe { libc::close(far) };
            // SAFETY: closed once more as it is; nothing is written to it.
            *out = BufWriter::new(unsafe { File::from_raw_fd(far) });
            Ok(())
        });
        let failure = files.done().unwrap_err();
        assert!(failure.what.starts_with(".txt: "), "{failure:?}");
        assert_eq!(fs::read(directory.join("app.txt")).unwrap(), b"old");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_a_killed_process_left_goes_when_it_is_old() {
        let directory = scratch("parts");
        let prefix = directory.join("app");
        let names = [
            ("app.classes.txt.17-ThreadId(2)-1a2b.part", true),
            #[cfg(feature = "profile")]
            ("app.alloc.icicle.svg.17-ThreadId(2)-1a2b.part", true),
            ("app.classes.txt.17-ThreadId(12)-0.part", true),
            ("app.classes.txt.17-ThreadId(2)-1a2b.partial", false),
            ("app.classes.txt.17-ThreadId(2)-xyz.part", false),
            ("app.classes.txt.-ThreadId(2)-1a2b.part", false),
            ("app.notes.17-ThreadId(2)-1a2b.part", false),
            ("apple.classes.txt.17-ThreadId(2)-1a2b.part", false),
            ("app.part", false),
        ];
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
        for (name, _) in names {
            let file = File::create(directory.join(name)).unwrap();
            file.set_modified(old).unwrap();
        }
        let young = directory.join("app.classes.txt.18-ThreadId(2)-1a2b.part");
        File::create(&young).unwrap();
        sweep(&prefix);
        for (name, goes) in names {
            assert_eq!(directory.join(name).exists(), !goes, "{name}");
        }
        assert!(young.exists(), "it may still be written");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_prefix_without_a_file_name_is_refused() {
        for prefix in ["", "/", "out/", "out/..", ".", "out/."] {
            let error = io::Error::from(Files::new(Path::new(prefix)).map(|_| ()).unwrap_err());
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("accepted"), "{error}");
        }
    }
}
