//! A profile as named stacks: without the allocator's own frames, stacks with
//! the same names merged. Made once for all the reports of a dump.
//!
//! Two sites may differ in addresses and not in names (two calls in one
//! function); flamegraphs and tables speak of names.

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};
use std::ops::Range;
use std::sync::Arc;

use super::standard::is_standard;
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

    /// The square of the standard error of its value.
    pub(crate) fn variance(self, amount: &Amount) -> f64 {
        let (objects, bytes) = amount.variances();
        if self.parts().1 { bytes } else { objects }
    }

    /// The error bar of its value, relative to it.
    pub(crate) fn error_bar(self, amount: &Amount) -> f64 {
        if self.parts().1 { amount.bytes_error_bar() } else { amount.objects_error_bar() }
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
    pub(crate) frames: Vec<Arc<Frame>>,
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

/// The named stacks of a profile, by name.
pub(crate) fn calls(profile: &Profile) -> Vec<Call> {
    let symbols = profile.symbols();
    let call = |site: &Site| {
        let (addresses, frames) = named(&site.frames, symbols);
        let mut call = Call { frames, site: Site { frames: addresses, ..Site::default() } };
        call.site.add(site);
        call
    };
    let mut calls: Vec<_> = profile.sites.iter().map(call).collect();
    calls.sort_by(by_name);
    calls.dedup_by(|next, call| {
        let same = by_name(next, call).is_eq();
        if same {
            call.site.add(&next.site);
        }
        same
    });
    calls
}

/// The order of two stacks by the names of their functions, from the leaf on.
fn by_name(one: &Call, other: &Call) -> Ordering {
    fn names(call: &Call) -> impl Iterator<Item = &str> {
        call.frames.iter().map(|frame| &*frame.function)
    }
    names(one).cmp(names(other))
}

/// Stacks with a value, the largest first; equal ones stay in the order of their names.
pub(crate) fn largest(calls: &[Call], weight: Weight) -> Vec<&Call> {
    let mut largest: Vec<_> = calls.iter().filter(|call| call.value(weight) != 0).collect();
    largest.sort_by_key(|call| Reverse(call.value(weight)));
    largest
}

/// The frames of a stack, leaf first, with their addresses, without those of the
/// allocator and those in which a thread or `main` is started.
fn named(addresses: &[u64], symbols: &Symbols) -> (Vec<u64>, Vec<Arc<Frame>>) {
    let each = |address: u64| symbols.frames(address).iter().map(move |frame| (address, frame));
    let all: Vec<(u64, &Arc<Frame>)> = addresses.iter().copied().flat_map(each).collect();
    let frames: Vec<&Frame> = all.iter().map(|(_, frame)| &***frame).collect();
    let kept = &all[kept(&frames)];
    if kept.is_empty() {
        return (vec![0], vec![Arc::new(unknown())]);
    }
    kept.iter().map(|(address, frame)| (*address, Arc::clone(frame))).unzip()
}

/// Stands for a stack of which nothing is known.
pub(super) fn unknown() -> Frame {
    Frame { function: "[stack unknown]".into(), file: None, line: None }
}

/// Which frames of a stack, leaf first, are the program's; at least the root's, if
/// there is one.
pub(super) fn kept(all: &[&Frame]) -> Range<usize> {
    let leaf = leaf_frames(all);
    let end = program_end(all, leaf);
    if leaf < end { leaf..end } else { all.len().saturating_sub(1)..all.len() }
}

/// Where the program's frames end and those begin in which the standard library
/// and the C library start it. Walks along frame pointers end before the latter;
/// leaving them out makes such stacks equal to whole ones.
///
/// What a thread runs is often a closure that was inlined into the function at the
/// standard library's mark; without debug information that is all there is to name it by.
fn program_end(leaf_first: &[&Frame], leaf: usize) -> usize {
    // The standard library marks this place, for its own backtraces.
    let is_mark = |function: &str| {
        function.starts_with("std::") && function.contains("::__rust_begin_short_backtrace")
    };
    if let Some(mark) = leaf_first.iter().rposition(|frame| is_mark(&frame.function)) {
        let called = leaf_first[..mark].last().filter(|_| leaf < mark);
        let is_inlined = called.is_none_or(|frame| is_standard(frame) && !calls_closure(frame));
        return mark + usize::from(is_inlined);
    }
    leaf_first.iter().rposition(|frame| !is_start(&frame.function)).map_or(0, |at| at + 1)
}

/// Whether a function is one by which the standard library calls a closure: it names that.
fn calls_closure(frame: &Frame) -> bool {
    let plain = plain(&frame.function);
    plain.starts_with("core::ops::function::") || plain.contains(" as core::ops::function::")
}

/// Whether a function at the root is the C library's: by its whole name, for a program's own may
/// begin like it, or by that of the library's file.
fn is_start(function: &str) -> bool {
    const START: [&str; 7] =
        ["_start", "_start_c", "__clone", "__clone3", "clone", "clone3", "start_thread"];
    const BEGINNINGS: [&str; 4] = ["__libc_start", "libc.so", "libc-", "ld-musl"];
    START.contains(&function) || BEGINNINGS.iter().any(|start| function.starts_with(start))
}

/// How many frames at the leaf say nothing of the program: all up to the
/// outermost entry of the allocator, what of the standard library leads there,
/// and of a container's inner module all but the door it was entered by.
fn leaf_frames(leaf_first: &[&Frame]) -> usize {
    let entry = leaf_first.iter().rposition(|frame| is_entry(&plain(&frame.function)));
    let entered = entry.map_or(0, |at| at + 1);
    let rest = leaf_first[entered..].iter().map(|frame| plain(&frame.function));
    let own = entered + rest.clone().take_while(|function| is_own(function)).count();
    let mut modules = leaf_first[own..].iter().map(|frame| inner_module(&plain(&frame.function)));
    let module = modules.next().flatten();
    let inside = modules.take_while(|next| module.is_some() && *next == module).count();
    own + inside
}

/// Whether a function is one by which programs enter the allocator. None of them
/// calls back, so whatever is below one is the allocator's too.
fn is_entry(function: &str) -> bool {
    is_c_entry(function) || is_rust_entry(function)
}

/// Whether it is one of those of `preload/`.
fn is_c_entry(function: &str) -> bool {
    const ENTRIES: [&str; 12] = [
        "malloc",
        "calloc",
        "realloc",
        "reallocarray",
        "posix_memalign",
        "memalign",
        "aligned_alloc",
        "valloc",
        "pvalloc",
        "free",
        "operator new",
        "operator new[]",
    ];
    let plain = function.strip_prefix("__libc_").unwrap_or(function);
    ENTRIES.contains(&plain)
}

fn is_rust_entry(function: &str) -> bool {
    const ENTRIES: [&str; 9] = [
        "__rust_alloc",
        "__rust_realloc",
        "__rustc::__rust_",
        "__rdl_",
        "__rg_",
        "spanalloc::global::alloc::",
        "spanalloc::global::by_pointer::",
        "spanalloc::global::sampling::",
        "spanalloc::global::slow::",
    ];
    ENTRIES.iter().any(|entry| function.starts_with(entry))
}

/// Whether a function belongs to the way from a container to the sampler rather
/// than to the program.
fn is_own(function: &str) -> bool {
    const OWN: [&str; 8] = [
        "alloc::alloc::",
        "alloc::boxed::box_new_uninit",
        "core::alloc::",
        "spanalloc::base::",
        "spanalloc::heap::",
        "spanalloc::preload::",
        "spanalloc::profile::",
        "spanalloc::sys::",
    ];
    OWN.iter().any(|own| function.starts_with(own))
}

/// The inner module of a container that a function belongs to, if any. Its
/// outermost function says why memory was needed, such as `grow_one`.
fn inner_module(function: &str) -> Option<&'static str> {
    const INNER: [&str; 2] = ["alloc::raw_vec::", "hashbrown::raw::"];
    INNER.into_iter().find(|module| function.starts_with(module))
}

