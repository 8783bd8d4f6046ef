//! What the kernel says of this process: processor time, page faults, memory.
//!
//! Everything is read without allocating, so that reading does not disturb what
//! is read.

use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;

/// Processor time and page faults of the whole process since it began.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Time in user mode, in nanoseconds.
    pub user_ns: u64,
    /// Time in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Faults that needed no disk.
    pub minor_faults: u64,
}

impl Usage {
    /// What this process has used until now.
    pub fn now() -> Self {
        let usage = rusage(libc::RUSAGE_SELF);
        Self {
            user_ns: ns(usage.ru_utime.tv_sec, usage.ru_utime.tv_usec * 1000),
            system_ns: ns(usage.ru_stime.tv_sec, usage.ru_stime.tv_usec * 1000),
            minor_faults: usage.ru_minflt as u64,
        }
    }
}

/// What took the processor from the calling thread since it began.
#[derive(Clone, Copy, Debug)]
pub struct Stops {
    /// Times it waited for something: a lock, a timer, a device.
    pub waits: u64,
    /// Times the kernel gave its processor to another thread.
    pub preemptions: u64,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
}

impl Stops {
    /// What this thread has seen until now.
    pub fn of_thread() -> Self {
        let usage = rusage(libc::RUSAGE_THREAD);
        Self {
            waits: usage.ru_nvcsw as u64,
            preemptions: usage.ru_nivcsw as u64,
            minor_faults: usage.ru_minflt as u64,
        }
    }
}

fn rusage(of: libc::c_int) -> libc::rusage {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is valid for writes of an `rusage`.
    let status = unsafe { libc::getrusage(of, usage.as_mut_ptr()) };
    assert_eq!(status, 0, "getrusage of oneself cannot fail");
    // SAFETY: the call succeeded, so it filled the structure in.
    unsafe { usage.assume_init() }
}

/// Processor time of the calling thread, in nanoseconds. Unlike the wall clock
/// it stands still while another thread has the processor.
pub fn cpu_ns_of_thread() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` is valid for writes of a `timespec`.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(status, 0, "every Linux has a clock per thread");
    // SAFETY: the call succeeded, so it filled the structure in.
    let time = unsafe { time.assume_init() };
    ns(time.tv_sec, time.tv_nsec)
}

/// Resident bytes of this process now, as `/proc/self/status` gives them.
pub fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// The most bytes this process ever had resident.
pub(crate) fn peak_resident_bytes() -> u64 {
    status_bytes("VmHWM:")
}

fn status_bytes(key: &str) -> u64 {
    let mut text = [0; 8192];
    let mut file = File::open("/proc/self/status").expect("/proc is mounted");
    let length = file.read(&mut text).expect("/proc/self/status can be read");
    let text = std::str::from_utf8(&text[..length]).expect("/proc/self/status is ASCII");
    kib_after(text, key).expect("the kernel reports this key") * 1024
}

fn kib_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn ns(seconds: i64, nanoseconds: i64) -> u64 {
    seconds as u64 * 1_000_000_000 + nanoseconds as u64
}

#[cfg(test)]
mod tests {
    use super::{Stops, kib_after, peak_resident_bytes, resident_bytes};

    #[test]
    fn a_key_is_found_on_its_own_line() {
        let text = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(kib_after(text, "VmRSS:"), Some(1024));
        assert_eq!(kib_after(text, "VmSwap:"), None);
    }

    #[test]
    fn a_sleep_is_a_wait_and_fresh_memory_faults() {
        let before = Stops::of_thread();
        std::thread::sleep(std::time::Duration::from_millis(1));
        drop(std::hint::black_box(vec![1u8; 8 << 20]));
        let after = Stops::of_thread();
        assert!(after.waits > before.waits);
        assert!(after.minor_faults > before.minor_faults);
        assert!(after.preemptions >= before.preemptions);
    }

    #[test]
    fn touching_memory_shows_in_both_figures() {
        let before = resident_bytes();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(resident_bytes() > before + (48 << 20));
        drop(block);
        assert!(peak_resident_bytes() > before + (48 << 20));
    }
}
