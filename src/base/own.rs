//! Words with one writer.
//!
//! Most words of a thread's heap are written by that thread alone and read, now
//! and then, by a snapshot on another one. A relaxed load and a relaxed store
//! compile to plain moves, so such a word costs what a `Cell` costs, and reading
//! it from elsewhere is stale at worst, never a data race. Words that hand something over
//! are published and read, with release and acquire.
//!
//! # Invariants
//!
//! 1. At any moment one thread at most may call a method that writes (`set`,
//!    `add`, `sub`); whoever owns the surrounding structure is that thread.

use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::*};

macro_rules! own_integer {
    ($(#[$doc:meta])* $name:ident, $atomic:ty, $int:ty) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub(crate) struct $name($atomic);

        #[allow(dead_code, reason = "one macro, several widths; not each uses each verb")]
        impl $name {
            pub(crate) const fn new(value: $int) -> Self {
                Self(<$atomic>::new(value))
            }

            #[inline(always)]
            pub(crate) fn get(&self) -> $int {
                self.0.load(Relaxed)
            }

            #[inline(always)]
            pub(crate) fn set(&self, value: $int) {
                self.0.store(value, Relaxed);
            }

            /// As `set`; whoever [`read`](Self::read)s the value sees what was stored
            /// before.
            #[inline(always)]
            pub(crate) fn publish(&self, value: $int) {
                self.0.store(value, Release);
            }

            /// As `get`, and what was stored before the value was published is seen.
            #[inline(always)]
            pub(crate) fn read(&self) -> $int {
                self.0.load(Acquire)
            }

            /// Adds, wrapping.
            #[inline(always)]
            pub(crate) fn add(&self, more: $int) {
                self.set(self.get().wrapping_add(more));
            }

            /// Subtracts, wrapping.
            #[inline(always)]
            pub(crate) fn sub(&self, less: $int) {
                self.set(self.get().wrapping_sub(less));
            }
        }
    };
}

own_integer!(
    /// A byte with one writer.
    OwnU8, AtomicU8, u8
);
own_integer!(
    /// A 32-bit word with one writer.
    OwnU32, AtomicU32, u32
);
own_integer!(
    /// A 64-bit word with one writer.
    OwnU64, AtomicU64, u64
);

/// A pointer with one writer.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnPtr<T>(AtomicPtr<T>);

impl<T> OwnPtr<T> {
    pub(crate) const fn new(pointer: *mut T) -> Self {
        Self(AtomicPtr::new(pointer))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> *mut T {
        self.0.load(Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(&self, pointer: *mut T) {
        self.0.store(pointer, Relaxed);
    }

    /// As `set`; whoever [`read`](Self::read)s the pointer sees what was stored before.
    #[inline(always)]
    pub(crate) fn publish(&self, pointer: *mut T) {
        self.0.store(pointer, Release);
    }

    /// As `get`, and what was stored before the pointer was published is seen.
    #[inline(always)]
    pub(crate) fn read(&self) -> *mut T {
        self.0.load(Acquire)
    }
}
