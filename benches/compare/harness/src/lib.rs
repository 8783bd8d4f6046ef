//! What every workload binary shares: the registry of its workloads, the clock,
//! and the one line of JSON a run prints.
//!
//! A *workload* is a function of [`Run`]; a *run* is one workload in one fresh
//! process. The binary's `main` is [`main`] over a table of [`Workload`]s:
//!
//! * `micro --list` prints the table as JSON;
//! * `micro tree [--quick] [--share N] [--size N]` runs one and prints a [`Record`].

mod host;
mod pattern;
mod record;
mod rng;
mod run;
mod usage;

pub use host::touch;
pub use pattern::{Pattern, Shape, Sizes};
pub use record::{Kind, Listing, PARKED, Record};
pub use rng::Rng;
pub use run::{Run, Workload, main};
pub use usage::{Stops, Usage, cpu_ns_of_thread, resident_bytes};

use std::mem::MaybeUninit;

/// A block of bytes whose size is known only at run time. Freed when dropped.
pub type Bytes = Box<[MaybeUninit<u8>]>;

/// A block of `size` bytes (at least one) whose first byte is written.
#[inline]
pub fn bytes(size: usize) -> Bytes {
    let mut block = Box::new_uninit_slice(size.max(1));
    block[0].write(size as u8);
    block
}

/// A block of `size` bytes (at least one), one byte written in each 4 KiB.
pub fn touched(size: usize) -> Bytes {
    let mut block = bytes(size);
    for page in block.chunks_mut(4096) {
        page[0].write(1);
    }
    block
}
