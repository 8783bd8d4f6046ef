//! An operating system with a budget, which can be told to refuse.
//!
//! Memory is real; what is given out counts against the budget. Refusals come in
//! two ways: the budget is used up, or every n-th call fails. `map_at` can be
//! denied altogether, as by a kernel whose address space is full of other things.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::os::{Huge, Linux, Os};

/// The operating system.
#[derive(Debug)]
pub(crate) struct Fake {
    /// Bytes that may still be mapped.
    pub(crate) budget_bytes: AtomicUsize,
    /// Every call of this number is refused; 0 for none.
    pub(crate) refuse_every: AtomicUsize,
    /// Nothing is mapped at a given address.
    pub(crate) deny_map_at: AtomicBool,
    /// Nothing is unmapped.
    pub(crate) deny_unmap: AtomicBool,
    /// Huge pages are to be asked for from the first block on.
    pub(crate) huge_early: AtomicBool,
    /// Nothing is purged.
    pub(crate) deny_purge: AtomicBool,
    /// Times that something was to be purged.
    pub(crate) purges: AtomicUsize,
    /// Times that huge pages were asked for; never where pages are.
    pub(crate) huge_asks: AtomicUsize,
    /// Times that no huge pages were to be made.
    pub(crate) small_asks: AtomicUsize,
    /// Times that it was asked for anything.
    pub(crate) calls: AtomicUsize,
}

/// How many pages of a mapping are resident.
pub(crate) fn resident_pages(start: NonNull<u8>, bytes: usize) -> usize {
    // Of the smallest size, for an emulator that has larger ones than its host speaks of the
    // host's.
    let mut pages = vec![0u8; bytes / super::os::PAGE_BYTES_MIN];
    // SAFETY: there is a byte for each page.
    let status = unsafe { libc::mincore(start.as_ptr().cast(), bytes, pages.as_mut_ptr()) };
    assert_eq!(status, 0, "the range is mapped");
    pages.iter().filter(|page| **page & 1 != 0).count()
}

impl Fake {
    pub(crate) const fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes: AtomicUsize::new(budget_bytes),
            refuse_every: AtomicUsize::new(0),
            deny_map_at: AtomicBool::new(false),
            deny_unmap: AtomicBool::new(false),
            huge_early: AtomicBool::new(false),
            deny_purge: AtomicBool::new(false),
            purges: AtomicUsize::new(0),
            huge_asks: AtomicUsize::new(0),
            small_asks: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
        }
    }

    fn refuses(&self) -> bool {
        let calls = self.calls.fetch_add(1, Relaxed) + 1;
        let every = self.refuse_every.load(Relaxed);
        every != 0 && calls.is_multiple_of(every)
    }

    fn charge(&self, bytes: usize) -> Option<()> {
        if self.refuses() {
            return None;
        }
        let left = |left: usize| left.checked_sub(bytes);
        self.budget_bytes.fetch_update(Relaxed, Relaxed, left).ok().map(|_| ())
    }

    fn refund(&self, bytes: usize) {
        self.budget_bytes.fetch_add(bytes, Relaxed);
    }

    fn charged(
        &self,
        bytes: usize,
        get: impl FnOnce() -> Option<NonNull<u8>>,
    ) -> Option<NonNull<u8>> {
        self.charge(bytes)?;
        let got = get();
        if got.is_none() {
            self.refund(bytes);
        }
        got
    }
}

// SAFETY: what it does not refuse, Linux does.
unsafe impl Os for Fake {
    fn map(&self, bytes: usize) -> Option<NonNull<u8>> {
        self.charged(bytes, || Linux.map(bytes))
    }

    fn reserve(&self, bytes: usize) -> Option<NonNull<u8>> {
        self.map(bytes)
    }

    fn map_at(&self, at: *mut u8, bytes: usize) -> Option<NonNull<u8>> {
        if self.deny_map_at.load(Relaxed) {
            return None;
        }
        self.charged(bytes, || Linux.map_at(at, bytes))
    }

    unsafe fn unmap(&self, start: NonNull<u8>, bytes: usize) -> bool {
        if self.deny_unmap.load(Relaxed) {
            // SAFETY: passed on.
            unsafe { Linux.purge(start, bytes) };
            return false;
        }
        self.refund(bytes);
        // SAFETY: passed on.
        unsafe { Linux.unmap(start, bytes) }
    }

    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> bool {
        self.purges.fetch_add(1, Relaxed);
        // SAFETY: passed on.
        !self.deny_purge.load(Relaxed) && !self.refuses() && unsafe { Linux.purge(start, bytes) }
    }

    unsafe fn remap(
        &self,
        start: NonNull<u8>,
        old_bytes: usize,
        new_bytes: usize,
    ) -> Option<NonNull<u8>> {
        self.charge(new_bytes.saturating_sub(old_bytes))?;
        // SAFETY: passed on.
        let got = unsafe { Linux.remap(start, old_bytes, new_bytes) };
        match got {
            Some(_) => self.refund(old_bytes.saturating_sub(new_bytes)),
            None => self.refund(new_bytes.saturating_sub(old_bytes)),
        }
        got
    }

    fn huge(&self) -> Huge {
        if self.huge_early.load(Relaxed) { Huge::Early } else { Linux.huge() }
    }

    fn prefer_huge(&self, start: NonNull<u8>, bytes: usize, huge: bool) {
        if huge {
            self.huge_asks.fetch_add(1, Relaxed);
            let resident = resident_pages(start, bytes);
            assert_eq!(resident, 0, "pages for khugepaged to copy while others wait");
        } else {
            self.small_asks.fetch_add(1, Relaxed);
        }
        Linux.prefer_huge(start, bytes, huge);
    }

    fn entropy(&self) -> u64 {
        // The same marks in every run.
        self.calls.load(Relaxed) as u64
    }
}
