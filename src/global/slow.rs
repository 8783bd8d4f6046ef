//! The slow paths of the allocator, where heap and profiler meet.
//!
//! The heap says "the sampler wants this block"; the profiler is told here, with no
//! lock of the heap's held. It is told of a free before the block can be reused.
//!
//! # Invariants
//!
//! 1. `HEAP` is never dropped, and `CACHE` needs no destructor: the exit key hands
//!    the thread's heap over, and what runs later is served by the shared one.

use core::alloc::Layout;
use core::ffi::c_void;
use core::ptr::{self, NonNull};

use once_cell::race::OnceBool;

use super::alloc::SpanAlloc;
use super::{dump_at_exit, dump_live, limit, measure, sampling};
use crate::base::forks;
use crate::heap::Heap;
use crate::heap::cache::{Cache, Phase};
use crate::heap::chain::Block;
use crate::heap::class::{ClassId, WIDE_SLOTS};
use crate::heap::geometry::{SLOT_BYTES, is_sampled};
use crate::heap::large::{block_bytes, is_mapping};
use crate::heap::large_span::large_span;
use crate::heap::thread::Refill;
use crate::sys::fatal::is_dying_here;
use crate::sys::os::Linux;
use crate::sys::per_thread::per_thread;
use crate::sys::thread::{ExitKey, at_fork};

/// The one heap of the process.
pub(super) static HEAP: Heap<Linux> = Heap::new(Linux);

static EXIT: ExitKey = ExitKey::new();

per_thread! {
    /// This thread's cache. `const` and without a destructor: reading it never
    /// allocates or registers anything, and works until the thread is gone.
    static CACHE: Cache = Cache::new(), "spanalloc_cache";
}

/// This thread's cache, for the call that asks. By way of its address: around a closure that does
/// the work the standard library's accessor stays a call, in a program whose codegen units are
/// optimized apart, as by default.
#[inline(always)]
pub(super) fn cache<'a>() -> &'a Cache {
    // SAFETY: there while this thread runs, which is longer than any call; nobody keeps it.
    unsafe { &*CACHE.with(ptr::from_ref) }
}

/// Allocates when the cache has no block to give; null when there is no memory.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) fn allocate(options: &SpanAlloc, class: ClassId, bytes: usize) -> *mut u8 {
    let cache = cache();
    open_thread(options.interval, cache);
    let interval = sampling::interval();
    let block = match HEAP.allocate_slow(cache, class, interval) {
        Refill::Block(block) => block.cast(),
        Refill::Sample => allocate_sampled(cache, class, bytes, interval.unwrap_or(0)),
        Refill::OutOfMemory => ptr::null_mut(),
    };
    if !block.is_null() {
        measure::on_alloc(bytes, class.block_bytes());
    }
    // A refill may have ended spans that others had emptied. By preload it would be this one that
    // gives them back.
    #[cfg(not(feature = "preload"))]
    tend();
    block
}

/// Where there is no memory for a sampled block, any block will do, and what follows is not
/// sampled either for a grant: each would ask the system in vain.
#[unsafe(link_section = ".spanalloc.text")]
fn allocate_sampled(cache: &Cache, class: ClassId, bytes: usize, interval: u64) -> *mut u8 {
    if let Some(block) = HEAP.allocate_sampled(class) {
        sampling::on_alloc(block.addr(), bytes, class.block_bytes(), interval);
        return block.cast();
    }
    match HEAP.allocate_slow(cache, class, Some(0)) {
        Refill::Block(block) => block.cast(),
        Refill::Sample | Refill::OutOfMemory => ptr::null_mut(),
    }
}

/// Allocates above the narrow classes; null when there is no memory.
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) fn allocate_wide(options: &SpanAlloc, layout: Layout) -> *mut u8 {
    let Some(class) = ClassId::of(layout) else { return allocate_large(options, layout, false) };
    let block = cache().pop(class);
    if block.is_null() { allocate(options, class, layout.size()) } else { block.cast() }
}

/// Frees above the narrow classes.
///
/// # Safety
///
/// `GlobalAlloc::dealloc`'s contract.
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) unsafe fn free_wide(block: *mut u8, layout: Layout) {
    let Some(class) = ClassId::of(layout) else {
        // SAFETY: passed on.
        return unsafe { free_large(block, layout) };
    };
    let block = block.cast();
    if is_sampled(block) {
        // SAFETY: passed on.
        return unsafe { free_sampled(class, block) };
    }
    // SAFETY: passed on; the block is not sampled.
    if !unsafe { cache().push(class, block) } {
        // SAFETY: as above.
        unsafe { free::<WIDE_SLOTS>(class, block) };
    }
}

/// Allocates a block that no class serves; null when there is no memory.
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) fn allocate_large(options: &SpanAlloc, layout: Layout, zeroed: bool) -> *mut u8 {
    let cache = cache();
    let (sampled, interval) = draw_large(options, cache, layout);
    let Some(large) = HEAP.allocate_large(cache, layout, sampled, zeroed) else {
        return ptr::null_mut();
    };
    if sampled {
        record_large(large.start, layout, interval);
    }
    measure::on_alloc(layout.size(), block_bytes(layout));
    if zeroed && !large.zeroed {
        // SAFETY: a fresh block of that size.
        unsafe { large.start.write_bytes(0, layout.size()) };
    }
    large.start.as_ptr()
}

