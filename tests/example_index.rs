//! The example `index` as its users run it: what it prints, the files it leaves,
//! and how it refuses what it cannot index.
#![cfg(feature = "flamegraph")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use support::{Scratch, check_tags};

mod support;

/// Builds the example, in the profile of this test, unless that was done.
fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let release = (!cfg!(debug_assertions)).then_some("--release");
        let output = Command::new(env!("CARGO"))
            .args(["build", "--example", "index", "--message-format", "json", "--target-dir"])
            .arg(target)
            .args(release)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let messages = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let executable = |message: serde_json::Value| Some(message["executable"].as_str()?.into());
        messages.filter_map(executable).next_back().expect("an executable")
    })
}

fn index(directory: &Path, arguments: &[&Path], variable: &str) -> Output {
    Command::new(example())
        .args(arguments)
        .current_dir(directory)
        .env("SPANALLOC", variable)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs it on `path`, which it must refuse; returns what it says.
fn refusal(scratch: &Scratch, arguments: &[&Path]) -> String {
    let output = index(&scratch.0, arguments, "");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.starts_with("index: ") && said.lines().count() == 1, "{said}");
    assert!(!scratch.prefix("flamegraphs").exists());
    said.to_owned()
}

#[test]
fn words_files_and_positions_are_counted_exactly() {
    let scratch = Scratch::new("index-counts");
    let tree = scratch.prefix("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    fs::write(tree.join("a.txt"), "One fish, two FISH;\nred_fish.").unwrap();
    fs::write(tree.join("deep/er/b.md"), "Straße ÉTÉ été one").unwrap();
    fs::write(tree.join("deep/picture"), b"\x89PNG\xff\xfe").unwrap();
    fs::write(tree.join("nul"), b"one\0two").unwrap();
    fs::write(tree.join("void"), b"").unwrap();
    fs::write(tree.join(".hidden"), b"hidden").unwrap();
    fs::create_dir(tree.join("cache")).unwrap();
    fs::write(tree.join("cache/CACHEDIR.TAG"), b"cached").unwrap();

    let output = index(&scratch.0, &[&tree], "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    let said = text(&output.stdout);
    // one, fish, two, red_fish, straße, été
    assert!(said.contains("6 words at 9 positions"), "{said}");
    assert!(said.contains("\n2 files ("), "{said}");
    assert!(said.contains("3 files: no text and left out"), "{said}");
    assert!(said.contains("\"one\" in 2 files, first as word 0 of "), "{said}");
    assert!(said.contains("    total "), "{said}");
    assert!(said.contains("Bytes allocated: "), "{said}");
}

#[test]
fn a_file_is_a_tree_of_one() {
    let scratch = Scratch::new("index-file");
    let file = scratch.prefix("a.txt");
    fs::write(&file, "to be or not to be").unwrap();
    let output = index(&scratch.0, &[&file], "");
    let said = text(&output.stdout);
    assert!(said.contains("1 file (0 MiB)") && said.contains("4 words at 6 positions"), "{said}");
}

#[test]
fn flamegraphs_show_the_programs_functions() {
    let scratch = Scratch::new("index-svg");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report");
    let output = index(&scratch.0, &[&source], "sample=1");
    assert!(output.status.success(), "{output:?}");
    let prefix = scratch.prefix("flamegraphs/index");
    let said = text(&output.stdout);
    for name in ["alloc", "inuse"] {
        let path = prefix.with_added_extension(name).with_added_extension("svg");
        check_tags(&fs::read_to_string(path).unwrap());
        assert!(said.contains(&format!("wrote flamegraphs/index.{name}.svg")), "{said}");
        let path = prefix.with_added_extension(name).with_added_extension("folded");
        let folded = fs::read_to_string(path).unwrap();
        assert!(folded.contains("index::Index::merge;"), "no merge in {name}.folded");
        for own in ["spanalloc::heap", "global::slow", "__rust_alloc", "gimli::"] {
            assert!(!folded.contains(own), "{own} in {name}.folded");
        }
    }
}

#[test]
fn what_cannot_be_indexed_is_refused_by_name() {
    let scratch = Scratch::new("index-refused");
    let missing = scratch.prefix("missing");
    let said = refusal(&scratch, &[&missing]);
    assert!(said.contains(missing.to_str().unwrap()) && said.contains("No such file"), "{said}");

    let file = scratch.prefix("file");
    fs::write(&file, "text").unwrap();
    let below = file.join("below");
    let said = refusal(&scratch, &[&below]);
    assert!(said.contains(below.to_str().unwrap()) && said.contains("Not a directory"), "{said}");

    let empty = scratch.prefix("empty");
    fs::create_dir(&empty).unwrap();
    let said = refusal(&scratch, &[&empty]);
    assert!(said.contains(empty.to_str().unwrap()) && said.contains("holds no text"), "{said}");

    fs::write(empty.join("binary"), b"\xff\xfe").unwrap();
    let said = refusal(&scratch, &[&empty]);
    assert!(said.contains("1 file looked at"), "{said}");

    let said = refusal(&scratch, &[&file, &empty]);
    assert!(said.contains(empty.to_str().unwrap()) && said.contains("[PATH]"), "{said}");
}

#[test]
fn what_may_not_be_read_is_refused_by_name() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new("index-locked");
    let locked = scratch.prefix("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read it all the same, and finds it empty.
    let said = refusal(&scratch, &[&locked]);
    let reason = if fs::read_dir(&locked).is_ok() { "holds no text" } else { "Permission denied" };
    assert!(said.contains(locked.to_str().unwrap()) && said.contains(reason), "{said}");
}
