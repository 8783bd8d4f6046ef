//! How a table gets another array: doubling, tidying, resizing.
//!
//! A growth *starts* by allocating the new array; the full one becomes the old one.
//! Chains are then *evacuated* one at a time: a chain of old bucket `i` goes to the
//! buckets `i` (X) and `i + old length` (Y) of the new array, by the one bit of the
//! hash that has become significant; at the same size all of it goes to X. Entries
//! move as bits, in order and without the holes. The first bucket keeps, in its
//! tops, where each of its cells went.
//!
//! With incremental growth, each insert and each remove evacuates the chain it is
//! about to touch and the first few that are still untouched; a growth is over long
//! before the next one is due.
//!
//! # When `Hash` panics
//!
//! An old chain's marks are written last. Until then its entries are still there,
//! and `Undo` empties the two destinations again, which nobody else has written to
//! (table invariant 3). Resizing fills a detached array and swaps it in at the end.

use super::array::{Array, Origin};
use super::bucket::{Bucket, Slot};
use super::policy::Growth;
use super::record::{Event, GrowthKind, Tier};
use super::table::{Old, Table};
use super::tops::{Cell, Cells, EMPTY_REST, EVACUATED_EMPTY, EVACUATED_X, EVACUATED_Y, Tops};
use super::walk::Walk;

/// Chains that one step moves in order, beside the one it is about. Go moves one.
/// Sixteen neighbours cost little more than the one that lies anywhere, and leave
/// fewer of those to be moved; with more, an insert during a growth takes longer.
const CHAINS_IN_ORDER: usize = 16;
/// How many chains before its turn a chain and its destinations are asked for.
const CHAINS_AHEAD: usize = 8;
/// The most finished chains that one step skips over.
const ADVANCE_MAX: usize = 1024;

impl<K, V> Table<K, V> {
    /// Makes room for a new key when the table is due to grow, and brings the chain
    /// of `hash` to the current array.
    #[cold]
    #[inline(never)]
    pub(super) fn grow(&mut self, hash: u64, hash_of: &impl Fn(&K) -> u64) {
        let log2 = self.current.log2();
        if !self.current.is_allocated() {
            self.note_array(GrowthKind::First, 0, log2);
            return self.install(Array::new(log2));
        }
        let doubles = self.len() >= self.policy().double_at(log2);
        let (kind, log2_new) =
            if doubles { (GrowthKind::Double, log2 + 1) } else { (GrowthKind::SameSize, log2) };
        let array = Array::new(log2_new);
        self.note_array(kind, self.current.bytes(), log2_new);
        let count =
            if doubles { &mut self.counters.doublings } else { &mut self.counters.same_size };
        *count += 1;
        let array = std::mem::replace(&mut self.current, array);
        self.old = Some(Old { array, evacuated_below: 0 });
        self.counters.arrays[Tier::of(self.current.bytes()) as usize] += 1;
        self.note_bytes();
        self.set_trigger();
        self.grow_work(hash, hash_of);
    }

