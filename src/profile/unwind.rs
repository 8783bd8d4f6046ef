//! Unwinding by the call frame information (CFI) that every module carries for
//! exceptions, so that stacks are whole without frame pointers.
//!
//! `framehop` does the work from rules it caches. Its memory is allocated in
//! [`Unwinders::load`], before any sample is taken; unwinding allocates nothing,
//! takes no lock of the loader and makes no system call. A *slot* is one
//! unwinder with its caches, which take 40 KiB; a thread takes whichever is free. In a
//! program that samples from its start there are as many as threads have begun, up to
//! [`SLOTS`]: each adds its own, before its first sample. Otherwise all are there.
//!
//! Modules the program was linked with are never unloaded, so their tables are read in place; if
//! the allocator is a library's that was opened, so are this library's. Others may go at any
//! moment: their tables are copied, within [`COPIED_BYTES_MAX`]. So are those of modules whose
//! functions sign their return addresses, as some do on AArch64 (`signed.rs`).
//!
//! # Invariants
//!
//! 1. Once `keeping` is [`KEPT`], `linked` names modules that stay until the process ends:
//!    [`Unwinders::note_linked`] writes it before, and the first load strikes out what `sys::stay`
//!    cannot keep. A program that never samples has nothing kept.
//! 2. No lock is held while modules are made to stay: that waits for whoever opens a library, and
//!    its constructors may do anything. Who loads meanwhile copies tables.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;

use framehop::{
    FrameAddress, MustNotAllocateDuringUnwind, UnwindRegsNative, Unwinder, UnwinderNative,
};

use super::frames::Frames;
use super::rules::Rules;
use super::snapshot::Module;
use super::tables::{Bytes, COPIED_BYTES_MAX, Placed, Room, describe};
use crate::sys::lock::Lock;
use crate::sys::modules::{self, LoadedModule};
use crate::sys::stack::{self, Registers};
#[cfg(not(target_feature = "crt-static"))]
use crate::sys::stay;

/// Most threads that unwind at once.
const SLOTS: usize = 8;
/// Stack that making a slot may take: several copies of it, if nothing is optimized.
const SLOT_ROOM_BYTES: usize = 256 << 10;
/// What a walk by unwind tables may need of the stack: 13 KiB, of which two of framehop's functions
/// take 6 each.
const ROOM_BYTES: u64 = 24 << 10;
/// Most modules known to stay; further ones are copied as if they could go.
const LINKED_MAX: usize = 64;
/// How often a thread looks for a free slot before it gives up.
const ATTEMPTS: usize = 256;

pub(super) type Cfi = UnwinderNative<Bytes, MustNotAllocateDuringUnwind>;

/// The unwinders of the process.
pub(super) struct Unwinders {
    slots: [Lock<Option<Box<Slot>>>; SLOTS],
    /// Set once the first slot is filled.
    ready: AtomicBool,
    /// How many threads have begun while sampling was on; stops at [`SLOTS`].
    threads: AtomicUsize,
    /// Held while something is loaded, before any lock of the profiler's or the heap's.
    found: Lock<Found>,
    modules_without_cfi: AtomicUsize,
    /// Where the program headers lie of modules the program was linked with (invariant 1): 0
    /// is no module.
    linked: [AtomicU64; LINKED_MAX],
    /// Whether they have been made to stay.
    keeping: AtomicU8,
}

/// Nobody has made modules stay; somebody does so; they do.
const NOT_KEPT: u8 = 0;
const KEEPING: u8 = 1;
const KEPT: u8 = 2;

/// What the last load found.
struct Found {
    /// Tells whether modules have changed since.
    fingerprint: u64,
    /// None is all zero, as statics are.
    modules: Option<Box<[Module]>>,
}

impl Found {
    const NOTHING: Self = Self { fingerprint: 0, modules: None };
}

struct Slot {
    cfi: Arc<Cfi>,
    rules: Rules,
}

/// What an attempt to unwind came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwound {
    /// To the end of the stack, or as deep as frames are kept.
    Whole,
    /// Up to a frame whose caller could not be found.
    Broken,
    /// Nothing: no slot was free, or none is loaded yet.
    Unavailable,
}

