//! What a binary was built from, kept beside it: a result is of a revision, and a binary that is
//! there need not be of the one that is checked out.

use crate::builds::{binary, home};
use crate::catalog::is_ours;
use crate::machine::command;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What a binary was built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// The revision that was checked out, as git names it; "unknown" where it does not.
    pub(crate) revision: String,
    /// Whether a tracked file that goes into binaries differed from it.
    pub(crate) modified: bool,
    pub(crate) rustc: String,
    /// What of the environment changed the code all the same: see [`builds`](crate::builds).
    pub(crate) settings: Vec<String>,
}

/// The stamps of binaries, by `ALLOCATOR/PROGRAM`; none where a binary has none.
pub(crate) type Stamps = BTreeMap<String, Option<Stamp>>;

/// What goes into binaries, from the root of the tree.
const SOURCES: [&str; 5] =
    ["Cargo.toml", "src", "benches/compare", ":(exclude)*.md", ":(exclude)*.svg"];

impl Stamp {
    /// The stamp of what would be built now, with these `settings`.
    pub(crate) fn here(settings: Vec<String>) -> Self {
        let root = home().join("../..").to_string_lossy().into_owned();
        let git = |args: &[&str]| command("git", &[&["-C", root.as_str()], args].concat());
        let changed = ["status", "--porcelain", "--untracked-files=no", "--"];
        let revision = git(&["rev-parse", "HEAD"]);
        let is_known = !["", "unknown"].contains(&revision.as_str());
        Self {
            revision: if is_known { revision } else { "unknown".to_owned() },
            modified: is_known && !git(&[changed.as_slice(), &SOURCES].concat()).is_empty(),
            rustc: command("rustc", &["--version"]),
            settings,
        }
    }

    /// The stamp beside the binary at `path`.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(beside(path)).ok()?).ok()
    }

    /// Puts it beside the binary at `path`.
    pub(crate) fn put(&self, path: &Path) -> Result<(), String> {
        let json = serde_json::to_string(self).expect("plain data serializes");
        fs::write(beside(path), json)
            .map_err(|error| format!("cannot write {}: {error}", beside(path).display()))
    }

    /// Takes away the one beside `path`, where another binary is to be.
    pub(crate) fn remove(path: &Path) -> Result<(), String> {
        let beside = beside(path);
        if !beside.exists() {
            return Ok(());
        }
        fs::remove_file(&beside)
            .map_err(|error| format!("cannot remove {}: {error}", beside.display()))
    }

    /// Whether it is of the revision of `other`.
    fn is_of(&self, other: &Self) -> bool {
        (&self.revision, self.modified) == (&other.revision, other.modified)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.revision.get(..12).unwrap_or(&self.revision))?;
        f.write_str(if self.modified { ", modified" } else { "" })?;
        write!(f, ", by {}", self.rustc)?;
        self.settings.iter().try_for_each(|setting| write!(f, ", {setting}"))
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// The stamps of the binaries of `programs` under `allocators`.
pub(crate) fn stamps(allocators: &[&str], programs: &[&str]) -> Stamps {
    let pairs = allocators.iter().flat_map(|name| programs.iter().map(move |p| (name, p)));
    pairs.map(|(name, p)| (format!("{name}/{p}"), Stamp::of(&binary(name, p)))).collect()
}

/// What our binaries were built from, for the head of a table; empty where none is ours.
pub(crate) fn line(stamps: &Stamps, allocators: &[String]) -> String {
    if !allocators.iter().any(|name| is_ours(name)) {
        return String::new();
    }
    let ours = stamps.iter().filter(|(name, _)| is_ours(name.split('/').next().unwrap_or(name)));
    let mut texts: Vec<String> = ours.map(|(_, stamp)| said(stamp.as_ref())).collect();
    if texts.is_empty() {
        texts.push(said(None));
    }
    texts.sort_unstable();
    texts.dedup();
    format!("spanalloc of {}\n", texts.join("; and of "))
}

fn said(stamp: Option<&Stamp>) -> String {
    stamp.map_or_else(|| "an unknown revision".to_owned(), Stamp::to_string)
}

