//! A global allocator for Rust whose heap profiler stays on.
//!
//! ```
//! use spanalloc::SpanAlloc;
//!
//! #[global_allocator]
//! static GLOBAL: SpanAlloc = SpanAlloc::new();
//!
//! fn main() {
//!     # let directory = std::env::temp_dir().join(format!("lib-{}", std::process::id()));
//!     # let prefix = directory.join("my-app");
//!     # #[cfg(any())]
//!     let prefix = "flamegraphs/my-app";
//!     let words: Vec<String> = "to be or not".split(' ').map(str::to_owned).collect();
//!     println!("{}", spanalloc::stats());
//!     spanalloc::dump(prefix).unwrap();
//!     # std::fs::remove_dir_all(directory).unwrap();
//!     assert_eq!(words.len(), 4);
//! }
//! ```
//!
//! | to learn | ask |
//! | --- | --- |
//! | how many blocks of which size were allocated, freed, are live; where resident memory is | [`stats`]: exact, always on |
//! | which code allocates, and what holds memory | [`SpanAlloc::sample_every`] or [`profile::start`], then [`profile::capture`]: sampled |
//! | all of it, as a page, tables, flamegraphs, pprof and JSON | [`dump`] now, [`dump_at_exit`] at the end |
//! | which kind of request holds memory, in a program with `tracing` | `SpanLayer`, with the feature `tracing` |
//! | what is at an address: size class, span, live or free | [`inspect`] |
//! | what a piece of code allocates, in a test | [`measure`](fn@measure), [`assert_usage!`]: exact |
//!
//! Free memory, also between blocks in use, goes back to the system after a while
//! ([`set_decay`]), at once above a limit ([`set_soft_limit`], [`on_pressure`]) or on demand
//! ([`release_free_memory`]).
//!
//! The environment variable `SPANALLOC` configures a program that is already built:
//! `SPANALLOC=sample=512KiB,dump=flamegraphs/my-app`. It overrides what the program was built with,
//! [`set_decay`] and [`dump_at_exit`]; [`profile::start`] and [`profile::stop`] override it in
//! turn. A program that runs with more privileges than the user who started it (setuid) ignores it.
//!
//! | key | accepted |
//! | --- | --- |
//! | `sample` | mean bytes between samples: a whole number with or without `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`, in letters of either case; 1 samples every allocation, 0 none |
//! | `dump` | where to write the reports at exit: a path without a comma that ends in the beginning of a file name; `%p` is the process id, `%n` the program's name, `%h` the host's, `%d` the number of the dump in its process, `%%` is `%` |
//! | `every` | how often to write the reports of `dump`, or of [`dump_at_exit`], while the program runs, too: a whole number of `ms`, `s`, `min` or `h`, from 1 s to 49 days |
//! | `grown` | write them each time that memory in use has grown past a further multiple of this size, too: as for `sample`, from 16MiB on |
//! | `keep` | of dumps that `%d` numbers, how many of a process stay: a whole number from 1; after each one that was written, or for which there was no room, those so many before it go, but not the last that is whole. All stay unless given |
//! | `signal` | the signal at which to write them, too: `HUP`, `USR1`, `USR2`, with or without `SIG`, in letters of either case, or the number of a real-time signal; it does not end the program, also where nothing says where to write: a line says that then; one that is ignored or handled before `main` stays so, and a handler that the program installs later replaces it |
//! | `decay` | how long free pages stay before they go back to the system: a whole number with or without `ms`, or with `s`, `min`, `h`, up to 49 days, or `never`, with which no thread is started for it; 500ms unless given, 250ms by preload |
//! | `huge` | `off`: no huge pages are asked for, and none come where the system makes them unasked; `on`: as without it; `early`: they are asked for from the first block on |
//! | `trace` | `scavenge`: a line on standard error for each time that pages went back |
//! | `formats` | which reports to write: names joined by `+`, of `text`, `json`, `folded`, `svg`, `icicle`, `pprof`, `raw`, `dhat`, `speedscope`, `html`; all but `icicle`, `raw`, `dhat` and `speedscope` unless given, or if all that are given are unknown; `text` is the table of size classes and the largest sites; `raw` is a pprof profile without names, which reads no file, takes milliseconds and little memory, and which `go tool pprof PROGRAM PROFILE` names later, as far as it can, if `PROGRAM` has debug information |
//!
//! Programs that were never compiled for it run on it as well, with the feature `preload`:
//! see `README.md`.
//!
//! Features, all on by default but `tracing` and `preload`: `profile` (sampling and its reports),
//! `flamegraph` (SVGs; `inferno`, which draws them, is licensed under the CDDL), `pprof`,
//! `collections` (`map`, `pool`, `arena`, `observe`, `Snapshots`). Without them the allocator
//! depends on `libc` and `once_cell` alone.
// The front page names everything; links to what a build leaves out lead nowhere.
#![cfg_attr(not(feature = "profile"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("spanalloc runs on Linux on x86-64 and aarch64 only");

#[cfg_attr(loom, allow(dead_code, reason = "a model needs less than the heap"))]
mod base;
#[cfg(feature = "collections")]
mod collections;
// Loom's types are not made in constants, as the parts of a static heap are.
#[cfg(not(loom))]
mod global;
#[cfg(not(loom))]
mod heap;
#[cfg(all(feature = "preload", not(loom)))]
mod preload;
#[cfg(all(feature = "profile", not(loom)))]
pub mod profile;
#[cfg(not(loom))]
pub mod report;
#[cfg(not(loom))]
mod sys;

/// Under `--cfg loom` the heap is its lock-free structures and their models.
#[cfg(loom)]
#[allow(dead_code, reason = "a model needs less than the heap")]
mod heap {
    pub(crate) mod geometry;
    pub(crate) mod mailbox;
    #[cfg(test)]
    mod models;
    pub(crate) mod remote;
    pub(crate) mod shelf;
}

#[cfg(feature = "collections")]
pub use collections::{arena, map, observe, pool};
#[cfg(all(feature = "tracing", not(loom)))]
pub use global::SpanLayer;
#[cfg(not(loom))]
#[doc(hidden)]
pub use global::{__assertion_failed, __meter};
#[cfg(not(loom))]
pub use global::{
    BlockState, Inspection, Meter, Place, Pressure, PressureListener, SpanAlloc, Usage, decay,
    dump, dump_at_exit, held_bytes, inspect, measure, on_pressure, release_free_memory, set_decay,
    set_soft_limit, soft_limit, stats, trace_scavenging,
};
#[cfg(all(feature = "collections", not(loom)))]
pub use global::{ClassGrowth, Snapshot, Snapshots, Snapshotter};
#[cfg(not(loom))]
pub use report::Stats;

/// Runs bytes as a program for a heap with an oracle, for `fuzz/`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_heap(bytes: &[u8]) {
    heap::tests::bytes::run(bytes);
}

/// The examples in `README.md` compile.
#[cfg(all(doctest, feature = "flamegraph"))]
#[doc = include_str!("../README.md")]
struct Readme;
