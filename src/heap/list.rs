//! Doubly linked lists of spans through their cold headers.
//!
//! # Invariants
//!
//! 1. A span is on one list at most, and who holds the list's lock alone uses its links: that of
//!    the heap's depot, or the central one.
//! 2. `head` and `tail` are both null or both the ends of one chain.

use core::ptr;

use super::span::{Hot, Span};
use crate::base::own::OwnPtr;

/// A list of spans.
#[derive(Debug)]
pub(crate) struct SpanList {
    head: OwnPtr<Hot>,
    tail: OwnPtr<Hot>,
}

impl SpanList {
    pub(crate) const fn new() -> Self {
        Self { head: OwnPtr::new(ptr::null_mut()), tail: OwnPtr::new(ptr::null_mut()) }
    }

    #[inline]
    pub(crate) fn first(&self) -> Option<Span> {
        Span::from_link(self.head.get())
    }

    /// Whether no span is on the list: true moments ago, unless the list's lock is held.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    /// Adds `span`, which is on no list, at the end.
    pub(crate) fn append(&self, span: Span) {
        let cold = span.cold();
        cold.next.set(ptr::null_mut());
        cold.previous.set(self.tail.get());
        match Span::from_link(self.tail.get()) {
            Some(tail) => tail.cold().next.set(span.link()),
            None => self.head.set(span.link()),
        }
        self.tail.set(span.link());
    }

    /// Takes `span`, which is on this list, out.
    pub(crate) fn remove(&self, span: Span) {
        let cold = span.cold();
        match Span::from_link(cold.previous.get()) {
            Some(previous) => previous.cold().next.set(cold.next.get()),
            None => self.head.set(cold.next.get()),
        }
        match Span::from_link(cold.next.get()) {
            Some(next) => next.cold().previous.set(cold.previous.get()),
            None => self.tail.set(cold.previous.get()),
        }
    }

    /// Takes the first span out.
    pub(crate) fn pop(&self) -> Option<Span> {
        let span = self.first()?;
        self.remove(span);
        Some(span)
    }
}
