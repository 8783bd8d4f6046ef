//! The allocator for callers that say neither layout nor size when they free: what the
//! C entries in `preload/` are made of. Blocks are aligned to 16 at least.

use core::alloc::Layout;
use core::ptr::NonNull;

use super::alloc::SpanAlloc;
use super::sampling;
use super::slow::{self, HEAP, cache};
use crate::heap::chain::Block;
use crate::heap::class::{ClassId, WIDE_SLOTS};
use crate::heap::classmap;
use crate::heap::counts::HeapCounts;
use crate::heap::owned::Owned;

/// What C expects of any block.
const ALIGN_MIN: usize = 16;

static OPTIONS: SpanAlloc = SpanAlloc::new();

/// A pointer that this allocator has not handed out, or that is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Foreign;

/// A block from this thread's list; null when it has none to give.
#[inline(always)]
pub(crate) fn pop(bytes: usize) -> *mut u8 {
    match ClassId::of_sixteens(bytes) {
        Some(class) => cache().pop(class).cast(),
        None => core::ptr::null_mut(),
    }
}

/// Allocates when [`pop`] has nothing; null when there is no memory.
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) fn allocate(bytes: usize) -> *mut u8 {
    match ClassId::of_sixteens(bytes) {
        Some(class) => slow::allocate(&OPTIONS, class, bytes),
        None => allocate_large(bytes, ALIGN_MIN, false),
    }
}

/// As [`allocate`], `bytes` that are zero.
pub(crate) fn allocate_zeroed(bytes: usize) -> *mut u8 {
    let Some(class) = ClassId::of_sixteens(bytes) else {
        return allocate_large(bytes, ALIGN_MIN, true);
    };
    let block = slow::allocate(&OPTIONS, class, bytes);
    if !block.is_null() {
        // SAFETY: a fresh block of that size.
        unsafe { block.write_bytes(0, bytes) };
    }
    block
}

/// Allocates at a multiple of `align`, a power of two; null when there is no memory.
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) fn allocate_aligned(bytes: usize, align: usize) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(bytes.max(1), align.max(ALIGN_MIN)) else {
        return core::ptr::null_mut();
    };
    match ClassId::of(layout) {
        Some(class) => {
            let block = cache().pop(class);
            if block.is_null() { slow::allocate(&OPTIONS, class, bytes) } else { block.cast() }
        }
        None => allocate_large(layout.size(), layout.align(), false),
    }
}

#[cold]
#[unsafe(link_section = ".spanalloc.text")]
fn allocate_large(bytes: usize, align: usize, zeroed: bool) -> *mut u8 {
    match Layout::from_size_align(bytes, align) {
        Ok(layout) => slow::allocate_large(&OPTIONS, layout, zeroed),
        Err(_) => core::ptr::null_mut(),
    }
}

/// Puts a block on this thread's list; `false`, and nothing done, where that has no
/// room, and for null, sampled, large and foreign blocks.
///
/// # Safety
///
/// `block` is null, or was allocated and nobody uses it any more.
#[inline(always)]
pub(crate) unsafe fn push(block: *mut u8) -> bool {
    let block = block.cast::<Block>();
    // SAFETY: the caller's contract.
    if !unsafe { classmap::in_chunk(block) } {
        return false;
    }
    // SAFETY: as just found.
    let entry = unsafe { classmap::entry(block) };
    // SAFETY: the caller's contract, and the block's own entry.
    unsafe { cache().push_by(entry, block) }
}

/// Frees what [`push`] has not.
///
/// # Safety
///
/// As for [`push`], and `block` is not null. Nothing is done to a foreign one.
#[inline(never)]
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) unsafe fn free(block: NonNull<u8>) -> Result<(), Foreign> {
    // SAFETY: the caller's contract.
    let owned = unsafe { HEAP.owned(block) }.ok_or(Foreign)?;
    let (start, block) = (block.as_ptr(), block.as_ptr().cast());
    match owned {
        // SAFETY: the caller's contract, and the block's own class.
        Owned::Small(class) if class.is_narrow() => unsafe { slow::free::<1>(class, block) },
        // SAFETY: as above.
        Owned::Small(class) => unsafe { slow::free::<WIDE_SLOTS>(class, block) },
        // SAFETY: as above.
        Owned::Sampled(class) => unsafe { slow::free_sampled(class, block) },
        // SAFETY: as above; a layout that is large in the way the block is.
        Owned::Large(layout) => unsafe { slow::free_large(start, layout) },
    }
    Ok(())
}