/// Resizes a large block in place or by moving its pages; null if it cannot, and
/// the block is as it was.
///
/// # Safety
///
/// `GlobalAlloc::realloc`'s contract.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) unsafe fn resize_large(
    options: &SpanAlloc,
    block: *mut u8,
    old: Layout,
    new: Layout,
) -> *mut u8 {
    let Some(start) = NonNull::new(block) else { return block };
    if HEAP.fits_large(old, new) {
        if HEAP.is_sampled(start, old) {
            sampling::on_resize(block.addr(), new.size());
        }
        return block;
    }
    // The old address may be reused as soon as the pages move, so the profiler takes its sample
    // out first; should the resize fail, the block is still there.
    let taken = if HEAP.take_sampled(start, old) { sampling::take(block.addr()) } else { None };
    let cache = cache();
    let (sampled, interval) = draw_large(options, cache, new);
    // SAFETY: passed on.
    let Some(resized) = (unsafe { HEAP.resize_large(cache, start, old, new, sampled) }) else {
        if let Some(taken) = taken {
            sampling::put_back(block.addr(), taken);
            HEAP.set_sampled(start, old);
        }
        return ptr::null_mut();
    };
    if let Some(taken) = taken {
        sampling::taken_is_free(taken);
    }
    if sampled {
        record_large(resized, new, interval);
    }
    measure::on_free(block_bytes(old));
    measure::on_alloc(new.size(), block_bytes(new));
    tend();
    resized.as_ptr()
}

/// Whether the sampler wants this large block, and its interval.
#[inline(always)]
fn draw_large(options: &SpanAlloc, cache: &Cache, layout: Layout) -> (bool, u64) {
    open_thread(options.interval, cache);
    match sampling::interval() {
        None | Some(0) => (false, 0),
        Some(interval) => (HEAP.charge_large(cache, block_bytes(layout), interval), interval),
    }
}

fn record_large(start: NonNull<u8>, layout: Layout, interval: u64) {
    let address = start.as_ptr().addr();
    sampling::on_alloc(address, layout.size(), block_bytes(layout), interval);
}

