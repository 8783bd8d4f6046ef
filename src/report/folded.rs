//! Folded stacks: one line per stack, frames from the root joined by `;`, a
//! blank and the value.

use std::io;
use std::sync::Arc;

use super::calls::{Call, Weight, calls, largest};
use super::whole::whole;
use crate::profile::symbols::Frame;
use crate::profile::{self, Profile};

impl Profile {
    /// Writes folded stacks, the input of `flamegraph.pl`, `inferno` and
    /// speedscope. Stacks whose value is 0 are left out, so the output of an
    /// empty profile is empty.
    ///
    /// Resolves names on the first report of a profile: that reads the files of
    /// the modules.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// # Examples
    ///
    /// ```
    /// use spanalloc::report::Weight;
    ///
    /// let mut folded = Vec::new();
    /// spanalloc::profile::capture().write_folded(Weight::InUseBytes, &mut folded)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_folded<W: io::Write>(&self, weight: Weight, out: W) -> io::Result<()> {
        profile::quietly(|| whole(out, |out| write(&calls(self), weight, out)))
    }
}

/// Writes the lines, each terminated; the largest first.
pub(crate) fn write(calls: &[Call], weight: Weight, mut out: impl io::Write) -> io::Result<()> {
    let mut line = String::new();
    for call in largest(calls, weight) {
        line.clear();
        push_stack(&mut line, &call.frames);
        writeln!(out, "{line} {}", call.value(weight))?;
    }
    Ok(())
}

/// The lines as one text.
#[cfg(any(feature = "flamegraph", test))]
pub(super) fn folded(calls: &[Call], weight: Weight) -> String {
    let mut text = Vec::new();
    // Writing to memory does not fail, and what is written is text.
    let _ = write(calls, weight, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// Appends the functions of a stack, which is leaf first, from the root on.
pub(super) fn push_stack(text: &mut String, frames: &[Arc<Frame>]) {
    for (at, frame) in frames.iter().rev().enumerate() {
        if at != 0 {
            text.push(';');
        }
        push_escaped(text, &frame.function);
    }
}

/// The format has no escape for its separator, and type names have it
/// (`[u8; 32]`): it becomes `,`. A line break would end the stack, other control characters
/// are none that a picture may have, and a number at the end would be taken for a value.
fn push_escaped(text: &mut String, function: &str) {
    let from = text.len();
    text.extend(function.chars().map(|char| match char {
        ';' => ',',
        '\n' | '\r' => ' ',
        '\u{fffe}' | '\u{ffff}' => '?',
        char if char.is_control() => '?',
        char => char,
    }));
    let Some(blank) = text[from..].rfind(' ').map(|at| from + at) else { return };
    let number = &text[blank + 1..];
    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        text.replace_range(blank..=blank, "_");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_type_names_do_not_split_frames() {
        let mut text = String::new();
        push_escaped(&mut text, "<[u8; 32] as Foo>::bar");
        assert_eq!(text, "<[u8, 32] as Foo>::bar");
        for (name, shown) in [
            ("a\nb\x1b\0", "a b??"),
            ("work 7", "work_7"),
            ("work 7b ", "work 7b "),
            ("a\n7", "a_7"),
            ("work 1.5", "work_1.5"),
            ("\u{ffff}x", "?x"),
        ] {
            text.clear();
            push_escaped(&mut text, name);
            assert_eq!(text, shown);
        }
    }

    #[test]
    fn stacks_are_written_from_the_root_and_the_largest_first() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 3, 0), (&[0x21, 2], 30, 6)]);
        let folded = |weight| folded(&calls(&profile), weight);
        assert_eq!(folded(Weight::AllocatedBytes), "0x1;0x20 300\n0x1;0x10 30\n");
        assert_eq!(folded(Weight::InUseObjects), "0x1;0x20 6\n");
    }

    #[test]
    fn stacks_of_equal_names_are_one() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 3, 3), (&[0x11, 2], 6, 0)]);
        assert_eq!(folded(&calls(&profile), Weight::AllocatedObjects), "0x1;0x10 9\n");
    }
}
