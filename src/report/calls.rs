//! A profile as named stacks: without the allocator's own frames, stacks with
//! the same names merged, largest first.
//!
//! Two sites may differ in addresses and not in names (two calls in one
//! function); flamegraphs and tables speak of names.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use super::units::{Bytes, count};
use crate::profile::symbols::{Frame, Symbols};
use crate::profile::{Amount, Profile, Site};

/// Which of a profile's figures a report shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weight {
    /// Bytes allocated, whether freed or not (`alloc_space`).
    AllocatedBytes,
    /// Objects allocated, whether freed or not (`alloc_objects`).
    AllocatedObjects,
    /// Bytes not freed yet (`inuse_space`).
    InUseBytes,
    /// Objects not freed yet (`inuse_objects`).
    InUseObjects,
    /// Bytes in use when the program held most.
    PeakBytes,
    /// Objects in use when the program held most bytes.
    PeakObjects,
}

/// What of a site's figures a [`Weight`] speaks of.
#[derive(Clone, Copy)]
enum Part {
    Allocated,
    InUse,
    Peak,
}

impl Weight {
    /// What it is, as a report's title says it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::AllocatedBytes => "Bytes allocated",
            Self::AllocatedObjects => "Objects allocated",
            Self::InUseBytes => "Bytes in use",
            Self::InUseObjects => "Objects in use",
            Self::PeakBytes => "Bytes in use at the peak",
            Self::PeakObjects => "Objects in use at the peak",
        }
    }

    /// Which figures, and whether they are bytes.
    fn parts(self) -> (Part, bool) {
        match self {
            Self::AllocatedBytes => (Part::Allocated, true),
            Self::AllocatedObjects => (Part::Allocated, false),
            Self::InUseBytes => (Part::InUse, true),
            Self::InUseObjects => (Part::InUse, false),
            Self::PeakBytes => (Part::Peak, true),
            Self::PeakObjects => (Part::Peak, false),
        }
    }

    /// The unit of its values.
    pub(crate) fn unit(self) -> &'static str {
        if self.parts().1 { "bytes" } else { "objects" }
    }

    /// Which amount of a site it speaks of.
    pub(crate) fn amount(self, site: &Site) -> &Amount {
        match self.parts().0 {
            Part::Allocated => &site.allocated,
            Part::InUse => &site.in_use,
            Part::Peak => &site.peak,
        }
    }

    /// Its value in an amount.
    pub(crate) fn value(self, amount: &Amount) -> u64 {
        if self.parts().1 { amount.bytes } else { amount.objects }
    }

    /// A value as a report writes it.
    pub(crate) fn figure(self, value: u64) -> String {
        if self.parts().1 { Bytes(value).to_string() } else { count(value, 9) }
    }
}

/// A named stack and what was allocated at it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Leaf first; never empty.
    pub(crate) frames: Vec<Frame>,
    /// The figures of all sites with these names. Its frames are the return
    /// addresses of `frames`, one for one, in the first of these sites.
    pub(crate) site: Site,
}

impl Call {
    pub(crate) fn amount(&self, weight: Weight) -> &Amount {
        weight.amount(&self.site)
    }

    pub(crate) fn value(&self, weight: Weight) -> u64 {
        weight.value(self.amount(weight))
    }
}

/// The named stacks of a profile, those with the largest value first.
pub(crate) fn calls(profile: &Profile, weight: Weight) -> Vec<Call> {
    let symbols = profile.symbols();
    let mut merged = BTreeMap::<Vec<Arc<str>>, Call>::new();
    for site in &profile.sites {
        let (addresses, frames) = named(&site.frames, symbols);
        match merged.entry(frames.iter().map(|frame| frame.function.clone()).collect()) {
            Entry::Vacant(place) => {
                let site = Site { frames: addresses, ..site.clone() };
                place.insert(Call { frames, site });
            }
            Entry::Occupied(call) => call.into_mut().site.add(site),
        }
    }
    // A stable sort: equal values stay in the order of their names.
    let mut calls: Vec<_> = merged.into_values().collect();
    calls.sort_by_key(|call| std::cmp::Reverse(call.value(weight)));
    calls
}

