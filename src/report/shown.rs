//! The frames of a stack that a text shows, one a line; the rest is counted.
//!
//! Most of a stack is the standard library's, in a build without optimization and wherever
//! iterators are: it takes nine calls from `to_string` to the allocator, and six from `collect`
//! to a closure of the program's. So each run of such frames is one line, but for what allocates
//! and what the program called for it; and names leave out what they repeat of types.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::standard::is_standard;
use crate::profile::symbols::Frame;

/// Frames shown of a stack.
const SHOWN: usize = 8;
/// As many of them are the program's, if there are so many, or more are shown.
const OWN: usize = 4;
/// Bytes of a name beyond which it is shortened.
const NAME_BYTES: usize = 100;
/// Lists of generic arguments within one another that a shortened name still has.
const NESTED: usize = 2;

/// Writes the lines of a stack, which is leaf first.
pub(super) fn write_frames(f: &mut fmt::Formatter<'_>, frames: &[Arc<Frame>]) -> fmt::Result {
    let own_least = frames.iter().filter(|frame| !is_standard(frame)).count().min(OWN);
    let (mut at, mut shown, mut own) = (0, 0, 0);
    while at < frames.len() && (shown < SHOWN || own < own_least) {
        match folded(frames, at) {
            0 => {
                let frame = &frames[at];
                writeln!(f, "{:15}{}", "", frame.called(&shortened(&frame.function)))?;
                own += usize::from(!is_standard(frame));
                (at, shown) = (at + 1, shown + 1);
            }
            folded => {
                writeln!(f, "{:15}… {folded} of the standard library", "")?;
                at += folded;
            }
        }
    }
    match frames.len() - at {
        0 => Ok(()),
        more => writeln!(f, "{:15}… {more} more", ""),
    }
}

/// How many frames from there on are one line.
fn folded(frames: &[Arc<Frame>], at: usize) -> usize {
    let run = frames[at..].iter().take_while(|frame| is_standard(frame)).count();
    let is_first = frames[..at].iter().all(|frame| is_standard(frame));
    let folded = match at {
        // What allocates.
        0 => 0,
        _ if is_first && at + run == frames.len() => 0,
        // The last one is what the program called.
        _ if is_first => run.saturating_sub(1),
        _ => run,
    };
    // A line about one frame is no shorter than one with it.
    if folded > 1 { folded } else { 0 }
}

/// A name without the innermost lists of generic arguments, as many as it takes, if it is long.
fn shortened(name: &str) -> Cow<'_, str> {
    let mut short = Cow::Borrowed(name);
    for nested in (0..=NESTED).rev() {
        if short.len() <= NAME_BYTES {
            break;
        }
        match without_arguments(name, nested) {
            Some(text) => short = text.into(),
            None => break,
        }
    }
    short
}

