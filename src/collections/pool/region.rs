//! A private anonymous mapping, whose pages may be made present at once.
//!
//! # Invariants
//!
//! 1. `base` is the start of a readable and writable mapping of `bytes` bytes that this value
//!    alone unmaps.

use std::io;
use std::ptr::{self, NonNull};

/// An anonymous mapping; fresh pages read as zero.
pub(super) struct Region {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Region {}
// SAFETY: shared access only reads the two fields.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `bytes` bytes (at least one page); with `populate`, the kernel makes all pages present
    /// before it returns.
    pub(super) fn map(bytes: usize, populate: bool) -> io::Result<Self> {
        let bytes = bytes.max(1);
        let populate = if populate { libc::MAP_POPULATE } else { 0 };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | populate;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no other.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, bytes })
    }

    /// Page-aligned.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Makes all pages present by writing a zero to each. The region must not be in use yet.
    pub(super) fn touch(&mut self) {
        // SAFETY: no preconditions.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes = usize::try_from(page_bytes).unwrap_or(4096);
        for offset in (0..self.bytes).step_by(page_bytes) {
            // SAFETY: `offset < bytes`.
            let byte = unsafe { self.base.add(offset) };
            // SAFETY: by invariant 1, and `&mut self` excludes other users. Volatile: a plain zero
            // over what is known to be zero might be left out.
            unsafe { byte.write_volatile(0) };
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: by invariant 1.
        let failed = unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(failed, 0, "munmap of a mapping of our own");
    }
}