/// Frees a block that the cache has no room for.
///
/// # Safety
///
/// `block` is an allocated block of `class`, whose spans have `SLOTS` slots; it is
/// not sampled, and nobody uses it any more.
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) unsafe fn free<const SLOTS: usize>(class: ClassId, block: *mut Block) {
    // SAFETY: passed on.
    if !unsafe { cache().drain::<SLOTS>(class, block) } {
        // SAFETY: passed on.
        unsafe { free_slower(class, block) };
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
unsafe fn free_slower(class: ClassId, block: *mut Block) {
    measure::on_free(class.block_bytes());
    let cache = cache();
    if may_begin_by_free(cache) {
        open_thread(0, cache);
    }
    // SAFETY: passed on.
    unsafe { HEAP.free_slow(cache, class, block) };
    tend();
}

/// Whether a thread that has allocated nothing gets a heap by this free, rather than the shared
/// one. Not by preload: after a thread's key destructors have run, glibc frees what ended threads
/// left. Nobody would close a heap that is opened then, and it would point to a cache on an
/// unmapped stack. So a thread that only frees gets a heap after more frees than glibc makes there.
fn may_begin_by_free(cache: &Cache) -> bool {
    #[cfg(feature = "preload")]
    return cache.phase() == Phase::New && cache.has_freed_much();
    #[cfg(not(feature = "preload"))]
    return cache.phase() == Phase::New;
}

/// Frees a sampled block.
///
/// # Safety
///
/// As for [`free`], but the block is sampled.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) unsafe fn free_sampled(class: ClassId, block: *mut Block) {
    sampling::on_free(block.addr());
    measure::on_free(class.block_bytes());
    // SAFETY: passed on.
    unsafe { HEAP.free_sampled(class, block) };
    tend();
}

/// Frees a large block.
///
/// # Safety
///
/// `GlobalAlloc::dealloc`'s contract.
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(super) unsafe fn free_large(block: *mut u8, layout: Layout) {
    let Some(start) = NonNull::new(block) else { return };
    if is_mapping(layout) {
        // SAFETY: passed on.
        return unsafe { free_mapping(start, layout) };
    }
    let span = large_span(start);
    if span.take_sampled() {
        sampling::on_free(block.addr());
    }
    measure::on_free(span.hot().slots.get() as usize * SLOT_BYTES);
    HEAP.free_span(cache(), span);
    tend();
}

/// Frees a large block with a mapping of its own.
///
/// # Safety
///
/// `GlobalAlloc::dealloc`'s contract.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
unsafe fn free_mapping(start: NonNull<u8>, layout: Layout) {
    if HEAP.take_sampled(start, layout) {
        sampling::on_free(start.addr().get());
    }
    measure::on_free(block_bytes(layout));
    // SAFETY: passed on.
    unsafe { HEAP.free_mapping(start) };
    tend();
}

/// Has every allocation and free of this thread come here from now on.
pub(super) fn observe() {
    let cache = cache();
    open_thread(0, cache);
    if let Some(thread_heap) = cache.owner() {
        thread_heap.observe(cache);
    }
}

/// Ends what [`observe`] began.
pub(super) fn unobserve() {
    let cache = cache();
    if let Some(thread_heap) = cache.owner() {
        thread_heap.unobserve(cache);
    }
}

/// Takes back what was granted to this thread.
#[cfg(any(feature = "profile", feature = "preload"))]
fn revoke() {
    let cache = cache();
    if let Some(thread_heap) = cache.owner() {
        thread_heap.revoke(cache);
    }
}

/// Takes back what was granted to this thread before sampling was on, so that all it
/// allocates from here on can be sampled.
#[cfg(feature = "profile")]
pub(super) fn take_back_grants() {
    if sampling::interval() != Some(0) {
        revoke();
    }
}

/// Sends home what this thread keeps on its lists and of other threads' blocks.
pub(super) fn empty_lists() {
    let cache = cache();
    if let Some(thread_heap) = cache.owner() {
        thread_heap.empty_lists(&HEAP, cache);
        HEAP.flush_outbox(thread_heap);
    }
}

/// Starts the scavenger if there is something for it.
pub(super) fn tend() {
    // SAFETY: a static is never dropped.
    unsafe { HEAP.tend() };
}

/// Gives the thread a heap if it has had none. Without memory for one, the thread
/// is served by the shared heap and tries again.
#[inline]
fn open_thread(interval: u64, cache: &Cache) {
    if cache.phase() == Phase::New {
        open_new_thread(interval, cache);
    }
}

#[cold]
#[unsafe(link_section = ".spanalloc.text")]
fn open_new_thread(interval: u64, cache: &Cache) {
    // Who sets the flag registers the handlers. Another first thread that comes meanwhile,
    // before `main`, may find no key yet.
    static READY: OnceBool = OnceBool::new();
    if READY.set(true).is_ok() {
        EXIT.create(thread_exit);
        at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
        sampling::init(interval);
    }
    if HEAP.open_thread(cache) {
        if EXIT.arm(ptr::from_ref(cache).cast_mut().cast()) {
            sampling::begin_thread();
        } else {
            // Nobody would hand its heap over when it ends, and snapshots would look for its
            // cache where it no longer is. The shared heap serves it.
            HEAP.close_thread(cache);
        }
    }
}

/// Has this thread be served by the shared heap from here on, without a look at its own
/// lists: a signal handler may have come in between two stores of a fast path.
#[cfg(feature = "preload")]
pub(super) fn leave_own_heap() {
    revoke();
    cache().detach();
}

#[unsafe(link_section = ".spanalloc.text")]
unsafe extern "C" fn thread_exit(_: *mut c_void) {
    enter();
    HEAP.close_thread(cache());
    HEAP.thread_ended();
    tend();
    leave();
}

/// Nothing but the library to preload asks where a thread is.
#[cfg(not(feature = "preload"))]
fn enter() {}
#[cfg(not(feature = "preload"))]
fn leave() {}
#[cfg(not(feature = "preload"))]
fn interrupts() -> bool {
    false
}
#[cfg(feature = "preload")]
use crate::preload::{enter, interrupts, leave};

// By preload, a fork from a signal handler that interrupted the allocator takes no lock: its own
// thread may hold any. As with glibc, that is safe where there is no other thread; the child then
// goes on with what was interrupted, too. In a Rust program, where no handler may allocate, nobody
// knows what a handler interrupted: there such a fork may wait for a lock of its own thread.

#[unsafe(link_section = ".spanalloc.rare")]
unsafe extern "C" fn before_fork() {
    if is_dying_here() {
        return;
    }
    enter();
    if !interrupts() {
        limit::before_fork();
        dump_at_exit::before_fork();
        sampling::before_fork(|| {
            #[cfg(feature = "preload")]
            crate::preload::before_fork();
        });
        HEAP.before_fork(cache());
    }
}

#[unsafe(link_section = ".spanalloc.rare")]
unsafe extern "C" fn after_fork_in_parent() {
    if is_dying_here() {
        return;
    }
    if !interrupts() {
        HEAP.after_fork(cache());
        sampling::after_fork_parent();
        dump_at_exit::after_fork_in_parent();
        limit::after_fork();
        #[cfg(feature = "preload")]
        crate::preload::after_fork_in_parent();
    }
    leave();
}

#[unsafe(link_section = ".spanalloc.rare")]
unsafe extern "C" fn after_fork_in_child() {
    forks::raise();
    if is_dying_here() {
        return;
    }
    if !interrupts() {
        HEAP.after_fork(cache());
        HEAP.forked(cache());
        sampling::after_fork_child();
        let dumps = dump_at_exit::after_fork_in_child();
        limit::after_fork_in_child();
        dump_live::after_fork_in_child();
        #[cfg(feature = "preload")]
        crate::preload::after_fork_in_child();
        if dumps {
            dump_live::begin_here();
        }
    }
    leave();
}
