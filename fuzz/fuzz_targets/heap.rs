//! Bytes drive a heap with several threads' caches on an operating system that
//! refuses; `spanalloc::fuzz_heap` says what they mean and what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| spanalloc::fuzz_heap(bytes));
