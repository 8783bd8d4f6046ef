//! What only the collections' lock-free structures need of the switch: more atomics, a cell whose
//! accesses loom can see, and a witness of a structure's end.

#[cfg(loom)]
pub(crate) use loom::{cell::UnsafeCell, sync::atomic::AtomicBool};

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::AtomicBool;

/// `core::cell::UnsafeCell` behind loom's interface, where each access is a closure that loom can
/// bracket.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    #[inline]
    pub(crate) const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Calls `read` with a pointer through which the caller may only read.
    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Calls `write` with a pointer through which the caller, alone, may write.
    #[inline]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Lets loom find out that something was freed while, or before, a thread used it. Costs nothing
/// outside of loom.
#[derive(Debug)]
pub(crate) struct Witness(#[cfg(loom)] UnsafeCell<()>);

impl Witness {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(
            #[cfg(loom)]
            UnsafeCell::new(()),
        )
    }

    /// Its owner is in use by this thread.
    #[inline]
    pub(crate) fn used(&self) {
        #[cfg(loom)]
        self.0.with(|_| ());
    }

    /// Its owner is about to be freed: every use must have happened before.
    #[inline]
    pub(crate) fn freed(&self) {
        #[cfg(loom)]
        self.0.with_mut(|_| ());
    }
}
