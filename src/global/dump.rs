//! The dump: all reports, as files that begin with one prefix.
//!
//! | file | what |
//! | --- | --- |
//! | `PREFIX.classes.txt` | the table of size classes |
//! | `PREFIX.top.txt` | the largest sites in use, allocated, and at the peak |
//! | `PREFIX.json` | everything, for machines |
//! | `PREFIX.html` | a page to look at |
//! | `PREFIX.heap.pb.gz` | the profile for `go tool pprof` |
//! | `PREFIX.heap.raw.pb.gz` | the same by addresses, to be named later; on request |
//! | `PREFIX.alloc.folded`, `PREFIX.inuse.folded`, `PREFIX.peak.folded` | stacks with bytes allocated, in use, in use at the peak |
//! | `PREFIX.alloc.svg` and so on | flamegraphs of the same |
//! | `PREFIX.alloc.icicle.svg` and so on | the same with the root on top; on request |
//! | `PREFIX.dhat.json`, `PREFIX.speedscope.json` | for these viewers; on request |
//!
//! How each is written: [`files`](super::files).

#[cfg(feature = "profile")]
use std::cell::LazyCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[cfg(feature = "profile")]
use super::files::WEIGHTS;
use super::files::{Failure, Files};
#[cfg(feature = "profile")]
use super::formats::Formats;
#[cfg(feature = "profile")]
use crate::profile::Profile;
#[cfg(feature = "flamegraph")]
use crate::report::flame;
#[cfg(feature = "profile")]
use crate::report::{Dump, Stats, calls, dhat, folded, html, json, speedscope, top};

/// Writes the reports now, to files whose names begin with `prefix`; returns their paths: those
/// that `formats=` of `SPANALLOC` names, or all but `icicle`, `raw`, `dhat` and `speedscope`;
/// without the feature `profile` the table of size classes alone. Directories that are missing are
/// created. The prefix is taken as it is: `%p` and the like stand for something in
/// [`dump_at_exit`](crate::dump_at_exit()) alone.
///
/// Resolves names, which reads the program's file: milliseconds, or a second or two with
/// hundreds of megabytes of debug information. Stacks are named once for all formats.
/// The memory for it follows the number of sites, not the size of the file: some 40 MiB
/// for 10,000 sites; beyond that what the largest unit of debug information needs, or
/// all of it where it is compressed. Sampling is suppressed on this thread meanwhile.
///
/// # Errors
///
/// Each file that cannot be written, by name, with what the system said; all others are written
/// nevertheless. A directory that cannot be created, by name; then nothing is written. A prefix
/// without a file name, such as `out/`, is refused.
///
/// # Examples
///
/// ```
/// # let directory = std::env::temp_dir().join(format!("dump-{}", std::process::id()));
/// for path in spanalloc::dump(directory.join("my-app"))? {
///     println!("{}", path.display());
/// }
/// # std::fs::remove_dir_all(directory)?;
/// # std::io::Result::Ok(())
/// ```
pub fn dump(prefix: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
    Ok(write(prefix.as_ref())?)
}

#[cfg(feature = "profile")]
impl Dump {
    /// Takes the counts and the profile now, without a file: what a service sends to who asks
    /// for it, by [`write_json`](Self::write_json) or, of [`profile`](Self::profile), as
    /// [`write_html`](Profile::write_html) and the like.
    ///
    /// It is what [`stats`](crate::stats()) and [`profile::capture`](crate::profile::capture)
    /// return, one right after the other; the profile is empty where nothing was sampled. Costs
    /// what these do. Names are resolved by the first report that needs them, once for all, which
    /// costs what it does in [`dump`]. Sampling is suppressed on this thread meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use spanalloc::report::Dump;
    ///
    /// let mut answer = Vec::new();
    /// Dump::capture().write_json(&mut answer)?;
    /// let read = Dump::read_json(&answer[..])?;
    /// println!("{} bytes are in use", read.stats.total().live_bytes);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn capture() -> Self {
        crate::profile::quietly(|| {
            let stats = super::stats();
            Self { stats, profile: crate::profile::capture() }
        })
    }
}

#[cfg(not(feature = "profile"))]
pub(super) fn write(prefix: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Files::new(prefix)?;
    files.write(".classes.txt", |out| write!(out, "{}", super::stats()));
    files.done()
}

#[cfg(feature = "profile")]
pub(super) fn write(prefix: &Path) -> Result<Vec<PathBuf>, Failure> {
    crate::profile::quietly(|| {
        let Dump { stats, profile } = Dump::capture();
        let mut files = Files::new(prefix)?;
        all(&mut files, Formats::chosen(), &stats, &profile);
        files.done()
    })
}

#[cfg(feature = "profile")]
fn all(files: &mut Files, formats: Formats, stats: &Stats, profile: &Profile) {
    // Not for what does without names.
    let named = LazyCell::new(|| calls::calls(profile));
    if formats.has(Formats::TEXT) {
        files.write(".classes.txt", |out| write!(out, "{stats}"));
        files.write(".top.txt", |out| top::write(profile, &named, out));
    }
    if formats.has(Formats::JSON) {
        files.write(".json", |out| json::write(stats, profile, out));
    }
    #[cfg(feature = "pprof")]
    if formats.has(Formats::PPROF) {
        files.write(".heap.pb.gz", |out| profile.write_pprof(out));
    }
    #[cfg(feature = "pprof")]
    if formats.has(Formats::RAW) {
        files.write(".heap.raw.pb.gz", |out| profile.write_pprof_raw(out));
    }
    if formats.has(Formats::DHAT) {
        files.write(".dhat.json", |out| dhat::write(profile, &named, out));
    }
    if formats.has(Formats::SPEEDSCOPE) {
        files.write(".speedscope.json", |out| speedscope::write(profile, &named, out));
    }
    if formats.has(Formats::HTML) {
        files.write(".html", |out| html::write(profile, &named, stats, out));
    }
    for (name, weight) in WEIGHTS {
        if formats.has(Formats::FOLDED) {
            files.write(&format!(".{name}.folded"), |out| folded::write(&named, weight, out));
        }
        #[cfg(feature = "flamegraph")]
        if formats.has(Formats::SVG) {
            let suffix = format!(".{name}.svg");
            files.write(&suffix, |out| flame::write(profile, &named, weight, out));
        }
        #[cfg(feature = "flamegraph")]
        if formats.has(Formats::ICICLE) {
            let suffix = format!(".{name}.icicle.svg");
            files.write(&suffix, |out| flame::write_icicle(profile, &named, weight, out));
        }
    }
}

#[cfg(all(test, feature = "profile"))]
mod tests {
    use std::fs;

    use super::super::files::is_there;
    use super::*;

    #[test]
    fn each_file_of_a_dump_shows_that_it_is_there() {
        let name = format!("spanalloc-there-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let prefix = directory.join("app");
        let mut files = Files::new(&prefix).unwrap();
        let (stats, profile) = (crate::stats(), crate::profile::capture());
        all(&mut files, Formats::EVERY, &stats, &profile);
        let written = files.done().unwrap();
        assert!(written.len() >= 8, "{written:?}");
        assert!(is_there(&prefix) && !is_there(&directory.join("ap")));
        written.iter().for_each(|path| fs::remove_file(path).unwrap());
        for path in &written {
            assert!(!is_there(&prefix));
            fs::File::create(path).unwrap();
            assert!(is_there(&prefix), "{}", path.display());
            fs::remove_file(path).unwrap();
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
