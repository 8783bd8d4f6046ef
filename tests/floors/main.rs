//! The laws of `src/README.md`, read from the sources.
//!
//! Sources are read as tokens, so comments and strings do not count and macros
//! do. What is under `#[cfg(test)]` may panic, format and use `std`; the import
//! law holds there too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use reading::{Mention, Reading};

mod reading;

const LINES_MAX: usize = 500;
/// Floors that run inside an allocation.
const BELOW_ALLOC: [&str; 3] = ["base", "heap", "sys"];
/// Where one of these names an outer crate after all, and why it may.
const OUTER_ALLOWED: [(&str, &str); 2] = [
    // Asked for by `stats`, never inside an allocation.
    ("sys/os.rs", "std::fs"),
    // Asked for by captures and dumps.
    ("sys/program.rs", "std"),
];
/// What `report` may take from `profile`: plain data and its names, and the guard
/// that keeps a report out of the profile.
const PROFILE_DATA: [&str; 12] = [
    "Amount",
    "BlockSize",
    "Group",
    "Lifetimes",
    "Losses",
    "Module",
    "Profile",
    "Site",
    "Unwinding",
    "quietly",
    "snapshot",
    "symbols",
];

#[test]
fn each_floor_uses_only_those_it_may() {
    let law = law();
    let mut breaches = Vec::new();
    for file in sources() {
        let from = file.floor();
        for path in &file.read().paths {
            let Some(to) = path.names.first().filter(|to| **to != from) else { continue };
            let may = match law.get(&from) {
                Some(uses) => uses.contains(&"all".to_owned()) || uses.contains(to),
                None => true,
            };
            if !may {
                breaches.push(format!("{}:{}: {path}", file.name, path.line));
            }
        }
    }
    assert!(breaches.is_empty(), "floors may not use these:\n{}", breaches.join("\n"));
}

#[test]
fn reports_take_only_data_from_the_profiler() {
    let mut breaches = Vec::new();
    for file in sources().into_iter().filter(|file| file.floor() == "report") {
        let reading = file.read();
        for path in reading.paths.iter().chain(&reading.outer) {
            let [first, second, ..] = path.names.as_slice() else { continue };
            if first == "profile" && !PROFILE_DATA.contains(&second.as_str()) {
                breaches.push(format!("{}:{}: {path}", file.name, path.line));
            }
        }
    }
    assert!(breaches.is_empty(), "no data of the profiler:\n{}", breaches.join("\n"));
}

#[test]
fn what_runs_inside_an_allocation_neither_allocates_nor_panics_nor_formats() {
    const MACROS: [&str; 17] = [
        "assert!",
        "assert_eq!",
        "assert_ne!",
        "debug_assert!",
        "debug_assert_eq!",
        "debug_assert_ne!",
        "eprint!",
        "eprintln!",
        "format!",
        "format_args!",
        "panic!",
        "print!",
        "println!",
        "unreachable!",
        "vec!",
        "write!",
        "writeln!",
    ];
    const CALLS: [&str; 2] = [".expect", ".unwrap"];
    const TYPES: [&str; 3] = ["Box", "String", "Vec"];
    let sources = sources();
    let tests: Vec<_> = sources.iter().flat_map(|file| file.read().test_modules).collect();
    let is_test = |file: &Source| tests.iter().any(|test| file.module().starts_with(test));
    let mut breaches = Vec::new();
    for file in sources.iter().filter(|file| BELOW_ALLOC.contains(&&*file.floor())) {
        if is_test(file) {
            continue;
        }
        let reading = file.read();
        let outer = reading.outer.iter().filter(|path| {
            let text = path.to_string();
            let allowed = OUTER_ALLOWED
                .iter()
                .any(|(name, outer)| *name == file.name && text.starts_with(outer));
            (["std", "alloc"].contains(&&*path.names[0]) && !allowed)
                || TYPES.contains(&&*path.names[0])
        });
        let words = reading.words.iter().filter(|word| {
            let name = &*word.names[0];
            MACROS.contains(&name) || CALLS.contains(&name)
        });
        for breach in outer.chain(words).filter(|breach| !breach.test) {
            breaches.push(format!("{}:{}: {breach}", file.name, breach.line));
        }
    }
    assert!(breaches.is_empty(), "not inside an allocation:\n{}", breaches.join("\n"));
}

