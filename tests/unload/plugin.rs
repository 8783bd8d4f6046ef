//! A shared library that allocates by an allocator of its own: see `main.rs`.

use spanalloc::SpanAlloc;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new();

/// Allocates and frees blocks of many sizes, on whatever thread; returns how many.
#[unsafe(no_mangle)]
pub extern "C" fn work(blocks: usize) -> usize {
    (0..blocks).map(|at| vec![1_u8; at % 2000 + 1]).collect::<Vec<_>>().len()
}

/// Has a report written when the process ends, to where `SPANALLOC_TEST_PREFIX` says.
#[unsafe(no_mangle)]
pub extern "C" fn report() {
    spanalloc::dump_at_exit(std::env::var_os("SPANALLOC_TEST_PREFIX").unwrap()).unwrap();
}