impl Unwinders {
    pub(super) const fn new() -> Self {
        Self {
            slots: [const { Lock::new(None) }; SLOTS],
            ready: AtomicBool::new(false),
            threads: AtomicUsize::new(0),
            found: Lock::new(Found::NOTHING),
            modules_without_cfi: AtomicUsize::new(0),
            linked: [const { AtomicU64::new(0) }; LINKED_MAX],
            keeping: AtomicU8::new(NOT_KEPT),
        }
    }

    /// Remembers the modules that should stay, of those that are loaded now. Called before `main`,
    /// or while the loader opens the library that this is part of. A program that is linked
    /// statically has no other modules than itself.
    pub(super) fn note_linked(&self) {
        #[cfg(not(target_feature = "crt-static"))]
        {
            let mut places = self.linked.iter();
            stay::each_linked(|headers| {
                if let Some(place) = places.next() {
                    place.store(headers, Ordering::Relaxed);
                }
            });
        }
    }

    /// Has the modules that were noted stay, and forgets those that do not, once. Allocates, and by
    /// invariant 2 no lock is held.
    fn keep_linked(&self) {
        let began =
            self.keeping.compare_exchange(NOT_KEPT, KEEPING, Ordering::Relaxed, Ordering::Relaxed);
        if began.is_err() {
            return;
        }
        #[cfg(not(target_feature = "crt-static"))]
        {
            let mut kept = Vec::new();
            modules::for_each(|module| {
                if self.is_linked(&module) {
                    kept.push((module.headers, module.dynamic, module.name.to_owned()));
                }
            });
            kept.retain(|(_, dynamic, name)| stay::keep(*dynamic, name));
            for place in &self.linked {
                let noted = place.load(Ordering::Relaxed);
                if !kept.iter().any(|(headers, ..)| *headers == noted) {
                    place.store(0, Ordering::Relaxed);
                }
            }
        }
        self.keeping.store(KEPT, Ordering::Release);
    }

    #[unsafe(link_section = ".spanalloc.sample")]
    fn is_linked(&self, module: &LoadedModule<'_>) -> bool {
        self.linked.iter().any(|place| place.load(Ordering::Relaxed) == module.headers)
    }

    #[unsafe(link_section = ".spanalloc.sample")]
    fn stays(&self, module: &LoadedModule<'_>) -> bool {
        // The executable stays even if it was never noted.
        let kept = self.keeping.load(Ordering::Acquire) == KEPT;
        module.is_main || kept && self.is_linked(module)
    }

    pub(super) fn ready(&self) -> bool {
        // Relaxed: the slots' locks publish their contents.
        self.ready.load(Ordering::Relaxed)
    }

    /// Loaded modules whose unwind table is missing, unreadable or too large to
    /// copy: frame pointers are tried there.
    pub(super) fn modules_without_cfi(&self) -> usize {
        self.modules_without_cfi.load(Ordering::Relaxed)
    }

