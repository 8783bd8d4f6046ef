//! The bucketed table below the map: it finds, places and erases entries, and
//! knows nothing of hashers or of the API.
//!
//! Terms: the *home* of a hash is the bucket its chain starts at, chosen by the low
//! bits. The *current* array takes all new entries. While the table grows there is
//! also an *old* array; a chain of it is either evacuated or untouched. A *vacancy*
//! is where a search that found nothing would put the key.
//!
//! # Invariants
//!
//! 1. `len` is the number of live cells in the current array and in the chains of
//!    the old one that are not evacuated.
//! 2. In a chain, no live or `EMPTY_ONE` cell follows an `EMPTY_REST` cell. A search
//!    may stop there.
//! 3. While `old` is set, the chains of the current array that an old chain
//!    evacuates to are empty until it does. Every insert and remove evacuates the
//!    chain of its hash first, so nothing is written to an unevacuated chain.
//! 4. An unallocated current array implies `len == 0`, no old array, and
//!    `trigger == 0`, so the static empty bucket is replaced before it is written.
//! 5. `trigger` is the `len` at which the next new key starts a growth:
//!    `usize::MAX` while growing, 0 when the chains are due to be tidied.
//! 6. `quick_below` is `trigger`, or 0 while the table grows or records: below it, an
//!    insert has nothing to do but to find its cell, and unless it is 0, an update.
//!
//! Callers' code (`Hash`, `Eq`, `Clone`, `Drop`, closures) may panic wherever it is
//! called. It is only called while all of the above hold, or under a guard that
//! restores them.

use super::array::{Array, Origin};
use super::bucket::{Bucket, Shape, Slot};
use super::policy::Policy;
use super::record::{Counters, Event, Record, Tier};
use super::remains::Remains;
use super::tops::{Cell, EMPTY_ONE, Tops, top_of};
use super::walk::Walk;

/// The array that is being evacuated.
pub(super) struct Old<K, V> {
    pub(super) array: Array<K, V>,
    /// All chains below this index are evacuated.
    pub(super) evacuated_below: usize,
}

/// A bucketed hash table.
pub(super) struct Table<K, V> {
    len: usize,
    pub(super) trigger: usize,
    quick_below: usize,
    pub(super) current: Array<K, V>,
    pub(super) old: Option<Old<K, V>>,
    policy: Policy,
    pub(super) counters: Counters,
    record: Option<Box<Record>>,
}

/// What a look at the home bucket alone tells an insert.
pub(super) enum AtHome<K, V> {
    /// The key is here.
    Found(Slot<K, V>),
    /// The key is absent and belongs here.
    Absent(Slot<K, V>),
    /// The chain goes on, or the table has other work to do first.
    Unknown,
}

/// Where a key that was not found belongs.
pub(super) struct Vacancy<K, V> {
    /// The bucket with the first empty cell of the chain, or else its last bucket.
    bucket: Bucket<K, V>,
    cell: Option<Cell>,
}

impl<K, V> Table<K, V> {
    /// An empty table with an array for `entries`, or none if one bucket would do.
    pub(super) fn with_capacity(entries: usize, policy: Policy) -> Self {
        let mut table = Self {
            len: 0,
            trigger: 0,
            quick_below: 0,
            current: Array::unallocated(),
            old: None,
            policy,
            counters: Counters::default(),
            record: None,
        };
        let log2 = policy.log2_for(entries);
        if log2 > 0 {
            table.install(Array::new(log2));
        }
        table
    }

    /// As `with_capacity`, or `None` when there is no such array or no memory for it.
    pub(super) fn try_with_capacity(entries: usize, policy: Policy) -> Option<Self> {
        let mut table = Self::with_capacity(0, policy);
        let log2 = policy.log2_if_any(entries)?;
        if log2 > 0 {
            table.install(Array::new_if_possible(log2)?);
        }
        Some(table)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn current(&self) -> &Array<K, V> {
        &self.current
    }

    pub(super) fn old(&self) -> Option<&Old<K, V>> {
        self.old.as_ref()
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.set_trigger();
    }

    /// Overflow buckets of the current array.
    pub(super) fn overflow_buckets(&self) -> usize {
        self.current.spares_used() + self.current.overflow_heap()
    }

    /// The bucket that holds the chain for `hash` now.
    #[inline]
    pub(super) fn home(&self, hash: u64) -> Bucket<K, V> {
        if let Some(old) = &self.old {
            let home = old.array.home(hash);
            if !home.tops().evacuated() {
                return home;
            }
        }
        self.current.home(hash)
    }

    /// The slot of the entry with `hash` whose key `is_key` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_key: impl FnMut(&K) -> bool) -> Option<Slot<K, V>> {
        let home = self.home(hash);
        self.search(home, hash, &mut is_key).ok()
    }

