//! Whether a map's invariants hold, and a dump of its tophash bytes.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use super::api::Map;
use super::array::Array;
use super::bucket::{Bucket, Slot};
use super::table::Table;
use super::tops::{CELLS, EMPTY_REST, LIVE_MIN, Tops, top_of};

/// The tophash bytes of a map: see [`Map::tophashes`].
///
/// Printed, each line is a chain: `.` is a cell after which the chain is empty,
/// `o` one that was emptied, `X` and `Y` went to the lower or the upper half, `E`
/// was empty when its chain moved, and two hexadecimal digits are a live cell's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tophashes {
    /// The chains of the current array; each is a bucket and its overflow buckets.
    pub current: Vec<Vec<[u8; CELLS]>>,
    /// Those of the array being evacuated; empty unless the map grows.
    pub old: Vec<Vec<[u8; CELLS]>>,
}

impl fmt::Display for Tophashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, chains) in [("current", &self.current), ("old", &self.old)] {
            for (index, chain) in chains.iter().enumerate() {
                write!(f, "{name} {index:>4}:")?;
                for (depth, bucket) in chain.iter().enumerate() {
                    f.write_str(if depth > 0 { " >" } else { "" })?;
                    for &top in bucket {
                        match top {
                            LIVE_MIN.. => write!(f, " {top:02x}")?,
                            mark => write!(f, " {}", ['.', 'o', 'X', 'Y', 'E'][usize::from(mark)])?,
                        }
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl<K, V, S> Map<K, V, S> {
    /// A copy of all tophash bytes, to look at the states of cells.
    ///
    /// ```
    /// let mut map = spanalloc::map::Map::from([(1, ()), (2, ())]);
    /// map.remove(&1);
    /// let tops = map.tophashes().current[0][0];
    /// assert_eq!(tops[0], 1, "emptied, with a live cell after it");
    /// assert!(tops[1] >= 5);
    /// assert_eq!(tops[2..], [0; 6]);
    /// ```
    pub fn tophashes(&self) -> Tophashes {
        let dump = |array: &Array<K, V>| {
            let chain = |index| array.bucket(index).chain().map(|b| b.tops().bytes()).collect();
            (0..array.len()).map(chain).collect()
        };
        let current = self.table.current();
        Tophashes {
            current: if current.is_allocated() { dump(current) } else { Vec::new() },
            old: self.table.old().map_or_else(Vec::new, |old| dump(&old.array)),
        }
    }

    /// Verifies what must hold whatever `Hash` and `Eq` do: counts, chain marks,
    /// links and the state of a growth. Costs a pass over the buckets.
    ///
    /// # Errors
    ///
    /// A sentence that names the first violation.
    pub fn check_structure(&self) -> Result<(), String> {
        check_table(&self.table)
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Map<K, V, S> {
    /// As [`check_structure`](Self::check_structure), and that each entry lies in
    /// the chain of its hash, with its tophash, and is found there. That holds for
    /// every `Hash` and `Eq` that are consistent.
    ///
    /// # Errors
    ///
    /// A sentence that names the first violation.
    ///
    /// ```
    /// let map: spanalloc::map::Map<u32, u32> = (0..100).map(|n| (n, n)).collect();
    /// assert_eq!(map.check(), Ok(()));
    /// ```
    pub fn check(&self) -> Result<(), String> {
        self.check_structure()?;
        for slot in super::walk::Walk::new(&self.table) {
            // SAFETY: a walk yields live slots; the map is borrowed.
            let key: &K = unsafe { slot.key() };
            let hash = self.hasher.hash_one(key);
            ensure(slot.top() == top_of(hash), || "a tophash differs from its key's".into())?;
            let found = self.table.find(hash, |other| other == key);
            ensure(found.is_some_and(|found| same(found, slot)), || {
                "a key is not found where it lies".into()
            })?;
        }
        Ok(())
    }
}

fn same<K, V>(a: Slot<K, V>, b: Slot<K, V>) -> bool {
    a.bucket == b.bucket && a.cell == b.cell
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

fn check_table<K, V>(table: &Table<K, V>) -> Result<(), String> {
    let counters = &table.counters;
    let mut live = check_array(table.current(), "current")?;
    if let Some(old) = table.old() {
        live += check_array(&old.array, "old")?;
        ensure(old.evacuated_below < old.array.len(), || "a finished growth goes on".into())?;
        for index in 0..old.array.len() {
            let evacuated = old.array.bucket(index).tops().evacuated();
            ensure(evacuated || index >= old.evacuated_below, || {
                format!("old chain {index} is not evacuated but counted as such")
            })?;
            if !evacuated {
                for target in [index, index + old.array.len()] {
                    let target = table.current().bucket(target);
                    let empty = target.chain().all(|b| b.tops().live().count() == 0);
                    ensure(empty, || format!("the target of old chain {index} is not empty"))?;
                }
            }
        }
    }
    let len = table.len();
    ensure(live == len, || format!("{live} live cells, but len is {len}"))?;
    let (known, inserted) =
        (counters.inserts_reused + counters.inserts_overflow, counters.removed + len as u64);
    ensure(known <= inserted, || format!("{inserted} inserted, of which {known} in used cells"))?;
    ensure(table.bytes() <= counters.bytes_peak, || "more bytes than the peak".into())?;
    ensure(table.current().is_allocated() || len == 0 && table.trigger == 0, || {
        "the static empty bucket could be written".into()
    })?;
    let quick = table.old().is_none() && table.record().is_none();
    ensure(table.quick_below() == if quick { table.trigger } else { 0 }, || {
        "an insert would pass by what is to be done".into()
    })
}

/// Verifies an array's chains and returns the number of its live cells.
fn check_array<K, V>(array: &Array<K, V>, name: &str) -> Result<usize, String> {
    if !array.is_allocated() {
        return Ok(0);
    }
    let (mut live, mut overflow) = (0, 0);
    for index in 0..array.len() {
        let home = array.bucket(index);
        let broken = |what: &str| format!("{name} chain {index}: {what}");
        live += check_chain(home).map_err(&broken)?;
        overflow += home.chain().count() - 1;
    }
    let known = array.spares_used() + array.overflow_heap();
    // Spare buckets of evacuated chains stay used until the array is freed.
    ensure(overflow <= known, || format!("{name}: {overflow} overflow buckets, {known} known"))?;
    Ok(live)
}

fn check_chain<K, V>(home: Bucket<K, V>) -> Result<usize, &'static str> {
    let (mut live, mut ended) = (0, false);
    let evacuated = home.tops().evacuated();
    if evacuated {
        let marks = home.tops().bytes();
        let only_marks = marks.iter().all(|top| (2..LIVE_MIN).contains(top));
        let left = home.chain().skip(1).any(|bucket| bucket.tops() != Tops::EMPTY);
        return if only_marks && !left { Ok(0) } else { Err("is evacuated in part") };
    }
    for top in home.chain().flat_map(|bucket| bucket.tops().bytes()) {
        if ended && top != EMPTY_REST {
            return Err("a cell is used after one that says the rest is empty");
        }
        if (2..LIVE_MIN).contains(&top) {
            return Err("is evacuated in part");
        }
        ended = top == EMPTY_REST;
        live += usize::from(top >= LIVE_MIN);
    }
    Ok(live)
}
