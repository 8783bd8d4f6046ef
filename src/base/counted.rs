//! Counts with their nouns, as texts have them.

use core::fmt;

/// So many of them: `1 box`, `2 boxes`. For reports: nothing inside an allocation formats.
pub(crate) fn counted(
    count: u64,
    one: &'static str,
    many: &'static str,
) -> impl fmt::Display + use<> {
    fmt::from_fn(move |f| {
        fmt::Display::fmt(&count, f)?;
        f.write_str(" ")?;
        f.write_str(if count == 1 { one } else { many })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let text = |count| counted(count, "box", "boxes").to_string();
        assert_eq!([text(0), text(1), text(2)], ["0 boxes", "1 box", "2 boxes"]);
    }
}