    /// As `seek`, if all can be told from the home bucket. Entries and link, which lie
    /// elsewhere, are asked for at once: a key that is present is read next, one that is
    /// absent is written, and if the bucket is full, the link is needed.
    #[inline(always)]
    pub(super) fn seek_at_home(
        &self,
        hash: u64,
        mut is_key: impl FnMut(&K) -> bool,
    ) -> AtHome<K, V> {
        if self.quick_below == 0 {
            return AtHome::Unknown;
        }
        let home = self.current.home(hash);
        home.prefetch_start();
        home.prefetch_link();
        let tops = home.tops();
        for cell in tops.matching(top_of(hash)) {
            let slot = Slot::new(home, cell);
            // SAFETY: its top is a live one, and `self` is borrowed.
            if is_key(unsafe { slot.key() }) {
                return AtHome::Found(slot);
            }
        }
        match tops.first_empty() {
            Some(cell) if tops.ends() && self.len < self.quick_below => {
                AtHome::Absent(Slot::new(home, cell))
            }
            _ => AtHome::Unknown,
        }
    }

    /// As `find` in the current array, and where the key belongs if it is absent.
    /// While growing, the chain of `hash` must have been evacuated.
    #[inline]
    pub(super) fn seek(
        &self,
        hash: u64,
        mut is_key: impl FnMut(&K) -> bool,
    ) -> Result<Slot<K, V>, Vacancy<K, V>> {
        debug_assert!(self.old.as_ref().is_none_or(|old| old.array.home(hash).tops().evacuated()));
        let home = self.current.home(hash);
        home.prefetch_start();
        self.search(home, hash, &mut is_key)
    }

    #[inline(always)]
    fn search(
        &self,
        home: Bucket<K, V>,
        hash: u64,
        is_key: &mut impl FnMut(&K) -> bool,
    ) -> Result<Slot<K, V>, Vacancy<K, V>> {
        let top = top_of(hash);
        let mut bucket = home;
        let mut empty: Option<Slot<K, V>> = None;
        loop {
            let tops = bucket.tops();
            for cell in tops.matching(top) {
                let slot = Slot::new(bucket, cell);
                // SAFETY: `top` is a live one, and `self` is borrowed.
                if is_key(unsafe { slot.key() }) {
                    return Ok(slot);
                }
            }
            if empty.is_none() {
                empty = tops.first_empty().map(|cell| Slot::new(bucket, cell));
            }
            let next = if tops.ends() { None } else { bucket.overflow() };
            match (next, empty) {
                (Some(next), _) => bucket = next,
                (None, Some(slot)) => {
                    return Err(Vacancy { bucket: slot.bucket, cell: Some(slot.cell) });
                }
                (None, None) => return Err(Vacancy { bucket, cell: None }),
            }
        }
    }

    /// Inserts an entry whose key `seek` did not find, growing first if that is due.
    #[inline]
    pub(super) fn insert_absent(
        &mut self,
        hash: u64,
        vacancy: Vacancy<K, V>,
        key: K,
        value: V,
        hash_of: &impl Fn(&K) -> u64,
    ) -> Slot<K, V> {
        if self.len < self.trigger {
            self.place(hash, vacancy, key, value)
        } else {
            self.grow_and_place(hash, key, value, hash_of)
        }
    }

    #[cold]
    #[inline(never)]
    fn grow_and_place(
        &mut self,
        hash: u64,
        key: K,
        value: V,
        hash_of: &impl Fn(&K) -> u64,
    ) -> Slot<K, V> {
        self.grow(hash, hash_of);
        match self.seek(hash, |_| false) {
            Err(vacancy) => self.place(hash, vacancy, key, value),
            Ok(_) => unreachable!("no key is accepted"),
        }
    }

