//! What is at an address, and memory given back: decay, soft limit, listeners.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use spanalloc::{BlockState, Inspection, Place, SpanAlloc, inspect};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// Sampling and what is held are the process's: the tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at<T>(value: &T) -> Option<Inspection> {
    inspect(std::ptr::from_ref(value).cast())
}

#[test]
fn what_the_calling_thread_keeps_goes_back_when_asked_for() {
    let _turn = turn();
    let cached = || spanalloc::stats().memory.cached;
    let mut left = 0;
    // Other threads of the harness have lists of their own, until they end.
    for _ in 0..50 {
        for bytes in (8..4096).step_by(56) {
            drop((0..2000).map(|_| vec![0u8; bytes]).collect::<Vec<_>>());
        }
        let full = cached();
        assert!(full > 512 << 10, "{full} bytes on lists");
        spanalloc::release_free_memory();
        left = cached();
        if left < 256 << 10 {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{left} bytes are on lists still");
}

/// What a thread freed of others' goes home in batches, and what is of no full batch when it asks.
#[test]
fn what_the_calling_thread_has_of_others_goes_back_when_asked_for() {
    let _turn = turn();
    // A class under musl, too, where blocks are aligned to 16; spans hold no whole number of
    // batches.
    let block_bytes = 112;
    let spans = || {
        let classes = spanalloc::stats().classes;
        classes.iter().find(|class| class.block_bytes == block_bytes as u64).unwrap().spans
    };
    let before = spans();
    let blocks =
        thread::spawn(move || (0..20_000).map(|_| vec![1_u8; block_bytes]).collect::<Vec<_>>());
    let blocks = blocks.join().unwrap();
    assert!(spans() >= before + 30, "{} spans", spans());
    drop(blocks);
    spanalloc::release_free_memory();
    assert!(spans() <= before + 2, "{} spans, {before} before", spans());
}

#[test]
fn a_block_is_found_by_any_of_its_bytes() {
    let _turn = turn();
    let block = black_box(Box::new([7u8; 200]));
    let found = at(&*block).unwrap();
    assert_eq!((found.start, found.state), ((&raw const *block).addr(), BlockState::Live));
    assert!(found.bytes >= 200 && found.bytes < 260, "{found:?}");
    assert_eq!(at(&block[199]), Some(found));
    let Place::Block { index, blocks, span_start, span_bytes } = found.what else {
        panic!("{found:?}")
    };
    assert_eq!(span_start + index as usize * found.bytes, found.start);
    assert!(index < blocks && blocks as usize * found.bytes <= span_bytes);
    let text = found.to_string();
    assert!(
        text.contains(&format!("block {index} of {blocks}")) && text.ends_with(", live"),
        "{text}"
    );
}

#[test]
fn a_thread_tells_its_live_blocks_from_its_free_ones() {
    let _turn = turn();
    // More than its lists hold, so that some are free in their spans and some on lists.
    let mut blocks: Vec<_> = (0..3000u32).map(|n| Some(black_box(Box::new([n; 12])))).collect();
    let address = |block: &Option<Box<[u32; 12]>>| block.as_ref().map(|b| (&raw const **b).addr());
    let addresses: Vec<usize> = blocks.iter().filter_map(address).collect();
    blocks.iter_mut().step_by(3).for_each(|block| drop(block.take()));
    for (number, &address) in addresses.iter().enumerate() {
        let found = inspect(std::ptr::without_provenance(address)).unwrap();
        let expected = if number % 3 == 0 { BlockState::Free } else { BlockState::Live };
        assert_eq!((found.start, found.state), (address, expected), "block {number}");
    }
}

#[test]
fn other_threads_blocks_are_found_but_not_judged() {
    let _turn = turn();
    let block = thread::spawn(|| Box::new([1u8; 96])).join().unwrap();
    assert_eq!(at(&*block).map(|found| found.state), Some(BlockState::Unknown));
}

#[test]
fn large_blocks_and_what_is_no_block() {
    let _turn = turn();
    let span = black_box(vec![1u8; 200 << 10]);
    let found = at(&span[150 << 10]).unwrap();
    assert_eq!((found.what, found.state), (Place::LargeSpan, BlockState::Live));
    assert_eq!(found.start, span.as_ptr().addr());
    let mapping = black_box(vec![1u8; 40 << 20]);
    let found = at(&mapping[39 << 20]).unwrap();
    assert_eq!((found.what, found.start), (Place::Mapping, mapping.as_ptr().addr()));
    let (address, freed) = (mapping.as_ptr(), span.as_ptr());
    drop((mapping, span));
    // By preload none is kept.
    let kept = inspect(address).map(|found| (found.what, found.state));
    let expected = (Place::Mapping, BlockState::Free);
    assert_eq!(kept, (!cfg!(feature = "preload")).then_some(expected));
    spanalloc::release_free_memory();
    assert_eq!(inspect(address), None);
    let found = inspect(freed).unwrap();
    let is_free = matches!(found.state, BlockState::Free | BlockState::Returned);
    assert!(found.what == Place::FreePages && is_free, "{found:?}");
    let header = at(&*Box::new(1)).map(|found| found.start & !((64 << 20) - 1)).unwrap();
    let header = inspect(std::ptr::without_provenance(header)).unwrap();
    assert_eq!(header.what, Place::Headers);
    static STATIC: u8 = 1;
    assert_eq!([at(&STATIC), at(&found), inspect(std::ptr::null())], [None; 3]);
}

#[test]
fn blocks_whose_pages_went_back_are_told_from_free_ones() {
    let _turn = turn();
    let mut blocks: Vec<_> = (0..4000u32).map(|n| Some(black_box(Box::new([n; 64])))).collect();
    let address = |block: &Option<Box<[u32; 64]>>| block.as_ref().map(|b| (&raw const **b).addr());
    let addresses: Vec<usize> = blocks.iter().filter_map(address).collect();
    // One in each two spans stays, so that they do.
    blocks.iter_mut().enumerate().filter(|(n, _)| n % 400 != 0).for_each(|(_, b)| drop(b.take()));
    spanalloc::release_free_memory();
    let state = |at: &usize| inspect(std::ptr::without_provenance(*at)).map(|found| found.state);
    let count = |wanted| addresses.iter().filter(|at| state(at) == Some(wanted)).count();
    assert_eq!(count(BlockState::Live), 10);
    // Not in the pages of chains that this thread may push on.
    assert!(count(BlockState::Returned) > 2000, "{}", count(BlockState::Returned));
    drop(blocks);
}

#[test]
fn a_size_that_no_memory_holds_costs_nothing_that_is_free() {
    let _turn = turn();
    spanalloc::set_decay(Duration::from_secs(3600));
    drop(black_box((0..200).map(|_| vec![1u8; 100 << 10]).collect::<Vec<_>>()));
    let free = || spanalloc::stats().memory.free_pages;
    let before = free();
    assert!(before >= 15 << 20, "{before}");
    assert!(Vec::<u8>::new().try_reserve(isize::MAX as usize - 100).is_err());
    assert!(free() >= before - (1 << 20), "{} of {before}", free());
    spanalloc::set_decay(Duration::from_millis(500));
}

#[cfg(feature = "profile")]
#[test]
fn sampled_blocks_are_live_while_the_profile_has_them() {
    let _turn = turn();
    thread::spawn(|| {
        spanalloc::profile::start(1).unwrap();
        // What was granted before sampling began is used up.
        let blocks: Vec<_> = (0..3000).map(|_| black_box(Box::new([1u8; 72]))).collect();
        spanalloc::profile::stop();
        let sampled = blocks.iter().filter_map(|block| at(&**block)).filter(|found| found.sampled);
        let sampled: Vec<_> = sampled.collect();
        assert!(sampled.len() > 1000, "{}", sampled.len());
        assert!(sampled.iter().all(|found| found.state == BlockState::Live));
        drop(blocks);
        let one = inspect(std::ptr::without_provenance(sampled[0].start));
        assert!(one.is_none_or(|found| found.state != BlockState::Live), "{one:?}");
    })
    .join()
    .unwrap();
}

/// Free pages that are still resident, in MiB.
fn free_pages() -> u64 {
    spanalloc::stats().memory.free_pages >> 20
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 20 s: {what}");
}

fn megabytes(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| black_box(vec![1; 1 << 20])).collect()
}

/// Free pages that are still resident, in KiB.
fn free_kib() -> u64 {
    spanalloc::stats().memory.free_pages >> 10
}

/// Waits until what other tests left is given back, and the thread that did so has ended: what
/// a test frees has to start it then.
fn until_nobody_scavenges() {
    let scavenges = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let mut names = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
        names.any(|name| name.trim() == "spanalloc-idle")
    };
    spanalloc::set_decay(Duration::from_millis(1));
    eventually("what other tests left is given back", || {
        spanalloc::release_free_memory();
        free_kib() < 512 && !scavenges()
    });
}

