//! Folded stacks: one line per stack, frames from the root joined by `;`, a
//! blank and the value.

use std::io;

use super::calls::{Weight, calls};
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
    pub fn write_folded<W: io::Write>(&self, weight: Weight, mut out: W) -> io::Result<()> {
        profile::quietly(|| out.write_all(folded(self, weight).as_bytes()))
    }
}

/// The lines, each terminated; the largest first.
pub(super) fn folded(profile: &Profile, weight: Weight) -> String {
    let mut text = String::new();
    for call in calls(profile, weight) {
        let value = call.value(weight);
        if value == 0 {
            break;
        }
        push_stack(&mut text, &call.frames);
        text.push_str(&format!(" {value}\n"));
    }
    text
}

/// Appends the functions of a stack, which is leaf first, from the root on.
pub(super) fn push_stack(text: &mut String, frames: &[Frame]) {
    for (at, frame) in frames.iter().rev().enumerate() {
        if at != 0 {
            text.push(';');
        }
        push_escaped(text, &frame.function);
    }
}

/// The format has no escape for its separator, and type names have it
/// (`[u8; 32]`): it becomes `,`. A line break would end the stack.
fn push_escaped(text: &mut String, function: &str) {
    text.extend(function.chars().map(|char| match char {
        ';' => ',',
        '\n' | '\r' => ' ',
        char => char,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_type_names_do_not_split_frames() {
        let mut text = String::new();
        push_escaped(&mut text, "<[u8; 32] as Foo>::bar");
        assert_eq!(text, "<[u8, 32] as Foo>::bar");
    }

    #[test]
    fn stacks_are_written_from_the_root_and_the_largest_first() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 3, 0), (&[0x21, 2], 30, 6)]);
        assert_eq!(folded(&profile, Weight::AllocatedBytes), "0x1;0x20 300\n0x1;0x10 30\n");
        assert_eq!(folded(&profile, Weight::InUseObjects), "0x1;0x20 6\n");
    }

    #[test]
    fn stacks_of_equal_names_are_one() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 3, 3), (&[0x11, 2], 6, 0)]);
        assert_eq!(folded(&profile, Weight::AllocatedObjects), "0x1;0x10 9\n");
    }
}