    /// Places an entry where its key was found to be absent: in the first empty cell
    /// of the chain, or else in a new overflow bucket.
    #[inline]
    fn place(&mut self, hash: u64, vacancy: Vacancy<K, V>, key: K, value: V) -> Slot<K, V> {
        let slot = match vacancy.cell {
            Some(cell) => Slot::new(vacancy.bucket, cell),
            None => self.first_of_overflow(vacancy.bucket),
        };
        let mark = self.place_at(hash, slot, key, value);
        if self.record.is_some() {
            self.note_insert(hash, slot, mark == EMPTY_ONE);
        }
        slot
    }

    /// Places an entry in an empty cell of its chain; returns how it was marked.
    #[inline(always)]
    pub(super) fn place_at(&mut self, hash: u64, slot: Slot<K, V>, key: K, value: V) -> u8 {
        debug_assert!(self.current.is_allocated());
        let tops = slot.bucket.tops();
        let mark = tops.get(slot.cell);
        // SAFETY: the cell is empty; the array is allocated, by invariant 4.
        unsafe { slot.write(key, value) };
        slot.bucket.set_tops(tops.replacing(slot.cell, mark, top_of(hash)));
        self.counters.inserts_reused += u64::from(mark);
        self.len += 1;
        mark
    }

    #[cold]
    #[inline(never)]
    fn first_of_overflow(&mut self, tail: Bucket<K, V>) -> Slot<K, V> {
        self.counters.inserts_overflow += 1;
        Slot::new(self.add_overflow(tail), Cell::FIRST)
    }

    #[cold]
    #[inline(never)]
    fn note_insert(&mut self, hash: u64, slot: Slot<K, V>, reused: bool) {
        let index = hash as usize & (self.current.len() - 1);
        let buckets = self.current.home(hash).chain();
        let depth = buckets.take_while(|&bucket| bucket != slot.bucket).count();
        let position = depth * super::tops::CELLS + slot.cell.index();
        let log2 = self.current.log2();
        if let Some(heat) = self.record.as_mut().and_then(|record| record.heat.as_mut()) {
            heat.note(index, log2, position, reused);
        }
        self.note(Event::Inserted { index, position, reused });
    }

    /// Erases a live cell of the chain of the current array that starts at `home`,
    /// and returns its entry.
    #[inline]
    pub(super) fn erase(&mut self, home: Bucket<K, V>, slot: Slot<K, V>) -> (K, V) {
        let bucket = slot.bucket;
        let tops = bucket.tops().with(slot.cell, EMPTY_ONE);
        // Behind a live last cell nothing changes, and an unused one ends the chain:
        // only one that was emptied needs a look at what follows.
        let keeps = tops.get(Cell::LAST) == EMPTY_ONE && !Self::nothing_after(bucket);
        let tops = if keeps { tops } else { tops.with_rest_marked() };
        bucket.set_tops(tops);
        if bucket != home && tops == Tops::EMPTY {
            Self::retreat(home, bucket);
        }
        self.len -= 1;
        self.counters.removed += 1;
        // SAFETY: the cell was live until this call cleared its top.
        unsafe { slot.take() }
    }

    /// Whether the buckets of the chain after this one are empty.
    #[inline]
    fn nothing_after(bucket: Bucket<K, V>) -> bool {
        bucket.overflow().is_none_or(|next| next.tops() == Tops::EMPTY)
    }

    /// Marks what has become the rest of a chain, before a bucket that has become
    /// empty.
    #[cold]
    fn retreat(home: Bucket<K, V>, emptied: Bucket<K, V>) {
        let mut after = emptied;
        while let Some(bucket) = home.chain().find(|b| b.overflow().is_some_and(|o| o == after)) {
            let tops = bucket.tops().with_rest_marked();
            bucket.set_tops(tops);
            if tops != Tops::EMPTY {
                break;
            }
            after = bucket;
        }
    }

