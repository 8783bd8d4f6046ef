//! Guards that keep their pool alive instead of borrowing it.
//!
//! # Invariants
//!
//! 1. A guard's `value` is there until the guard is dropped or taken apart.

use super::core::Core;
use super::reset::Reset;
use super::slice::SlicePool;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A value on loan from a [`Pool`](super::Pool), without a borrow of it: see
/// [`Pool::get_owned`](super::Pool::get_owned).
///
/// It goes back as that of a [`PoolGuard`](super::PoolGuard) does. What is inside the pool lives as
/// long as the pool or one of these guards.
pub struct OwnedPoolGuard<T: Reset + Send + 'static> {
    core: Arc<Core<Box<T>>>,
    value: Option<Box<T>>,
}

/// A vector on loan from a [`SlicePool`], without a borrow of it: see [`SlicePool::get_owned`].
/// Cleared and given back, or discarded, when dropped.
pub struct OwnedSliceGuard<T: Send + 'static> {
    pool: Arc<SlicePool<T>>,
    value: Option<Vec<T>>,
}

impl<T: Reset + Send + 'static> OwnedPoolGuard<T> {
    #[inline]
    pub(super) fn new(core: Arc<Core<Box<T>>>, value: Box<T>) -> Self {
        Self { core, value: Some(value) }
    }

    /// Keeps the value: it does not go back to the pool.
    #[must_use]
    pub fn detach(mut this: Self) -> Box<T> {
        this.value.take().expect(THERE)
    }
}

impl<T: Send + 'static> OwnedSliceGuard<T> {
    #[inline]
    pub(super) fn new(pool: Arc<SlicePool<T>>, value: Vec<T>) -> Self {
        Self { pool, value: Some(value) }
    }

    /// Keeps the vector: it does not go back to the pool.
    #[must_use]
    pub fn detach(mut this: Self) -> Vec<T> {
        this.value.take().expect(THERE)
    }
}

/// By invariant 1.
const THERE: &str = "a guard has its value until its end";

impl<T: Reset + Send + 'static> Drop for OwnedPoolGuard<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.core.put_reset(value);
        }
    }
}

impl<T: Send + 'static> Drop for OwnedSliceGuard<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.pool.put(value);
        }
    }
}

/// What a guard leads to.
macro_rules! deref {
    ($guard:ident<T: $($bound:ident)+>, $target:ty) => {
        impl<T: $($bound +)+ 'static> Deref for $guard<T> {
            type Target = $target;

            #[inline]
            fn deref(&self) -> &$target {
                self.value.as_ref().expect(THERE)
            }
        }

        impl<T: $($bound +)+ 'static> DerefMut for $guard<T> {
            #[inline]
            fn deref_mut(&mut self) -> &mut $target {
                self.value.as_mut().expect(THERE)
            }
        }

        impl<T: $($bound +)+ fmt::Debug + 'static> fmt::Debug for $guard<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    };
}

deref!(OwnedPoolGuard<T: Reset Send>, T);
deref!(OwnedSliceGuard<T: Send>, Vec<T>);
