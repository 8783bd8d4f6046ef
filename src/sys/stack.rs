//! The calling thread's registers and the bounds of its stack.
//!
//! The *top* of a stack is its highest address: stacks grow downwards, so the
//! callers of a function lie between its stack pointer and the top.
//!
//! # Invariants
//!
//! 1. Every byte from the stack pointer of a running function up to what
//!    [`top`] returns for it is mapped and readable, and stays so while that
//!    function runs.

use core::arch::asm;
use core::cell::Cell;

use super::os::{self, keep_errno};
use super::per_thread::per_thread;

/// What remains of a return address when a signature above its 48 bits, as
/// AArch64 has it, is cut off.
pub(crate) const ADDRESS_MASK: u64 = u64::MAX >> 16;

/// Where an unwinder starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    /// An instruction in the function that asked.
    pub(crate) pc: u64,
    pub(crate) sp: u64,
    pub(crate) fp: u64,
    /// The link register; 0 where the architecture has none.
    pub(crate) lr: u64,
}

impl Registers {
    /// The registers of the function this is inlined into.
    #[inline(always)]
    pub(crate) fn here() -> Self {
        let (pc, sp, fp, lr): (u64, u64, u64, u64);
        #[cfg(target_arch = "x86_64")]
        {
            lr = 0;
            // SAFETY: reads three registers and writes nothing else.
            unsafe {
                asm!(
                    "lea {pc}, [rip]", "mov {sp}, rsp", "mov {fp}, rbp",
                    pc = out(reg) pc, sp = out(reg) sp, fp = out(reg) fp,
                    options(nomem, nostack, preserves_flags),
                );
            }
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: reads four registers and writes nothing else.
        unsafe {
            asm!(
                "adr {pc}, .", "mov {sp}, sp", "mov {fp}, x29", "mov {lr}, x30",
                pc = out(reg) pc, sp = out(reg) sp, fp = out(reg) fp, lr = out(reg) lr,
                options(nomem, nostack, preserves_flags),
            );
        }
        Self { pc, sp, fp, lr }
    }
}

/// Reads one word of a stack. Done by an instruction rather than through a
/// pointer: the frames of callers belong to no Rust object.
///
/// # Safety
/// The eight bytes at `address` are readable.
#[inline(always)]
pub(crate) unsafe fn load_word(address: u64) -> u64 {
    let word: u64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's contract.
    unsafe {
        asm!("mov {word}, [{address}]", word = out(reg) word, address = in(reg) address,
            options(nostack, readonly, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the caller's contract.
    unsafe {
        asm!("ldr {word}, [{address}]", word = out(reg) word, address = in(reg) address,
            options(nostack, readonly, preserves_flags));
    }
    word
}

/// How far below the program's name the main thread's stack pointer may lie and
/// still be taken for the main stack without asking: less than the room that
/// the kernel leaves between the main stack and mappings at the least. How far the stack may
/// reach is its limit's to say, which may be less, and mostly is more.
const MAIN_STACK_BYTES_SURE: u64 = 4 << 20;
const PAGE_BYTES_MIN: u64 = os::PAGE_BYTES_MIN as u64;

per_thread! {
    /// Bounds of this thread's stack, low and top; both 0 until asked for.
    static BOUNDS: Cell<(u64, u64)> = Cell::new((0, 0)), "spanalloc_bounds";
}

per_thread! {
    /// Whether the lower bound is a guess: the stack may reach below it.
    static GUESSED: Cell<bool> = Cell::new(false), "spanalloc_guessed";
}

per_thread! {
    /// Whether this thread is asking the C library for its bounds, which holds a lock that
    /// asking again would wait for.
    static ASKING: Cell<bool> = Cell::new(false), "spanalloc_asking";
}

/// Runs `work`, which may ask the C library for the bounds of a stack.
pub(crate) fn asking<R>(work: impl FnOnce() -> R) -> R {
    let before = ASKING.with(|asking| asking.replace(true));
    let result = work();
    ASKING.with(|asking| asking.set(before));
    result
}

/// A readable end of the stack that `sp` lies on: the top of the thread's stack,
/// or the end of the page for a stack nobody told us of (a coroutine's, an
/// alternate signal stack).
///
/// Costs a system call or two on the first call of a thread, a load later.
#[unsafe(link_section = ".spanalloc.sample")]
pub(crate) fn top(sp: u64) -> u64 {
    let (mut low, mut top) = BOUNDS.with(Cell::get);
    let is_unknown = top == 0 || sp < low && GUESSED.with(Cell::get);
    if is_unknown && !ASKING.with(Cell::get) {
        (low, top) = find_bounds(sp, (low, top));
    }
    if (low..top).contains(&sp) { top } else { (sp | (PAGE_BYTES_MIN - 1)) + 1 }
}

/// How many bytes of its stack a thread may use below `sp`; 0 on a stack nobody told us of. Costs
/// as [`top`] does.
#[unsafe(link_section = ".spanalloc.sample")]
pub(crate) fn room(sp: u64) -> u64 {
    top(sp);
    let (low, top) = BOUNDS.with(Cell::get);
    if (low..top).contains(&sp) { sp - low } else { 0 }
}

/// Whether the calling function may use `bytes` more of the stack that it runs on. Costs
/// system calls.
#[unsafe(link_section = ".spanalloc.sample")]
pub(crate) fn has_room(bytes: usize) -> bool {
    let sp = Registers::here().sp;
    let bounds = if ASKING.with(Cell::get) { None } else { keep_errno(thread_bounds) };
    bounds.is_some_and(|(low, top)| (low..top).contains(&sp) && sp - low >= bytes as u64)
}

/// Finds the bounds for [`top`] and keeps them; `guessed` are those of before, or zeroes.
#[cold]
#[unsafe(link_section = ".spanalloc.sample")]
fn find_bounds(sp: u64, guessed: (u64, u64)) -> (u64, u64) {
    // The costly question (60 µs on the main thread) is spared where the answer is sure, and
    // asked once where it was and `sp` lies below.
    let guess = if guessed.1 == 0 { keep_errno(|| guess(sp)) } else { None };
    let unknown = if guessed.1 == 0 { (u64::MAX, u64::MAX) } else { guessed };
    let found = guess.unwrap_or_else(|| keep_errno(thread_bounds).unwrap_or(unknown));
    GUESSED.with(|guessed| guessed.set(guess.is_some()));
    BOUNDS.with(|bounds| bounds.set(found));
    found
}

/// The main stack's bounds, if `sp` lies near its top, from the program's name, which stands
/// above its first frame.
#[unsafe(link_section = ".spanalloc.sample")]
fn guess(sp: u64) -> Option<(u64, u64)> {
    // SAFETY: `getauxval` only reads the vector the kernel left.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) };
    if sp >= name || name - sp >= MAIN_STACK_BYTES_SURE {
        return None;
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: an out-parameter.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) };
    // The limit counts from the end of the stack, less than a page above the name's beginning.
    let reach = if status == 0 { limit.rlim_cur } else { 0 }.min(MAIN_STACK_BYTES_SURE);
    Some((name - reach.saturating_sub(os::page_bytes() as u64), name & !7))
}

fn thread_bounds() -> Option<(u64, u64)> {
    let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: asks for the calling thread, which exists.
    let thread = unsafe { libc::pthread_self() };
    // SAFETY: the out-pointer is that of a live local.
    let status = asking(|| unsafe { libc::pthread_getattr_np(thread, attributes.as_mut_ptr()) });
    if status != 0 {
        return None;
    }
    let (mut low, mut bytes) = (core::ptr::null_mut(), 0);
    // SAFETY: `attributes` was filled by the successful call above.
    let status =
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut bytes) };
    // SAFETY: as above; this is its only destruction.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    (status == 0).then(|| (low.addr() as u64, (low.addr() + bytes) as u64 & !7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_enclose_the_stack_of_any_thread() {
        let ask = || {
            let sp = Registers::here().sp;
            (sp, top(sp), thread_bounds().unwrap())
        };
        let (sp, top, (low, high)) = std::thread::spawn(ask).join().unwrap();
        assert!(low < sp && sp < top && top == high, "{low:x} {sp:x} {top:x} {high:x}");
    }

    #[test]
    fn an_unknown_stack_ends_with_its_page() {
        let sp = Registers::here().sp;
        top(sp);
        let heap = Box::new([0_u64; 4]);
        let elsewhere = heap.as_ptr().addr() as u64;
        let end = top(elsewhere);
        assert_eq!(end % PAGE_BYTES_MIN, 0);
        assert!(elsewhere < end && end - elsewhere <= PAGE_BYTES_MIN);
    }

    #[test]
    fn reads_a_word_of_its_own_stack() {
        let word = std::hint::black_box(0x5eed_u64);
        // SAFETY: the address of a live local.
        assert_eq!(unsafe { load_word((&raw const word).addr() as u64) }, 0x5eed);
    }
}
