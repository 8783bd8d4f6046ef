//! Messages to the owner of spans: "enough has been freed here by others".
//!
//! A stack of spans, pushed by any thread and drained whole by the owner, or by the scavenger for
//! an owner that sleeps. There is
//! no pop of a single item, hence no ABA problem. A thread that ends closes its
//! mailbox; who then finds it closed handles the message itself.
//!
//! # Invariants
//!
//! 1. An item is in one mailbox at most, once at most (the *posted* token of
//!    [`remote`](super::remote)), so its link has one user.
//!
//! # Orderings
//!
//! A push releases, drain and close acquire: the owner sees all that the sender
//! did to the span before. Finding a mailbox closed acquires what its owner did
//! before closing it.

use core::ptr;

use crate::base::sync::{AtomicPtr, Ordering::*};

/// Something that can be mailed.
pub(crate) trait Mail: Sized {
    /// The item's link, used while it is in a mailbox and by no one else.
    fn link(item: *mut Self) -> *const AtomicPtr<Self>;
}

/// The mailbox.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Mailbox<T>(AtomicPtr<T>);

/// The mailbox is closed; the message is still the sender's.
#[derive(Debug)]
pub(crate) struct Closed;

const CLOSED_ADDRESS: usize = 1;

impl<T: Mail> Mailbox<T> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// One relaxed load; may miss what is being pushed right now.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        !self.0.load(Relaxed).is_null()
    }

    /// Adds `item`, whose token the caller holds.
    ///
    /// # Safety
    ///
    /// `item` is live and stays so until it is drained.
    pub(crate) unsafe fn push(&self, item: *mut T) -> Result<(), Closed> {
        let mut head = self.0.load(Acquire);
        loop {
            if head.addr() == CLOSED_ADDRESS {
                return Err(Closed);
            }
            // SAFETY: by the contract the item is live, and by invariant 1 its
            // link is the caller's.
            unsafe { &*T::link(item) }.store(head, Relaxed);
            match self.0.compare_exchange_weak(head, item, AcqRel, Acquire) {
                Ok(_) => return Ok(()),
                Err(now) => head = now,
            }
        }
    }

    /// Takes everything and hands it over, newest first.
    pub(crate) fn drain(&self, handle: impl FnMut(*mut T)) {
        self.replace(ptr::null_mut(), handle);
    }

    /// Takes everything for the last time; pushes fail from here on.
    pub(crate) fn close(&self, handle: impl FnMut(*mut T)) {
        self.replace(ptr::without_provenance_mut(CLOSED_ADDRESS), handle);
    }

    /// Opens a closed mailbox for its next owner.
    pub(crate) fn open(&self) {
        self.0.store(ptr::null_mut(), Release);
    }

    fn replace(&self, with: *mut T, mut handle: impl FnMut(*mut T)) {
        let mut item = self.0.swap(with, AcqRel);
        while !item.is_null() && item.addr() != CLOSED_ADDRESS {
            // SAFETY: by the contract of `push` the item is live, and the link is
            // read before the item is handled, after which it may be reused.
            let next = unsafe { &*T::link(item) }.load(Relaxed);
            handle(item);
            item = next;
        }
    }
}
