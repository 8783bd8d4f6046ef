//! Which program this process runs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The program's file as it was started, also if it was removed or replaced since, of which Linux
/// tells behind its name; empty where the system does not tell. Allocates: for ordinary code only.
pub(crate) fn file() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_default();
    let removed = path.as_os_str().as_bytes().strip_suffix(b" (deleted)");
    match removed {
        Some(before) if !path.exists() => OsStr::from_bytes(before).into(),
        _ => path,
    }
}
