//! What happens before `main`: the environment is read, and what it asks for done.
//!
//! The dynamic loader, or the start of a program that is linked statically, calls this after the C
//! library's own start. Nothing that an environment may say stops the program.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::sampling::quietly;
use super::{config, dump_at_exit, dump_live};
#[cfg(feature = "preload")]
use crate::sys::stderr::Line;

/// Runs before `main`: what the environment asks for.
#[unsafe(link_section = ".spanalloc.text")]
extern "C" fn start() {
    #[cfg(feature = "preload")]
    if !crate::preload::serves_malloc() {
        #[cfg(feature = "profile")]
        crate::profile::init(0);
        let line =
            Line::new().text("not serving this program, whose malloc is another's: it brings");
        line.text(" its own, or this library was not named in LD_PRELOAD, or not first").write();
        return;
    }
    #[cfg(not(target_feature = "crt-static"))]
    crate::sys::stay::stay_loaded();
    // Wakes the allocator, which then knows the interval it was built with.
    quietly(|| drop(std::hint::black_box(Box::new(0_u8))));
    match config::variable() {
        Some(variable) => obey(variable),
        #[cfg(feature = "profile")]
        None => crate::profile::prepare(),
        #[cfg(not(feature = "profile"))]
        None => {}
    }
    #[cfg(all(feature = "preload", feature = "profile"))]
    crate::preload::prepare();
}

/// Does what the environment asks for.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".spanalloc.rare")]
fn obey(variable: &'static [u8]) {
    let asked = config::parse(variable, config::Problem::report);
    #[cfg(feature = "profile")]
    {
        // The first allocation may have come before there was an environment.
        if let Some(bytes) = asked.sample_bytes {
            crate::profile::init(bytes);
        }
        crate::profile::prepare();
        super::slow::take_back_grants();
        if let Some(formats) = asked.formats {
            formats.choose();
        }
    }
    if let Some(decay_ms) = asked.decay_ms {
        super::limit::decay_by_environment(decay_ms);
    }
    if let Some(huge) = asked.huge {
        crate::sys::os::set_huge(huge);
    }
    if let Some(keep) = asked.keep {
        dump_at_exit::keep(keep);
    }
    if asked.trace {
        super::trace_scavenging(true);
    }
    if let Some(prefix) = asked.dump {
        quietly(|| dump_at_exit::arm(Path::new(OsStr::from_bytes(prefix)), true));
    }
    // Also where the prefix is wrong, or the program's to say: the signal would end it otherwise.
    quietly(|| dump_live::begin(asked.every_ms, asked.grown_bytes, asked.signal));
}

/// The dynamic loader calls what this section lists, after the C library's own
/// start and before `main`.
#[used]
// SAFETY: the section holds pointers to functions of this type.
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;