/// Resizes a block, moving it if need be; null, with the block as it was, when there is
/// no memory to grow. A block stays where it is where it [`fits`], or shrinks and there is
/// no memory for a smaller one.
///
/// # Safety
///
/// As for [`free`]; only the result is used after success.
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) unsafe fn resize(block: NonNull<u8>, bytes: usize) -> Result<*mut u8, Foreign> {
    // SAFETY: the caller's contract.
    let owned = unsafe { HEAP.owned(block) }.ok_or(Foreign)?;
    let stays = fits(owned.bytes(), bytes);
    match owned {
        Owned::Small(_) if stays => return Ok(block.as_ptr()),
        Owned::Sampled(_) if stays => {
            sampling::on_resize(block.as_ptr().addr(), bytes);
            return Ok(block.as_ptr());
        }
        Owned::Large(old) => {
            if let Ok(new) = Layout::from_size_align(bytes, ALIGN_MIN)
                && ClassId::of(new).is_none()
            {
                // SAFETY: passed on, with the layout that it is large by.
                let resized = unsafe { slow::resize_large(&OPTIONS, block.as_ptr(), old, new) };
                if !resized.is_null() {
                    return Ok(resized);
                }
            }
        }
        Owned::Small(_) | Owned::Sampled(_) => {}
    }
    let mut moved = pop(bytes);
    if moved.is_null() {
        moved = allocate(bytes);
    }
    if moved.is_null() && bytes <= owned.bytes() {
        // Wasteful, but large enough.
        if matches!(owned, Owned::Sampled(_)) {
            sampling::on_resize(block.as_ptr().addr(), bytes);
        }
        return Ok(block.as_ptr());
    }
    if !moved.is_null() {
        // SAFETY: two live blocks of at least that size.
        unsafe { moved.copy_from_nonoverlapping(block.as_ptr(), owned.bytes().min(bytes)) };
        // SAFETY: the contents have moved, and the caller gave the block up.
        if !unsafe { push(block.as_ptr()) } {
            // SAFETY: as above.
            unsafe { free(block) }?;
        }
    }
    Ok(moved)
}

/// The class of a block; none for null, sampled, large and foreign ones.
///
/// # Safety
///
/// `block` is null, or was allocated and not freed.
#[inline(always)]
pub(crate) unsafe fn class(block: *mut u8) -> Option<ClassId> {
    let block = block.cast::<Block>();
    // SAFETY: the caller's contract.
    if !unsafe { classmap::in_chunk(block) } {
        return None;
    }
    // SAFETY: as just found.
    unsafe { classmap::entry(block) }.class()
}

/// Whether a block of a class stays what it is when it is resized, which is then all there
/// is to do.
///
/// # Safety
///
/// As for [`class`].
#[inline(always)]
pub(crate) unsafe fn stays(block: *mut u8, bytes: usize) -> bool {
    // SAFETY: the caller's contract.
    unsafe { class(block) }.is_some_and(|class| fits(class.block_bytes(), bytes))
}

/// Whether a block of `held` bytes stays where it is when it is to have `bytes`: while it
/// would be no more than twice too large.
#[inline(always)]
fn fits(held: usize, bytes: usize) -> bool {
    bytes <= held && bytes >= held / 2
}

/// Bytes that the block has.
///
/// # Safety
///
/// `block` was allocated and not freed.
pub(crate) unsafe fn usable_bytes(block: NonNull<u8>) -> Result<usize, Foreign> {
    // SAFETY: the caller's contract.
    unsafe { HEAP.owned(block) }.map(Owned::bytes).ok_or(Foreign)
}

/// Has the profiler look at what is loaded now.
#[cfg(feature = "profile")]
pub(crate) fn note_modules() {
    crate::profile::note_modules();
}

/// Every count of the heap's.
pub(crate) fn counts() -> HeapCounts {
    HEAP.counts()
}
