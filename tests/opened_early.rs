//! A constructor that opens a library before the allocator looks at what the program was linked
//! with: what it closes later must not be taken for what stays.
#![cfg(all(feature = "profile", target_env = "gnu", not(target_feature = "crt-static")))]

use std::ffi::c_void;
use std::fs;
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use spanalloc::{SpanAlloc, profile};

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::sample_every(SpanAlloc::new(), 1);

static HANDLE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

extern "C" fn open() {
    // SAFETY: a terminated name of a library that does nothing when it is opened.
    let handle = unsafe { libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW) };
    HANDLE.store(handle, Ordering::Relaxed);
}

#[used]
// SAFETY: the section holds pointers to functions of this type. Its number has it come first.
#[unsafe(link_section = ".init_array.00101")]
static OPEN: extern "C" fn() = open;

fn is_mapped() -> bool {
    fs::read_to_string("/proc/self/maps").unwrap().contains("libresolv")
}

#[test]
fn what_is_read_in_place_stays() {
    let handle = HANDLE.load(Ordering::Relaxed);
    assert!(!handle.is_null() && is_mapped());
    // SAFETY: a handle of `dlopen`, closed once.
    assert_eq!(unsafe { libc::dlclose(handle) }, 0);
    assert!(is_mapped(), "its unwind tables are read where they were");
    let held = black_box(vec![1_u8; 100]);
    assert!(!profile::capture().sites.is_empty());
    drop(held);
}
