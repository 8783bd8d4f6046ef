//! The map's iterators. All are in random order, know their exact length, and
//! cost a pass over the buckets they cross.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use super::api::Map;
use super::remains::Remains;
use super::table::Table;
use super::walk::Walk;

/// Declares an iterator over borrowed entries: a walk, and how a live slot of a map
/// that is borrowed for `'a` is shown.
macro_rules! borrowed {
    ($(#[$doc:meta])* $name:ident, $borrow:ty, $item:ty, $shown:ident) => {
        $(#[$doc])*
        pub struct $name<'a, K, V> {
            walk: Walk<K, V>,
            map: PhantomData<$borrow>,
        }

        impl<K, V> $name<'_, K, V> {
            fn over(walk: Walk<K, V>) -> Self {
                Self { walk, map: PhantomData }
            }
        }

        impl<'a, K, V> Iterator for $name<'a, K, V> {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<$item> {
                let slot = self.walk.next()?;
                // SAFETY: a walk yields live slots; the map is borrowed for 'a.
                let key = unsafe { slot.key() };
                // SAFETY: as above; it yields a slot once, whatever the borrow is.
                Some((key, unsafe { slot.$shown() }))
            }

            #[inline]
            fn fold<B, F: FnMut(B, $item) -> B>(self, first: B, mut f: F) -> B {
                self.walk.fold(first, |folded, slot| {
                    // SAFETY: as in `next`.
                    let key = unsafe { slot.key() };
                    // SAFETY: as in `next`.
                    f(folded, (key, unsafe { slot.$shown() }))
                })
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                (self.walk.left(), Some(self.walk.left()))
            }
        }
    };
}

borrowed!(
    /// Entries by reference: see [`Map::iter`].
    Iter, &'a (K, V), (&'a K, &'a V), value
);
borrowed!(
    /// Entries with values to change: see [`Map::iter_mut`].
    IterMut, &'a mut (K, V), (&'a K, &'a mut V), value_mut
);

/// Entries by value: see [`Map::into_iter`](IntoIterator::into_iter).
pub struct IntoIter<K, V> {
    remains: Remains<K, V>,
}

/// Entries that a closure chooses, taken out: see [`Map::extract_if`].
pub struct ExtractIf<'a, K, V, S, F> {
    pub(super) map: &'a mut Map<K, V, S>,
    walk: Walk<K, V>,
    had_entries: bool,
    take: F,
}

impl<K, V, S, F: FnMut(&K, &mut V) -> bool> Iterator for ExtractIf<'_, K, V, S, F> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            let slot = self.walk.next()?;
            // SAFETY: a walk yields live slots; the reference ends with the call.
            let key = unsafe { slot.key() };
            // SAFETY: as above, and the map is borrowed mutably.
            if (self.take)(key, unsafe { slot.value_mut() }) {
                return Some(self.map.table.erase(self.walk.home(), slot));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.walk.left()))
    }
}

impl<K, V, S, F: FnMut(&K, &mut V) -> bool> FusedIterator for ExtractIf<'_, K, V, S, F> {}

impl<K, V, S, F> Drop for ExtractIf<'_, K, V, S, F> {
    fn drop(&mut self) {
        self.map.reseed_if_emptied(self.had_entries);
    }
}

impl<K, V, S, F> fmt::Debug for ExtractIf<'_, K, V, S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtractIf").field("left", &self.walk.left()).finish_non_exhaustive()
    }
}

/// Entries taken out of a map that stays: see [`Map::drain`].
pub struct Drain<'a, K, V> {
    table: &'a mut Table<K, V>,
    remains: Remains<K, V>,
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self { walk: self.walk.clone(), map: PhantomData }
    }
}

impl<K, V> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    #[inline]
    fn next(&mut self) -> Option<(K, V)> {
        self.remains.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remains.left(), Some(self.remains.left()))
    }
}

impl<K, V> Iterator for Drain<'_, K, V> {
    type Item = (K, V);

    #[inline]
    fn next(&mut self) -> Option<(K, V)> {
        self.remains.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remains.left(), Some(self.remains.left()))
    }
}

impl<K, V> Drop for Drain<'_, K, V> {
    fn drop(&mut self) {
        let remains = std::mem::replace(&mut self.remains, Remains::nothing());
        self.table.reattach(remains.into_array());
    }
}

/// What iterators over entries have in common; `$walk` leads to what is still to be
/// yielded.
macro_rules! entries {
    ($($name:ty: $($walk:ident).+),*) => {$(
        impl<K, V> $name {
            /// What is still to be yielded, by reference.
            fn remaining(&self) -> Iter<'_, K, V> {
                Iter::over(self.$($walk).+.clone())
            }
        }

        impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.remaining()).finish()
            }
        }

        impl<K, V> ExactSizeIterator for $name {}

        impl<K, V> FusedIterator for $name {}
    )*};
}

entries!(
    Iter<'_, K, V>: walk,
    IterMut<'_, K, V>: walk,
    IntoIter<K, V>: remains.walk,
    Drain<'_, K, V>: remains.walk
);

