//! Exact counts: at a quiet point `stats()` equals a ledger kept by the test.
//!
//! The global allocator is spanalloc behind a counter of our own, so every
//! allocation of this process is in the ledger: the scenarios', the threads', the
//! test harness's. One test, since a second one would never let it be quiet.
//!
//! The ledger works out for itself what block a layout gets. A `realloc` that
//! leaves the block as big as it was counts as nothing, any other one as a free
//! and an allocation.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use spanalloc::{SpanAlloc, Stats};

mod common;
use common::{Block, Random, churn};

#[global_allocator]
static GLOBAL: Counted = Counted(SpanAlloc::new());

const SMALL_BYTES_MAX: usize = 32 << 10;
const SPAN_BYTES_MAX: usize = 16 << 20;
const SLOT_BYTES: usize = 64 << 10;
const CLASS_ROWS: usize = SMALL_BYTES_MAX / 8 + 1;
const LARGE_ROWS: usize = 48;

/// One row of the ledger.
struct Row {
    allocs: AtomicU64,
    frees: AtomicU64,
    allocated_bytes: AtomicU64,
    live_bytes: AtomicU64,
}

/// Allocations, frees, bytes allocated, live bytes.
type Counts = (u64, u64, u64, u64);

impl Row {
    const fn new() -> Self {
        Self {
            allocs: AtomicU64::new(0),
            frees: AtomicU64::new(0),
            allocated_bytes: AtomicU64::new(0),
            live_bytes: AtomicU64::new(0),
        }
    }

    fn counts(&self) -> Counts {
        let Self { allocs, frees, allocated_bytes, live_bytes } = self;
        let of = |figure: &AtomicU64| figure.load(Relaxed);
        (of(allocs), of(frees), of(allocated_bytes), of(live_bytes))
    }
}

/// Classes by their block size in units of 8 bytes, then large blocks by doublings.
static LEDGER: [Row; CLASS_ROWS + LARGE_ROWS] = [const { Row::new() }; CLASS_ROWS + LARGE_ROWS];

/// What a layout gets: its row and the bytes of its block.
#[derive(PartialEq, Clone, Copy)]
struct Place {
    row: usize,
    block_bytes: usize,
}

impl Place {
    fn of(layout: Layout) -> Self {
        let bytes = layout.size().max(1).next_multiple_of(layout.align());
        if bytes <= SMALL_BYTES_MAX {
            let below = bytes.next_power_of_two() / 2;
            let step = match bytes {
                ..=128 => 8,
                129..=256 => 16,
                1025..=8192 if bytes <= below + below / 8 => below / 8,
                _ => below / 4,
            };
            let block_bytes = bytes.next_multiple_of(step);
            return Self { row: block_bytes / 8, block_bytes };
        }
        let own_mapping = bytes > SPAN_BYTES_MAX || layout.align() > SPAN_BYTES_MAX;
        // SAFETY: no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let block_bytes = match own_mapping {
            true => layout.size().next_multiple_of(page),
            false => layout.size().max(1).next_multiple_of(SLOT_BYTES),
        };
        let slots = block_bytes.div_ceil(SLOT_BYTES).next_power_of_two();
        Self { row: CLASS_ROWS + slots.ilog2() as usize, block_bytes }
    }

    fn allocated(self) {
        LEDGER[self.row].allocs.fetch_add(1, Relaxed);
        LEDGER[self.row].allocated_bytes.fetch_add(self.block_bytes as u64, Relaxed);
        LEDGER[self.row].live_bytes.fetch_add(self.block_bytes as u64, Relaxed);
    }

    fn freed(self) {
        LEDGER[self.row].frees.fetch_add(1, Relaxed);
        LEDGER[self.row].live_bytes.fetch_sub(self.block_bytes as u64, Relaxed);
    }
}

