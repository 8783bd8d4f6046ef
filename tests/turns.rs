//! What must not bend the figures of a profile: a new interval, a resize that fails, the end of a
//! thread. The profiler is the process's, so the tests take turns.
#![cfg(feature = "profile")]

use std::ffi::c_void;
use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{ptr, thread};

use spanalloc::SpanAlloc;
use spanalloc::profile::{self, Amount, BlockSize};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    profile::stop();
    profile::reset();
    turn
}

/// The sum over blocks of these sizes.
fn sum(of: impl Fn(&BlockSize) -> Amount, sizes: std::ops::RangeInclusive<u64>) -> Amount {
    let found = profile::capture().sizes;
    let inside = found.iter().filter(|size| sizes.contains(&size.block_bytes)).map(of);
    inside.fold(Amount::default(), |mut sum, one| {
        sum.samples += one.samples;
        sum.objects += one.objects;
        sum.bytes += one.bytes;
        sum
    })
}

#[test]
fn a_mark_of_one_interval_does_not_count_by_the_next() {
    let _turn = turn();
    let sizes = || (8..=1024).step_by(8).chain((2048..=16 << 10).step_by(1024));
    let mut samples = 0;
    for _ in 0..20 {
        profile::start(4096).unwrap();
        thread::spawn(move || {
            sizes().for_each(|bytes| drop(black_box(Vec::<u8>::with_capacity(bytes))));
            profile::start(64 << 20).unwrap();
            profile::reset();
            for bytes in sizes() {
                (0..(128 << 10) / bytes)
                    .for_each(|_| drop(black_box(Vec::<u8>::with_capacity(bytes))));
            }
        })
        .join()
        .unwrap();
        samples += sum(|size| size.allocated, 1..=u64::MAX).samples;
    }
    // 18 MiB each time: five or six samples are to be expected.
    assert!(samples < 30, "{samples} samples of {} MiB, one per 64 MiB", 20 * 18);
}

#[test]
fn a_block_whose_resize_fails_is_live_still() {
    let _turn = turn();
    profile::start(1).unwrap();
    for bytes in [1_u64 << 20, 32 << 20] {
        let range = bytes..=bytes + bytes / 8;
        let mut block = black_box(vec![1_u8; bytes as usize]);
        assert_eq!(sum(|size| size.in_use, range.clone()).objects, 1);
        assert!(block.try_reserve(1 << 47).is_err());
        let live = sum(|size| size.in_use, range.clone());
        assert_eq!((live.objects, live.bytes), (1, bytes));
        drop(block);
        assert_eq!(sum(|size| size.in_use, range.clone()).objects, 0);
        assert_eq!(sum(|size| size.allocated, range).objects, 1);
    }
}

/// Its pages move to where the block is not sampled any more.
#[test]
fn a_sampled_block_that_is_resized_unsampled_is_not_in_use_any_more() {
    const MIB: u64 = 1 << 20;
    let _turn = turn();
    profile::start(1).unwrap();
    let mut block = black_box(vec![1_u8; 32 << 20]);
    assert_eq!(sum(|size| size.in_use, 32 * MIB..=72 * MIB).objects, 1);
    profile::stop();
    block.reserve_exact(32 << 20);
    assert_eq!(sum(|size| size.in_use, 32 * MIB..=72 * MIB).objects, 0);
    drop(block);
}

/// In a class of each kind, and in a span of its own.
#[test]
fn a_block_that_is_resized_where_it_is_counts_as_what_it_is_now() {
    let _turn = turn();
    profile::start(1).unwrap();
    for (bytes, grown, block_bytes) in
        [(145, 160, 160), (13 << 10, 14 << 10, 14 << 10), (33 << 10, 60 << 10, 64 << 10)]
    {
        let in_use = || sum(|size| size.in_use, block_bytes..=block_bytes).bytes;
        let before = in_use();
        // What a new thread is granted is for this interval.
        let block = thread::spawn(move || black_box(Vec::<u8>::with_capacity(bytes)));
        let mut block = block.join().unwrap();
        assert_eq!(in_use(), before + bytes as u64);
        let place = block.as_ptr();
        block.reserve_exact(grown);
        assert_eq!(in_use(), before + grown as u64);
        assert_eq!(place, block.as_ptr(), "where it is");
    }
}

#[test]
fn what_a_thread_allocates_after_its_own_end_is_sampled() {
    /// Run by the C library after the allocator's own: its key is the older one.
    extern "C" fn allocate_late(_: *mut c_void) {
        (0..1000).for_each(|_| drop(black_box(vec![1_u8; 1500])));
        drop(black_box(vec![1_u8; 3 << 20]));
    }

    let _turn = turn();
    let mut key = 0;
    // SAFETY: an out-parameter, and a function that is always there.
    assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(allocate_late)) }, 0);
    profile::start(1).unwrap();
    thread::spawn(move || {
        drop(black_box(Box::new(1)));
        // SAFETY: the key was made above; the value is only looked at for null.
        assert_eq!(unsafe { libc::pthread_setspecific(key, ptr::dangling()) }, 0);
    })
    .join()
    .unwrap();
    let small = sum(|size| size.allocated, 1500..=1536).objects;
    let large = sum(|size| size.allocated, 3 << 20..=4 << 20).objects;
    assert!((1000..1100).contains(&small) && large == 1, "{small} and {large}");
    assert_eq!(profile::capture().losses.reentrant, 0);
}
