//! Go's bucketed hash map (up to Go 1.23), instrumented, and maps built on it.
//!
//! # How the map works
//!
//! `2^B` buckets of eight cells. The low `B` bits of a hash choose the bucket, its
//! *home*; the top eight bits are the *tophash*, kept per cell and compared eight at
//! a time before any key is. A bucket that is full links to an *overflow* bucket.
//!
//! 1. **Get** walks the chain from its home and stops at a cell that says nothing
//!    follows. While the map grows, the old array is asked first, unless the chain
//!    has moved.
//! 2. **Insert** walks the chain too, remembering the first empty cell. If the key
//!    is absent it takes that cell, whatever entry was there before, or else adds an
//!    overflow bucket. With `count + 1 > 8` and more than 6.5 entries per bucket the
//!    array doubles; with as many overflow buckets as main ones it is replaced
//!    by one of the same size, which packs the chains.
//! 3. **Growth** allocates the new array and moves nothing. Each insert and remove
//!    then evacuates the chain it is about to touch and sixteen more in order, always
//!    whole chains, so that nothing is ever written to a chain that has yet to move.
//! 4. **Remove** drops the entry at once and marks its cell empty; trailing empty
//!    cells are marked as "nothing follows". A map that becomes empty draws a new
//!    hash seed. Memory stays until [`Map::shrink_to_fit`], which Go does not have.
//!
//! Deliberate differences to Go: the tophash bytes of an array lie together, before
//! its entries, and a value beside its key where that pads nothing, so that a lookup
//! crosses as few cache lines as the standard library's; an insert during a growth
//! moves sixteen more chains where Go moves one; `noverflow` is exact, and its limit
//! grows with the array, however large; overflow buckets of large arrays are allocated
//! several at a time, and freed with their array (there is no collector to do it); and
//! an update keeps the old key, as `std` does.

// # The files
//
// | file | one idea |
// | --- | --- |
// | `tops` | eight tophash bytes as one word |
// | `bucket` | the layout of a bucket and access to its cells |
// | `array` | a bucket array and its overflow buckets: memory without entries |
// | `table` | find, place, erase |
// | `grow` | evacuation and resizing |
// | `walk`, `remains` | visiting all entries; taking all out |
// | `api`, `entry`, `iter`, `traits` | the map as users see it |
// | `policy`, `record`, `stats`, `stats_text`, `check`, `heat`, `cursor` | knobs, counters, reports |
// | `sharded`, `handle`, `handle_room`, `handle_traits`, `slab`, `lazy`, `lab` | built on the map, or beside it |

mod api;
mod array;
mod bucket;
mod check;
mod cursor;
mod entry;
mod grow;
mod handle;
mod handle_room;
mod handle_traits;
mod heat;
mod iter;
mod lab;
mod lazy;
mod policy;
mod prefetch;
mod random;
mod record;
mod remains;
mod sharded;
mod slab;
mod stats;
mod stats_text;
mod table;
mod tops;
mod traits;
mod walk;

pub use api::Map;
pub use bucket::INLINE_MAX_BYTES;
pub use check::Tophashes;
pub use cursor::Cursor;
pub use entry::{Entry, OccupiedEntry, VacantEntry};
pub use handle::{HandleMap, HandleStats};
pub use handle_traits::{HandleIntoIter, HandleIter, HandleIterMut};
pub use heat::{Heat, Reuse};
pub use iter::{
    Drain, ExtractIf, IntoIter, IntoKeys, IntoValues, Iter, IterMut, Keys, Values, ValuesMut,
};
pub use lab::{CasTable, Claim, SlotId};
pub use lazy::{Lazy, LazyStats, Sweep};
pub use policy::{Growth, LoadFactor, LoadFactorError, Policy, ReserveError};
pub use record::{Event, GrowthKind, Tier};
pub use sharded::{ShardStats, Sharded};
pub use slab::Handle;
pub use stats::{BucketLayout, GrowthStats, Inserts, OldStats, Slots, Stats};