/// A refill reads which spans others have emptied; these go back though nobody frees afterwards.
#[test]
fn spans_that_an_allocation_ends_go_back() {
    let _turn = turn();
    until_nobody_scavenges();
    let before = spanalloc::held_bytes();
    // 24 spans: so many messages alone wake nobody.
    let blocks: Vec<_> = (0..24 * 32).map(|_| black_box(vec![1_u8; 2000])).collect();
    thread::spawn(move || drop(blocks)).join().unwrap();
    let _fresh = black_box(vec![1_u8; 5000]);
    eventually("the spans go back", || spanalloc::held_bytes() < before + (512 << 10));
}

/// A mapping of its own, which is kept for the next one; nothing else is freed.
#[test]
fn one_vector_of_an_idle_program_is_kept_counted_and_given_back() {
    const MIB: u64 = 40;
    let _turn = turn();
    until_nobody_scavenges();
    spanalloc::set_decay(Duration::MAX);
    let before = free_pages();
    drop(black_box(vec![1_u8; (MIB as usize) << 20]));
    assert!(free_pages() >= before + MIB, "{before} MiB, then {}", free_pages());
    spanalloc::set_decay(Duration::from_millis(1));
    eventually("it goes back", || free_pages() < 8);
    spanalloc::set_decay(Duration::from_millis(500));
}