/// A name with `…` for the generic arguments that are in more than so many lists of such; none
/// where brackets do not match, as in `operator<`.
fn without_arguments(name: &str, nested: usize) -> Option<String> {
    let mut text = String::new();
    // Of each bracket that is open, whether it holds arguments, and no implementation's type.
    let mut open = Vec::new();
    let is_left_out = |open: &[bool]| open.iter().filter(|arguments| **arguments).count() > nested;
    let mut last = ' ';
    for sign in name.chars() {
        let was_left_out = is_left_out(&open);
        match sign {
            '<' => open.push(last.is_alphanumeric() || ['_', ':', '}'].contains(&last)),
            // Not that of `fn() -> T`.
            '>' if last != '-' => drop(open.pop()?),
            _ => {}
        }
        let is_left_out = is_left_out(&open);
        if !was_left_out || !is_left_out {
            text.push(sign);
        }
        if is_left_out && !was_left_out {
            text.push('…');
        }
        last = sign;
    }
    open.is_empty().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shown(Vec<Arc<Frame>>);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_frames(f, &self.0)
        }
    }

    /// Of a stack of frames of the standard library, `s`, and of the program's, `p`.
    fn lines(stack: &str) -> Vec<String> {
        let frame = |(at, kind): (usize, char)| {
            let file = if kind == 's' { "/rustc/1/library/a.rs" } else { "src/a.rs" };
            let function = format!("{kind}{at}").into();
            Arc::new(Frame { function, file: Some(file.into()), line: Some(1) })
        };
        let text = Shown(stack.chars().enumerate().map(frame).collect()).to_string();
        text.lines().map(|line| line.trim().split(" (").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_programs_frames_are_seen_and_runs_of_others_folded() {
        assert_eq!(lines("sspp"), ["s0", "s1", "p2", "p3"]);
        assert_eq!(lines("ssspp"), ["s0", "s1", "s2", "p3", "p4"]);
        let all = lines("sssssssssp");
        assert_eq!(all, ["s0", "… 7 of the standard library", "s8", "p9"]);
        // A closure of the program's, in an iterator.
        let all = lines("spsssssssspp");
        assert_eq!(all, ["s0", "p1", "… 8 of the standard library", "p10", "p11"]);
        assert_eq!(lines("pspss"), ["p0", "s1", "p2", "… 2 of the standard library"]);
    }

    #[test]
    fn of_a_deep_stack_the_rest_is_counted() {
        let all = lines(&["ssss", &"p".repeat(9)].concat());
        assert_eq!(all[..4], ["s0", "… 2 of the standard library", "s3", "p4"]);
        assert_eq!(all[8..], ["p9", "… 3 more"]);
        // At least four of the program's.
        let all = lines(&["ss", &"sp".repeat(9)].concat());
        assert_eq!(all[..4], ["s0", "s1", "s2", "p3"]);
        assert_eq!(all[7..], ["p7", "s8", "p9", "… 10 more"].map(str::to_owned)[..]);
    }

    #[test]
    fn long_names_are_cut_where_they_repeat_types() {
        let name = "<alloc::vec::Vec<alloc::boxed::Box<[u8; 64]>> as \
            alloc::vec::spec_from_iter::SpecFromIter<alloc::boxed::Box<[u8; 64]>, \
            core::iter::adapters::map::Map<core::ops::range::Range<usize>, \
            api::main::{closure#0}>>>::from_iter";
        let short =
            "<alloc::vec::Vec<…> as alloc::vec::spec_from_iter::SpecFromIter<…>>::from_iter";
        assert_eq!(shortened(name), short);
        let short = "<api::Table<alloc::string::String, api::Row<…>>>::insert";
        let name =
            format!("<api::Table<alloc::string::String, api::Row<{}>>>::insert", "u8, ".repeat(30));
        assert_eq!(shortened(&name), short);
        let name = format!("api::run::<fn() -> alloc::vec::Vec<u8>, {}>", "u8, ".repeat(30));
        assert_eq!(shortened(&name), "api::run::<…>");
        for name in ["core::ptr::drop_in_place::<api::Row<u8, u8, u8>>", &"operator<".repeat(20)] {
            assert_eq!(shortened(name), name);
        }
    }

    #[test]
    fn control_characters_of_a_binary_do_not_reach_the_terminal() {
        let frame = |function: &str, file: &str| {
            Arc::new(Frame { function: function.into(), file: Some(file.into()), line: Some(1) })
        };
        let frames = vec![frame("a\x1b[31m\nb", "src/\r\u{9b}é.rs")];
        let text = Shown(frames).to_string();
        assert_eq!(text.trim(), "a\\u{1b}[31m\\nb (src/\\r\\u{9b}é.rs:1)");
    }

    #[test]
    fn a_stack_without_a_frame_of_the_programs_is_shown_from_the_leaf() {
        let all = lines("sssssssssss");
        assert_eq!((all[0].as_str(), all[8].as_str(), all.len()), ("s0", "… 3 more", 9));
    }
}
