//! A process that has no thread key left, so that nobody tells the allocator when a thread ends:
//! its threads are served all the same, and snapshots do not look for what is gone with them.
//! A program rather than a test of the harness, which needs keys itself.

use std::hint::black_box;
use std::thread;

use spanalloc::SpanAlloc;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// Before anything is allocated.
extern "C" fn use_keys_up() {
    let mut key = 0;
    // SAFETY: an out-parameter.
    while unsafe { libc::pthread_key_create(&raw mut key, None) } == 0 {}
}

#[used]
#[unsafe(link_section = ".init_array.00001")]
static USE_KEYS_UP: extern "C" fn() = use_keys_up;

fn main() {
    // For the standard library's own use; the allocator has asked already, and was refused.
    for key in 1..20 {
        // SAFETY: made above, and used by nobody.
        assert_eq!(unsafe { libc::pthread_key_delete(key) }, 0);
    }
    let before = spanalloc::stats().total().allocs;
    for round in 0..4 {
        let large_stack = thread::Builder::new().stack_size(256 << 20);
        let work = move || (0..100).map(|at| *black_box(Box::new(at + round))).sum::<u64>();
        let sum = large_stack.spawn(work).unwrap().join().unwrap();
        assert_eq!(sum, 4950 + 100 * round);
    }
    assert!(spanalloc::stats().total().allocs >= before + 400);
    println!("no_keys: threads ended and were counted");
}
