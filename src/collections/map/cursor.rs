//! Iterating over a map while changing it, as Go's `range` permits.
//!
//! Rust's borrows forbid changing a map under an iterator. A cursor borrows
//! nothing: it is given the map at each step. What it promises is what Go promises, and
//! said at [`Cursor`].
//!
//! A cursor walks the *hash ranges* of the array at its start: those hashes whose
//! low bits choose one bucket there. Wherever the map has moved the entries of a
//! range, by growing or shrinking, they are found again by these bits; of a chain
//! that is not evacuated yet it takes only what belongs to its range. Go keeps the
//! old arrays alive for its iterators instead. On entering a range the cursor
//! copies its keys and looks each up when its turn has come, as Go does for keys
//! that have moved away.

use std::hash::{BuildHasher, Hash};

use super::api::Map;
use super::random::next_random;

/// A place in an iteration over a map that may change: see [`Map::cursor`].
///
/// It borrows nothing, and promises what Go's `range` does:
///
/// * an entry that is there all the time is yielded exactly once, however often the map grows, is
///   tidied or shrinks meanwhile;
/// * an entry that is removed before it is reached is not yielded;
/// * an entry that is inserted meanwhile may be yielded or not, and one that was removed and
///   inserted again may come again;
/// * a value is yielded as it is at that moment.
///
/// It goes through the map by the buckets that there were when it was made. Whenever it comes to
/// the next, it clones the keys of one: see [`next`](Self::next) for the cost.
#[derive(Clone, Debug)]
pub struct Cursor<K> {
    /// Keys of the range entered last that are still to be yielded.
    pending: Vec<K>,
    ranges: usize,
    next: usize,
    left: usize,
    generation: u64,
    generations_crossed: u64,
}

impl<K, V, S> Map<K, V, S> {
    /// A cursor before the first entry, which starts at a random place.
    ///
    /// ```
    /// let mut map: spanalloc::map::Map<u32, u32> = (0..100).map(|n| (n, 0)).collect();
    /// let mut cursor = map.cursor();
    /// let mut seen = 0;
    /// while let Some((&key, _)) = cursor.next(&map) {
    ///     seen += u32::from(key < 100);
    ///     map.insert(1000 + key % 100, 0); // grows while it is iterated over
    /// }
    /// assert_eq!(seen, 100);
    /// ```
    pub fn cursor(&self) -> Cursor<K> {
        let ranges = self.table.current().len();
        Cursor {
            pending: Vec::new(),
            ranges,
            next: next_random() as usize,
            left: ranges,
            generation: self.generation(),
            generations_crossed: 0,
        }
    }

    /// How often the map has got another array or another hash seed. An entry may move
    /// without it: after a growth has begun, inserts and removes move its chains one after
    /// the other, and [`GrowthStats::entries_moved`](super::GrowthStats::entries_moved)
    /// counts those. Costs no pass over the map.
    pub fn generation(&self) -> u64 {
        self.table.counters.arrays.iter().sum::<u64>() + self.table.counters.reseeds
    }
}

impl<K> Cursor<K> {
    /// The map's generation at the last step.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many generations the map went through since the cursor was made.
    #[must_use]
    pub fn generations_crossed(&self) -> u64 {
        self.generations_crossed
    }
}

impl<K: Clone + Eq + Hash> Cursor<K> {
    /// The next entry of `map`, or `None` at the end. A cursor that is given another
    /// map than the one it came from yields some of that map's entries.
    ///
    /// Costs a lookup for each key, and for each bucket of the map at the cursor's start
    /// a vector of its keys, cloned, and a hash of each key in the chains that they may
    /// lie in now: where the map has shrunk, those of other buckets too.
    pub fn next<'m, V, S: BuildHasher>(&mut self, map: &'m Map<K, V, S>) -> Option<(&'m K, &'m V)> {
        self.generations_crossed += map.generation().abs_diff(self.generation);
        self.generation = map.generation();
        loop {
            while let Some(key) = self.pending.pop() {
                if let Some(entry) = map.get_key_value(&key) {
                    return Some(entry);
                }
            }
            if self.left == 0 {
                return None;
            }
            self.pending = self.keys_of_range(map, self.next & (self.ranges - 1));
            self.next = self.next.wrapping_add(1);
            self.left -= 1;
        }
    }

    fn keys_of_range<V, S: BuildHasher>(&self, map: &Map<K, V, S>, range: usize) -> Vec<K> {
        let current = Some(map.table.current()).filter(|array| array.is_allocated());
        let old = map.table.old().map(|old| &old.array);
        let mut keys = Vec::new();
        for array in current.into_iter().chain(old) {
            // A larger array spreads the range over several chains; in a smaller
            // one it shares a chain with other ranges.
            let first = range & (array.len() - 1);
            for index in (first..array.len()).step_by(self.ranges) {
                for bucket in array.bucket(index).chain() {
                    for cell in bucket.tops().live() {
                        // SAFETY: the cell is live, and the map is borrowed.
                        let key = unsafe { super::bucket::Slot::new(bucket, cell).key() };
                        if map.hasher.hash_one(key) as usize & (self.ranges - 1) == range {
                            keys.push(key.clone());
                        }
                    }
                }
            }
        }
        keys
    }
}
