//! A regression test of what code allocates.
//!
//! ```console
//! $ cargo test --example regression
//! ```
//!
//! A parser of `key=value` lines is to borrow from its input. The tests say so in
//! allocations and bytes; whoever adds a `to_owned` sees them fail, with the line.

use spanalloc::SpanAlloc;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// The pairs of a text; lines without `=` are left out.
fn parse(text: &str) -> Vec<(&str, &str)> {
    let mut pairs = Vec::with_capacity(text.lines().count());
    pairs.extend(text.lines().filter_map(|line| line.split_once('=')));
    pairs
}

/// The value of a key, without parsing the rest.
fn find<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().filter_map(|line| line.split_once('=')).find_map(|(k, v)| (k == key).then_some(v))
}

fn main() {
    let text = "colour=red\nsize=7\n";
    let (pairs, usage) = spanalloc::measure(|| parse(text));
    println!("{} pairs: {usage}", pairs.len());
    println!("size: {:?}", spanalloc::assert_no_allocs!(find(text, "size")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: usize) -> String {
        (0..lines).map(|line| format!("key{line}={line}\n")).collect()
    }

    #[test]
    fn parsing_allocates_the_list_and_nothing_else() {
        for lines in [1, 100, 10_000] {
            let text = text(lines);
            let list_bytes = (lines * size_of::<(&str, &str)>()) as u64;
            let pairs = spanalloc::assert_usage!(
                parse(&text);
                allocs == 1, frees == 0, bytes == list_bytes,
            );
            assert_eq!(pairs.len(), lines);
        }
    }

    #[test]
    fn finding_allocates_nothing() {
        let text = text(1000);
        assert_eq!(spanalloc::assert_no_allocs!(find(&text, "key999")), Some("999"));
    }
}
