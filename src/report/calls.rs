//! A profile as named stacks: without the allocator's own frames, stacks with
//! the same names merged, largest first.
//!
//! Two sites may differ in addresses and not in names (two calls in one
//! function); flamegraphs and tables speak of names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::units::{Bytes, count};
use crate::profile::symbols::{Frame, Symbols};
use crate::profile::{Amount, Profile};

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
}

impl Weight {
    /// What it is, as a report's title says it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::AllocatedBytes => "Bytes allocated",
            Self::AllocatedObjects => "Objects allocated",
            Self::InUseBytes => "Bytes in use",
            Self::InUseObjects => "Objects in use",
        }
    }

    /// The unit of its values.
    #[cfg(feature = "flamegraph")]
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::AllocatedBytes | Self::InUseBytes => "bytes",
            Self::AllocatedObjects | Self::InUseObjects => "objects",
        }
    }

    /// Which of the two amounts of a stack it speaks of.
    pub(crate) fn amount<'a>(self, allocated: &'a Amount, in_use: &'a Amount) -> &'a Amount {
        match self {
            Self::AllocatedBytes | Self::AllocatedObjects => allocated,
            Self::InUseBytes | Self::InUseObjects => in_use,
        }
    }

    /// Its value in an amount.
    pub(crate) fn value(self, amount: &Amount) -> u64 {
        match self {
            Self::AllocatedBytes | Self::InUseBytes => amount.bytes,
            Self::AllocatedObjects | Self::InUseObjects => amount.objects,
        }
    }

    /// A value as a report writes it.
    pub(crate) fn figure(self, value: u64) -> String {
        match self {
            Self::AllocatedBytes | Self::InUseBytes => Bytes(value).to_string(),
            Self::AllocatedObjects | Self::InUseObjects => count(value, 9),
        }
    }
}

/// A named stack and what was allocated at it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Leaf first; never empty.
    pub(crate) frames: Vec<Frame>,
    pub(crate) allocated: Amount,
    pub(crate) in_use: Amount,
}

impl Call {
    pub(crate) fn amount(&self, weight: Weight) -> &Amount {
        weight.amount(&self.allocated, &self.in_use)
    }

    pub(crate) fn value(&self, weight: Weight) -> u64 {
        weight.value(self.amount(weight))
    }
}

/// The named stacks of a profile, those with the largest value first.
pub(crate) fn calls(profile: &Profile, weight: Weight) -> Vec<Call> {
    let symbols = profile.symbols();
    let mut merged = BTreeMap::<Vec<&str>, Call>::new();
    let named: Vec<_> = profile.sites.iter().map(|site| named(&site.frames, symbols)).collect();
    for (site, frames) in profile.sites.iter().zip(&named) {
        let key = frames.iter().map(|frame| &*frame.function).collect();
        let call = merged.entry(key).or_insert_with(|| Call {
            frames: frames.clone(),
            allocated: Amount::default(),
            in_use: Amount::default(),
        });
        add(&mut call.allocated, &site.allocated);
        add(&mut call.in_use, &site.in_use);
    }
    // A stable sort: equal values stay in the order of their names.
    let mut calls: Vec<_> = merged.into_values().collect();
    calls.sort_by_key(|call| std::cmp::Reverse(call.value(weight)));
    calls
}

fn add(sum: &mut Amount, one: &Amount) {
    sum.samples += one.samples;
    sum.objects += one.objects;
    sum.bytes += one.bytes;
    sum.block_bytes += one.block_bytes;
}

/// The frames of a stack, leaf first, without those of the allocator and those
/// in which a thread or `main` is started.
fn named(addresses: &[u64], symbols: &Symbols) -> Vec<Frame> {
    let all: Vec<Frame> =
        addresses.iter().flat_map(|address| symbols.frames(*address)).cloned().collect();
    let (leaf, end) = (leaf_frames(&all), program_end(&all));
    if leaf < end {
        return all[leaf..end].to_vec();
    }
    let unknown = Frame { function: "[stack unknown]".into(), file: None, line: None };
    all.last().map_or_else(|| vec![unknown], |root| vec![root.clone()])
}

/// Where the program's frames end and those begin in which the standard library
/// and the C library start it. Walks along frame pointers end before the latter;
/// leaving them out makes such stacks equal to whole ones.
fn program_end(leaf_first: &[Frame]) -> usize {
    // The standard library marks this place, for its own backtraces.
    let is_mark = |function: &str| {
        function.starts_with("std::") && function.contains("::__rust_begin_short_backtrace")
    };
    if let Some(mark) = leaf_first.iter().rposition(|frame| is_mark(&frame.function)) {
        return mark;
    }
    leaf_first.iter().rposition(|frame| !is_start(&frame.function)).map_or(0, |at| at + 1)
}

/// Whether a function at the root is the C library's.
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

/// How many frames at the leaf say nothing of the program: all up to the
/// outermost entry of the allocator, what of the standard library leads there,
/// and of a container's inner module all but the door it was entered by.
fn leaf_frames(leaf_first: &[Frame]) -> usize {
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
    const ENTRIES: [&str; 8] = [
        "__rust_alloc",
        "__rust_realloc",
        "__rustc::__rust_",
        "__rdl_",
        "__rg_",
        "spanalloc::global::alloc::",
        "spanalloc::global::sampling::",
        "spanalloc::global::slow::",
    ];
    ENTRIES.iter().any(|entry| function.starts_with(entry))
}

/// Whether a function belongs to the way from a container to the sampler rather
/// than to the program.
fn is_own(function: &str) -> bool {
    const OWN: [&str; 7] = [
        "alloc::alloc::",
        "alloc::boxed::box_new_uninit",
        "core::alloc::",
        "spanalloc::base::",
        "spanalloc::heap::",
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
        assert_eq!(leaf_frames(&frames(&stack)), 6);
        assert_eq!(leaf_frames(&frames(&[with, "app::run"])), 0);
        let within = ["__rust_alloc", "app::run", "spanalloc::global::measure::measure"];
        assert_eq!(leaf_frames(&frames(&within)), 1);
    }

    #[test]
    fn of_an_inner_module_the_door_is_kept() {
        let stack = [
            "__rust_realloc",
            "<alloc::raw_vec::RawVecInner>::finish_grow",
            "<alloc::raw_vec::RawVec<u8>>::grow_one",
            "app::run",
        ];
        assert_eq!(leaf_frames(&frames(&stack)), 2);
        let two = ["alloc::raw_vec::RawVecInner<A>::with_capacity_in", "hashbrown::raw::x"];
        assert_eq!(leaf_frames(&frames(&two)), 0);
        assert_eq!(leaf_frames(&frames(&stack[..3])), 2);
    }

    #[test]
    fn the_librarys_start_is_trimmed() {
        let mark = "std::sys::backtrace::__rust_begin_short_backtrace";
        assert_eq!(program_end(&frames(&["app::main", mark, "std::rt::lang_start", "main"])), 1);
        assert_eq!(program_end(&frames(&["app::f", "main", "libc.so.6+0x27249", "_start"])), 2);
        assert_eq!(program_end(&frames(&["_start"])), 0);
    }

    #[test]
    fn the_c_librarys_start_is_known() {
        for start in ["_start", "__libc_start_main", "libc.so.6+0x27249", "__clone3"] {
            assert!(is_start(start), "{start}");
        }
        assert!(!is_start("main") && !is_start("clone_all"));
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
