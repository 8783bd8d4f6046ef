//! What a map says about itself: header, load, chains, slots, inserts, growth, bytes.

use super::api::Map;
use super::array::Array;
use super::bucket::{INLINE_MAX_BYTES, Shape};
use super::heat::Heat;
use super::record::{Event, Log, Tier};
use super::tops::{
    CELLS, EMPTY_ONE, EMPTY_REST, EVACUATED_EMPTY, EVACUATED_X, EVACUATED_Y, LIVE_MIN,
};

/// One consistent picture of a map: see [`Map::stats`].
///
/// `inserts.new_keys() − removed == len`, and
/// `slots.live == len` with both arrays counted.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries.
    pub len: usize,
    /// Base-2 logarithm of the number of main buckets: Go's `B`.
    pub log2_buckets: u8,
    /// Main buckets of the current array; 0 if there is none.
    pub buckets: usize,
    /// Overflow buckets of the current array: Go's `noverflow`, exact.
    pub overflow_buckets: usize,
    /// Entries per main bucket; 0 if there is none.
    pub load: f64,
    /// Entries per main bucket above which the map doubles.
    pub load_limit: f64,
    /// The address of the current array, 0 if there is none.
    pub array_address: usize,
    /// The array being evacuated, while the map grows.
    pub old: Option<OldStats>,
    /// Overflow buckets allocated with the current array.
    pub spares: usize,
    /// Those of them that are in use.
    pub spares_used: usize,
    /// Overflow buckets of the current array that were allocated after it.
    pub heap_buckets: usize,
    /// Chains by their number of overflow buckets: element 0 counts the chains
    /// without any. Chains that are evacuated are not counted.
    pub chains: Vec<u64>,
    /// Cells of both arrays by state. Unused spare buckets are not counted.
    pub slots: Slots,
    /// Inserts so far, by the kind of cell they took.
    pub inserts: Inserts,
    /// Entries that left the map so far, in whatever way.
    pub removed: u64,
    /// Those of them that the map itself dropped: by `clear` and `retain`.
    pub dropped: u64,
    /// Growth so far.
    pub growth: GrowthStats,
    /// Overflow buckets taken from spares so far.
    pub overflow_spare: u64,
    /// Overflow buckets allocated later than their array so far.
    pub overflow_heap: u64,
    /// The blocks they were allocated in: one each in arrays of less than 128
    /// buckets, fewer in larger ones.
    pub overflow_blocks: u64,
    /// Hash seeds drawn because the map had become empty.
    pub reseeds: u64,
    /// Bytes of both arrays with their overflow buckets.
    pub bytes: usize,
    /// The most that `bytes` has been.
    pub bytes_peak: usize,
    /// Bytes of the blocks that hold keys and values larger than
    /// [`INLINE_MAX_BYTES`].
    pub indirect_bytes: usize,
    /// The tier that serves the current array; `None` if there is none.
    pub tier: Option<Tier>,
    /// Arrays allocated so far, by the tier that served them, `Tier::ThreadCache`
    /// first.
    pub arrays_by_tier: [u64; 3],
    /// The layout of a bucket.
    pub bucket: BucketLayout,
}

/// The array being evacuated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OldStats {
    /// Main buckets.
    pub buckets: usize,
    /// All chains below this index are evacuated: Go's `nevacuate`.
    pub evacuated_below: usize,
    /// Chains that are evacuated.
    pub evacuated: usize,
    /// Whether the new array is of the same size.
    pub same_size: bool,
    /// Bytes of the array with its overflow buckets.
    pub bytes: usize,
    /// The tier that served it.
    pub tier: Tier,
    /// Its address.
    pub array_address: usize,
}

/// Cells by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slots {
    /// Empty, and so is the rest of the chain.
    pub empty_rest: u64,
    /// Empty.
    pub empty_one: u64,
    /// Moved to the lower half.
    pub evacuated_x: u64,
    /// Moved to the upper half.
    pub evacuated_y: u64,
    /// Was empty when its chain was evacuated.
    pub evacuated_empty: u64,
    /// Holds an entry.
    pub live: u64,
}

/// Inserts by what they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inserts {
    /// A cell after which the chain was empty, never used or emptied again.
    pub empty_rest: u64,
    /// A hole: a cell from which an entry had been removed, with live ones after it.
    pub empty_one: u64,
    /// The first cell of a new overflow bucket.
    pub new_overflow: u64,
    /// None: the key was present.
    pub update: u64,
}

impl Inserts {
    /// Inserts of new keys.
    #[must_use]
    pub const fn new_keys(&self) -> u64 {
        self.empty_rest + self.empty_one + self.new_overflow
    }

    /// All inserts.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.new_keys() + self.update
    }
}

