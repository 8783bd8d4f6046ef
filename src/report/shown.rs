//! The frames of a stack that a text shows, one a line; the rest is counted.
//!
//! In a build without optimization most of a stack is the standard library's: it takes nine
//! calls from `to_string` to the allocator, and as many more through an iterator. So frames
//! at the leaf are left out as far as those would not be seen that the program's author wrote.

use std::fmt;
use std::sync::Arc;

use super::standard::is_standard;
use crate::profile::symbols::Frame;

/// Frames shown of a stack.
const SHOWN: usize = 8;
/// As many of them are the outermost from the program's first on, if there are so many.
const OWN: usize = 4;

/// Writes the lines of a stack, which is leaf first.
pub(super) fn write_frames(f: &mut fmt::Formatter<'_>, frames: &[Arc<Frame>]) -> fmt::Result {
    let inside = inside(frames);
    if inside > 0 {
        writeln!(f, "{:15}… {inside} more of the standard library", "")?;
    }
    for frame in frames.iter().skip(inside).take(SHOWN) {
        writeln!(f, "{:15}{frame}", "")?;
    }
    match frames.len().saturating_sub(inside + SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "{:15}… {more} more", ""),
    }
}

/// How many frames at the leaf are left out.
fn inside(frames: &[Arc<Frame>]) -> usize {
    let own = frames.iter().position(|frame| !is_standard(frame));
    own.map_or(0, |own| (own + OWN).min(frames.len()).saturating_sub(SHOWN))
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

    /// Of a stack of so many frames of the standard library below so many of the program's.
    fn lines(standard: usize, own: usize) -> Vec<String> {
        let frame = |function: String, file: &str| {
            Arc::new(Frame { function: function.into(), file: Some(file.into()), line: Some(1) })
        };
        let library = (0..standard).map(|at| frame(format!("s{at}"), "/rustc/1/library/a.rs"));
        let program = (0..own).map(|at| frame(format!("p{at}"), "src/a.rs"));
        let text = Shown(library.chain(program).collect()).to_string();
        text.lines().map(|line| line.trim().split(" (").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_programs_first_frames_are_seen() {
        assert_eq!(lines(2, 3), ["s0", "s1", "p0", "p1", "p2"]);
        let eight = ["s0", "s1", "s2", "s3", "p0", "p1", "p2", "p3"];
        assert_eq!(lines(4, 4), eight);
        assert_eq!(lines(4, 6), [&eight[..], &["… 2 more"]].concat());
        let all = lines(20, 9);
        assert_eq!(all[0], "… 16 more of the standard library");
        assert_eq!(all[1..9], ["s16", "s17", "s18", "s19", "p0", "p1", "p2", "p3"]);
        assert_eq!(all[9..], ["… 5 more"]);
        // The program's last frame is the root's.
        let all = lines(9, 1);
        assert_eq!(all[0], "… 2 more of the standard library");
        assert_eq!(all[1..], ["s2", "s3", "s4", "s5", "s6", "s7", "s8", "p0"]);
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
        let all = lines(11, 0);
        assert_eq!((all[0].as_str(), all[8].as_str(), all.len()), ("s0", "… 3 more", 9));
    }
}