    /// Reads the list of loaded modules, if it changed since the last time.
    /// Allocates and takes the loader's lock: never called while sampling.
    /// Changes nothing in a forked child where the loader cannot be asked.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn load(&self) {
        super::busily(|| {
            self.keep_linked();
            self.load_into(&mut self.found.lock());
        });
    }

    #[unsafe(link_section = ".spanalloc.sample")]
    fn load_into(&self, found: &mut Found) {
        let Some(fingerprint) = fingerprint() else { return };
        let first = !self.ready();
        if !first && found.fingerprint == fingerprint {
            return;
        }
        let mut cfi = Cfi::new();
        let mut modules =
            Vec::with_capacity(found.modules.as_ref().map_or(0, |modules| modules.len()));
        let (mut room, mut without) = (Room(COPIED_BYTES_MAX), 0);
        let asked = modules::for_each(|module| {
            modules.push(Module::of(&module));
            let tables = module.eh_frame_hdr.zip(module.eh_frame).and_then(|(index, table)| {
                if let Some(bytes) = without_signs(table.bytes, room.0) {
                    room.take(bytes.len());
                    let table = Placed::new(table, Bytes::Copied(bytes.into()));
                    return Some((Placed::copy(index), table));
                }
                if self.stays(&module) {
                    // SAFETY: `stays` says so, by invariant 1.
                    let index = unsafe { Placed::in_place(index) };
                    // SAFETY: as above.
                    let table = unsafe { Placed::in_place(table) };
                    return Some((index, table));
                }
                room.take(index.bytes.len() + table.bytes.len())
                    .then(|| (Placed::copy(index), Placed::copy(table)))
            });
            match tables {
                Some(tables) => cfi.add_module(describe(&module, tables)),
                None => without += 1,
            }
        });
        if !asked {
            return;
        }
        let cfi = Arc::new(cfi);
        for slot in &self.slots[..self.threads.load(Ordering::Relaxed).max(1)] {
            let fresh = Slot::new(&cfi);
            // What was there is dropped, and so freed, after the lock is left.
            let _old = slot.lock().replace(fresh);
        }
        self.modules_without_cfi.store(without, Ordering::Relaxed);
        *found = Found { fingerprint, modules: Some(modules.into()) };
        self.ready.store(true, Ordering::Relaxed);
    }

    /// The lock to hold across a fork before all others.
    pub(super) fn loading(&self) -> &Lock<impl Sized> {
        &self.found
    }

    /// The modules that are loaded; where the loader cannot be asked, those that were when it was
    /// last. Allocates.
    pub(super) fn modules(&self) -> Vec<Module> {
        let mut modules = Vec::new();
        if modules::for_each(|module| modules.push(Module::of(&module))) {
            return modules;
        }
        self.found.lock().modules.as_ref().map_or_else(Vec::new, |modules| modules.to_vec())
    }

    /// As [`load`](Self::load), with all slots: how many threads there are is not known.
    pub(super) fn load_all(&self) {
        self.load();
        (0..SLOTS).for_each(|_| self.begin_thread());
    }

    /// A thread begins: fills one more slot, if any is left and filling has begun. Allocates:
    /// never called while sampling.
    pub(super) fn begin_thread(&self) {
        // A slot is made on the stack, of which a thread may have little. The first thread
        // has the slot that `load` makes.
        let threads = self.threads.load(Ordering::Relaxed);
        if threads == SLOTS || threads > 0 && !stack::has_room(SLOT_ROOM_BYTES) {
            return;
        }
        let next = |threads| (threads < SLOTS).then(|| threads + 1);
        let counted = self.threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let (Ok(at @ 1..), true) = (counted, self.ready()) else { return };
        let newest = || self.slots[0].lock().as_ref().map(|slot| Arc::clone(&slot.cfi));
        let mut cfi = newest();
        while let Some(here) = cfi {
            let fresh = Slot::new(&here);
            let old = self.slots[at].lock().replace(fresh);
            drop(old);
            // `load` fills slot 0 first: if it came meanwhile, this may have replaced what is
            // newer.
            cfi = newest().filter(|newest| !Arc::ptr_eq(newest, &here));
        }
    }

    /// The return addresses from `from` outwards, leaf first, without the
    /// function that took the registers.
    #[unsafe(link_section = ".spanalloc.sample")]
    pub(super) fn unwind(&self, from: Registers, hint: usize, frames: &mut Frames) -> Unwound {
        // A coroutine's stack may be a page or two, with another's memory below.
        if !self.ready() || stack::room(from.sp) < ROOM_BYTES {
            return Unwound::Unavailable;
        }
        // At least slot 0 is filled, and each of these but one that is being filled.
        let filled = self.threads.load(Ordering::Relaxed).clamp(1, SLOTS);
        for attempt in 0..ATTEMPTS {
            if let Some(mut slot) = self.slots[(hint + attempt) % filled].try_lock()
                && let Some(slot) = slot.as_mut()
            {
                return slot.unwind(from, frames);
            }
            core::hint::spin_loop();
        }
        Unwound::Unavailable
    }

    /// Rules that slot 0 had to read from the tables.
    #[cfg(test)]
    pub(super) fn misses(&self) -> u64 {
        self.slots[0].lock().as_ref().map_or(0, |slot| slot.rules.misses())
    }

    pub(super) fn locks(&self) -> impl Iterator<Item = &Lock<impl Sized>> {
        self.slots.iter()
    }
}

impl Slot {
    #[unsafe(link_section = ".spanalloc.sample")]
    fn new(cfi: &Arc<Cfi>) -> Box<Self> {
        Box::new(Self { cfi: Arc::clone(cfi), rules: Rules::new() })
    }

