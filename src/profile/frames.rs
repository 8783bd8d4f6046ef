//! Return addresses on their way from a stack to the site table.
//!
//! Lies on the stack of whoever samples and is not cleared before use: clearing a
//! kilobyte would cost more than walking a few frames.
//!
//! # Invariants
//!
//! 1. The first `len` words are initialized, and `len <= FRAMES_MAX`.

use core::mem::MaybeUninit;
use core::slice;

/// Frames kept of a stack, counted from the leaf.
pub(crate) const FRAMES_MAX: usize = 128;

/// Return addresses, leaf first.
pub(super) struct Frames {
    words: [MaybeUninit<u64>; FRAMES_MAX],
    len: usize,
}

impl Frames {
    pub(super) const fn new() -> Self {
        Self { words: [const { MaybeUninit::uninit() }; FRAMES_MAX], len: 0 }
    }

    /// Appends a frame; `false`, with nothing changed, when there is no room.
    #[inline]
    #[must_use]
    pub(super) fn push(&mut self, frame: u64) -> bool {
        let Some(word) = self.words.get_mut(self.len) else { return false };
        word.write(frame);
        self.len += 1;
        true
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }
}

impl core::ops::Deref for Frames {
    type Target = [u64];

    #[inline]
    fn deref(&self) -> &[u64] {
        // SAFETY: invariant 1.
        unsafe { slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_pushed_until_it_is_full() {
        let mut frames = Frames::new();
        assert!((0..FRAMES_MAX as u64).all(|frame| frames.push(frame)));
        assert!(!frames.push(7));
        assert_eq!((frames.len(), frames[FRAMES_MAX - 1]), (FRAMES_MAX, FRAMES_MAX as u64 - 1));
        frames.clear();
        assert!(frames.is_empty() && frames.push(9));
        assert_eq!(*frames, [9]);
    }
}
