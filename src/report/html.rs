//! One self-contained page: everything a dump knows, to look at in a browser. It
//! opens from disk and asks the network for nothing.
//!
//! The page is a style sheet, a script, and the data as JSON; all three stand in
//! the one file. Names come from the program, so the script sets them as text and
//! the data holds no `<`.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use super::calls::{Call, Weight, calls};
use super::facts::{facts, losses};
use super::stats::{ClassStats, Stats};
use super::units::{Bytes, count};
use crate::profile::{self, Amount, Group, Lifetimes, Profile};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The figures of the page, with the names that pprof has for them.
const TYPES: [(&str, &str, Weight); 6] = [
    ("inuse_space", "in_use", Weight::InUseBytes),
    ("alloc_space", "allocated", Weight::AllocatedBytes),
    ("peak_space", "peak", Weight::PeakBytes),
    ("inuse_objects", "in_use", Weight::InUseObjects),
    ("alloc_objects", "allocated", Weight::AllocatedObjects),
    ("peak_objects", "peak", Weight::PeakObjects),
];
/// Sites of each figure that the page has in full.
const SITES_MAX: usize = 25;

impl Profile {
    /// Writes a page to look at: flamegraphs of every figure with search and zoom,
    /// the largest sites with their errors, lifetimes, threads and spans, size
    /// classes with their waste, and where the memory is.
    ///
    /// Resolves names on the first report of a profile: that reads the files of
    /// the modules.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// # Examples
    ///
    /// ```
    /// let (stats, profile) = (spanalloc::stats(), spanalloc::profile::capture());
    /// let mut page = Vec::new();
    /// profile.write_html(&stats, &mut page)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_html<W: io::Write>(&self, stats: &Stats, mut out: W) -> io::Result<()> {
        profile::quietly(|| {
            // Inside a script element only `<` could end it.
            let data = data(self, stats).to_string().replace('<', "\\u003c");
            for piece in pieces(PAGE) {
                let text = match piece {
                    "/*STYLE*/" => STYLE,
                    "/*DATA*/" => &data,
                    "/*SCRIPT*/" => SCRIPT,
                    text => text,
                };
                out.write_all(text.as_bytes())?;
            }
            Ok(())
        })
    }
}

