//! Which way stacks are walked, and the walk along frame pointers.
//!
//! Frame pointers cost a load or two per frame, but a plain release build keeps
//! none, and a walk then ends after one frame without saying so. So the first
//! [`TRIALS`] samples are walked both ways: only if every walk along frame
//! pointers saw what the unwind tables say is it used alone, and one sample in
//! [`RECHECK_EVERY`] is compared again from then on.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::frames::{FRAMES_MAX, Frames};
use super::unwind::{Unwinders, Unwound};
use crate::sys::stack::{self, Registers};

const TRIALS: u32 = 64;
const RECHECK_EVERY: u64 = 1024;
/// Frames at the root that the C library built without frame pointers.
const ROOT_FRAMES_WITHOUT_POINTERS: usize = 3;

/// How stacks are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Both ways: still being compared.
    Trial,
    /// By the unwind tables.
    Cfi,
    /// Along frame pointers.
    FramePointers,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Whole,
    /// [`FRAMES_MAX`] frames are kept, and there may be more.
    Truncated,
    /// A caller could not be found.
    Broken,
    /// The unwinder could not be had: what frame pointers gave is kept.
    Unavailable,
}

/// The walker of the process.
pub(super) struct Walker {
    pub(super) unwinders: Unwinders,
    /// Trials done; [`FAILED`] once one of them differed.
    trials: AtomicU32,
    walks: AtomicU64,
}

/// Value of `trials` that says: by the tables, for good.
const FAILED: u32 = u32::MAX;

impl Walker {
    pub(super) const fn new() -> Self {
        Self { unwinders: Unwinders::new(), trials: AtomicU32::new(0), walks: AtomicU64::new(0) }
    }

    pub(super) fn mode(&self) -> Mode {
        match self.trials.load(Ordering::Relaxed) {
            FAILED => Mode::Cfi,
            TRIALS.. => Mode::FramePointers,
            _ => Mode::Trial,
        }
    }

    /// Puts the callers of the calling function into `frames`, which are empty. `hint`
    /// spreads threads over unwinders.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn walk(&self, hint: usize, frames: &mut Frames) -> Ending {
        let from = Registers::here();
        let mode = self.mode();
        if mode == Mode::FramePointers
            && !self.walks.fetch_add(1, Ordering::Relaxed).is_multiple_of(RECHECK_EVERY)
        {
            along_frame_pointers(from, frames);
            return ending(frames, true);
        }
        let whole = match self.unwinders.unwind(from, hint, frames) {
            Unwound::Whole => true,
            Unwound::Broken => false,
            Unwound::Unavailable => {
                frames.clear();
                along_frame_pointers(from, frames);
                return Ending::Unavailable;
            }
        };
        if mode != Mode::Cfi {
            let mut along_pointers = Frames::new();
            along_frame_pointers(from, &mut along_pointers);
            self.judge(agree(frames, &along_pointers));
        }
        ending(frames, whole)
    }

    fn judge(&self, agreed: bool) {
        if !agreed {
            self.trials.store(FAILED, Ordering::Relaxed);
        } else {
            let next = |trials| (trials < TRIALS).then(|| trials + 1);
            let _full = self.trials.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        }
    }
}

fn ending(frames: &[u64], whole: bool) -> Ending {
    match (frames.len(), whole) {
        (FRAMES_MAX, _) => Ending::Truncated,
        (_, true) => Ending::Whole,
        (_, false) => Ending::Broken,
    }
}

/// Whether the walk along frame pointers saw the frames that the tables gave,
/// but for the C library's at the root.
fn agree(by_tables: &[u64], along_pointers: &[u64]) -> bool {
    let common = by_tables.iter().zip(along_pointers).take_while(|(a, b)| a == b).count();
    common + ROOT_FRAMES_WITHOUT_POINTERS >= by_tables.len()
        && by_tables.len() > ROOT_FRAMES_WITHOUT_POINTERS
}

