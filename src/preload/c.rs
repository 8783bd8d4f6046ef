//! The C entries, with glibc's meaning.
//!
//! Sizes that a free brings along are not looked at: programs that state a wrong one run
//! with glibc, and the class is found by one load anyway.
//!
//! What the C library makes of `realloc` and `free` calls those of the program, which may bring its
//! own and leave this one out; so it does here.

use core::ffi::{c_int, c_void};
use core::mem::transmute;
use core::ptr::NonNull;

use super::exit::inside;
use super::names::bound;
use super::{next, own, rules};
use crate::global::by_pointer;
use crate::heap::geometry::SLOT_BYTES;
use crate::sys::stderr::Line;

#[unsafe(no_mangle)]
#[unsafe(link_section = ".spanalloc.text")]
extern "C" fn malloc(bytes: usize) -> *mut c_void {
    own::malloc(bytes)
}

/// # Safety
///
/// C's contract, here and below.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".spanalloc.text")]
unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller's contract.
    unsafe { own::free(block) }
}

/// What `free` was called, too, until glibc 2.26.
#[unsafe(no_mangle)]
unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: the caller's contract.
    unsafe { own::free(block) }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".spanalloc.text")]
extern "C" fn calloc(count: usize, bytes: usize) -> *mut c_void {
    own::calloc(count, bytes)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".spanalloc.text")]
unsafe extern "C" fn realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: the caller's contract.
    unsafe { own::realloc(block, bytes) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, bytes: usize) -> *mut c_void {
    let Some(bytes) = rules::array(count, bytes) else { return rules::no_memory() };
    type Realloc = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
    let realloc = bound!("realloc");
    // SAFETY: the function of that name has this type.
    let realloc: Realloc = unsafe { transmute(realloc) };
    // SAFETY: the caller's contract.
    unsafe { realloc(block, bytes) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, align: usize, bytes: usize) -> c_int {
    match rules::allocate_posix(bytes, align) {
        Ok(block) => {
            // SAFETY: the caller's contract.
            unsafe { *place = block };
            0
        }
        Err(error) => error,
    }
}

#[unsafe(no_mangle)]
extern "C" fn memalign(align: usize, bytes: usize) -> *mut c_void {
    rules::allocate_aligned(bytes, align)
}

#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(align: usize, bytes: usize) -> *mut c_void {
    rules::allocate_aligned(bytes, align)
}

#[unsafe(no_mangle)]
extern "C" fn valloc(bytes: usize) -> *mut c_void {
    own::valloc(bytes)
}