/// The page cut at its placeholders, which are pieces of their own.
fn pieces(page: &'static str) -> Vec<&'static str> {
    let mut pieces = Vec::new();
    let mut rest = page;
    for placeholder in ["/*STYLE*/", "/*DATA*/", "/*SCRIPT*/"] {
        if let Some((before, after)) = rest.split_once(placeholder) {
            pieces.extend([before, placeholder]);
            rest = after;
        }
    }
    pieces.push(rest);
    pieces
}

fn data(profile: &Profile, stats: &Stats) -> Value {
    let calls = calls(profile, Weight::AllocatedBytes);
    let (names, nodes) = tree(&calls);
    let mut total = profile::Site::default();
    calls.iter().for_each(|call| total.add(&call.site));
    let program = profile.modules.iter().find(|module| module.main);
    let program = program.and_then(|module| module.path.file_name());
    json!({
        "program": program.map_or("a program".into(), |name| name.to_string_lossy()),
        "facts": format!(
            "process {}, {:.1} s; {} samples, {}",
            profile.process,
            profile.duration_ns as f64 / 1e9,
            total.allocated.samples,
            facts(profile),
        ),
        "losses": losses(&profile.losses),
        "tiles": tiles(stats, &total),
        "types": TYPES.map(|(key, part, weight)| json!({
            "key": key, "part": part, "title": weight.title(), "unit": weight.unit(),
        })),
        "names": names,
        "nodes": nodes,
        "sites": sites(&calls),
        "sites_total": {
            "in_use": amount(&total.in_use),
            "allocated": amount(&total.allocated),
            "peak": amount(&total.peak),
        },
        "memory": memory(stats),
        "lifetimes": lifetimes(&total),
        "threads": profile.threads.iter().map(group).collect::<Vec<_>>(),
        "spans": profile.spans.iter().map(group).collect::<Vec<_>>(),
        "classes": classes(stats),
    })
}

/// Name, value and what it is.
fn tiles(stats: &Stats, sampled: &profile::Site) -> Value {
    let total = stats.total();
    let bytes = |bytes: u64| Bytes(bytes).to_string();
    let error = |amount: &Amount| match amount.relative_error() {
        0.0 => "exact".to_owned(),
        error if error.is_finite() => format!("estimated, ±{:.1}%", error * 100.0),
        _ => "not sampled".to_owned(),
    };
    json!([
        ["In use", bytes(total.live_bytes), "bytes of blocks, exact"],
        ["Blocks in use", count(total.live_blocks, 9), "exact"],
        ["Allocations", count(total.allocs, 9), "exact"],
        ["Peak", bytes(sampled.peak.bytes), error(&sampled.peak)],
        ["Resident", bytes(stats.memory.resident), "as the system reports"],
    ])
}

/// The stacks as one tree from a common root: names, and nodes `[name, parent,
/// value of each type…]`, parents first.
fn tree(calls: &[Call]) -> (Vec<&str>, Vec<Value>) {
    let mut names = Names::default();
    let mut nodes = vec![Node { name: names.place("all"), parent: None, values: [0; TYPES.len()] }];
    let mut children = BTreeMap::<(usize, usize), usize>::new();
    for call in calls {
        let values = TYPES.map(|(_, _, weight)| call.value(weight));
        nodes[0].add(&values);
        let mut parent = 0;
        for frame in call.frames.iter().rev() {
            let name = names.place(&frame.function);
            parent = *children.entry((parent, name)).or_insert_with(|| {
                nodes.push(Node { name, parent: Some(parent), values: [0; TYPES.len()] });
                nodes.len() - 1
            });
            nodes[parent].add(&values);
        }
    }
    (names.names, nodes.iter().map(Node::json).collect())
}

struct Node {
    name: usize,
    parent: Option<usize>,
    values: [u64; TYPES.len()],
}

impl Node {
    fn add(&mut self, values: &[u64; TYPES.len()]) {
        self.values.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }

    fn json(&self) -> Value {
        let mut row = vec![json!(self.name), json!(self.parent)];
        row.extend(self.values.iter().map(|value| json!(value)));
        row.into()
    }
}

#[derive(Default)]
struct Names<'a> {
    names: Vec<&'a str>,
    places: BTreeMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn place(&mut self, name: &'a str) -> usize {
        *self.places.entry(name).or_insert_with(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }
}

/// The largest of each figure, once each.
fn sites(calls: &[Call]) -> Vec<Value> {
    let mut chosen = vec![false; calls.len()];
    for (_, _, weight) in TYPES {
        let mut order: Vec<_> = (0..calls.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(calls[*at].value(weight)));
        order.into_iter().take(SITES_MAX).for_each(|at| chosen[at] = true);
    }
    let chosen = calls.iter().zip(chosen).filter_map(|(call, chosen)| chosen.then_some(call));
    chosen.map(site).collect()
}

fn site(call: &Call) -> Value {
    let median = call.site.lifetimes.quantile(0.5);
    json!({
        "title": &*call.frames[first_of_the_program(call)].function,
        "frames": call.frames.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "allocated": amount(&call.site.allocated),
        "in_use": amount(&call.site.in_use),
        "peak": amount(&call.site.peak),
        "median_ns": median.map(|median| median.as_nanos() as u64),
    })
}

/// The innermost frame that is not the standard library's: what a reader knows.
fn first_of_the_program(call: &Call) -> usize {
    call.frames.iter().position(|frame| !is_library(&frame.function)).unwrap_or(0)
}

/// Whether a function is the standard library's: of a type of its own, or of a
/// trait of its own for a type without a path.
fn is_library(function: &str) -> bool {
    const LIBRARY: [&str; 3] = ["alloc::", "core::", "std::"];
    let begins = |path: &str| {
        let path = path.trim_start_matches(['<', '&', '[', '(', '*']);
        LIBRARY.iter().any(|library| path.starts_with(library))
    };
    let of_trait = |(of, name): (&str, &str)| !of.contains("::") && begins(name);
    begins(function) || function.split_once(" as ").is_some_and(of_trait)
}

fn amount(amount: &Amount) -> Value {
    let error = amount.relative_error();
    json!({
        "samples": amount.samples, "objects": amount.objects, "bytes": amount.bytes,
        "error": error.is_finite().then_some(error),
    })
}

fn group(group: &Group) -> Value {
    json!({
        "name": group.name,
        "allocated": amount(&group.allocated),
        "in_use": amount(&group.in_use),
    })
}

fn lifetimes(total: &profile::Site) -> Vec<Value> {
    let freed = total.lifetimes.objects.iter().enumerate().map(|(bucket, objects)| {
        let bound = Lifetimes::bound(bucket).map(|bound| bound.as_nanos() as u64);
        json!({ "bound_ns": bound, "objects": objects, "still": false })
    });
    let still = json!({ "bound_ns": null, "objects": total.in_use.objects, "still": true });
    freed.chain([still]).collect()
}

fn memory(stats: &Stats) -> Vec<Value> {
    let parts = stats.memory.parts();
    parts.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect()
}

fn classes(stats: &Stats) -> Vec<Value> {
    let row = |size: &ClassStats, large: bool| {
        json!({
            "block_bytes": size.block_bytes, "large": large,
            "allocs": size.allocs, "frees": size.frees,
            "live_blocks": size.live_blocks, "live_bytes": size.live_bytes,
            "asked": size.requested.map(|requested| requested.mean_bytes),
            "waste": size.requested.map(|requested| requested.waste),
            "exact": size.requested.is_some_and(|requested| requested.exact),
        })
    };
    let small = stats.classes.iter().map(|size| (size, false));
    let rows = small.chain(stats.large.iter().map(|size| (size, true)));
    rows.filter(|(size, _)| size.allocs != 0).map(|(size, large)| row(size, large)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_sums_what_passes_through_a_function() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 3, 1), (&[0x21, 2], 30, 6)]);
        let (names, nodes) = data_tree(&profile);
        assert_eq!(names, ["all", "0x1", "0x20", "0x10"]);
        // Bytes in use, allocated, at the peak; then objects.
        assert_eq!(nodes[0], json!([0, null, 70, 330, 70, 7, 33, 7]));
        assert_eq!(nodes[1], json!([1, 0, 70, 330, 70, 7, 33, 7]));
        assert_eq!(nodes[2], json!([2, 1, 60, 300, 60, 6, 30, 6]));
    }

    #[test]
    fn a_site_is_called_by_the_programs_function() {
        for library in ["alloc::vec::from_elem", "<u8 as alloc::vec::SpecFromElem>::from_elem"] {
            assert!(is_library(library), "{library}");
        }
        for other in ["app::run", "<app::Text as core::fmt::Display>::fmt", "main"] {
            assert!(!is_library(other), "{other}");
        }
    }

    fn data_tree(profile: &Profile) -> (Vec<String>, Vec<Value>) {
        let calls = calls(profile, Weight::AllocatedBytes);
        let (names, nodes) = tree(&calls);
        (names.into_iter().map(str::to_owned).collect(), nodes)
    }

    #[test]
    fn the_page_holds_everything_and_names_cannot_end_its_script() {
        let mut profile = Profile::of_sites(&[(&[0x11, 2], 3, 1)]);
        profile.threads.push(Group {
            name: "</script><b>".into(),
            allocated: Amount::default(),
            in_use: Amount::default(),
        });
        let mut page = Vec::new();
        profile.write_html(&Stats::default(), &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains("\\u003c/script>\\u003cb>"));
        assert_eq!(page.matches("</script>").count(), 2);
        for placeholder in ["/*STYLE*/", "/*DATA*/", "/*SCRIPT*/", "http://", "https://"] {
            assert!(!page.contains(placeholder), "{placeholder}");
        }
    }
}
