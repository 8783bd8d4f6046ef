//! Libraries that a program opens while it runs.

use std::fs;
use std::process::Command;

use super::{VARIABLES, bytes_at, fresh_directory, passes, passes_in_every_way, prefixes, setup};

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

/// What its operators call in turn is looked for in a C++ library, by way of `dlopen`.
#[test]
fn a_program_that_has_all_of_cpp_in_it_opens_libraries() {
    let Some(setup) = setup() else { return };
    let all_in_it = ["-static-libstdc++", "-static-libgcc", "-rdynamic"];
    let program = setup.compile("plugins.cc", "plugins", &all_in_it);
    passes(Command::new(&program));
    for variable in VARIABLES {
        passes(setup.command(&program, variable));
    }
}

#[test]
fn what_is_allocated_makes_no_error_of_the_loader_s_forgotten() {
    passes_in_every_way("last_error.cc", &[]);
}

/// Some libraries are: distances inside them have 32 bits, their addresses in the file more.
#[test]
fn stacks_through_a_library_that_is_linked_for_a_high_address_are_whole() {
    let Some(setup) = setup() else { return };
    let program = setup.compile("sites.c", "sites-far", &[]);
    let far = ["-shared", "-fPIC", "-DLETTERS=40", "-Wl,-Ttext-segment=0x3000000000"];
    let library = setup.compile("tls.c", "libfar.so", &far);
    let reports = fresh_directory(setup, "far-reports");
    let variable = format!("sample=1,dump={}", reports.join("run").display());
    let mut command = setup.command(&program, &variable);
    command.arg(library);
    passes(command);

    let through = prefixes(&reports).into_keys().map(|prefix| {
        let stacks = fs::read_to_string(reports.join(format!("{prefix}.alloc.folded"))).unwrap();
        bytes_at(&stacks, &["main", "by_library", "through_library", "leaf"])
    });
    assert_eq!(through.max(), Some(2900 * 64));
}
