//! Pages from the kernel.
//!
//! [`Os`] is what a heap needs of an operating system, so that the same heap runs
//! on the kernel and, in tests, on one with a budget that can be told to fail.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

use crate::base::random::GOLDEN;

/// Where a heap's pages come from. All sizes are multiples of the page size.
///
/// # Safety
///
/// A mapping returned is zeroed, readable, writable and nobody else's until it is
/// unmapped; `purge` leaves the range mapped and zeroed.
pub(crate) unsafe trait Os: Sync {
    /// Maps `bytes` anywhere. `None` when the kernel refuses, as it does where it could
    /// never back them.
    fn map(&self, bytes: usize) -> Option<NonNull<u8>>;

    /// As [`map`](Self::map), for addresses of which most may never be used.
    fn reserve(&self, bytes: usize) -> Option<NonNull<u8>>;

    /// As [`reserve`](Self::reserve), exactly at the address of `at`, if nothing lies there.
    fn map_at(&self, at: *mut u8, bytes: usize) -> Option<NonNull<u8>>;

    /// Unmaps a range of a mapping made here. `false` when the kernel refuses: the addresses stay
    /// mapped.
    ///
    /// # Safety
    ///
    /// Nobody uses the range any more.
    unsafe fn unmap(&self, start: NonNull<u8>, bytes: usize) -> bool;

    /// Gives the pages of a range back; they read as zeroes afterwards. `false`
    /// when the kernel refuses and the contents are as before.
    ///
    /// # Safety
    ///
    /// Nobody relies on the contents.
    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> bool;

    /// Resizes a mapping, moving it if need be.
    ///
    /// # Safety
    ///
    /// `start` and `old_bytes` are a whole mapping made here; after success only
    /// the returned pointer is used.
    unsafe fn remap(
        &self,
        start: NonNull<u8>,
        old_bytes: usize,
        new_bytes: usize,
    ) -> Option<NonNull<u8>>;

    /// When the heap is to ask for huge pages.
    fn huge(&self) -> Huge;

    /// Asks for huge pages in a range, or that no more come, as where there are to be none. A hint.
    fn prefer_huge(&self, start: NonNull<u8>, bytes: usize, huge: bool);

    /// A number to seed a thread's sampler with, so that no two runs sample alike.
    fn entropy(&self) -> u64;
}

/// Linux itself.
#[derive(Debug)]
pub(crate) struct Linux;

/// When the heap asks for huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Huge {
    /// Where they pay ([`chunk`](crate::heap::chunk)).
    Dense,
    /// Never, and none come unasked.
    Off,
    /// From its first block on.
    Early,
}

static HUGE: AtomicU8 = AtomicU8::new(Huge::Dense as u8);

/// When huge pages are asked for from here on.
pub(crate) fn set_huge(huge: Huge) {
    HUGE.store(huge as u8, Relaxed);
}

// SAFETY: `mmap` of anonymous memory and `MADV_DONTNEED` on it promise just that.
unsafe impl Os for Linux {
    fn map(&self, bytes: usize) -> Option<NonNull<u8>> {
        map(bytes)
    }

    fn reserve(&self, bytes: usize) -> Option<NonNull<u8>> {
        mmap(core::ptr::null_mut(), bytes, libc::MAP_NORESERVE)
    }

    fn map_at(&self, at: *mut u8, bytes: usize) -> Option<NonNull<u8>> {
        let got = mmap(at, bytes, libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE)?;
        if got.as_ptr().addr() == at.addr() {
            return Some(got);
        }
        // A kernel older than 4.17 takes the flag for a hint.
        // SAFETY: just mapped, and handed to nobody.
        unsafe { unmap(got, bytes) };
        None
    }

    unsafe fn unmap(&self, start: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: the caller's contract.
        unsafe { unmap(start, bytes) }
    }

    #[unsafe(link_section = ".spanalloc.rare")]
    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: the caller gives up the contents of a range mapped here.
        drops_contents() && unsafe { dont_need(start, bytes) }
    }

    unsafe fn remap(
        &self,
        start: NonNull<u8>,
        old_bytes: usize,
        new_bytes: usize,
    ) -> Option<NonNull<u8>> {
        // SAFETY: the caller names a whole mapping that it will not use again.
        let got = keep_errno(|| unsafe {
            libc::mremap(start.as_ptr().cast(), old_bytes, new_bytes, libc::MREMAP_MAYMOVE)
        });
        (got != libc::MAP_FAILED).then(|| NonNull::new(got.cast())).flatten()
    }

    #[unsafe(link_section = ".spanalloc.text")]
    fn huge(&self) -> Huge {
        // Where pages are of 16 or 64 KiB, huge ones are of 32 or 512 MiB. The heap asks for such
        // of 2 MiB: beside a block would be resident what it never counts and never gives back.
        match HUGE.load(Relaxed) {
            _ if page_bytes() > PAGE_BYTES_MIN => Huge::Off,
            huge if huge == Huge::Dense as u8 => Huge::Dense,
            huge if huge == Huge::Early as u8 => Huge::Early,
            _ => Huge::Off,
        }
    }

    fn prefer_huge(&self, start: NonNull<u8>, bytes: usize, huge: bool) {
        let huge = huge && self.huge() != Huge::Off;
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: advice changes no contents; a wrong range is an error, ignored.
        keep_errno(|| unsafe { libc::madvise(start.as_ptr().cast(), bytes, advice) });
    }

    fn entropy(&self) -> u64 {
        clock_bits()
    }
}

