//! Names from debug information that has lines alone (`debug = "line-tables-only"`).
//!
//! There functions are named without their paths, and reports cannot tell `alloc` of the
//! standard library from `alloc` of the program. The function that was not inlined has its
//! whole name among the file's symbols; for the others the path of the source file stands
//! for that of the module, which it mirrors: `library/alloc/src/raw_vec/mod.rs` is
//! `alloc::raw_vec`, and `serde_json-1.0.154/src/de.rs` is `serde_json::de`.

const OUR_NAME: &str = "spanalloc";

/// The name of a function that debug information calls `name`, with the path of its module; none
/// if it has one already, or if the file's path has none.
pub(super) fn with_module(name: &str, file: &str) -> Option<String> {
    /// Mangled, or of the compiler's own making.
    const WHOLE: [&str; 6] = ["_R", "_ZN", "__rust_alloc", "__rust_realloc", "__rdl_", "__rg_"];
    let is_whole = WHOLE.iter().any(|start| name.starts_with(start));
    // A `::` among its parameters, as in `push<alloc::string::String>`, is not its own.
    let own = name.split('<').next().unwrap_or(name);
    if is_whole || own.contains("::") {
        return None;
    }
    Some(format!("{}::{name}", module(file)?))
}

/// The module whose source a file is: its path below the `src` of its crate, or below a folder of
/// whose files each is a crate.
fn module(file: &str) -> Option<String> {
    const CRATES: [&str; 3] = ["/examples/", "/tests/", "/benches/"];
    let mut path = Vec::new();
    let below = match file.rsplit_once("/src/") {
        Some((before, below)) => {
            let folder = before.rsplit('/').next()?;
            let krate = if before == our_folder() { OUR_NAME } else { without_version(folder) };
            path.push(krate);
            below
        }
        None => CRATES.iter().find_map(|folder| file.rsplit_once(folder))?.1,
    };
    path.extend(below.strip_suffix(".rs")?.split('/'));
    // These are the files of the module above.
    path.pop_if(|last| matches!(*last, "lib" | "main" | "mod"));
    Some(path.join("::").replace('-', "_"))
}

/// The folder of this library, which may have any name.
fn our_folder() -> &'static str {
    // Of a path dependency the compiler is given the whole path, of what is built itself one from
    // its root on.
    const FILE: &str = match file!().as_bytes() {
        [b'/', ..] => file!(),
        _ => concat!(env!("CARGO_MANIFEST_DIR"), "/", file!()),
    };
    FILE.strip_suffix("/src/profile/line_tables.rs").unwrap_or(FILE)
}

/// The name of a crate whose folder may have its version, as in `serde_json-1.0.154`.
fn without_version(folder: &str) -> &str {
    let is_version = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
    match folder.rsplit_once('-') {
        Some((name, rest)) if is_version(rest) => name,
        _ => folder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_from_the_paths_of_files() {
        let library = "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library";
        for (name, file, expected) in [
            ("alloc", &*format!("{library}/alloc/src/alloc.rs"), "alloc::alloc::alloc"),
            (
                "finish_grow<alloc::alloc::Global>",
                &format!("{library}/alloc/src/raw_vec/mod.rs"),
                "alloc::raw_vec::finish_grow<alloc::alloc::Global>",
            ),
            (
                "from_str",
                "/home/a/.cargo/registry/src/index-1/serde_json-1.0.154/src/de.rs",
                "serde_json::de::from_str",
            ),
            ("main", "/home/a/my-app/src/main.rs", "my_app::main"),
            ("go", "/home/a/src/tool/src/bin/tool.rs", "tool::bin::tool::go"),
            ("f", "/x/crc32fast-2/src/lib.rs", "crc32fast::f"),
            ("run", "/home/a/app/examples/word-index.rs", "word_index::run"),
            ("check", "/home/a/app/tests/support/mod.rs", "support::check"),
        ] {
            assert_eq!(with_module(name, file).as_deref(), Some(expected));
        }
    }

    #[test]
    fn this_library_is_known_in_any_folder() {
        let file = format!("{}/src/global/alloc.rs", our_folder());
        assert_eq!(with_module("alloc", &file).unwrap(), "spanalloc::global::alloc::alloc");
        assert_eq!(
            with_module("lock", "/x/library/std/src/sys/a.rs").unwrap(),
            "std::sys::a::lock"
        );
    }

    #[test]
    fn whole_names_and_files_elsewhere_are_left_alone() {
        let file = "/home/a/app/src/main.rs";
        assert_eq!(with_module("_ZN3app4mainE", file), None);
        assert_eq!(with_module("_RNvC3app4main", file), None);
        assert_eq!(with_module("app::main", file), None);
        assert_eq!(with_module("__rust_alloc", file), None);
        assert_eq!(with_module("main", "/home/a/app/build.rs"), None);
        assert_eq!(with_module("main", "/home/a/app/src/main.c"), None);
    }
}
