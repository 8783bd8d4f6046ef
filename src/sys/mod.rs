//! Floor 1: the operating system. Every system call that allocating and sampling need is made here.

#[cfg(test)]
pub(crate) mod alone;
#[cfg(test)]
mod asleep;
pub(crate) mod background;
pub(crate) mod bell;
#[cfg(any(test, fuzzing))]
pub(crate) mod fake;
pub(crate) mod fatal;
mod futex;
pub(crate) mod lock;
#[cfg(feature = "profile")]
pub(crate) mod modules;
pub(crate) mod os;
pub(crate) mod per_thread;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod signals;
#[cfg(feature = "profile")]
pub(crate) mod stack;
#[cfg(any(feature = "profile", not(feature = "preload")))]
pub(crate) mod starts;
// A program linked statically opens nothing.
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod stay;
pub(crate) mod stderr;
pub(crate) mod thread;

#[cfg(feature = "profile")]
pub(crate) use os::{map, unmap};