/// A line of warning if some binaries are not of what is `here`, or were built with settings
/// that only a `quick` run allows.
pub(crate) fn warning(stamps: &Stamps, here: &Stamp, quick: bool) -> Option<String> {
    let differs = |stamp: &&Option<Stamp>| {
        let same = |stamp: &Stamp| stamp.is_of(here) && (quick || stamp.settings.is_empty());
        !stamp.as_ref().is_some_and(same)
    };
    let others: Vec<(&String, &Option<Stamp>)> =
        stamps.iter().filter(|(_, stamp)| differs(stamp)).collect();
    let (name, stamp) = others.first()?;
    let more = match others.len() {
        1 => String::new(),
        count => format!(", and {} more are not of it either", count - 1),
    };
    let said = said(stamp.as_ref());
    Some(format!("warning: here is {here}, but the binary {name} is of {said}{more}"))
}

#[cfg(test)]
mod tests {
    use super::{Stamp, Stamps, line, warning};

    fn stamp(revision: &str) -> Stamp {
        Stamp {
            revision: revision.to_owned(),
            modified: false,
            rustc: "rustc 1".to_owned(),
            settings: Vec::new(),
        }
    }

    fn stamps(pairs: &[(&str, Option<Stamp>)]) -> Stamps {
        pairs.iter().map(|(name, stamp)| ((*name).to_owned(), stamp.clone())).collect()
    }

    #[test]
    fn a_stamp_is_found_beside_its_binary_until_it_is_removed() {
        let path = std::env::temp_dir().join(format!("compare-stamp-{}", std::process::id()));
        assert_eq!(Stamp::of(&path), None);
        let here = Stamp::here(vec!["CARGO_PROFILE_RELEASE_LTO=off".to_owned()]);
        here.put(&path).unwrap();
        assert_eq!(Stamp::of(&path), Some(here));
        Stamp::remove(&path).unwrap();
        Stamp::remove(&path).unwrap();
        assert_eq!(Stamp::of(&path), None);
    }

    #[test]
    fn the_head_names_each_revision_of_ours_once() {
        let columns = ["spanalloc", "spanalloc-sampled", "system"].map(str::to_owned);
        let one = Some(stamp("aaaabbbbccccdddd"));
        let all = [("spanalloc/micro", one.clone()), ("spanalloc-sampled/micro", one)];
        assert_eq!(line(&stamps(&all), &columns), "spanalloc of aaaabbbbcccc, by rustc 1\n");
        let other = stamps(&[all[0].clone(), ("system/micro", Some(stamp("ff")))]);
        assert_eq!(line(&other, &columns), "spanalloc of aaaabbbbcccc, by rustc 1\n");
        assert_eq!(line(&Stamps::new(), &columns), "spanalloc of an unknown revision\n");
        assert_eq!(line(&other, &columns[2..]), "");
    }

    #[test]
    fn binaries_of_something_else_are_warned_of() {
        let here = stamp("aa");
        let of = |pairs: &[(&str, Option<Stamp>)]| warning(&stamps(pairs), &here, false);
        assert_eq!(of(&[("system/micro", Some(stamp("aa")))]), None);
        let text = of(&[("a/micro", Some(stamp("bb"))), ("b/micro", None)]).unwrap();
        assert!(text.contains("a/micro is of bb") && text.contains("1 more"), "{text}");
        assert_eq!(text.lines().count(), 1);
        assert!(of(&[("a/micro", None)]).unwrap().contains("an unknown revision"));
        let mut slow = stamp("aa");
        slow.settings.push("CARGO_PROFILE_RELEASE_LTO=off".to_owned());
        let slow = [("a/micro", Some(slow))];
        assert!(of(&slow).unwrap().contains("LTO=off"));
        assert_eq!(warning(&stamps(&slow), &here, true), None);
        let modified = Stamp { modified: true, ..stamp("aa") };
        assert!(of(&[("a/micro", Some(modified))]).unwrap().contains("modified"));
    }
}