/// The path in a demangled name: without the `<` of an implementation, and
/// without the disambiguator in `__rustc[1234]::`.
fn plain(function: &str) -> Cow<'_, str> {
    let function = function.trim_start_matches('<');
    let disambiguated = function.split_once('[').and_then(|(krate, rest)| {
        let (hash, path) = rest.split_once(']')?;
        let is_hash = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| format!("{krate}{path}").into())
    });
    disambiguated.unwrap_or(function.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(leaf_first: &[&str]) -> Vec<Frame> {
        let frame = |name: &&str| Frame { function: (*name).into(), file: None, line: None };
        leaf_first.iter().map(frame).collect()
    }

    fn leaf_frames(leaf_first: &[&str]) -> usize {
        super::leaf_frames(&frames(leaf_first).iter().collect::<Vec<_>>())
    }

    fn program_end(leaf_first: &[&str]) -> usize {
        super::program_end(&frames(leaf_first).iter().collect::<Vec<_>>(), 0)
    }

    #[test]
    fn all_below_the_outermost_entry_is_trimmed() {
        let with = "std::thread::local::LocalKey<T>::with";
        let stack = [
            "spanalloc::profile::on_alloc",
            "core::option::Option<T>::map",
            "<spanalloc::global::alloc::SpanAlloc as core::alloc::global::GlobalAlloc>::alloc",
            "app::Counting::alloc",
            "__rustc[3a1f]::__rust_alloc",
            "<alloc::alloc::Global>::alloc_impl_runtime",
            with,
            "app::run",
        ];
        assert_eq!(leaf_frames(&stack), 6);
        assert_eq!(leaf_frames(&[with, "app::run"]), 0);
        let within = ["__rust_alloc", "app::run", "spanalloc::global::measure::measure"];
        assert_eq!(leaf_frames(&within), 1);
    }

    #[test]
    fn of_an_inner_module_the_door_is_kept() {
        let stack = [
            "__rust_realloc",
            "<alloc::raw_vec::RawVecInner>::finish_grow",
            "<alloc::raw_vec::RawVec<u8>>::grow_one",
            "app::run",
        ];
        assert_eq!(leaf_frames(&stack), 2);
        let two = ["alloc::raw_vec::RawVecInner<A>::with_capacity_in", "hashbrown::raw::x"];
        assert_eq!(leaf_frames(&two), 0);
        assert_eq!(leaf_frames(&stack[..3]), 2);
    }

    #[test]
    fn the_librarys_start_is_trimmed() {
        let mark = "std::sys::backtrace::__rust_begin_short_backtrace";
        assert_eq!(program_end(&["app::main", mark, "std::rt::lang_start", "main"]), 1);
        assert_eq!(program_end(&["core::ops::function::FnOnce::call_once", mark, "main"]), 1);
        let of_closure = "<app::main::{closure#0} as core::ops::function::FnOnce<()>>::call_once";
        assert_eq!(program_end(&[of_closure, mark, "std::rt::lang_start", "main"]), 1);
        // A closure that has no function of its own.
        assert_eq!(program_end(&[mark, "std::thread::run", "start_thread"]), 1);
        let grow = "alloc::raw_vec::RawVec<T,A>::grow_one";
        assert_eq!(program_end(&[grow, mark, "std::thread::run", "start_thread"]), 2);
        // Whatever its name is: it is in the library's file.
        let mut by_file = frames(&["<u8 as app_like::Convert>::to_vec", mark, "start_thread"]);
        by_file[0].file = Some("/rustc/1/library/alloc/src/slice.rs".into());
        assert_eq!(super::program_end(&by_file.iter().collect::<Vec<_>>(), 0), 2);
        let all = frames(&["spanalloc::global::slow::allocate", mark, "libc.so.6+0x1098eb"]);
        assert_eq!(kept(&all.iter().collect::<Vec<_>>()), 1..2);
        assert_eq!(program_end(&["app::f", "main", "libc.so.6+0x27249", "_start"]), 2);
        assert_eq!(program_end(&["_start"]), 0);
    }

    #[test]
    fn the_c_librarys_start_is_known() {
        for start in ["_start", "__libc_start_main", "libc.so.6+0x27249", "__clone3", "_start_c"] {
            assert!(is_start(start), "{start}");
        }
        for own in ["main", "clone_all", "start_thread_pool", "_start_worker", "__clone_table"] {
            assert!(!is_start(own), "{own}");
        }
    }

    #[test]
    fn the_programs_own_functions_are_not_the_allocators() {
        for other in [
            "spanalloc::map::Map<K,V>::insert",
            "<spanalloc::map::Map<K,V> as core::clone::Clone>::clone",
            "alloc::vec::Vec<T>::push",
            "<[u8; 32] as app::Hash>::hash",
            "spanalloc_user::profile::run",
        ] {
            let other = plain(other);
            assert!(!is_own(&other) && !is_entry(&other), "{other}");
        }
    }
}
