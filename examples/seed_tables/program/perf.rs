//! Cache misses by the processor's own count, where kernel and machine let us have it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;

/// A count of this thread's cache misses in user mode.
pub(crate) struct CacheMisses(File);

/// `PERF_TYPE_HARDWARE`, and the structure's size in the upper half.
const TYPE_AND_SIZE: u64 = (size_of::<Attributes>() as u64) << 32;
/// `PERF_COUNT_HW_CACHE_MISSES`.
const CONFIG: u64 = 3;
/// `exclude_kernel` and `exclude_hv`.
const FLAGS: u64 = 1 << 5 | 1 << 6;

/// `struct perf_event_attr` in words: type and size, config, period, sample type, read format,
/// flags, and what does not concern us.
type Attributes = [u64; 16];

impl CacheMisses {
    /// Starts counting; an error where the machine has no such counter or we may not use it.
    pub(crate) fn open() -> io::Result<Self> {
        let mut attributes: Attributes = [0; 16];
        (attributes[0], attributes[1], attributes[5]) = (TYPE_AND_SIZE, CONFIG, FLAGS);
        let (this_thread, any_processor, no_group, no_flags) = (0, -1, -1, 0);
        // SAFETY: the attributes are as large as they say and outlive the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                attributes.as_ptr(),
                this_thread,
                any_processor,
                no_group,
                no_flags,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours.
        Ok(Self(unsafe { File::from_raw_fd(fd as i32) }))
    }

    /// Misses so far.
    pub(crate) fn read(&mut self) -> io::Result<u64> {
        let mut count = [0; 8];
        self.0.read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}