/// Declares an iterator over one half of the entries. What is not yielded is dropped
/// first: at the end of the call, a panic would leak the other half.
macro_rules! half {
    ($(#[$doc:meta])* $name:ident $(<$life:lifetime>)?, $inner:ty, $item:ty, $shown:ident, $part:tt,
     $entry:pat => $yielded:expr) => {
        $(#[$doc])*
        pub struct $name<$($life,)? K, V>($inner);

        impl<$($life,)? K, V> Iterator for $name<$($life,)? K, V> {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<$item> {
                let $entry = self.0.next()?;
                Some($yielded)
            }

            #[inline]
            fn fold<B, F: FnMut(B, $item) -> B>(self, first: B, mut f: F) -> B {
                self.0.fold(first, |folded, $entry| f(folded, $yielded))
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }
        }

        impl<$($life,)? K, V> ExactSizeIterator for $name<$($life,)? K, V> {}

        impl<$($life,)? K, V> FusedIterator for $name<$($life,)? K, V> {}

        impl<$($life,)? K, V> fmt::Debug for $name<$($life,)? K, V>
        where
            $shown: fmt::Debug,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.0.remaining().map(|entry| entry.$part)).finish()
            }
        }
    };
}

half!(
    /// Keys by reference: see [`Map::keys`].
    Keys<'a>, Iter<'a, K, V>, &'a K, K, 0, (key, _) => key
);
half!(
    /// Values by reference: see [`Map::values`].
    Values<'a>, Iter<'a, K, V>, &'a V, V, 1, (_, value) => value
);
half!(
    /// Values to change: see [`Map::values_mut`].
    ValuesMut<'a>, IterMut<'a, K, V>, &'a mut V, V, 1, (_, value) => value
);
half!(
    /// Keys by value: see [`Map::into_keys`].
    IntoKeys, IntoIter<K, V>, K, K, 0, (key, value) => {
        drop(value);
        key
    }
);
half!(
    /// Values by value: see [`Map::into_values`].
    IntoValues, IntoIter<K, V>, V, V, 1, (key, value) => {
        drop(key);
        value
    }
);

impl<K, V> Clone for Keys<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Clone for Values<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V, S> Map<K, V, S> {
    /// All entries, in an order that differs from call to call.
    ///
    /// ```
    /// let map = spanalloc::map::Map::from([(1, 10), (2, 20)]);
    /// assert_eq!(map.iter().map(|(key, value)| key * value).sum::<i32>(), 50);
    /// ```
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::over(Walk::new(&self.table))
    }

    /// All entries, with values to change in place.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        IterMut::over(Walk::new(&self.table))
    }

    /// All keys.
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(self.iter())
    }

    /// All values. Neither this nor [`iter`](Self::iter) copies anything.
    pub fn values(&self) -> Values<'_, K, V> {
        Values(self.iter())
    }

    /// All values, to change in place.
    pub fn values_mut(&mut self) -> ValuesMut<'_, K, V> {
        ValuesMut(self.iter_mut())
    }

    /// All keys; drops the values.
    pub fn into_keys(self) -> IntoKeys<K, V> {
        IntoKeys(self.into_iter())
    }

    /// All values; drops the keys.
    pub fn into_values(self) -> IntoValues<K, V> {
        IntoValues(self.into_iter())
    }

    /// Takes all entries out. The map is empty and keeps its array once the
    /// iterator is dropped; if the iterator is leaked, so are the entries it holds.
    ///
    /// ```
    /// let mut map = spanalloc::map::Map::from([(1, 'a'), (2, 'b')]);
    /// assert_eq!(map.drain().count(), 2);
    /// assert!(map.is_empty() && map.capacity() >= 2);
    /// ```
    pub fn drain(&mut self) -> Drain<'_, K, V> {
        let had_entries = !self.is_empty();
        let remains = self.table.detach();
        self.reseed_if_emptied(had_entries);
        Drain { table: &mut self.table, remains }
    }

    /// Takes out the entries for which `take` returns true, as they are asked for: those that the
    /// iterator has not come to when it is dropped stay. `take` may change the values that stay,
    /// too.
    ///
    /// ```
    /// let mut map: spanalloc::map::Map<u32, u32> = (0..10).map(|n| (n, n * n)).collect();
    /// let even: u32 = map.extract_if(|key, _| key % 2 == 0).map(|(_, square)| square).sum();
    /// assert_eq!((even, map.len()), (120, 5));
    /// ```
    pub fn extract_if<F: FnMut(&K, &mut V) -> bool>(
        &mut self,
        take: F,
    ) -> ExtractIf<'_, K, V, S, F> {
        let (walk, had_entries) = (Walk::new(&self.table), !self.is_empty());
        ExtractIf { map: self, walk, had_entries, take }
    }
}

impl<K, V, S> IntoIterator for Map<K, V, S> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(mut self) -> IntoIter<K, V> {
        IntoIter { remains: self.table.detach() }
    }
}

impl<'a, K, V, S> IntoIterator for &'a Map<K, V, S> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<'a, K, V, S> IntoIterator for &'a mut Map<K, V, S> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> IterMut<'a, K, V> {
        self.iter_mut()
    }
}