/// The frames of a stack, leaf first, with their addresses, without those of the allocator and those
/// in which the C library starts a thread or `main`.
fn named(addresses: &[u64], symbols: &Symbols) -> (Vec<u64>, Vec<Frame>) {
    let frames = |address: &u64| symbols.frames(*address).iter().cloned();
    let each = |address: &u64| frames(address).map(|_| *address).collect::<Vec<_>>();
    let all: Vec<Frame> = addresses.iter().flat_map(frames).collect();
    let kept = kept(&all);
    if kept.is_empty() {
        return (vec![0], vec![unknown()]);
    }
    let addresses: Vec<u64> = addresses.iter().flat_map(each).collect();
    (addresses[kept.clone()].to_vec(), all[kept].to_vec())
}

/// Stands for a stack of which nothing is known.
pub(super) fn unknown() -> Frame {
    Frame { function: "[stack unknown]".into(), file: None, line: None }
}

/// Which frames of a stack, leaf first, are the program's; at least the root's, if
/// there is one.
pub(super) fn kept(all: &[Frame]) -> Range<usize> {
    let own = own_frames(all);
    let end = all.iter().rposition(|frame| !is_start(&frame.function)).map_or(0, |at| at + 1);
    if own < end { own..end } else { all.len().saturating_sub(1)..all.len() }
}

/// Whether a function at the root is the C library's. Walks along frame pointers
/// end before these; leaving them out makes such stacks equal to whole ones.
fn is_start(function: &str) -> bool {
    const START: [&str; 8] = [
        "_start",
        "__libc_start",
        "libc.so",
        "libc-",
        "ld-musl",
        "__clone",
        "clone3",
        "start_thread",
    ];
    function == "clone" || START.iter().any(|start| function.starts_with(start))
}

/// How many frames at the leaf are the allocator's. Those of the standard library
/// that it runs in between are its own only below one of its own.
fn own_frames(leaf_first: &[Frame]) -> usize {
    let mut own = 0;
    for (depth, frame) in leaf_first.iter().enumerate() {
        if is_own(&frame.function) {
            own = depth + 1;
        } else if !frame.function.starts_with("std::thread::local::LocalKey<") {
            break;
        }
    }
    own
}

/// Whether a function belongs to the way from `alloc` to the sampler rather than
/// to the program.
fn is_own(function: &str) -> bool {
    const OWN: [&str; 14] = [
        "spanalloc::base::",
        "spanalloc::global::",
        "spanalloc::heap::",
        "spanalloc::profile::",
        "spanalloc::sys::",
        "alloc::alloc::",
        "alloc::boxed::box_new_uninit",
        "__rust_alloc",
        "__rust_realloc",
        "__rustc::__rust_alloc",
        "__rustc::__rust_realloc",
        "__rdl_",
        "__rg_",
        "core::alloc::global::GlobalAlloc::",
    ];
    const OWN_IMPL: [&str; 3] = ["<spanalloc::", "<alloc::alloc::Global as ", "<core::alloc::"];
    // An inlined or mangled crate may carry its disambiguator: `__rustc[1234]::`.
    let plain = function.split_once('[').and_then(|(krate, rest)| {
        let (hash, rest) = rest.split_once(']')?;
        hash.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| format!("{krate}{rest}"))
    });
    let function = plain.as_deref().unwrap_or(function);
    OWN.iter().chain(&OWN_IMPL).any(|own| function.starts_with(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_allocators_use_of_the_library_is_trimmed() {
        let frame = |name: &str| Frame { function: name.into(), file: None, line: None };
        let with = "std::thread::local::LocalKey<T>::with";
        let stack = [with, "spanalloc::global::alloc", "__rust_alloc", with, "app::run"];
        assert_eq!(own_frames(&stack.map(frame)), 3);
        assert_eq!(own_frames(&[with, "app::run"].map(frame)), 0);
    }

    #[test]
    fn the_c_librarys_start_is_known() {
        for start in ["_start", "__libc_start_main", "libc.so.6+0x27249", "__clone3"] {
            assert!(is_start(start), "{start}");
        }
        assert!(!is_start("main") && !is_start("clone_all"));
    }

    #[test]
    fn the_allocators_own_frames_are_known() {
        for own in [
            "__rust_alloc_zeroed",
            "__rustc[3a1f]::__rust_alloc",
            "alloc::alloc::exchange_malloc",
            "<alloc::alloc::Global as core::alloc::Allocator>::allocate",
            "<spanalloc::global::SpanAlloc as core::alloc::global::GlobalAlloc>::alloc",
            "spanalloc::profile::on_alloc",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "spanalloc::map::Map<K,V>::insert",
            "alloc::vec::Vec<T>::push",
            "<[u8; 32] as app::Hash>::hash",
            "spanalloc_user::profile::run",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
