//! How often free pages go back to the kernel: our allocator writes a line on standard error for
//! each time, which is caught and read here.
//!
//! # Invariants
//!
//! 1. Standard error is as it was when a [`Catch`] is dropped, and what a panic wrote meanwhile is
//!    not lost.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

/// What was given back during some work.
pub(crate) struct Scavenges {
    /// Times that pages went back.
    pub(crate) times: f64,
    pub(crate) bytes: f64,
}

/// Catches standard error, with the allocator's lines in it.
struct Catch {
    lines: File,
    stderr: OwnedFd,
}

/// What is given back during `work`, and its result; `None` where standard error cannot be caught.
pub(crate) fn scavenged<R>(work: impl FnOnce() -> R) -> (Option<Scavenges>, R) {
    let caught = Catch::begin();
    let result = work();
    (caught.ok().and_then(|caught| caught.text().ok()).map(|lines| parse(&lines)), result)
}

/// Adds up lines such as `spanalloc: scavenged: held 630784 KiB, then 52224 KiB; live 1030 KiB`.
fn parse(lines: &str) -> Scavenges {
    let mut sum = Scavenges { times: 0.0, bytes: 0.0 };
    for line in lines.lines().filter_map(|line| line.strip_prefix("spanalloc: scavenged: held ")) {
        let mut figures = line.split(' ').filter_map(|word| word.parse::<f64>().ok());
        if let (Some(held), Some(left)) = (figures.next(), figures.next()) {
            sum.times += 1.0;
            sum.bytes += (held - left) * 1024.0;
        }
    }
    sum
}

impl Catch {
    fn begin() -> io::Result<Self> {
        // SAFETY: the name is a C string.
        let lines = owned(unsafe { libc::memfd_create(c"scavenges".as_ptr(), 0) })?;
        // SAFETY: no preconditions.
        let stderr = owned(unsafe { libc::dup(libc::STDERR_FILENO) })?;
        redirect(&lines)?;
        spanalloc::trace_scavenging(true);
        Ok(Self { lines: lines.into(), stderr })
    }

    fn text(&self) -> io::Result<String> {
        let mut bytes = vec![0; self.lines.metadata()?.len() as usize];
        self.lines.read_exact_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Catch {
    fn drop(&mut self) {
        spanalloc::trace_scavenging(false);
        // There is nowhere to say that it failed.
        let _ = redirect(&self.stderr);
        if std::thread::panicking() {
            eprint!("{}", self.text().unwrap_or_default());
        }
    }
}

fn owned(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller has just made the descriptor and gives it away.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Has standard error go where `target` does.
fn redirect(target: &OwnedFd) -> io::Result<()> {
    // SAFETY: no preconditions.
    let failed = unsafe { libc::dup2(target.as_raw_fd(), libc::STDERR_FILENO) } < 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}
