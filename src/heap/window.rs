//! Address space at a multiple of more than a page: for a chunk a window of its pair, or a prefix
//! of one, and what is left of a mapping that was made too large to find such a multiple in it.

use core::ptr::NonNull;

use super::geometry::{CHUNK_SLOTS, SLOT_BYTES, Window};
use crate::sys::os::Os;

/// Windows below the last chunk's that are tried before room for two is asked for; more in the
/// unit tests, all whose heaps lie in one process, and some of which may not have so much room.
const WINDOWS_TRIED: usize = if cfg!(test) { 1024 } else { 128 };

/// Maps a chunk's window, or a prefix of it that has `slots_min` slots; its first byte
/// and how many slots it has. The kernel hands out addresses downwards, so the windows
/// below the last chunk's, at `last`, are most likely empty; and where they are not, room
/// for two windows has one.
#[unsafe(link_section = ".spanalloc.text")]
pub(super) fn for_chunk(
    os: &impl Os,
    window: Window,
    last: Option<NonNull<u8>>,
    slots_min: usize,
) -> Option<(NonNull<u8>, usize)> {
    let anchor = match last {
        Some(last) => last.as_ptr(),
        None => {
            let probe = os.reserve(SLOT_BYTES)?;
            // SAFETY: just mapped, used by nobody.
            unsafe { os.unmap(probe, SLOT_BYTES) };
            let pair = Window::PAIR_BYTES;
            probe.as_ptr().map_addr(|address| (address & !(pair - 1)) + window.offset())
        }
    };
    for slots in [CHUNK_SLOTS, 256, 64, 16].map(|slots| slots.max(slots_min)) {
        let window_at = |below: usize| anchor.wrapping_sub(below * Window::PAIR_BYTES);
        if let Some(base) = os.map_at(window_at(1), slots * SLOT_BYTES) {
            return Some((base, slots));
        }
        // Not there: where nothing that long can be anywhere, no other window needs to be tried.
        if !is_possible(os, slots * SLOT_BYTES) {
            continue;
        }
        for below in 2..=WINDOWS_TRIED {
            if let Some(base) = os.map_at(window_at(below), slots * SLOT_BYTES) {
                return Some((base, slots));
            }
        }
        if let Some(base) = aligned(os, window, slots * SLOT_BYTES) {
            return Some((base, slots));
        }
    }
    None
}

/// Whether the system would map so many bytes somewhere.
#[unsafe(link_section = ".spanalloc.rare")]
fn is_possible(os: &impl Os, bytes: usize) -> bool {
    let Some(start) = os.reserve(bytes) else { return false };
    // SAFETY: just mapped, used by nobody.
    unsafe { os.unmap(start, bytes) };
    true
}

/// Maps `bytes` at the start of such a window by mapping too much and trimming.
fn aligned(os: &impl Os, window: Window, bytes: usize) -> Option<NonNull<u8>> {
    let all = Window::PAIR_BYTES + bytes;
    let start = os.reserve(all)?;
    let past = start.as_ptr().addr().wrapping_sub(window.offset());
    let skip = past.next_multiple_of(Window::PAIR_BYTES) - past;
    // SAFETY: just mapped; `skip` is below the bytes of a pair.
    Some(unsafe { trim(os, start, all, skip, bytes) })
}

/// Keeps the `bytes` that begin `skip` bytes from `start`, of a mapping of `all`; their first byte.
///
/// # Safety
///
/// The mapping is used by nobody, and `skip + bytes` is at most `all`.
#[unsafe(link_section = ".spanalloc.rare")]
pub(super) unsafe fn trim(
    os: &impl Os,
    start: NonNull<u8>,
    all: usize,
    skip: usize,
    bytes: usize,
) -> NonNull<u8> {
    // SAFETY: inside the mapping, by the caller's contract.
    let kept = unsafe { start.add(skip) };
    if skip > 0 {
        // SAFETY: the part before, used by nobody.
        unsafe { os.unmap(start, skip) };
    }
    let behind = all - skip - bytes;
    if behind > 0 {
        // SAFETY: the end of what is kept, inside the mapping.
        let end = unsafe { kept.add(bytes) };
        // SAFETY: the part behind it, used by nobody.
        unsafe { os.unmap(end, behind) };
    }
    kept
}
