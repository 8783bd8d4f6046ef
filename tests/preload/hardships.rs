//! Programs that leave little to work with: a `malloc` of their own, stacks of a few pages, no
//! memory at the end, a cancellation that waits, streams that others wait for.

use std::fs;
use std::process::Command;

use super::{VARIABLES, fresh_directory, passes, passes_in_every_way, prefixes, setup};

#[test]
fn a_program_with_a_malloc_of_its_own_is_left_alone_and_told() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("own_malloc.c", "own-malloc", &["-rdynamic"]);
    passes(Command::new(&program));
    let dump = setup.scratch.join("own-malloc.out");
    let dumped = format!("sample=1,dump={}", dump.display());
    for variable in VARIABLES.into_iter().chain([&*dumped]) {
        let said = passes(setup.command(&program, variable)).stderr;
        let said = String::from_utf8(said).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("not serving this program, whose malloc is another's"), "{said}");
    }
}

/// Whatever the program leaves out is of the kind that its `free` knows.
#[test]
fn what_a_program_s_malloc_lacks_fits_what_it_has() {
    let Some(setup) = setup() else { return };
    for (source, output) in
        [("own_malloc.cc", "own-malloc-cc"), ("wrapped_malloc.c", "wrapped-malloc")]
    {
        let program = setup.compile(source, output, &["-rdynamic"]);
        passes(Command::new(&program));
        for variable in VARIABLES {
            passes(setup.command(&program, variable));
        }
    }
}

/// Nothing but to read, to write and to end is allowed there.
#[test]
fn a_process_in_a_sandbox_ends_by_the_call_that_it_makes() {
    passes_in_every_way("sandbox.c", &[]);
}

#[test]
fn a_sample_takes_no_more_of_a_small_stack_than_there_is() {
    passes_in_every_way("coroutines.c", &[]);
}

#[test]
fn a_fork_waits_for_no_stream_that_waits_for_memory() {
    passes_in_every_way("stdio_forks.c", &["300"]);
}

/// The main stack, of which its first sample asks nobody.
#[test]
fn a_sample_is_walked_wherever_on_the_main_stack_there_is_room() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("deep.c", "deep", &[]);
    let allocated = |command: &str| {
        let reports = fresh_directory(setup, "deep-reports");
        let variable = format!("sample=1,formats=folded,dump={}/%n", reports.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", command, "sh"]).arg(&program);
        shell.env("SPANALLOC", variable).env("LIBRARY", &setup.library);
        passes(shell);
        let name = prefixes(&reports).into_keys().next().expect("a report");
        let folded = fs::read_to_string(reports.join(format!("{name}.alloc.folded"))).unwrap();
        let line = folded.lines().find(|line| line.ends_with(" 70007"));
        line.unwrap_or_else(|| panic!("{folded}")).to_owned()
    };
    let deep = allocated("ulimit -S -s 8192 && LD_PRELOAD=$LIBRARY exec $1");
    assert!(deep.matches("deeper").count() >= 60, "{deep}");
    let edge = allocated("ulimit -S -s 256 && LD_PRELOAD=$LIBRARY exec $1 edge");
    assert!(!edge.contains("nearer"), "{edge}");
}

#[test]
fn a_report_is_written_or_given_up_and_the_exit_code_stays() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("last_words.c", "last-words", &[]);
    // What is left at the end hangs on the last piece that the heap could map.
    for end in ["196", "200", "207", "cancelled"] {
        let scratch = setup.scratch.join(format!("last-words-{end}"));
        fs::create_dir_all(&scratch).unwrap();
        for sample in ["", "sample=64KiB,"] {
            let variable = format!("{sample}dump={}/%p", scratch.display());
            let mut command = setup.command(&program, &variable);
            command.arg(end);
            passes(command);
        }
        let written = prefixes(&scratch);
        assert!(!written.is_empty(), "nothing was written: {end}");
        if end == "cancelled" {
            let whole = |files: &Vec<String>| {
                [".json", ".html", ".classes.txt"]
                    .iter()
                    .all(|kind| files.iter().any(|f| f == kind))
            };
            assert!(written.len() == 2 && written.values().all(whole), "{written:?}");
        }
        fs::remove_dir_all(scratch).unwrap();
    }
}
