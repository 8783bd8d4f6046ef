//! Libraries that a program opens while it runs.

use std::process::Command;

use super::{VARIABLES, passes, passes_in_every_way, setup};

/// The loader's lock is held meanwhile.
#[test]
fn a_library_may_wait_for_a_thread_while_it_is_opened() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("opens.c", "opens", &[]);
    let library = setup.compile("joins.cc", "libjoins.so", &["-shared", "-fPIC"]);
    let opening = |mut command: Command| {
        command.arg(&library);
        passes(command);
    };
    opening(Command::new(&program));
    for variable in VARIABLES {
        opening(setup.command(&program, variable));
    }
}

#[test]
fn what_is_allocated_makes_no_error_of_the_loader_s_forgotten() {
    passes_in_every_way("last_error.cc", &[]);
}
