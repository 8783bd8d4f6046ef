//! Blocks that other threads freed: one word per span.
//!
//! A thread that frees blocks of a span it does not own gathers them in [`bundle`](super::bundle)s
//! and pushes these here with one compare-and-swap. The word packs
//!
//! | bits | field | meaning |
//! | --- | --- | --- |
//! | 0–15 | head | first block of the newest bundle, by its short address; 0 for none |
//! | 16–31 | count | blocks in the bundles |
//! | 32–47 | notify | the count at which the owner wants to hear of it |
//! | 48 | posted | a message about this span is on its way, or in a mailbox |
//! | 49 | abandoned | no thread owns the span; the central lists do |
//!
//! so that a push, its count, the wish to be told and the state of the owner are
//! one atomic fact.
//!
//! # Invariants
//!
//! 1. The blocks belong to the span, are free, and number `count`.
//! 2. *posted* is a token: the push that sets it has one message to deliver, and
//!    only who handles that message clears it. While it is set the span's header is
//!    not given back, so the message stays valid.
//! 3. *abandoned* changes only under the lock of the central lists.
//!
//! # Orderings
//!
//! A push releases what its bundles list, [`take`](Remote::take) acquires it.
//! Delivering a message is ordered by the mailbox or by the central lock.

use crate::base::sync::{AtomicU64, Ordering::*};

const COUNT_SHIFT: u32 = 16;
const NOTIFY_SHIFT: u32 = 32;
const FIELD: u64 = 0xffff;
const POSTED: u64 = 1 << 48;
const ABANDONED: u64 = 1 << 49;

/// A notify count that no span reaches.
pub(crate) const NEVER: u32 = FIELD as u32;

/// Who is to hear of a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tell {
    Nobody,
    /// The span's owner: the caller has a message to deliver.
    Owner,
    /// The scavenger: it asked to be told again of a span whose message waits in a mailbox.
    Scavenger,
}

/// The word's fields, unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct View(u64);

impl View {
    /// First block of the newest bundle, or 0.
    #[inline]
    pub(crate) fn head(self) -> u32 {
        (self.0 & FIELD) as u32
    }

    #[inline]
    pub(crate) fn count(self) -> u32 {
        (self.0 >> COUNT_SHIFT & FIELD) as u32
    }

    #[inline]
    pub(super) fn notify(self) -> u32 {
        (self.0 >> NOTIFY_SHIFT & FIELD) as u32
    }

    #[inline]
    pub(crate) fn posted(self) -> bool {
        self.0 & POSTED != 0
    }

    #[inline]
    pub(crate) fn abandoned(self) -> bool {
        self.0 & ABANDONED != 0
    }

    fn with_notify(self, notify: u32) -> Self {
        let notify = u64::from(notify.min(NEVER));
        Self(self.0 & !(FIELD << NOTIFY_SHIFT) | notify << NOTIFY_SHIFT)
    }
}

/// The word.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Remote(AtomicU64);

