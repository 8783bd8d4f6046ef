//! Which program this process runs, and on which host.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The program's file as it was started, also if it was removed or replaced since, of which Linux
/// tells behind its name; empty where the system does not tell. Allocates: for ordinary code only.
#[unsafe(link_section = ".spanalloc.sample")]
pub(crate) fn file() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_default();
    let removed = path.as_os_str().as_bytes().strip_suffix(b" (deleted)");
    match removed {
        Some(before) if !path.exists() => OsStr::from_bytes(before).into(),
        _ => path,
    }
}

/// The host's name; empty where the system does not tell. Allocates: for ordinary code only.
pub(crate) fn host() -> Vec<u8> {
    // Longer than Linux allows: what it tells is whole, and ended by a zero.
    let mut name = [0_u8; 256];
    // SAFETY: writes so many bytes at most.
    let status = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) };
    let end = name.iter().position(|byte| *byte == 0).filter(|_| status == 0);
    name[..end.unwrap_or(0)].to_vec()
}