/// Growth so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrowthStats {
    /// Growths to twice the buckets.
    pub doublings: u64,
    /// Growths to the same number, to pack chains.
    pub same_size: u64,
    /// Resizes by `reserve` and `shrink_to_fit`.
    pub resizes: u64,
    /// Chains moved.
    pub chains_evacuated: u64,
    /// Entries moved: how many pointers into the map would have had to be rebound.
    pub entries_moved: u64,
}

/// The layout of a bucket of one map type, in bytes.
///
/// Where a key and a value together need no padding, each value lies beside its key;
/// otherwise the eight values follow the eight keys, and only their end is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketLayout {
    /// All of a bucket: eight tophash bytes, the link to the next bucket, and the
    /// entries.
    pub size: usize,
    /// Its eight entries.
    pub entries: usize,
    /// Their alignment.
    pub align: usize,
    /// From one key to the next. The first lies where the entries start.
    pub key_stride: usize,
    /// Where the first value lies, from the start of the entries.
    pub values_offset: usize,
    /// From one value to the next.
    pub value_stride: usize,
    /// Whether keys are stored indirectly.
    pub key_indirect: bool,
    /// Whether values are stored indirectly.
    pub value_indirect: bool,
    /// Blocks allocated for each entry beside the bucket.
    pub blocks_per_entry: usize,
}

impl BucketLayout {
    /// The layout of the buckets of a map from `K` to `V`.
    ///
    /// ```
    /// use spanalloc::map::BucketLayout;
    ///
    /// assert_eq!(BucketLayout::of::<i64, i8>().entries, 8 * 8 + 8 * 1);
    /// assert_eq!(BucketLayout::of::<i64, i64>().values_offset, 8);
    /// assert!(BucketLayout::of::<u64, [u8; 129]>().value_indirect);
    /// ```
    #[must_use]
    pub const fn of<K, V>() -> Self {
        Self {
            size: Shape::<K, V>::HEAD + Shape::<K, V>::ENTRIES,
            entries: Shape::<K, V>::ENTRIES,
            align: Shape::<K, V>::ALIGN,
            key_stride: Shape::<K, V>::KEY_STRIDE,
            values_offset: Shape::<K, V>::VALUES,
            value_stride: Shape::<K, V>::VALUE_STRIDE,
            key_indirect: size_of::<K>() > INLINE_MAX_BYTES,
            value_indirect: size_of::<V>() > INLINE_MAX_BYTES,
            blocks_per_entry: Shape::<K, V>::INDIRECT_BLOCKS,
        }
    }
}

impl<K, V, S> Map<K, V, S> {
    /// Everything the map knows about itself. Costs a pass over its buckets; it is
    /// all exact, and nothing is estimated.
    ///
    /// ```
    /// let map: spanalloc::map::Map<u32, u32> = (0..1000).map(|n| (n, n)).collect();
    /// let stats = map.stats();
    /// assert_eq!(stats.slots.live, 1000);
    /// assert!(stats.load <= stats.load_limit);
    /// ```
    pub fn stats(&self) -> Stats {
        let (table, counters) = (&self.table, &self.table.counters);
        let current = table.current();
        let buckets = if current.is_allocated() { current.len() } else { 0 };
        let mut census = Census::default();
        if current.is_allocated() {
            census.take(current);
        }
        let old = table.old().map(|old| OldStats {
            buckets: old.array.len(),
            evacuated_below: old.evacuated_below,
            evacuated: census.take(&old.array),
            same_size: old.array.len() == current.len(),
            bytes: old.array.bytes_total(),
            tier: Tier::of(old.array.bytes()),
            array_address: old.array.address(),
        });
        Stats {
            len: self.len(),
            log2_buckets: current.log2(),
            buckets,
            overflow_buckets: table.overflow_buckets(),
            load: if buckets == 0 { 0.0 } else { self.len() as f64 / buckets as f64 },
            load_limit: table.policy().load_factor.get(),
            array_address: current.address(),
            old,
            spares: current.spares(),
            spares_used: current.spares_used(),
            heap_buckets: current.overflow_heap(),
            chains: census.chains,
            slots: census.slots,
            inserts: Inserts {
                empty_rest: counters.removed + self.len() as u64
                    - counters.inserts_reused
                    - counters.inserts_overflow,
                empty_one: counters.inserts_reused,
                new_overflow: counters.inserts_overflow,
                update: counters.updates,
            },
            removed: counters.removed,
            dropped: counters.dropped,
            growth: GrowthStats {
                doublings: counters.doublings,
                same_size: counters.same_size,
                resizes: counters.resizes,
                chains_evacuated: counters.chains_evacuated,
                entries_moved: counters.entries_moved,
            },
            overflow_spare: counters.overflow_spare,
            overflow_heap: counters.overflow_heap,
            overflow_blocks: counters.extents,
            reseeds: counters.reseeds,
            bytes: table.bytes(),
            bytes_peak: counters.bytes_peak,
            indirect_bytes: table.indirect_bytes(),
            tier: current.is_allocated().then(|| Tier::of(current.bytes())),
            arrays_by_tier: counters.arrays,
            bucket: BucketLayout::of::<K, V>(),
        }
    }

