//! A small process stays small: what the allocator and the profiler keep lies in
//! memory that is only there once it is written.
//! Skipped, with a message, where there is no `objdump`.
#![cfg(feature = "profile")]

use std::process::Command;

use spanalloc::SpanAlloc;

#[path = "support/skip.rs"]
mod skip;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new().sample_every(1);

#[test]
fn statics_are_all_zero_and_take_no_room_in_the_file() {
    let program = std::env::current_exe().unwrap();
    let Ok(output) = Command::new("objdump").arg("-t").arg(program).output() else {
        return skip::skip("objdump", "there is no objdump");
    };
    let symbols = String::from_utf8_lossy(&output.stdout);
    for name in ["6global4slow4HEAP", "7profile8PROFILER"] {
        let found: Vec<_> = symbols.lines().filter(|line| line.contains(name)).collect();
        assert!(!found.is_empty(), "no symbol {name}");
        assert!(found.iter().all(|symbol| symbol.contains(".bss")), "{found:#?}");
    }
}
