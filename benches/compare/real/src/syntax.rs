//! Syntax: Rust source parsed by `syn`, regular expressions compiled by `regex`.

use harness::{Kind, Run, Workload};
use quote::ToTokens;
use regex::Regex;
use std::hint::black_box;
use syn::visit::{self, Visit};

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "syn_parse",
        kind: Kind::Time,
        about: "parse Rust files with syn, visit them, print their tokens, per file",
        run: syn_parse,
    },
    Workload {
        name: "regex_compile",
        kind: Kind::Time,
        about: "compile eight regular expressions and match each once, per expression",
        run: regex_compile,
    },
];

/// Rust source as people write it: this crate's own.
const SOURCES: [&str; 6] = [
    include_str!("json.rs"),
    include_str!("syntax.rs"),
    include_str!("maps.rs"),
    include_str!("tasks.rs"),
    include_str!("script.rs"),
    include_str!("codec.rs"),
];

#[derive(Default)]
struct Counts {
    expressions: u64,
    identifiers: u64,
}

impl<'ast> Visit<'ast> for Counts {
    fn visit_expr(&mut self, expression: &'ast syn::Expr) {
        self.expressions += 1;
        visit::visit_expr(self, expression);
    }

    fn visit_ident(&mut self, _: &'ast syn::Ident) {
        self.identifiers += 1;
    }
}

fn syn_parse(run: &mut Run) {
    let passes = run.count(180);
    let counts = run.time(passes * SOURCES.len(), || {
        let mut counts = Counts::default();
        for _ in 0..passes {
            for source in SOURCES {
                let file = syn::parse_file(source).expect("this crate compiles");
                counts.visit_file(&file);
                black_box(file.to_token_stream());
            }
        }
        counts
    });
    run.check(counts.expressions);
    run.check(counts.identifiers);
}

const EXPRESSIONS: [&str; 8] = [
    r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})$",
    r"(?i)\b[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}\b",
    r"(?P<scheme>https?|ftp)://(?P<host>[^/\s:]+)(?::(?P<port>\d+))?(?P<path>/\S*)?",
    r"(?x) ^ (?: [01]?\d\d? | 2[0-4]\d | 25[0-5] ) (?: \. (?: [01]?\d\d? | 25[0-5] ) ){3} $",
    r"\b(?:alloc|dealloc|realloc|calloc|malloc|free|mmap|munmap|madvise)\b",
    r"[\p{Lu}\p{Lt}]\p{Ll}+(?:\s+[\p{Lu}\p{Lt}]\p{Ll}+)*",
    r#""(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*""#,
    r"(a|ab)(c|bcd){1,12}(d*)|((x+x+)+y)",
];

fn regex_compile(run: &mut Run) {
    let passes = run.count(180);
    let text = "on 2024-02-29 ada.lovelace@example.org freed https://example.org:80/a?b abcd";
    let matches = run.time(passes * EXPRESSIONS.len(), || {
        let mut matches = 0;
        for _ in 0..passes {
            for expression in EXPRESSIONS {
                let regex = Regex::new(expression).expect("the expressions are valid");
                matches += u64::from(regex.captures(text).is_some());
            }
        }
        matches
    });
    run.check(matches);
}