    /// Bytes of the map's arrays with their overflow buckets: [`Stats::bytes`], without a pass over
    /// them. What keys and values point to is not counted, nor the blocks of those larger than
    /// [`INLINE_MAX_BYTES`].
    ///
    /// ```
    /// let mut map = spanalloc::map::Map::new();
    /// assert_eq!(map.bytes(), 0);
    /// map.insert(1, 'a');
    /// assert_eq!(map.bytes(), map.stats().bytes);
    /// ```
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Starts recording events; the last `events_max` are kept. A call while
    /// recording starts afresh; 0 stops. Inserts take longer while anything is recorded.
    ///
    /// ```
    /// use spanalloc::map::{Event, Map};
    ///
    /// let mut map = Map::new();
    /// map.record_events(100);
    /// map.insert(1, 'a');
    /// assert!(map.events().any(|event| matches!(event, Event::Inserted { position: 0, .. })));
    /// ```
    pub fn record_events(&mut self, events_max: usize) {
        let log = Log { events: Default::default(), events_max };
        self.table.record_mut().log = (events_max > 0).then_some(log);
        self.table.end_record_of_nothing();
    }

    /// The recorded events, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        let log = self.table.record().and_then(|record| record.log.as_ref());
        log.into_iter().flat_map(|log| &log.events)
    }

    /// Starts recording, from nothing, which cells new entries take, until
    /// [`stop_heat`](Self::stop_heat). Inserts take longer meanwhile.
    pub fn record_heat(&mut self) {
        self.table.record_mut().heat = Some(Heat::new());
    }

    /// Which cells new entries took since [`record_heat`](Self::record_heat).
    pub fn heat(&self) -> Option<&Heat> {
        self.table.record()?.heat.as_ref()
    }

    /// Stops recording which cells new entries take, and returns what was recorded; `None` if
    /// nothing was.
    ///
    /// ```
    /// let mut map = spanalloc::map::Map::new();
    /// map.record_heat();
    /// map.insert(1, 'a');
    /// let heat = map.stop_heat().unwrap();
    /// map.insert(2, 'b');
    /// assert_eq!((heat.total().inserts, map.heat()), (1, None));
    /// ```
    pub fn stop_heat(&mut self) -> Option<Heat> {
        self.table.record()?;
        let heat = self.table.record_mut().heat.take();
        self.table.end_record_of_nothing();
        heat
    }
}

/// Chains and cells as counted by a pass over an array.
#[derive(Default)]
struct Census {
    chains: Vec<u64>,
    slots: Slots,
}

impl Census {
    /// Counts an array and returns the number of its evacuated chains.
    fn take<K, V>(&mut self, array: &Array<K, V>) -> usize {
        let mut evacuated = 0;
        for index in 0..array.len() {
            let home = array.bucket(index);
            let mut buckets = 0;
            for bucket in home.chain() {
                buckets += 1;
                self.slots.count(bucket.tops().bytes());
            }
            if home.tops().evacuated() {
                evacuated += 1;
                continue;
            }
            if self.chains.len() < buckets {
                self.chains.resize(buckets, 0);
            }
            self.chains[buckets - 1] += 1;
        }
        evacuated
    }
}

impl Slots {
    fn count(&mut self, tops: [u8; CELLS]) {
        for top in tops {
            let state = match top {
                EMPTY_REST => &mut self.empty_rest,
                EMPTY_ONE => &mut self.empty_one,
                EVACUATED_X => &mut self.evacuated_x,
                EVACUATED_Y => &mut self.evacuated_y,
                EVACUATED_EMPTY => &mut self.evacuated_empty,
                LIVE_MIN.. => &mut self.live,
            };
            *state += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_recorded_costs_nothing() {
        let mut map: Map<u32, u32> = Map::with_capacity(100);
        let quick_below = map.table.quick_below();
        assert_ne!(quick_below, 0);
        map.record_events(16);
        assert_eq!(map.table.quick_below(), 0);
        map.record_events(0);
        assert!(map.table.record().is_none() && map.events().next().is_none());
        assert_eq!(map.table.quick_below(), quick_below);
        map.record_heat();
        map.record_events(0);
        assert!(map.heat().is_some() && map.table.quick_below() == 0);
        assert!(map.stop_heat().is_some() && map.stop_heat().is_none());
        assert!(map.table.record().is_none() && map.heat().is_none());
        assert_eq!(map.table.quick_below(), quick_below);
        map.record_events(16);
        map.record_heat();
        map.stop_heat();
        assert!(map.table.record().is_some_and(|record| record.log.is_some()));
    }
}