    pub(super) fn add_overflow(&mut self, tail: Bucket<K, V>) -> Bucket<K, V> {
        let (bucket, origin) = self.current.add_overflow(tail);
        self.counters.note_overflow(origin);
        self.note_bytes();
        self.set_trigger();
        self.note(Event::OverflowAdded { spare: origin == Origin::Spare });
        bucket
    }

    /// Makes `array` the current one of a table without entries elsewhere.
    pub(super) fn install(&mut self, array: Array<K, V>) {
        self.counters.arrays[Tier::of(array.bytes()) as usize] += 1;
        self.current = array;
        self.note_bytes();
        self.set_trigger();
    }

    pub(super) fn set_trigger(&mut self) {
        let log2 = self.current.log2();
        self.trigger = if self.old.is_some() {
            usize::MAX
        } else if !self.current.is_allocated()
            || self.overflow_buckets() >= self.policy.tidy_at(log2)
        {
            0
        } else {
            self.policy.double_at(log2)
        };
        let idle = self.old.is_none() && self.record.is_none();
        self.quick_below = if idle { self.trigger } else { 0 };
    }

    pub(super) fn quick_below(&self) -> usize {
        self.quick_below
    }

    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_deref()
    }

    /// Starts recording, if it has not been started.
    pub(super) fn record_mut(&mut self) -> &mut Record {
        self.quick_below = 0;
        self.record.get_or_insert_default()
    }

    /// Ends a record that nothing is written to, which would keep inserts from the quick
    /// way.
    pub(super) fn end_record_of_nothing(&mut self) {
        if self.record.as_ref().is_some_and(|record| record.log.is_none() && record.heat.is_none())
        {
            self.set_record(None);
        }
    }

    /// Records, or does not, what `record` says.
    pub(super) fn set_record(&mut self, record: Option<Box<Record>>) {
        self.record = record;
        self.set_trigger();
    }

    /// Takes all entries out. The table is left empty, without an array.
    pub(super) fn detach(&mut self) -> Remains<K, V> {
        let walk = Walk::new(self);
        self.counters.removed += self.len as u64;
        self.len = 0;
        let current = std::mem::replace(&mut self.current, Array::unallocated());
        let old = self.old.take();
        if old.is_some() {
            self.note(Event::GrowthFinished);
        }
        self.set_trigger();
        Remains::new(walk, current, old)
    }

    /// Gives an emptied array back to the table it was detached from.
    pub(super) fn reattach(&mut self, array: Array<K, V>) {
        debug_assert!(self.len == 0 && !self.current.is_allocated());
        self.current = array;
        self.current.wipe();
        self.set_trigger();
    }

    /// Gives the memory of an empty table back.
    pub(super) fn release(&mut self) {
        debug_assert!(self.len == 0);
        if self.old.take().is_some() {
            self.note(Event::GrowthFinished);
        }
        self.current = Array::unallocated();
        self.set_trigger();
    }

    /// Drops all entries and keeps the current array.
    pub(super) fn clear(&mut self) {
        // Chains of one bucket without a live cell are wiped already: see `erase`.
        if self.len == 0 && self.old.is_none() && self.overflow_buckets() == 0 {
            return;
        }
        self.counters.dropped += self.len as u64;
        let mut remains = self.detach();
        remains.drop_entries();
        self.reattach(remains.into_array());
    }

    /// Counts a live cell that was filled without `place`.
    pub(super) fn count_one(&mut self) {
        self.len += 1;
    }

    /// Bytes of both arrays and of their extents.
    pub(super) fn bytes(&self) -> usize {
        let old = self.old.as_ref().map_or(0, |old| old.array.bytes_total());
        self.current.bytes_total() + old
    }

    /// Bytes of the blocks of indirectly stored keys and values.
    pub(super) fn indirect_bytes(&self) -> usize {
        self.len * Shape::<K, V>::INDIRECT_BYTES
    }

    pub(super) fn note_bytes(&mut self) {
        self.counters.bytes_peak = self.counters.bytes_peak.max(self.bytes());
    }

    pub(super) fn note(&mut self, event: Event) {
        if let Some(log) = self.record.as_mut().and_then(|record| record.log.as_mut()) {
            log.push(event);
        }
    }
}

impl<K, V> Drop for Table<K, V> {
    fn drop(&mut self) {
        self.detach().drop_entries();
    }
}
