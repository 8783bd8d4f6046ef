//! Functions of the C library that do what they always do, and of which the profiler must
//! hear: what may be loaded since, and when a question of its own would wait for ever.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute;

use super::next::{Next, Open};

static DLOPEN: Next = Next::new(c"dlopen");
static GETATTR: Next = Next::new(c"pthread_getattr_np");

/// Opens a library, then has the profiler look at what is loaded.
///
/// The C library looks at who calls `dlopen`: a name without a slash is searched for where
/// the calling object says. Only for a name with one is it called from here; otherwise
/// [`choose`] yields the C library's function, and this jumps there as if it had been
/// called itself.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void {
    naked_asm!(
        "push rdi",
        "push rsi",
        "sub rsp, 8",
        "call {choose}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "jmp rax",
        choose = sym choose,
    )
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void {
    naked_asm!(
        "stp x29, x30, [sp, -32]!",
        "stp x0, x1, [sp, 16]",
        "bl {choose}",
        "mov x16, x0",
        "ldp x0, x1, [sp, 16]",
        "ldp x29, x30, [sp], 32",
        "br x16",
        choose = sym choose,
    )
}

/// Finds what a sample may need while a library is opened: its initializer holds the loader's
/// lock, for which `dlsym` waits, and may itself wait for the thread that takes the sample. Nor may
/// `dlsym` run between a failing call and `dlerror`: it would clear the error.
#[unsafe(link_section = ".spanalloc.text")]
pub(crate) fn prepare() {
    if crate::profile::interval() != 0 {
        _ = GETATTR.find();
    }
}

/// The function that is to open the library of this name.
#[unsafe(link_section = ".spanalloc.text")]
unsafe extern "C" fn choose(name: *const c_char) -> *mut c_void {
    prepare();
    super::cpp::prepare();
    let is_path = || {
        // SAFETY: not null, so a terminated name, by `dlopen`'s contract.
        let name = unsafe { CStr::from_ptr(name) }.to_bytes();
        // What begins with a dollar sign stands for a path of the caller's.
        name.contains(&b'/') && !name.contains(&b'$')
    };
    if !name.is_null() && is_path() { open as *mut c_void } else { DLOPEN.get() }
}

#[unsafe(link_section = ".spanalloc.text")]
unsafe extern "C" fn open(name: *const c_char, flags: c_int) -> *mut c_void {
    // SAFETY: the C library's function of that name has this type.
    let next: Open = unsafe { transmute(DLOPEN.get()) };
    // SAFETY: passed on.
    let handle = unsafe { next(name, flags) };
    super::exit::inside(crate::global::by_pointer::note_modules);
    handle
}

/// Asks for the attributes of a thread. The C library allocates while it holds the
/// thread's lock, and a sample taken there must not ask the same.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_getattr_np(
    thread: libc::pthread_t,
    attributes: *mut libc::pthread_attr_t,
) -> c_int {
    type Get = unsafe extern "C" fn(libc::pthread_t, *mut libc::pthread_attr_t) -> c_int;
    // SAFETY: the C library's function of that name has this type.
    let next: Get = unsafe { transmute(GETATTR.get()) };
    // SAFETY: passed on.
    crate::sys::stack::asking(|| unsafe { next(thread, attributes) })
}
