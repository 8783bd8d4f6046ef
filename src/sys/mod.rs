//! Floor 1: the operating system. Every system call of the crate is made here.

pub(crate) mod fatal;
pub(crate) mod lock;
pub(crate) mod os;
pub(crate) mod thread;

pub(crate) use os::{map, unmap};