/// # Safety
///
/// Nobody relies on the contents.
#[unsafe(link_section = ".spanalloc.rare")]
unsafe fn dont_need(start: NonNull<u8>, bytes: usize) -> bool {
    // SAFETY: the caller's contract.
    keep_errno(|| unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTNEED) == 0 })
}

/// Whether pages that are not needed read as zeroes afterwards. Linux promises that; an emulator
/// may say yes and do nothing, as `qemu` did for programs until its version 7.1. Asked until it
/// answers: where new pages are locked, or there are none, it does not, and may do better with
/// others.
#[unsafe(link_section = ".spanalloc.rare")]
fn drops_contents() -> bool {
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
    if let known @ (YES | NO) = ANSWER.load(Relaxed) {
        return known == YES;
    }
    let bytes = page_bytes();
    let Some(page) = map(bytes) else { return true };
    // SAFETY: a fresh page, this function's own.
    unsafe { page.write_volatile(1) };
    // SAFETY: as above.
    let answered = unsafe { dont_need(page, bytes) };
    // SAFETY: as above.
    let dropped = unsafe { page.read_volatile() } == 0;
    // SAFETY: as above; nobody uses it any more.
    unsafe { unmap(page, bytes) };
    if answered {
        ANSWER.store(if dropped { YES } else { NO }, Relaxed);
    }
    dropped || !answered
}

/// A coarse hash of the time: enough to tell runs and threads apart.
fn clock_bits() -> u64 {
    monotonic_ns().wrapping_mul(GOLDEN)
}

/// Nanoseconds since some moment before the process began. No system call where
/// the kernel lends its clock to processes.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live out-parameter.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// Maps `bytes` of zeroed private memory anywhere. `None` when the kernel refuses.
pub(crate) fn map(bytes: usize) -> Option<NonNull<u8>> {
    mmap(core::ptr::null_mut(), bytes, 0)
}

/// Unmaps what [`map`] returned, or a part of it. Where the kernel refuses, since that would leave
/// more mappings than a process may have, the memory goes back all the same, the addresses do not,
/// and this is `false`.
///
/// # Safety
///
/// Nobody uses the range any more.
pub(crate) unsafe fn unmap(start: NonNull<u8>, bytes: usize) -> bool {
    keep_errno(|| {
        // SAFETY: the caller's contract.
        let unmapped = unsafe { libc::munmap(start.as_ptr().cast(), bytes) } == 0;
        if !unmapped {
            // SAFETY: as above.
            unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTNEED) };
        }
        unmapped
    })
}

fn mmap(at: *mut u8, bytes: usize, flags: i32) -> Option<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    // SAFETY: without `MAP_FIXED` no existing mapping is touched.
    let got = keep_errno(|| unsafe {
        libc::mmap(at.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    });
    (got != libc::MAP_FAILED).then(|| NonNull::new(got.cast())).flatten()
}

/// The allocator must not be seen in `errno`: callers read it after a `drop`.
pub(super) fn keep_errno<R>(call: impl FnOnce() -> R) -> R {
    // SAFETY: the location is this thread's own, live for its lifetime.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    let result = call();
    // SAFETY: as above.
    unsafe { *errno = before };
    result
}

/// Sleeps for a moment. Not by `nanosleep`, in which the thread could be cancelled: who waits may
/// be in the middle of an allocation, or hold what others wait for.
pub(crate) fn pause() {
    let time = libc::timespec { tv_sec: 0, tv_nsec: 100_000 };
    let rest = core::ptr::null_mut::<libc::timespec>();
    // SAFETY: `time` is live; the remaining time is not asked for.
    keep_errno(|| unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, rest) });
}

/// The smallest page of any supported system.
pub(crate) const PAGE_BYTES_MIN: usize = 4096;

/// The page size, read once from the kernel: 4 to 64 KiB.
pub(crate) fn page_bytes() -> usize {
    static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);
    match PAGE_BYTES.load(Relaxed) {
        0 => {
            // SAFETY: `sysconf` has no preconditions.
            let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }
                .max(PAGE_BYTES_MIN as libc::c_long) as usize;
            PAGE_BYTES.store(bytes, Relaxed);
            bytes
        }
        bytes => bytes,
    }
}

/// Resident bytes of the process, from `/proc/self/statm`; none where that cannot be read.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * page_bytes() as u64)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::ffi::c_void;
    use core::sync::atomic::AtomicBool;

    use super::*;
    use crate::sys::thread::without_cancellation;

    #[test]
    fn a_pause_is_no_place_to_be_cancelled_in() {
        static PAUSED: AtomicBool = AtomicBool::new(false);
        extern "C" fn run(_: *mut c_void) -> *mut c_void {
            // SAFETY: takes no arguments.
            let this = unsafe { libc::pthread_self() };
            // SAFETY: this thread, which has nothing to clean up.
            unsafe { libc::pthread_cancel(this) };
            pause();
            without_cancellation(|| PAUSED.store(true, Relaxed));
            core::ptr::null_mut()
        }
        let mut thread = core::mem::MaybeUninit::uninit();
        let (made, nothing) = (thread.as_mut_ptr(), core::ptr::null_mut());
        // SAFETY: an out-parameter, the usual attributes, and a function that takes anything.
        let refused = unsafe { libc::pthread_create(made, core::ptr::null(), run, nothing) };
        assert_eq!(refused, 0);
        // SAFETY: filled, since it was not refused.
        let thread = unsafe { thread.assume_init() };
        // SAFETY: just made, and joined by nobody else.
        unsafe { libc::pthread_join(thread, core::ptr::null_mut()) };
        assert!(PAUSED.load(Relaxed));
    }
}
