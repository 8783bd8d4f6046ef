//! Who the calling thread is to the pools: its *index*, its *stamp*, and its *cache* of shards.
//!
//! A thread that uses a pool for the first time takes the smallest free index and a stamp that no
//! thread had before it. The index selects the thread's shard in every pool; the stamp tells a
//! shard's new owner from the thread that held the index earlier. When the thread ends, it *leaves*
//! every pool it has used and gives the index back.
//!
//! There are [`THREADS_MAX`] indices. A thread that finds none is, for as long as it lives, to the
//! pools what a thread that is being torn down is: one without a shard.
//!
//! In the child of a fork the indices of its parent's other threads stay taken.
//!
//! The cache answers "which shard of this pool is mine" in one compare. A pool has a *key* that it
//! replaces at each epoch; keys are never used twice in a process.
//!
//! # Invariants
//!
//! 1. At any time an index belongs to at most one thread. All that one owner did comes before what
//!    the next owner does.
//! 2. An entry of the cache with key `k` was stored by this thread, and holds the address of the
//!    shard that belongs to this thread in the pool whose key was `k`.
//! 3. Once a thread has begun to leave, its cache is empty and stays so, and [`me`] returns `None`.
//! 4. No thread ever waits for another: the child of a fork would wait for ever for one that it has
//!    not.

use super::indices::Indices;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A pool of whatever type, to the threads that use it and to those that drive its epochs.
pub trait Member: Send + Sync {
    /// Makes what the ending thread keeps under `index` available to the others, and drops what is
    /// too old for that.
    fn leave(&self, index: usize);

    /// Begins the pool's next epoch.
    fn advance(&self);
}

/// The calling thread as the pools know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Me {
    pub(super) index: usize,
    pub(super) stamp: u64,
}

/// The calling thread, entered on the first call; `None` while the thread is being torn down, and
/// when there was no index for it.
pub(super) fn me() -> Option<Me> {
    MEMBERSHIP.try_with(|membership| membership.me).ok()?
}

/// Has the calling thread leave `member` when it ends.
pub(super) fn leave_at_exit(member: Weak<dyn Member>) {
    // A thread that is being torn down has no `Me`, so it has nothing to leave.
    let _ = MEMBERSHIP.try_with(|membership| membership.add(member));
}

/// A key no pool has had before. `slot` picks the entry of the thread caches that all keys of one
/// pool share.
pub(super) fn fresh_key(slot: u64) -> u64 {
    (KEYS.fetch_add(1, Relaxed) << CACHE_BITS) | (slot & CACHE_MASK)
}

/// The address stored under `key` by this thread, if it is still there.
#[inline]
pub(super) fn cached(key: u64) -> Option<NonNull<()>> {
    CACHE.with(|cache| {
        let (cached, shard) = cache[(key & CACHE_MASK) as usize].get();
        if cached == key { shard } else { None }
    })
}

/// Stores `shard` under `key` for this thread.
pub(super) fn cache(key: u64, shard: NonNull<()>) {
    CACHE.with(|cache| cache[(key & CACHE_MASK) as usize].set((key, Some(shard))));
}

/// The most threads that have a shard in the pools at a time.
pub(super) const THREADS_MAX: usize = 1 << 16;

/// Two to this power is the number of entries of a thread's cache.
pub(super) const CACHE_BITS: u32 = 3;
const CACHE_MASK: u64 = (1 << CACHE_BITS) - 1;

type Entry = Cell<(u64, Option<NonNull<()>>)>;

/// Starts at one: no key is zero, the key of an empty entry.
static KEYS: AtomicU64 = AtomicU64::new(1);
static STAMPS: AtomicU64 = AtomicU64::new(1);
static INDICES: Indices<{ THREADS_MAX / 64 }> = Indices::new();

thread_local! {
    // No destructor: the entry is read on the fast path without a check whether it still lives.
    static CACHE: [Entry; 1 << CACHE_BITS] =
        const { [const { Cell::new((0, None)) }; 1 << CACHE_BITS] };
    static MEMBERSHIP: Membership = Membership::enter();
}

struct Membership {
    me: Option<Me>,
    pools: RefCell<Pools>,
}

/// The pools to leave, and how many there were after the last pruning.
struct Pools {
    members: Vec<Weak<dyn Member>>,
    pruned_len: usize,
}

impl Membership {
    fn enter() -> Self {
        let me = INDICES.take().map(|index| Me { index, stamp: STAMPS.fetch_add(1, Relaxed) });
        Self { me, pools: RefCell::new(Pools { members: Vec::new(), pruned_len: 8 }) }
    }

    fn add(&self, member: Weak<dyn Member>) {
        let mut pools = self.pools.borrow_mut();
        if pools.members.len() >= 2 * pools.pruned_len {
            pools.members.retain(|member| member.strong_count() > 0);
            pools.pruned_len = pools.members.len().max(8);
        }
        pools.members.push(member);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        CACHE.with(|cache| cache.iter().for_each(|entry| entry.set((0, None))));
        let Some(Me { index, .. }) = self.me else { return };
        for member in std::mem::take(&mut self.pools.get_mut().members) {
            let leave = || {
                if let Some(member) = member.upgrade() {
                    member.leave(index);
                }
            };
            // Values are dropped that are too old to leave, and all of them where this has become
            // the last reference to a pool. A panic has been reported then; leaving a thread's
            // destructor, it would end the process.
            let _ = catch_unwind(AssertUnwindSafe(leave));
        }
        INDICES.give_back(index);
    }
}