#[test]
fn nothing_is_left_to_do() {
    let mut breaches = Vec::new();
    for file in sources() {
        for word in file.read().words {
            if ["dbg!", "todo!", "unimplemented!"].contains(&&*word.names[0]) {
                breaches.push(format!("{}:{}: {word}", file.name, word.line));
            }
        }
    }
    assert!(breaches.is_empty(), "left to do:\n{}", breaches.join("\n"));
}

#[test]
fn every_file_is_short_and_says_what_it_is() {
    let mut breaches = Vec::new();
    for file in sources() {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            breaches.push(format!("{}: {lines} lines, at most {LINES_MAX}", file.name));
        }
        if !file.text.starts_with("//!") {
            breaches.push(format!("{}: does not begin with //!", file.name));
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn the_reader_sees_what_it_must() {
    let text = "
        //! crate::comment
        use crate::{base::own::{OwnU8, OwnU32}, heap};
        use core::{alloc::Layout, ptr};
        const FITS: () = assert!(1 < 2);
        const _: &str = \"crate::string\";
        fn f() { super::super::report::top(); alloc::vec::Vec::new(); x.unwrap(); panic!() }
        mod inner { use super::span; use super::super::cache; }
        #[cfg(test)]
        mod fake;
        #[cfg(all(test, not(loom)))]
        mod tests { fn g() { assert_eq!(1, 1) } }
    ";
    let reading = Source { name: "heap/bin.rs".into(), text: text.into() }.read();
    let shown = |mentions: &[Mention]| mentions.iter().map(Mention::to_string).collect::<Vec<_>>();
    assert_eq!(
        shown(&reading.paths),
        [
            "base::own::OwnU8",
            "base::own::OwnU32",
            "heap",
            "report::top",
            "heap::bin::span",
            "heap::cache"
        ]
    );
    assert_eq!(shown(&reading.outer), ["core::alloc::Layout", "core::ptr", "alloc::vec::Vec::new"]);
    assert_eq!(shown(&reading.words), [".unwrap", "panic!", "assert_eq!"]);
    assert!(reading.words[2].test && !reading.words[1].test);
    assert_eq!(reading.test_modules, [["heap", "bin", "fake"]]);
}

/// Per floor the floors it may use, from the table in `src/README.md`: the names
/// in backticks in its last column, `all` for all.
fn law() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("/` |"));
    let quoted = |cell: &str| -> Vec<String> {
        let names = cell.split('`').skip(1).step_by(2);
        names.map(|name| name.trim_end_matches('/').to_owned()).collect()
    };
    let mut law = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        let [_, folders, _, uses] = cells.as_slice() else { panic!("four columns: {row}") };
        for floor in quoted(folders).into_iter().filter(|name| !name.ends_with(".rs")) {
            law.insert(floor, quoted(uses));
        }
    }
    let folders: Vec<_> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    for folder in &folders {
        assert!(law.contains_key(folder), "src/README.md has no row for {folder}/");
    }
    assert_eq!(law.len(), folders.len(), "src/README.md has a row too many: {law:?}");
    law
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A file below `src/`.
struct Source {
    /// Its path below `src/`.
    name: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let (mut sources, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { name, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    assert!(sources.len() > 50, "only {} files below src/", sources.len());
    sources
}

impl Source {
    /// The folder it is in, or the name of a file of none.
    fn floor(&self) -> String {
        self.name.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
    }

    fn module(&self) -> Vec<String> {
        let path = self.name.trim_end_matches(".rs");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        path.split('/').filter(|name| *name != "lib").map(str::to_owned).collect()
    }

    fn read(&self) -> Reading {
        Reading::of(&self.text, &self.module())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}