#[unsafe(no_mangle)]
extern "C" fn pvalloc(bytes: usize) -> *mut c_void {
    own::pvalloc(bytes)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free_sized(block: *mut c_void, _bytes: usize) {
    // SAFETY: the caller's contract.
    unsafe { free_by_program(block) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free_aligned_sized(block: *mut c_void, _align: usize, _bytes: usize) {
    // SAFETY: the caller's contract.
    unsafe { free_by_program(block) }
}

/// A block of the program's `malloc`.
pub(super) fn malloc_by_program(bytes: usize) -> *mut c_void {
    let malloc = bound!("malloc");
    // SAFETY: the function of that name has this type.
    let malloc: extern "C" fn(usize) -> *mut c_void = unsafe { transmute(malloc) };
    malloc(bytes)
}

/// A block of the program's `aligned_alloc`, which may want whole multiples.
pub(super) fn aligned_by_program(bytes: usize, align: usize) -> *mut c_void {
    let Some(bytes) = bytes.checked_next_multiple_of(align) else { return rules::no_memory() };
    let aligned = bound!("aligned_alloc");
    // SAFETY: the function of that name has this type.
    let aligned: extern "C" fn(usize, usize) -> *mut c_void = unsafe { transmute(aligned) };
    aligned(align, bytes)
}

/// # Safety
///
/// `free`'s contract, of the program's.
pub(super) unsafe fn free_by_program(block: *mut c_void) {
    let free = bound!("free");
    // SAFETY: the function of that name has this type.
    let free: unsafe extern "C" fn(*mut c_void) = unsafe { transmute(free) };
    // SAFETY: passed on.
    unsafe { free(block) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    // SAFETY: the caller's contract.
    if let Some(class) = unsafe { by_pointer::class(block.cast()) } {
        return class.block_bytes();
    }
    let Some(start) = NonNull::new(block.cast::<u8>()) else { return 0 };
    // SAFETY: the caller's contract.
    inside(|| unsafe { by_pointer::usable_bytes(start) }).unwrap_or_else(|_foreign| {
        // SAFETY: the caller's contract.
        unsafe { next::usable(block) }
    })
}

/// Gives free pages back; 1 if there were any. What is to stay free is not asked for.
#[unsafe(no_mangle)]
extern "C" fn malloc_trim(_pad: usize) -> c_int {
    c_int::from(inside(crate::global::release_free_memory) > 0)
}

/// glibc's `struct mallinfo2`.
#[repr(C)]
#[derive(Default)]
struct MallInfo2 {
    /// Bytes of spans and of free slots that are resident.
    arena: usize,
    /// Free blocks.
    ordblks: usize,
    smblks: usize,
    /// Mappings of large blocks.
    hblks: usize,
    /// Bytes in them.
    hblkhd: usize,
    usmblks: usize,
    fsmblks: usize,
    /// Bytes in use, without those of mappings.
    uordblks: usize,
    /// Bytes that are resident and free.
    fordblks: usize,
    /// Bytes that `malloc_trim` can give back at least: free pages, without those inside spans.
    keepcost: usize,
}

/// As glibc's, of whose numbers those above 2 GiB are cut.
#[repr(C)]
struct MallInfo([c_int; 10]);

#[unsafe(no_mangle)]
extern "C" fn mallinfo() -> MallInfo {
    let all = mallinfo2();
    let cut = |bytes: usize| c_int::try_from(bytes).unwrap_or(c_int::MAX);
    MallInfo(
        [
            all.arena,
            all.ordblks,
            all.smblks,
            all.hblks,
            all.hblkhd,
            all.usmblks,
            all.fsmblks,
            all.uordblks,
            all.fordblks,
            all.keepcost,
        ]
        .map(cut),
    )
}

/// A line on standard error.
#[unsafe(no_mangle)]
extern "C" fn malloc_stats() {
    let all = mallinfo2();
    let line = Line::new().number(all.arena as u64).text(" bytes of the system, ");
    let line = line.number(all.uordblks as u64).text(" in use; ").number(all.hblks as u64);
    line.text(" mappings of ").number(all.hblkhd as u64).text(" bytes").write();
}

/// Hints on glibc's arenas and thresholds, of which there are none here: accepted, and without
/// effect. What would change contents, `M_PERTURB`, is refused.
#[unsafe(no_mangle)]
extern "C" fn mallopt(parameter: c_int, _: c_int) -> c_int {
    const M_PERTURB: c_int = -6;
    c_int::from(parameter != M_PERTURB)
}

#[unsafe(no_mangle)]
extern "C" fn mallinfo2() -> MallInfo2 {
    let counts = inside(by_pointer::counts);
    let (mut live, mut carved, mut free_blocks) = (0, 0, 0);
    for (class, count) in crate::heap::class::ClassId::all().zip(&counts.classes) {
        let bytes = class.block_bytes() as u64;
        live += count.live * bytes;
        carved += count.carved.max(count.live) * bytes;
        free_blocks += count.carved.saturating_sub(count.live);
    }
    let large: u64 = counts.large.iter().map(|row| row.live_bytes).sum();
    let large = large.saturating_sub(counts.mapped_large_bytes);
    let free_pages = counts.pages.free_dirty * SLOT_BYTES;
    MallInfo2 {
        arena: (carved + large) as usize + free_pages,
        ordblks: free_blocks as usize,
        hblks: counts.mappings as usize,
        hblkhd: counts.mapped_large_bytes as usize,
        uordblks: (live + large) as usize,
        fordblks: (carved - live) as usize + free_pages,
        keepcost: free_pages,
        ..MallInfo2::default()
    }
}
