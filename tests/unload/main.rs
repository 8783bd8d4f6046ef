//! A program with another allocator opens a library that has this one, allocates there on
//! several threads, and closes it while they live: what they do when they end must be there, as
//! must what gives memory back and what writes the report.
#![cfg(target_env = "gnu")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::time::Duration;
use std::{fs, mem, thread};

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlclose(handle: *mut c_void) -> c_int;
}

const RTLD_NOW: c_int = 2;
const LIBRARY: &str = "SPANALLOC_TEST_LIBRARY";
const PREFIX: &str = "SPANALLOC_TEST_PREFIX";
/// More than the allocator takes to find free memory and give it back.
const A_WHILE: Duration = Duration::from_millis(300);

/// Builds the library where this program was built, which has all that it needs.
fn library() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", "plugin", "--manifest-path"]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    cargo.arg("--target-dir").arg(target);
    if !cfg!(feature = "profile") {
        cargo.arg("--no-default-features");
    }
    assert!(cargo.status().expect("cargo starts").success(), "the library does not build");
    target.join("debug/examples/libplugin.so")
}

/// What the child does; a test that passes at once where no library is named.
#[test]
fn child() {
    let Some(library) = std::env::var_os(LIBRARY) else { return };
    let name = CString::new(library.as_bytes()).unwrap();
    let symbol = |handle, name: &CStr| {
        // SAFETY: a handle of `dlopen`, and a terminated name.
        let found = unsafe { dlsym(handle, name.as_ptr()) };
        assert!(!found.is_null(), "{name:?}");
        found
    };
    for _ in 0..3 {
        // SAFETY: a terminated name of a library that does nothing but allocate.
        let handle = unsafe { dlopen(name.as_ptr(), RTLD_NOW) };
        assert!(!handle.is_null());
        // SAFETY: the library declares it so.
        let work = unsafe {
            mem::transmute::<*mut c_void, extern "C" fn(usize) -> usize>(symbol(handle, c"work"))
        };
        // SAFETY: as above.
        let report =
            unsafe { mem::transmute::<*mut c_void, extern "C" fn()>(symbol(handle, c"report")) };
        report();
        let (worked, closed) = (Barrier::new(3), Barrier::new(3));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    assert_eq!(work(5000), 5000);
                    worked.wait();
                    closed.wait();
                });
            }
            assert_eq!(work(5000), 5000);
            worked.wait();
            // SAFETY: a handle of `dlopen`, closed once.
            assert_eq!(unsafe { dlclose(handle) }, 0);
            closed.wait();
        });
        thread::sleep(A_WHILE);
    }
}

#[test]
fn a_library_with_this_allocator_may_be_closed() {
    let library = library();
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unload");
    let report = prefix.with_extension("classes.txt");
    let _ = fs::remove_file(&report);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env(LIBRARY, &library).env(PREFIX, prefix).env("SPANALLOC", "decay=20ms");
    let status = command.status().unwrap();
    assert!(status.success(), "{status}");
    assert!(fs::read_to_string(report).unwrap().contains("total"));
}

/// What the child does to find that a library which it opened before the plugin, and closed, is
/// not looked at: through code where that library's was, it has the plugin allocate.
#[cfg(all(feature = "profile", target_arch = "x86_64"))]
#[test]
fn child_that_closes_another() {
    /// `sub rsp, 8; call rsi; add rsp, 8; ret`: calls its second argument with its first.
    const CALL: [u8; 11] = *b"\x48\x83\xec\x08\xff\xd6\x48\x83\xc4\x08\xc3";
    /// One that nothing here is linked with.
    const OTHER: &CStr = c"libresolv.so.2";

    let Some(library) = std::env::var_os(LIBRARY) else { return };
    let library = CString::new(library.as_bytes()).unwrap();
    let open = |name: &CStr| {
        // SAFETY: a terminated name of a library that does nothing when it is opened.
        let handle = unsafe { dlopen(name.as_ptr(), RTLD_NOW) };
        assert!(!handle.is_null(), "{name:?}");
        handle
    };
    let mapped = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.contains("libresolv") && line.contains("r-xp"));
        line.map(|line| usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap())
    };
    let other = open(OTHER);
    let code = mapped().unwrap();
    let plugin = open(&library);
    // SAFETY: a handle of `dlopen`, and a terminated name.
    let work = unsafe { dlsym(plugin, c"work".as_ptr()) };
    // SAFETY: a handle of `dlopen`, closed once.
    assert_eq!(unsafe { dlclose(other) }, 0);
    assert_eq!(mapped(), None, "the program's to close");
    let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let there = std::ptr::without_provenance_mut(code);
    // SAFETY: nothing is there, as the flag says.
    let page = unsafe { libc::mmap(there, 4096, access, flags, -1, 0) };
    assert_eq!(page.addr(), code);
    // SAFETY: a page of our own.
    unsafe { page.cast::<[u8; CALL.len()]>().write(CALL) };
    // SAFETY: a function of two arguments, as above.
    let call =
        unsafe { mem::transmute::<*mut c_void, extern "C" fn(usize, *mut c_void) -> usize>(page) };
    assert_eq!(call(100, work), 100);
}

#[cfg(all(feature = "profile", target_arch = "x86_64"))]
#[test]
fn a_library_that_was_open_before_may_be_closed() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_that_closes_another", "--nocapture", "--test-threads=1"]);
    command.env(LIBRARY, library()).env("SPANALLOC", "sample=1");
    let status = command.status().unwrap();
    assert!(status.success(), "{status}");
}
