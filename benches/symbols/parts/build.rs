//! Writes the functions that the program is made of: each has types of its own and a
//! vector and a tree of them, which is some hundred kilobytes of debug information, and
//! calls eleven others that allocate. `SYMBOLS_FUNCTIONS` says how many, 800 unless it
//! is set.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

const FUNCTIONS: usize = 800;
/// Functions that each of them calls.
const LEAVES: usize = 11;
const FUNCTIONS_PER_MODULE: usize = 20;

fn main() {
    println!("cargo::rerun-if-env-changed=SYMBOLS_FUNCTIONS");
    println!("cargo::rerun-if-changed=build.rs");
    let asked = env::var("SYMBOLS_FUNCTIONS").ok();
    let functions = asked.map_or(FUNCTIONS, |number| number.parse().expect("a number"));
    let (mut text, mut all) = (String::new(), String::new());
    for first in (0..functions).step_by(FUNCTIONS_PER_MODULE) {
        writeln!(text, "mod part_{first} {{ use crate::{{Held, black_box}};").unwrap();
        for number in first..(first + FUNCTIONS_PER_MODULE).min(functions) {
            text.push_str(&function(number));
            writeln!(all, "part_{first}::function_{number},").unwrap();
        }
        text.push_str("}\n");
    }
    writeln!(text, "/// All of them.\npub const FUNCTIONS: &[fn(&mut Held)] = &[{all}];").unwrap();
    let out = env::var_os("OUT_DIR").expect("a build script has a directory");
    fs::write(Path::new(&out).join("functions.rs"), text).expect("the directory is writable");
}

fn function(number: usize) -> String {
    let (mut leaves, mut leaf_functions) = (String::new(), String::new());
    for leaf in 0..LEAVES {
        writeln!(leaves, "held.push(leaf_{number}_{leaf}());").unwrap();
        let bytes = 8 + leaf;
        writeln!(
            leaf_functions,
            "#[inline(never)] fn leaf_{number}_{leaf}() -> Box<[u8; {bytes}]> {{
                black_box(Box::new([1; {bytes}]))
            }}"
        )
        .unwrap();
    }
    format!(
        "
        pub struct Row{number} {{ pub key: u32, pub place: (i32, i32), pub parts: [u64; {words}] }}
        pub enum Kind{number} {{ Plain(Row{number}), Pair {{ one: Row{number}, other: u8 }}, None }}
        #[inline(never)]
        pub fn function_{number}(held: &mut Held) {{
            let row = |key: u32| Row{number} {{ key, place: (1, 2), parts: [3; {words}] }};
            let mut rows = Vec::new();
            for key in 0..black_box(2) {{
                rows.push(Kind{number}::Pair {{ one: row(key), other: 7 }});
                rows.push(Kind{number}::Plain(row(key)));
            }}
            held.push(rows);
            let mut tree = std::collections::BTreeMap::new();
            tree.insert(black_box({number}_u32), Kind{number}::Plain(row(1)));
            tree.insert(black_box(7), Kind{number}::None);
            held.push(tree);
            {leaves}
        }}
        {leaf_functions}
        ",
        words = 1 + number % 7,
    )
}