/// spanalloc with every call entered into the ledger.
struct Counted(SpanAlloc);

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        let block = unsafe { self.0.alloc(layout) };
        if !block.is_null() {
            Place::of(layout).allocated();
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        let block = unsafe { self.0.alloc_zeroed(layout) };
        if !block.is_null() {
            Place::of(layout).allocated();
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Place::of(layout).freed();
        // SAFETY: passed on.
        unsafe { self.0.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: passed on.
        let moved = unsafe { self.0.realloc(block, layout, bytes) };
        // SAFETY: `realloc`'s contract.
        let after = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        let (before, after) = (Place::of(layout), Place::of(after));
        if !moved.is_null() && before != after {
            before.freed();
            after.allocated();
        }
        moved
    }
}

/// Compares everything. The process is quiet but for this thread, and nothing is
/// allocated between the two snapshots.
fn compare(when: &str) -> Stats {
    static COPY: Mutex<[Counts; CLASS_ROWS + LARGE_ROWS]> =
        Mutex::new([(0, 0, 0, 0); CLASS_ROWS + LARGE_ROWS]);
    let mut copy = COPY.lock().unwrap();
    for (copy, row) in copy.iter_mut().zip(&LEDGER) {
        *copy = row.counts();
    }
    let stats = spanalloc::stats();
    let mut met = (0, 0, 0);
    for row in stats.classes.iter().chain(&stats.large) {
        let bytes = row.block_bytes as usize;
        let index = match bytes {
            ..=SMALL_BYTES_MAX => bytes / 8,
            _ => CLASS_ROWS + (bytes / SLOT_BYTES).ilog2() as usize,
        };
        assert_eq!(
            (row.allocs, row.frees, row.allocated_bytes, row.live_bytes),
            copy[index],
            "{when}: (allocations, frees, bytes allocated, live bytes) of the row of {bytes} bytes"
        );
        assert_eq!(row.live_blocks, row.allocs - row.frees, "{when}: {bytes} bytes");
        assert!(row.refills <= row.allocs + 1, "{when}: {bytes} bytes");
        assert!(row.live_blocks <= row.spans * row.blocks_per_span, "{when}: {bytes} bytes");
        assert!(row.live_blocks <= row.first_uses, "{when}: {bytes} bytes");
        met = (met.0 + row.allocs, met.1 + row.allocated_bytes, met.2 + row.live_bytes);
    }
    // No row of the ledger without one in the snapshot.
    let sum = |all: (u64, u64, u64), row: &Counts| (all.0 + row.0, all.1 + row.2, all.2 + row.3);
    let all = copy.iter().fold((0, 0, 0), sum);
    assert_eq!(met, all, "{when}: allocations, bytes allocated and live bytes in all");
    let total = stats.total();
    let sums = (total.allocs, total.allocated_bytes, total.live_bytes);
    assert_eq!(sums, all, "{when}: the sums");
    assert_eq!(stats.memory.live, all.2, "{when}: live memory");
    stats
}

fn row(stats: &Stats, block_bytes: u64) -> &spanalloc::report::ClassStats {
    stats.classes.iter().find(|row| row.block_bytes == block_bytes).unwrap()
}

/// Waits for the threads themselves: a scope only waits for what they run, and a
/// thread frees its handle and thread-locals after that.
fn join(threads: Vec<ScopedJoinHandle<'_, ()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn many_threads_that_die() {
    let pool = Mutex::new(Vec::new());
    for round in 0..3 {
        thread::scope(|scope| {
            let pool = &pool;
            let start = |seed| scope.spawn(move || churn(seed, 3000, pool));
            join((0..8).map(|thread| start(round * 8 + thread)).collect());
        });
        compare("after threads that left blocks behind");
    }
    drop(pool);
    compare("after freeing what dead threads allocated");
}

fn producer_and_consumer() {
    // A size that nothing else in this process asks for.
    const BYTES: usize = 3000;
    const BLOCKS: usize = 20_000;
    let before = compare("before the consumer");
    let bytes = Place::of(Layout::new::<[u8; BYTES]>()).block_bytes as u64;
    let (send, receive) = mpsc::sync_channel::<Block>(256);
    let consumer = thread::spawn(move || receive.into_iter().for_each(drop));
    for _ in 0..BLOCKS {
        send.send(Block::new(BYTES, 1, false)).unwrap();
    }
    drop(send);
    consumer.join().unwrap();
    let after = compare("after the consumer");
    let (before, after) = (row(&before, bytes), row(&after, bytes));
    assert_eq!(after.allocs - before.allocs, BLOCKS as u64);
    // The consumer allocated none, so every one went home from a strange thread.
    assert_eq!(after.remote_frees - before.remote_frees, BLOCKS as u64);
}

fn drained_bins() {
    for bytes in [8, 24, 100, 1000, 9000, 30_000] {
        let mut held: Vec<_> =
            (0..20_000_000 / bytes / 8).map(|_| Block::new(bytes, 1, false)).collect();
        compare("with many of a class");
        held.truncate(held.len() / 2);
        compare("while a bin drains");
        drop(held);
        compare("after a bin drained");
    }
}

fn resizing() {
    let sizes = [
        1,
        8,
        9,
        128,
        129,
        1024,
        8192,
        8193,
        32 << 10,
        (32 << 10) + 1,
        64 << 10,
        (64 << 10) + 1,
        1 << 20,
        16 << 20,
        (16 << 20) + 1,
        (16 << 20) + 4096,
        40 << 20,
    ];
    for align in [1, 4096, 1 << 20] {
        for from in sizes {
            for to in sizes {
                let mut held = Block::new(from, align, false);
                held.resize(to);
                drop(held);
            }
        }
        compare("after resizing between all kinds of blocks");
    }
}

fn refused() {
    let bytes = isize::MAX as usize - (1 << 20);
    let mut held = Block::new(40 << 20, 8, false);
    let mut small = Block::new(40, 8, false);
    assert!(Block::try_new(bytes, 8, false).is_none());
    assert!(Block::try_new(bytes, 8, true).is_none());
    assert!(!held.try_resize(bytes) && !small.try_resize(bytes));
    compare("after requests that nobody can serve");
    held.resize(41 << 20);
    compare("after a refused block was resized");
}

thread_local! {
    /// Freed by the thread's own destructors, while it still has its heap.
    static IN_TIME: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// What a thread leaves for a `pthread` key's destructor, which runs after its
/// heap was handed over.
struct Late {
    freed: Vec<Block>,
    allocate: bool,
}

unsafe extern "C" fn late(value: *mut libc::c_void) {
    // SAFETY: the value that `leave_late` boxed.
    let mut late = unsafe { Box::from_raw(value.cast::<Late>()) };
    late.freed.clear();
    if late.allocate {
        let mut random = Random(7);
        let blocks: Vec<_> = (0..500).map(|_| Block::new(random.size(), 8, true)).collect();
        std::mem::forget(blocks.into_iter().step_by(2).collect::<Vec<_>>());
    }
    drop(late);
}

/// Ends a thread that frees, and maybe allocates, after its heap is gone.
fn leave_late(allocate: bool) {
    let mut key = 0;
    // SAFETY: `key` is a live out-parameter. Keys run in the order of their
    // numbers and the allocator's was made first.
    assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(late)) }, 0);
    thread::spawn(move || {
        IN_TIME.with(|blocks| blocks.borrow_mut().push(Block::new(77, 1, false)));
        let blocks = (0..300).map(|n| Block::new(1 + n * 13, 8, false)).collect();
        let value = Box::into_raw(Box::new(Late { freed: blocks, allocate }));
        // SAFETY: the key was just made.
        assert_eq!(unsafe { libc::pthread_setspecific(key, value.cast()) }, 0);
    })
    .join()
    .unwrap();
    // SAFETY: made above, and its only thread has ended.
    assert_eq!(unsafe { libc::pthread_key_delete(key) }, 0);
}