impl Remote {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(u64::from(NEVER) << NOTIFY_SHIFT))
    }

    /// No blocks, nobody to tell, owned.
    pub(crate) fn reset(&self) {
        self.0.store(u64::from(NEVER) << NOTIFY_SHIFT, Relaxed);
    }

    /// Acquire: what is seen to be free may be reused, and a home that was set
    /// before *abandoned* was cleared is seen with it.
    #[inline]
    pub(crate) fn view(&self) -> View {
        View(self.0.load(Acquire))
    }

    /// Whether the span is somebody's, and that one's by `is_home`: asked in this order, for who
    /// adopts a span sets its home first, and then that it is not abandoned.
    #[inline]
    pub(crate) fn is_owned_where(&self, is_home: impl FnOnce() -> bool) -> bool {
        !self.view().abandoned() && is_home()
    }

    /// Puts bundles with `blocks` blocks in front, the newest of which begins with `head`. `link`
    /// is called, maybe more than once, with the head that the oldest of them must point to.
    #[inline]
    pub(crate) fn push(&self, head: u32, blocks: u32, mut link: impl FnMut(u32)) -> Tell {
        let mut old = self.0.load(Relaxed);
        loop {
            let view = View(old);
            link(view.head());
            let count = view.count() + blocks;
            let mut new = old & !(FIELD | FIELD << COUNT_SHIFT)
                | u64::from(head)
                | u64::from(count) << COUNT_SHIFT;
            let tell = match (count >= view.notify(), view.posted()) {
                (false, _) => Tell::Nobody,
                (true, false) => Tell::Owner,
                (true, true) if view.count() < view.notify() => Tell::Scavenger,
                (true, true) => Tell::Nobody,
            };
            if tell == Tell::Owner {
                new |= POSTED;
            }
            match self.0.compare_exchange_weak(old, new, Release, Relaxed) {
                Ok(_) => return tell,
                Err(now) => old = now,
            }
        }
    }

    /// Takes the bundles, leaving the flags and the notify count.
    #[inline]
    pub(crate) fn take(&self) -> View {
        self.update(|view| View(view.0 & !(FIELD | FIELD << COUNT_SHIFT)))
    }

    /// Asks to be told when the count reaches `notify`; with `mail`, handles the message whose
    /// token the caller has. `false` if the count is there already and nobody was told of it: then
    /// the caller looks again.
    #[inline]
    #[must_use]
    pub(crate) fn ask(&self, notify: u32, mail: bool) -> bool {
        let before = if mail { self.acknowledge(notify) } else { self.set_notify(notify) };
        before.count() < notify || before.posted() && !mail
    }

    /// All blocks of the span are free, so nobody pushes any more. Handles the caller's message, if
    /// it has one; `false` while another one is on its way, and who handles that ends the span.
    #[inline]
    #[must_use]
    pub(crate) fn is_settled(&self, mail: bool) -> bool {
        if mail {
            self.acknowledge(NEVER);
        }
        !self.view().posted()
    }

    /// Asks to be told when the count reaches `notify`. Returns what was there.
    #[inline]
    pub(crate) fn set_notify(&self, notify: u32) -> View {
        self.update(|view| view.with_notify(notify))
    }

    /// The message is handled: clears *posted*, asks to be told again at `notify`.
    pub(crate) fn acknowledge(&self, notify: u32) -> View {
        self.update(|view| View(view.with_notify(notify).0 & !POSTED))
    }

    /// The message stays, or there is one from here on, and its token is the caller's unless there
    /// was one: the scavenger is told at `notify`.
    pub(crate) fn keep_posted(&self, notify: u32) -> View {
        self.update(|view| View(view.with_notify(notify).0 | POSTED))
    }

    /// Under the central lock: nobody owns the span any more.
    pub(crate) fn abandon(&self, notify: u32) -> View {
        self.update(|view| View(view.with_notify(notify).0 | ABANDONED))
    }

    /// Under the central lock: the caller owns the span.
    pub(crate) fn adopt(&self) -> View {
        self.update(|view| View(view.with_notify(NEVER).0 & !ABANDONED))
    }

    #[inline]
    fn update(&self, change: impl Fn(View) -> View) -> View {
        let mut old = self.0.load(Relaxed);
        loop {
            let new = change(View(old)).0;
            // Acquire: pairs with the release of `push`.
            match self.0.compare_exchange_weak(old, new, AcqRel, Relaxed) {
                Ok(_) => return View(old),
                Err(now) => old = now,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_push_that_reaches_the_count_posts_once() {
        let remote = Remote::new();
        assert_eq!(remote.set_notify(3).count(), 0);
        assert_eq!(remote.push(7, 2, |head| assert_eq!(head, 0)), Tell::Nobody);
        assert_eq!(remote.push(9, 1, |head| assert_eq!(head, 7)), Tell::Owner);
        assert_eq!(remote.push(1, 1, |head| assert_eq!(head, 9)), Tell::Nobody);
        let before = remote.acknowledge(9);
        assert!(before.posted() && before.count() == 4);
        let taken = remote.take();
        assert_eq!((taken.head(), taken.count(), taken.posted()), (1, 4, false));
        assert_eq!(remote.view().count(), 0);
        assert_eq!(remote.push(5, 8, |head| assert_eq!(head, 0)), Tell::Nobody);
        assert_eq!(remote.push(6, 1, |_| ()), Tell::Owner, "the new notify count is in force");
    }

    #[test]
    fn who_kept_a_message_is_told_once_when_the_count_is_reached() {
        let remote = Remote::new();
        assert!(!remote.keep_posted(3).posted(), "the token is the caller's");
        assert_eq!(remote.push(7, 2, |_| ()), Tell::Nobody);
        assert_eq!(remote.push(9, 2, |_| ()), Tell::Scavenger);
        assert_eq!(remote.push(1, 1, |_| ()), Tell::Nobody);
        assert!(remote.keep_posted(6).posted(), "somebody has the token");
        assert_eq!(remote.push(2, 1, |_| ()), Tell::Scavenger);
        assert_eq!(remote.acknowledge(7).count(), 6);
        assert_eq!(remote.push(3, 1, |_| ()), Tell::Owner);
    }

    #[test]
    fn abandoning_keeps_the_blocks() {
        let remote = Remote::new();
        remote.push(3, 5, |_| ());
        assert_eq!(remote.abandon(6).count(), 5);
        assert!(remote.view().abandoned());
        assert_eq!(remote.push(4, 1, |_| ()), Tell::Owner);
        let before = remote.adopt();
        assert!(before.abandoned() && before.posted() && before.count() == 6);
        assert!(!remote.view().abandoned() && remote.view().posted());
    }
}