/// Its lists are kept whole, so that no page comes free.
#[test]
fn what_a_sleeping_thread_keeps_of_small_blocks_goes_back() {
    const BLOCKS: usize = 16 << 10;
    let _turn = turn();
    let cached_kib = || spanalloc::stats().memory.cached >> 10;
    until_nobody_scavenges();
    spanalloc::set_decay(Duration::from_secs(3600));
    let (kept, end) = (Barrier::new(2), Barrier::new(2));
    let before = cached_kib();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut blocks = Vec::with_capacity(BLOCKS);
            blocks.extend((0..BLOCKS).map(|_| black_box(Box::new([1_u8; 64]))));
            blocks.clear();
            kept.wait();
            end.wait();
        });
        kept.wait();
        let full = cached_kib();
        spanalloc::set_decay(Duration::from_millis(20));
        let mut left = full;
        for _ in 0..2000 {
            left = cached_kib();
            if left <= before + 256 {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // Before anything panics.
        end.wait();
        assert!(full >= before + 900, "{before} KiB, then {full}");
        assert!(left <= before + 256, "{before} KiB, then {full}, and after 20 s {left}");
    });
    spanalloc::set_decay(Duration::from_millis(500));
}

/// What one of them keeps is not worth a thread that gives it back; what all keep is.
#[test]
fn a_little_that_each_of_many_sleeping_threads_keeps_goes_back() {
    const THREADS: usize = 40;
    let _turn = turn();
    until_nobody_scavenges();
    // Not before all have some.
    spanalloc::set_decay(Duration::from_secs(3600));
    let before = free_kib();
    let (kept, end) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                drop(black_box(vec![1u8; 100 << 10]));
                kept.wait();
                end.wait();
            });
        }
        kept.wait();
        let full = free_kib();
        spanalloc::set_decay(Duration::from_millis(500));
        let mut left = full;
        for _ in 0..2000 {
            left = free_kib();
            if left <= before + 1024 {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // Before anything panics.
        end.wait();
        assert!(full >= before + 100 * THREADS as u64, "{before} KiB, then {full}");
        assert!(left <= before + 1024, "{before} KiB, then {full}, and after 20 s {left}");
    });
}

