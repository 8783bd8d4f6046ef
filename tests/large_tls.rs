//! A program whose thread-local values are large: the C library takes them out of the stack that a
//! thread asks for, and the allocator's own threads start all the same.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use spanalloc::SpanAlloc;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

const PATIENCE: Duration = Duration::from_secs(30);

thread_local! {
    static LARGE: [Cell<u8>; 160 << 10] = const { [const { Cell::new(0) }; 160 << 10] };
}

#[test]
fn free_memory_goes_back_beside_large_thread_local_values() {
    assert_eq!(LARGE.with(|large| std::hint::black_box(large)[70_000].get()), 0);
    let free = || spanalloc::stats().memory.free_pages;
    drop((0..200).map(|_| vec![1_u8; 300 << 10]).collect::<Vec<_>>());
    assert!(free() > 40 << 20, "{} bytes are free", free());
    let start = Instant::now();
    while free() > 10 << 20 {
        assert!(start.elapsed() < PATIENCE, "{} bytes stay", free());
        thread::sleep(Duration::from_millis(20));
    }
}