    /// Does the share of a growth that an insert or remove of `hash` owes.
    #[inline]
    pub(super) fn grow_work_if_growing(&mut self, hash: u64, hash_of: &impl Fn(&K) -> u64) {
        if self.old.is_some() {
            self.grow_work(hash, hash_of);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow_work(&mut self, hash: u64, hash_of: &impl Fn(&K) -> u64) {
        let Some(old) = &self.old else { return };
        let len = old.array.len();
        let index = hash as usize & (len - 1);
        // Somewhere in memory, unlike the next chains in order, which are moved first
        // while these lines arrive.
        for bucket in
            [old.array.bucket(index), self.current.bucket(index), self.current.bucket(index + len)]
        {
            bucket.prefetch_tops();
            bucket.prefetch();
        }
        old.array.bucket(index).prefetch_link();
        let mut left = match self.policy().growth {
            Growth::Incremental => CHAINS_IN_ORDER,
            Growth::AtOnce | Growth::Never => usize::MAX,
        };
        while let Some(old) = self.old.as_ref().filter(|_| left > 0) {
            self.prefetch_chain(old, old.evacuated_below + CHAINS_AHEAD);
            self.evacuate(old.evacuated_below, hash_of);
            left -= 1;
        }
        self.evacuate(index, hash_of);
    }

    /// Asks for what the evacuation of a chain that is soon due will touch. Its tops and
    /// link lie in sequence, and are there already.
    #[inline(always)]
    fn prefetch_chain(&self, old: &Old<K, V>, index: usize) {
        let home = old.array.bucket(index);
        home.prefetch();
        home.prefetch_overflow();
        self.current.bucket(index).prefetch();
        self.current.bucket(index + old.array.len()).prefetch();
    }

    /// Moves one chain of the old array, unless it has moved already.
    fn evacuate(&mut self, index: usize, hash_of: &impl Fn(&K) -> u64) {
        let Some(old) = &self.old else { return };
        let home = old.array.bucket(index);
        if !home.tops().evacuated() {
            self.evacuate_chain(index, home, hash_of);
        }
        self.advance(index);
    }

    fn evacuate_chain(&mut self, index: usize, home: Bucket<K, V>, hash_of: &impl Fn(&K) -> u64) {
        let Some(old) = &self.old else { return };
        let (old_len, old_log2) = (old.array.len(), u32::from(old.array.log2()));
        let same_size = self.current.len() == old_len;
        let mut targets =
            [index, index + old_len].map(|index| Target::new(self.current.bucket(index)));
        let undo = Undo { homes: [targets[0].bucket, targets[1].bucket] };
        let mut marks = Tops::all(EVACUATED_EMPTY);
        let mut next = Some(home);
        while let Some(bucket) = next {
            let tops = bucket.tops();
            let mut to_y = Cells::NONE;
            for cell in tops.live() {
                let from = Slot::new(bucket, cell);
                // The bit is an index and never a condition: a branch on it would be
                // mispredicted every other time.
                let half = if same_size {
                    0
                } else {
                    // SAFETY: the cell is live; the reference ends with the call.
                    (hash_of(unsafe { from.key() }) >> old_log2) as usize & 1
                };
                to_y.add_if(cell, half as u64);
                targets[half].take_in(self, from, tops.get(cell));
            }
            if bucket == home {
                let to_x = tops.live().without(to_y);
                marks = marks.with_all(to_x, EVACUATED_X).with_all(to_y, EVACUATED_Y);
            }
            // The link lies elsewhere in memory: it is not read for nothing.
            next = if tops.ends() { None } else { bucket.overflow() };
        }
        let [x, y] = targets;
        x.finish();
        if !same_size {
            y.finish();
        }
        std::mem::forget(undo);
        if !home.tops().ends() {
            home.set_overflow(None);
        }
        home.set_tops(marks);
        self.counters.chains_evacuated += 1;
        self.counters.entries_moved += (x.taken + y.taken) as u64;
        self.note(Event::ChainEvacuated { index, to_x: x.taken, to_y: y.taken });
    }

    /// Steps over evacuated chains and ends the growth after the last one.
    fn advance(&mut self, index: usize) {
        let Some(old) = &mut self.old else { return };
        if index != old.evacuated_below {
            return;
        }
        let stop = old.array.len().min(index + 1 + ADVANCE_MAX);
        old.evacuated_below += 1;
        while old.evacuated_below < stop && old.array.bucket(old.evacuated_below).tops().evacuated()
        {
            old.evacuated_below += 1;
        }
        if old.evacuated_below == old.array.len() {
            self.old = None;
            self.set_trigger();
            self.note(Event::GrowthFinished);
        }
    }

    /// Moves all entries into `array`, which is empty, at once.
    pub(super) fn resize(&mut self, mut array: Array<K, V>, hash_of: &impl Fn(&K) -> u64) {
        for from in Walk::new(self) {
            // SAFETY: a walk yields live slots; the reference ends here.
            let hash = hash_of(unsafe { from.key() });
            let (to, added) = end_of_chain(&mut array, hash);
            if let Some(origin) = added {
                self.counters.note_overflow(origin);
            }
            // SAFETY: `from` is live and `to` is empty, in an array of its own.
            unsafe { from.copy_to(to) };
            to.set_top(from.top());
        }
        self.counters.resizes += 1;
        self.counters.entries_moved += self.len() as u64;
        self.counters.bytes_peak = self.counters.bytes_peak.max(self.bytes() + array.bytes_total());
        if self.old.take().is_some() {
            self.note(Event::GrowthFinished);
        }
        self.note_array(GrowthKind::Resize, self.current.bytes(), array.log2());
        self.install(array);
    }

    fn note_array(&mut self, kind: GrowthKind, old_bytes: usize, log2: u8) {
        let new_bytes = Array::<K, V>::bytes_of(log2);
        let (len, tier) = (self.len(), Tier::of(new_bytes));
        self.note(Event::ArrayAdded { kind, len, old_bytes, new_bytes, tier });
    }
}

/// Where the next entry of an evacuated chain goes. The tops of the last bucket are
/// written when the next one is begun, or at the end.
struct Target<K, V> {
    bucket: Bucket<K, V>,
    tops: Tops,
    taken: usize,
}

impl<K, V> Target<K, V> {
    fn new(bucket: Bucket<K, V>) -> Self {
        Self { bucket, tops: Tops::EMPTY, taken: 0 }
    }

    /// Moves an entry out of `from`, a live cell with the byte `top`.
    #[inline(always)]
    fn take_in(&mut self, table: &mut Table<K, V>, from: Slot<K, V>, top: u8) {
        let cell = Cell::at(self.taken);
        if cell == Cell::FIRST && self.taken > 0 {
            self.add_bucket(table);
        }
        // SAFETY: the cell is live; `to` is empty and lies in another array.
        unsafe { from.copy_to(Slot::new(self.bucket, cell)) };
        self.tops = self.tops.replacing(cell, EMPTY_REST, top);
        self.taken += 1;
    }

    #[cold]
    #[inline(never)]
    fn add_bucket(&mut self, table: &mut Table<K, V>) {
        self.bucket.set_tops(self.tops);
        self.tops = Tops::EMPTY;
        // A bucket may be there already, emptied when an evacuation was undone.
        let next = self.bucket.overflow();
        self.bucket = next.unwrap_or_else(|| table.add_overflow(self.bucket));
    }

    fn finish(&self) {
        self.bucket.set_tops(self.tops);
    }
}

/// Empties two chains of the current array again when an evacuation unwinds.
struct Undo<K, V> {
    homes: [Bucket<K, V>; 2],
}

impl<K, V> Drop for Undo<K, V> {
    fn drop(&mut self) {
        for bucket in self.homes.iter().flat_map(|home| home.chain()) {
            bucket.set_tops(Tops::EMPTY);
        }
    }
}

/// The first empty cell of a chain without holes, in an overflow bucket that is
/// added if need be.
fn end_of_chain<K, V>(array: &mut Array<K, V>, hash: u64) -> (Slot<K, V>, Option<Origin>) {
    let mut bucket = array.home(hash);
    loop {
        if let Some(cell) = bucket.tops().matching(EMPTY_REST).next() {
            return (Slot::new(bucket, cell), None);
        }
        let Some(next) = bucket.overflow() else {
            let (added, origin) = array.add_overflow(bucket);
            return (Slot::new(added, Cell::FIRST), Some(origin));
        };
        bucket = next;
    }
}
