//! `go tool pprof` reads our profiles. Skipped, with a message, where it is not
//! installed.
#![cfg(feature = "pprof")]
#![allow(clippy::vec_box, reason = "the boxes are what is measured")]

#[allow(dead_code, reason = "each test uses a part")]
mod support;

use std::fs::File;
use std::hint::black_box;
use std::path::PathBuf;

use spanalloc::SpanAlloc;
use spanalloc::profile::{self, Profile};

use support::{Scratch, pprof};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const OBJECTS: usize = 5000;
const OBJECT_BYTES: usize = 100;
/// A third of the objects are freed again.
const FREED: usize = 2000;

/// In a thread of its own, whose lists are empty, every block is sampled from the
/// first on.
fn kept(count: usize) -> Vec<Box<[u8; OBJECT_BYTES]>> {
    let thread = std::thread::Builder::new().name("keeper".into());
    thread.spawn(move || keeps(count)).unwrap().join().unwrap()
}

#[inline(never)]
fn keeps(count: usize) -> Vec<Box<[u8; OBJECT_BYTES]>> {
    let mut held = Vec::with_capacity(count);
    (0..count).for_each(|n| held.push(inlined(n)));
    held
}

#[inline(always)]
fn inlined(n: usize) -> Box<[u8; OBJECT_BYTES]> {
    black_box(Box::new([n as u8; OBJECT_BYTES]))
}

fn write(scratch: &Scratch, name: &str, profile: &Profile) -> PathBuf {
    let path = scratch.prefix(name);
    profile.write_pprof(File::create(&path).unwrap()).unwrap();
    path
}

/// Flat and cumulative values of a function in the output of `-top`.
fn row(top: &str, function: &str) -> (u64, u64) {
    let line = top.lines().find(|line| line.split_whitespace().nth(5) == Some(function));
    let line = line.unwrap_or_else(|| panic!("no {function} in:\n{top}"));
    let number = |at| {
        let cell = line.split_whitespace().nth(at).unwrap();
        cell.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    (number(0), number(3))
}

#[test]
fn go_reads_functions_totals_and_differences() {
    let scratch = Scratch::new("pprof");
    profile::start(1).unwrap();
    let mut held = kept(OBJECTS);
    held.truncate(OBJECTS - FREED);
    let before = profile::capture();
    let more = kept(OBJECTS);
    let after = profile::capture();
    profile::stop();
    let (before, after) =
        (write(&scratch, "before.pb.gz", &before), write(&scratch, "after.pb.gz", &after));
    let vector = OBJECTS * size_of::<usize>();

    // Each type of sample, in its unit; inlined frames have a row of their own.
    for (index, expected) in [
        ("alloc_objects", OBJECTS + 1),
        ("alloc_space", OBJECTS * OBJECT_BYTES + vector),
        ("inuse_objects", OBJECTS - FREED + 1),
        ("inuse_space", (OBJECTS - FREED) * OBJECT_BYTES + vector),
    ] {
        let sample_index = format!("-sample_index={index}");
        let arguments = ["-top", "-unit=B", "-nodecount=1000", &sample_index];
        let Some(top) = pprof(&arguments, &before) else { return };
        assert_eq!(row(&top, "pprof::keeps").1, expected as u64, "{index}:\n{top}");
        assert!(!top.contains("spanalloc::"), "{top}");
        assert!(top.contains("pprof::inlined"), "{top}");
    }
    let top = pprof(&["-top", "-unit=B"], &before).unwrap();
    assert!(top.contains("Type: inuse_space"), "{top}");

    // By the name of the thread, alone and left out.
    let tags = pprof(&["-tags", "-unit=B"], &before).unwrap();
    assert!(tags.contains("thread: Total") && tags.contains(": keeper"), "{tags}");
    let of_thread =
        |option| pprof(&["-top", "-unit=B", "-nodecount=1000", option], &before).unwrap();
    let focused = of_thread("-tagfocus=thread=keeper");
    let kept_bytes = (OBJECTS - FREED) * OBJECT_BYTES + vector;
    assert_eq!(row(&focused, "pprof::keeps").1, kept_bytes as u64, "{focused}");
    let ignored = of_thread("-tagignore=thread=keeper");
    assert!(!ignored.contains("pprof::keeps"), "{ignored}");

    let base = format!("-diff_base={}", before.display());
    let difference = pprof(&["-top", "-unit=B", "-nodecount=1000", &base], &after).unwrap();
    let expected = OBJECTS * OBJECT_BYTES + vector;
    assert_eq!(row(&difference, "pprof::keeps").1, expected as u64, "{difference}");

    let listing = pprof(&["-raw"], &before).unwrap();
    let mapping = listing.lines().skip_while(|line| *line != "Mappings").nth(1).unwrap();
    let program = std::env::current_exe().unwrap();
    assert!(mapping.starts_with("1: "), "{listing}");
    assert!(mapping.contains(program.to_str().unwrap()), "{mapping}");
    assert!(mapping.contains("[FN][FL][LN][IN]"), "{mapping}");

    // Without names, the tool is to find them by the mappings.
    let path = scratch.prefix("raw.pb.gz");
    let _ = profile::capture().write_pprof_raw(File::create(&path).unwrap());
    let listing = pprof(&["-raw", "-symbolize=none"], &path).unwrap();
    let mapping = listing.lines().skip_while(|line| *line != "Mappings").nth(1).unwrap();
    assert!(!mapping.contains("[FN]"), "{mapping}");
    let top = pprof(&["-top", "-unit=B", "-nodecount=1000", "-symbolize=local"], &path).unwrap();
    assert!(top.contains("keeps"), "{top}");
    drop((held, more));
}