    #[unsafe(link_section = ".spanalloc.sample")]
    fn unwind(&mut self, from: Registers, frames: &mut Frames) -> Unwound {
        let top = stack::top(from.sp);
        let readable = from.sp..top.saturating_sub(7);
        let mut read = |address: u64| {
            if !address.is_multiple_of(8) || !readable.contains(&address) {
                return Err(());
            }
            // SAFETY: between the stack pointer of a caller of this function and
            // the top of its stack (invariant 1 of `sys::stack`).
            Ok(unsafe { stack::load_word(address) })
        };
        let mut registers = native(from);
        let mut at = FrameAddress::from_instruction_pointer(from.pc);
        loop {
            let caller = self.rules.unwind_frame(&self.cfi, at, &mut registers, &mut read);
            let caller = match caller {
                Ok(Some(caller)) => caller,
                Ok(None) => return Unwound::Whole,
                // The ABIs' mark of the outermost frame. The start code of musl, which has no
                // tables, sets it.
                Err(_) if frame_pointer(&registers) == 0 => return Unwound::Whole,
                Err(_) => return Unwound::Broken,
            };
            let Some(next) = FrameAddress::from_return_address(caller) else {
                return Unwound::Whole;
            };
            if !frames.push(caller) {
                return Unwound::Whole;
            }
            at = next;
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn native(from: Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(from.pc, from.sp, from.fp)
}

#[cfg(target_arch = "x86_64")]
fn frame_pointer(registers: &UnwindRegsNative) -> u64 {
    registers.bp()
}

#[cfg(target_arch = "aarch64")]
fn frame_pointer(registers: &UnwindRegsNative) -> u64 {
    registers.fp()
}

#[cfg(target_arch = "aarch64")]
fn native(from: Registers) -> UnwindRegsNative {
    let mask = framehop::aarch64::PtrAuthMask(stack::ADDRESS_MASK);
    UnwindRegsNative::new_with_ptr_auth_mask(mask, from.lr, from.sp, from.fp)
}

/// See `signed.rs`; no copy is larger than `bytes_max`.
#[cfg(target_arch = "aarch64")]
fn without_signs(table: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    if table.len() > bytes_max { None } else { super::signed::without_signs(table) }
}

/// No return address is signed.
#[cfg(target_arch = "x86_64")]
fn without_signs(_: &[u8], _: usize) -> Option<Vec<u8>> {
    None
}

/// A number that changes when modules come or go; none where the loader cannot be asked.
#[unsafe(link_section = ".spanalloc.sample")]
fn fingerprint() -> Option<u64> {
    let mut sum = 1_u64;
    let asked = modules::for_each(|module| {
        let one = module.bias ^ module.code.end.rotate_left(32);
        sum = sum.wrapping_mul(31).wrapping_add(one);
        sum = module
            .build_id
            .iter()
            .fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    });
    asked.then_some(sum)
}

#[cfg(all(test, target_env = "gnu", not(target_feature = "crt-static")))]
mod tests {
    use super::*;

    #[test]
    fn threads_that_load_at_once_leave_the_same_in_all_slots() {
        let unwinders = Unwinders::new();
        unwinders.load_all();
        let same = || {
            let of = |slot: &Lock<Option<Box<Slot>>>| slot.lock().as_ref().unwrap().cfi.clone();
            let first = of(&unwinders.slots[0]);
            unwinders.slots.iter().all(|slot| Arc::ptr_eq(&first, &of(slot)))
        };
        // Libraries that nothing here is linked with.
        let names = [c"libBrokenLocale.so.1", c"libanl.so.1", c"libthread_db.so.1"];
        let mut differed = 0;
        for _ in 0..100 {
            let together = std::sync::Barrier::new(names.len());
            std::thread::scope(|scope| {
                for name in names {
                    let (unwinders, together) = (&unwinders, &together);
                    scope.spawn(move || {
                        // SAFETY: a terminated name of a library that does nothing when opened.
                        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
                        together.wait();
                        unwinders.load();
                        if !handle.is_null() {
                            // SAFETY: a handle of `dlopen`, closed once.
                            unsafe { libc::dlclose(handle) };
                        }
                        unwinders.load();
                    });
                }
            });
            unwinders.load();
            differed += usize::from(!same());
        }
        assert_eq!(differed, 0);
    }
}
