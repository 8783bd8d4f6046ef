//! The host's part in a page fault, taken out of what is measured.
//!
//! A virtual machine whose balloon reports free pages gives its host every free block of
//! 2 MiB after two seconds, and who touches it next waits for the host: about 3 ms a MiB
//! where the kernel alone takes 0.13 for huge pages and 0.85 for small ones, of which it
//! keeps some (`python3 benches/programs/measure.py`). Whoever runs first, or asks for huge pages,
//! would pay for it. So memory is touched right before each run that counts, for every allocator
//! alike, and the kernel hands out what came back last.

use std::ptr;

const PAGE: usize = 4096;

/// Touches `bytes` of memory in huge pages and gives it back to the kernel. Does nothing
/// where there is none.
pub fn touch(bytes: usize) {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping wherever the kernel likes.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return;
    }
    // Small pages will do where it is refused.
    // SAFETY: the whole mapping.
    unsafe { libc::madvise(start, bytes, libc::MADV_HUGEPAGE) };
    for offset in (0..bytes).step_by(PAGE) {
        // SAFETY: inside the mapping.
        let page = unsafe { start.cast::<u8>().add(offset) };
        // SAFETY: as above; nobody else knows of it. Volatile, because nobody reads it.
        unsafe { page.write_volatile(1) };
    }
    // SAFETY: the whole mapping, which nobody uses any more.
    unsafe { libc::munmap(start, bytes) };
}
