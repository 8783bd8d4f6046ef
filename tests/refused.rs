//! What the compiler says of types that are refused, which is all that whoever uses them has to go
//! by: the library is given to `rustc` as a program's dependency.

#![cfg(feature = "collections")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds of the library beside this program: of these features, and maybe of others.
fn libraries() -> Vec<PathBuf> {
    let program = std::env::current_exe().unwrap();
    let entries = std::fs::read_dir(program.parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libspanalloc-") && name.ends_with(".rlib")
    };
    paths.filter(is_library).collect()
}

/// What is said of a program whose `main` has this on its third line, by each build.
fn said_of(name: &str, line: &str) -> Vec<String> {
    let directory =
        std::env::temp_dir().join(format!("spanalloc-refused-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let source = directory.join("user.rs");
    let uses = "#[allow(unused)] use spanalloc::{arena::Arena, pool::Pool};";
    std::fs::write(&source, format!("{uses}\nfn main() {{\n{line}\n}}\n")).unwrap();
    let said = |library: &PathBuf| {
        let dependencies = library.parent().unwrap_or(Path::new(".")).display();
        let output = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
            .args(["--edition=2024", "--crate-type=bin", "--emit=obj"])
            .args(["-L", &format!("dependency={dependencies}")])
            .args(["--extern", &format!("spanalloc={}", library.display())])
            .arg("-o")
            .arg(directory.join("user.o"))
            .arg(&source)
            .output()
            .expect("rustc, which has built this");
        assert!(!output.status.success(), "{line} is compiled");
        String::from_utf8(output.stderr).unwrap()
    };
    let all = libraries().iter().map(said).collect();
    std::fs::remove_dir_all(directory).unwrap();
    all
}

#[test]
fn what_an_arena_would_never_drop_is_refused_at_the_callers_line() {
    for (name, call) in [
        ("alloc", "Arena::new().alloc(String::new());"),
        ("with", "Arena::new().alloc_with(String::new);"),
        ("try", "Arena::new().try_alloc(String::new()).unwrap();"),
        ("fill", "Arena::new().alloc_slice_fill_with(2, |_| String::new());"),
        ("iter", "Arena::new().alloc_slice_fill_iter([String::new()]);"),
    ] {
        let said = said_of(name, call);
        let is_told =
            |said: &String| said.contains("use `alloc_box`") && said.contains("user.rs:3:");
        assert!(said.iter().any(is_told), "{call}: {said:#?}");
    }
}

#[test]
fn what_a_pool_cannot_reset_is_told_the_ways_into_it() {
    let said = said_of("reset", "struct Mine; Pool::<Mine>::new(|| Mine).get();");
    let ways = "implement `Reset` for it, or wrap it in `Keep`";
    assert!(said.iter().any(|said| said.contains(ways)), "{said:#?}");
}
