//! What makes a used value as good as new.

use crate::collections::arena::Arena;
use crate::collections::map::{HandleMap, Lazy, Map};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::ops::{Deref, DerefMut};

/// Brings a value back to its initial state and keeps its memory.
///
/// A pool's guard calls [`reset`](Reset::reset) when it is dropped, before the value becomes
/// available to others. If `reset` panics, the value is dropped instead of reused; so it is when
/// [`keep`](Reset::keep) then says that it is not worth keeping.
///
/// The collections of the standard library and the maps of this one clear themselves and keep their
/// capacity (a `BTreeMap` or `BTreeSet` has none to keep), whatever it is; an arena keeps its
/// largest chunk; an array, a slice and a tuple of up to six reset each element, and are kept if
/// each is; an `Option` becomes `None`.
///
/// ```
/// use spanalloc::pool::{Pool, Reset};
///
/// #[derive(Default)]
/// struct Request {
///     path: String,
///     parts: Vec<u32>,
/// }
///
/// impl Reset for Request {
///     fn reset(&mut self) {
///         self.path.reset();
///         self.parts.reset();
///     }
/// }
///
/// let pool: Pool<Request> = Pool::new(Request::default);
/// pool.get().path.push_str("/index");
/// assert_eq!(pool.get().path, "");
/// ```
#[diagnostic::on_unimplemented(
    message = "a pool cannot bring `{Self}` back to its initial state",
    label = "does not implement `Reset`",
    note = "implement `Reset` for it, or wrap it in `Keep` to reuse it as it was left"
)]
pub trait Reset {
    /// Brings `self` back to its initial state.
    fn reset(&mut self);

    /// Whether `self` is worth keeping, asked after each [`reset`](Reset::reset). What is not is
    /// dropped, and if it was a [`Pool`](super::Pool)'s, counted by
    /// [`PoolStats::discards`](super::PoolStats::discards). So one unusual job does not leave its
    /// memory with every later one:
    ///
    /// ```
    /// use spanalloc::pool::{Pool, Reset};
    ///
    /// #[derive(Default)]
    /// struct Body(Vec<u8>);
    ///
    /// impl Reset for Body {
    ///     fn reset(&mut self) {
    ///         self.0.clear();
    ///     }
    ///
    ///     fn keep(&self) -> bool {
    ///         self.0.capacity() <= 64 << 10
    ///     }
    /// }
    ///
    /// let pool: Pool<Body> = Pool::new(Body::default);
    /// pool.get().0.resize(1 << 20, 0);
    /// assert_eq!(pool.get().0.capacity(), 0);
    /// assert_eq!(pool.stats().discards, 1);
    /// ```
    #[inline]
    fn keep(&self) -> bool {
        true
    }
}

macro_rules! reset_by_clear {
    ($([$($generics:tt)*] $type:ty),* $(,)?) => {
        $(impl<$($generics)*> Reset for $type {
            #[inline]
            fn reset(&mut self) {
                self.clear();
            }
        })*
    };
}

reset_by_clear! {
    [] String,
    [T] Vec<T>,
    [T] VecDeque<T>,
    [T: Ord] BinaryHeap<T>,
    [K, V] BTreeMap<K, V>,
    [T] BTreeSet<T>,
    [K: Eq + Hash, V, S] HashMap<K, V, S>,
    [T: Eq + Hash, S] HashSet<T, S>,
    [K, V, S] Map<K, V, S>,
    [K, V, S] HandleMap<K, V, S>,
}

impl<K, V, S> Reset for Lazy<K, V, S> {
    /// As [`Lazy::clear`]; its next user's time begins at 0.
    fn reset(&mut self) {
        self.begin_again();
    }
}

impl Reset for Arena {
    /// As [`Arena::reset`].
    #[inline]
    fn reset(&mut self) {
        Self::reset(self);
    }
}

macro_rules! reset_by_default {
    ($($type:ty),* $(,)?) => {
        $(impl Reset for $type {
            #[inline]
            fn reset(&mut self) {
                *self = Self::default();
            }
        })*
    };
}

reset_by_default!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
);

impl<T> Reset for Option<T> {
    #[inline]
    fn reset(&mut self) {
        *self = None;
    }
}

impl<T: Reset + ?Sized> Reset for Box<T> {
    #[inline]
    fn reset(&mut self) {
        (**self).reset();
    }

    #[inline]
    fn keep(&self) -> bool {
        (**self).keep()
    }
}

impl<T: Reset, const N: usize> Reset for [T; N] {
    #[inline]
    fn reset(&mut self) {
        self.iter_mut().for_each(Reset::reset);
    }

    #[inline]
    fn keep(&self) -> bool {
        self.iter().all(Reset::keep)
    }
}

impl<T: Reset> Reset for [T] {
    #[inline]
    fn reset(&mut self) {
        self.iter_mut().for_each(Reset::reset);
    }

    #[inline]
    fn keep(&self) -> bool {
        self.iter().all(Reset::keep)
    }
}

macro_rules! reset_each {
    ($($name:ident)*) => {
        impl<$($name: Reset),*> Reset for ($($name,)*) {
            #[inline]
            #[allow(non_snake_case, reason = "each is named as its type")]
            fn reset(&mut self) {
                let ($($name,)*) = self;
                $($name.reset();)*
            }

            #[inline]
            #[allow(non_snake_case, reason = "each is named as its type")]
            fn keep(&self) -> bool {
                let ($($name,)*) = self;
                $($name.keep())&&*
            }
        }
    };
}

reset_each!(A);
reset_each!(A B);
reset_each!(A B C);
reset_each!(A B C D);
reset_each!(A B C D E);
reset_each!(A B C D E F);

/// Keeps a value as it is when it goes back to its pool: the next user finds what the last one
/// left.
///
/// ```
/// use spanalloc::pool::{Keep, Pool};
///
/// let pool: Pool<Keep<Vec<u8>>> = Pool::new(|| Keep(Vec::new()));
/// pool.get().push(1);
/// assert_eq!(**pool.get(), [1]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep<T>(pub T);

impl<T> Reset for Keep<T> {
    #[inline]
    fn reset(&mut self) {}
}

impl<T> Deref for Keep<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Keep<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