/// Follows the chain of saved frame pointers: at the address the frame pointer
/// holds lie the caller's frame pointer and the return address, on both
/// architectures. Every step goes up the stack and stays on it.
#[unsafe(link_section = ".spanalloc.sample")]
fn along_frame_pointers(from: Registers, frames: &mut Frames) {
    let top = stack::top(from.sp);
    let (mut low, mut pointer) = (from.sp, from.fp);
    while pointer >= low && pointer.is_multiple_of(8) && pointer.saturating_add(16) <= top {
        // SAFETY: between the stack pointer of a caller of this function and the
        // top of its stack (invariant 1 of `sys::stack`).
        let caller = unsafe { stack::load_word(pointer + 8) } & stack::ADDRESS_MASK;
        if caller == 0 || !frames.push(caller) {
            return;
        }
        low = pointer + 16;
        // SAFETY: as above.
        pointer = unsafe { stack::load_word(pointer) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_must_see_what_the_tables_say() {
        let stack = [1, 2, 3, 4, 5, 6, 7];
        assert!(agree(&stack, &stack));
        assert!(agree(&stack, &[1, 2, 3, 4]));
        assert!(agree(&stack, &[1, 2, 3, 4, 99]));
        assert!(!agree(&stack, &[1, 2, 3]));
        assert!(!agree(&stack, &[1, 9, 3, 4, 5, 6, 7]));
        assert!(!agree(&[1, 2], &[1, 2]));
    }

    #[test]
    fn one_disagreement_settles_on_the_tables() {
        let walker = Walker::new();
        for _ in 0..TRIALS - 1 {
            walker.judge(true);
        }
        assert_eq!(walker.mode(), Mode::Trial);
        walker.judge(true);
        assert_eq!(walker.mode(), Mode::FramePointers);
        walker.judge(true);
        assert_eq!(walker.mode(), Mode::FramePointers);
        walker.judge(false);
        assert_eq!(walker.mode(), Mode::Cfi);
        walker.judge(true);
        assert_eq!(walker.mode(), Mode::Cfi);
    }

    #[test]
    fn without_unwinders_says_so() {
        assert_eq!(Walker::new().walk(0, &mut Frames::new()), Ending::Unavailable);
    }

    #[inline(never)]
    fn descend(depth: usize, walker: &Walker) -> (Ending, usize) {
        let walked = if depth == 0 {
            let mut frames = Frames::new();
            (walker.walk(0, &mut frames), frames.len())
        } else {
            descend(depth - 1, walker)
        };
        std::hint::black_box(walked)
    }

    #[test]
    fn the_tables_find_every_frame() {
        let walker = Walker::new();
        walker.unwinders.load();
        let (few, many) = (descend(10, &walker), descend(50, &walker));
        assert_eq!((few.0, many.0), (Ending::Whole, Ending::Whole));
        assert_eq!(many.1 - few.1, 40);
        let deepest = descend(200, &walker);
        assert_eq!(deepest, (Ending::Truncated, FRAMES_MAX));
    }

    /// A function of its own for each type, which calls the next one.
    trait Calls {
        const DEPTH: usize;
        fn call(walker: &Walker) -> Ending;
    }

    impl Calls for () {
        const DEPTH: usize = 0;
        fn call(walker: &Walker) -> Ending {
            walker.walk(0, &mut Frames::new())
        }
    }

    struct Next<T>(T);
    impl<T: Calls> Calls for Next<T> {
        const DEPTH: usize = T::DEPTH + 1;
        #[inline(never)]
        fn call(walker: &Walker) -> Ending {
            std::hint::black_box(Self::DEPTH);
            std::hint::black_box(T::call(walker))
        }
    }

    type Four<T> = Next<Next<Next<Next<T>>>>;
    type Sixteen<T> = Four<Four<Four<Four<T>>>>;

    /// Of 64 frames some share a place in a cache: with one cache, several rules would be
    /// read anew at each walk.
    #[test]
    fn rules_are_read_once() {
        let walker = Walker::new();
        walker.unwinders.load();
        let misses = [(); 60].map(|()| {
            let ending = <Sixteen<Sixteen<Sixteen<Sixteen<()>>>>>::call(&walker);
            assert_eq!(ending, Ending::Whole);
            walker.unwinders.misses()
        });
        assert!(misses[0] >= 64, "{misses:?}");
        // A few that share the place and the bit that says which cache are possible: where code
        // lies decides. In one cache of 509 places four pairs of 64 would meet, with two misses
        // each.
        assert!(misses[59] - misses[39] <= 80, "{misses:?}");
    }
}