fn late_threads() {
    leave_late(false);
    compare("after a thread that freed without a heap");
    leave_late(true);
    compare("after a thread that allocated without a heap");
    leave_late(false);
    compare("after one more thread that freed without a heap");
}

/// A forked child goes on with its parent's books.
fn forked() {
    // SAFETY: all other threads but the idle harness are gone, and the child ends
    // with `_exit`.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "fork failed");
    if process == 0 {
        let child = std::panic::catch_unwind(|| {
            compare("in a forked child");
            churn(5, 2000, &Mutex::new(Vec::new()));
            leave_late(true);
            leave_late(true);
            compare("in a forked child after work");
        });
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if child.is_ok() { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
    assert_eq!(status, 0, "the forked child's books");
    compare("in the parent of a forked child");
}

/// Snapshots taken while threads allocate: a figure lags behind by what a thread
/// is entering in its books, a list of at most 1,024 blocks each.
fn snapshots_meanwhile() {
    let pool = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|seed| {
                let pool = &pool;
                scope.spawn(move || churn(seed + 100, 8000, pool))
            })
            .collect();
        let mut before = spanalloc::stats();
        while workers.iter().any(|worker| !worker.is_finished()) {
            let after = spanalloc::stats();
            for (before, after) in before.classes.iter().zip(&after.classes) {
                let lag = 5 * 1024;
                assert!(after.allocs + lag >= before.allocs, "{} bytes", after.block_bytes);
                assert!(after.frees + lag >= before.frees, "{} bytes", after.block_bytes);
            }
            before = after;
        }
        join(workers);
    });
    drop(pool);
    compare("after snapshots that were taken meanwhile");
}

#[cfg(feature = "profile")]
fn sampled() {
    for interval in [1, 64, 4096] {
        spanalloc::profile::start(interval).unwrap();
        many_threads_that_die();
        drained_bins();
        spanalloc::profile::stop();
        compare("after sampling");
    }
}

#[test]
fn stats_equal_the_ledger() {
    // The harness's own thread is still noting down that this test has begun.
    thread::sleep(Duration::from_millis(100));
    compare("at the start");
    churn(1, 20_000, &Mutex::new(Vec::new()));
    compare("after one thread");
    many_threads_that_die();
    producer_and_consumer();
    drained_bins();
    resizing();
    refused();
    late_threads();
    forked();
    snapshots_meanwhile();
    #[cfg(feature = "profile")]
    sampled();
}
