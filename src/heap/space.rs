//! The page heap with the memory for its records, under one lock.

use core::ptr::NonNull;

use super::meta::Meta;
use super::pages::{PageHeap, Slots};
use crate::sys::os::Os;

/// Address space and records.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) pages: PageHeap,
    pub(crate) meta: Meta,
}

impl Space {
    pub(crate) const fn new() -> Self {
        Self { pages: PageHeap::new(), meta: Meta::new() }
    }

    /// Takes slots; see [`PageHeap::take`].
    pub(crate) fn take(&mut self, os: &impl Os, count: usize, align: usize) -> Option<Slots> {
        self.pages.take(os, &mut self.meta, count, align)
    }

    /// Moves a record to lasting memory; see [`Meta::place`].
    pub(crate) fn place<T>(&mut self, os: &impl Os, value: T) -> Option<NonNull<T>> {
        self.meta.place(os, value)
    }
}