/// A listener that ends its own registration while it is called goes with what it has.
#[test]
fn a_listener_that_panics_as_it_goes_does_not_end_the_listening_of_others() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("what a listener has is its own affair, too");
        }
    }
    let _turn = turn();
    let kept = megabytes(4);
    let (own, panics) = (Arc::new(Mutex::new(None)), Panics);
    let registration = own.clone();
    let goes = spanalloc::on_pressure(move |_| {
        let _ = &panics;
        drop(own.lock().unwrap().take());
    });
    *registration.lock().unwrap() = Some(goes);
    let told = Arc::new(AtomicU64::new(0));
    let counts = told.clone();
    let stays = spanalloc::on_pressure(move |_| _ = counts.fetch_add(1, SeqCst));
    spanalloc::set_soft_limit(1 << 20).unwrap();
    eventually("the other is told again", || told.load(SeqCst) >= 2);
    assert!(registration.lock().unwrap().is_none());
    spanalloc::set_soft_limit(0).unwrap();
    drop((kept, stays));
}

#[test]
fn how_long_pages_stay_is_told_as_it_was_set() {
    let _turn = turn();
    for (set, told_ms) in [(Duration::ZERO, 1), (Duration::from_secs(2), 2000)] {
        spanalloc::set_decay(set);
        assert_eq!(spanalloc::decay(), Duration::from_millis(told_ms));
    }
    for never in [Duration::MAX, Duration::from_secs(50 * 24 * 3600)] {
        spanalloc::set_decay(never);
        assert_eq!(spanalloc::decay(), Duration::MAX);
    }
    spanalloc::set_decay(Duration::from_millis(500));
}

/// One test: decay and limit are the process's.
#[test]
fn memory_goes_back_by_decay_and_above_the_limit() {
    let _turn = turn();
    spanalloc::set_decay(Duration::MAX);
    drop(megabytes(40));
    thread::sleep(Duration::from_millis(20));
    assert!(free_pages() >= 32, "nothing goes back for 49 days");

    spanalloc::set_soft_limit(1 << 40).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(free_pages() >= 32, "the limit is far");
    let cache = Arc::new(Mutex::new(megabytes(64)));
    let (told, limit_told) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let listener = {
        let (cache, told, limit_told) = (cache.clone(), told.clone(), limit_told.clone());
        spanalloc::on_pressure(move |pressure| {
            assert!(pressure.held > pressure.limit);
            limit_told.store(pressure.limit, SeqCst);
            told.fetch_add(1, SeqCst);
            let freed = std::mem::take(&mut *cache.lock().unwrap());
            drop(freed);
        })
    };
    let held = spanalloc::stats().memory.live;
    let limit = held - (32 << 20);
    spanalloc::set_soft_limit(limit).unwrap();
    eventually("the listener frees", || cache.lock().unwrap().is_empty());
    eventually("what it freed goes back", || free_pages() < 8);
    assert_eq!(limit_told.load(SeqCst), limit);
    drop(listener);
    let before = told.load(SeqCst);
    let kept = megabytes(64);
    let other = Arc::new(AtomicU64::new(0));
    let listener = {
        let other = other.clone();
        spanalloc::on_pressure(move |_| {
            other.fetch_add(1, SeqCst);
            panic!("a listener's panic is its own affair");
        })
    };
    eventually("it is told again and again", || other.load(SeqCst) >= 2);
    assert_eq!(told.load(SeqCst), before, "a dropped listener is not called");
    drop((kept, listener));
    spanalloc::set_soft_limit(0).unwrap();

    drop(megabytes(40));
    assert!(free_pages() >= 32);
    spanalloc::set_decay(Duration::from_millis(1));
    eventually("a short decay gives it back", || free_pages() < 8);

    // One block in two hundred stays: each keeps its page, not its span.
    spanalloc::set_decay(Duration::MAX);
    let mut blocks: Vec<_> = (0..300_000u32).map(|n| black_box(Box::new([n; 25]))).collect();
    let spare = || spanalloc::stats().memory.spare >> 20;
    let mut number = 0;
    blocks.retain(|_| {
        number += 1;
        number % 200 == 0
    });
    assert!(spare() > 12, "{} MiB are free in spans", spare());
    spanalloc::set_decay(Duration::from_millis(1));
    eventually("what lies between blocks in use goes back", || spare() < 12);
    assert!(blocks.iter().enumerate().all(|(n, block)| block[24] == n as u32 * 200 + 199));
}
