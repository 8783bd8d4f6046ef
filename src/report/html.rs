//! One self-contained page: everything a dump knows, to look at in a browser. It
//! opens from disk and asks the network for nothing.
//!
//! The page is a style sheet, a script, and the data as JSON; all three stand in
//! the one file. Names come from the program, so the script sets them as text and
//! the data holds no `<`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::calls::{Call, Weight, calls};
use super::facts::{grouped, head, losses, nothing};
use super::standard::is_standard;
use super::stats::{ClassStats, Stats};
use super::units::Bytes;
use super::whole::whole;
use crate::profile::{self, Amount, BlockSize, Group, Lifetimes, Profile};

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
    pub fn write_html<W: io::Write>(&self, stats: &Stats, out: W) -> io::Result<()> {
        profile::quietly(|| whole(out, |out| write(self, &calls(self), stats, out)))
    }
}

/// Writes named stacks.
pub(crate) fn write(
    profile: &Profile,
    calls: &[Call],
    stats: &Stats,
    mut out: impl io::Write,
) -> io::Result<()> {
    for piece in pieces(PAGE) {
        match piece {
            "/*STYLE*/" => out.write_all(STYLE.as_bytes())?,
            "/*SCRIPT*/" => out.write_all(SCRIPT.as_bytes())?,
            "/*DATA*/" => {
                serde_json::to_writer(WithoutTags(&mut out), &data(profile, calls, stats))?
            }
            text => out.write_all(text.as_bytes())?,
        }
    }
    Ok(())
}

/// Writes JSON so that it may stand inside a script element, which only `<` could end.
struct WithoutTags<W>(W);

impl<W: io::Write> io::Write for WithoutTags<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (at, piece) in bytes.split(|byte| *byte == b'<').enumerate() {
            if at != 0 {
                self.0.write_all(b"\\u003c")?;
            }
            self.0.write_all(piece)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
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

/// What the page shows: the graph, which may be large, and the rest.
#[derive(Serialize)]
struct Data<'a> {
    names: Vec<&'a str>,
    nodes: Vec<Node>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

fn data<'a>(profile: &Profile, calls: &'a [Call], stats: &Stats) -> Data<'a> {
    let (names, nodes) = tree(calls);
    let rest = match rest(profile, calls, stats) {
        Value::Object(rest) => rest,
        _ => serde_json::Map::new(),
    };
    Data { names, nodes, rest }
}

fn rest(profile: &Profile, calls: &[Call], stats: &Stats) -> Value {
    let mut total = profile::Site::default();
    calls.iter().for_each(|call| total.add(&call.site));
    let program = profile.modules.iter().find(|module| module.main);
    let program = program.and_then(|module| module.path.file_name());
    json!({
        "program": program.map_or("a program".into(), |name| name.to_string_lossy()),
        "facts": head(profile, total.allocated.samples),
        "losses": losses(&profile.losses),
        "tiles": tiles(stats, &total, profile.duration_ns),
        "types": TYPES.map(|(key, part, weight)| json!({
            "key": key, "part": part, "title": weight.title(), "unit": weight.unit(),
            "nothing": nothing(weight, total.allocated.samples, profile.interval_bytes),
        })),
        "sites": sites(calls),
        "sites_total": {
            "in_use": amount(&total.in_use),
            "allocated": amount(&total.allocated),
            "peak": amount(&total.peak),
        },
        "memory": memory(stats),
        "not_resident": stats.memory.not_resident(),
        "lifetimes": lifetimes(&total),
        "threads": profile.threads.iter().map(group).collect::<Vec<_>>(),
        "spans": profile.spans.iter().map(group).collect::<Vec<_>>(),
        "classes": classes(stats, &profile.sizes),
    })
}

/// Name, value and what it is.
///
/// What is in use is known of all blocks, the peak of those that were sampled: where some were not,
/// as before sampling began, it may be below what is in use, so it stands beside the like.
fn tiles(stats: &Stats, sampled: &profile::Site, sampling_ns: u64) -> Value {
    let total = stats.total();
    let bytes = |bytes: u64| Bytes(bytes).to_string();
    // What was not sampled may have been in use, too, though each sample stands for itself alone.
    let whole = exact(&sampled.peak) && sampled.allocated.samples >= total.allocs;
    let error = match exact(&sampled.peak) {
        true => String::new(),
        false => format!("estimated, ±{:.1}%, ", sampled.peak.bytes_error_bar() * 100.0),
    };
    let (name, what) = match sampled.peak.samples {
        _ if whole => ("Peak", "exact".to_owned()),
        0 => ("Peak", "not sampled".to_owned()),
        _ => {
            let (seconds, now) = (sampling_ns as f64 / 1e9, bytes(sampled.in_use.block_bytes));
            let since = format!("since sampling began, {seconds:.1} s ago; of the same, {now} now");
            ("Peak of what was sampled", error + &since)
        }
    };
    let (resident, whence) = match stats.memory.is_known() {
        true => (bytes(stats.memory.resident), "as the system reports"),
        false => ("not known".to_owned(), "the system does not say"),
    };
    json!([
        ["In use", bytes(total.live_bytes), "bytes of blocks, exact"],
        ["Blocks in use", grouped(total.live_blocks), "exact"],
        ["Allocations", grouped(total.allocs), "exact"],
        [name, bytes(sampled.peak.block_bytes), what],
        ["Resident", resident, whence],
    ])
}

/// The stacks as one tree from a common root: names, and nodes, parents first.
fn tree(calls: &[Call]) -> (Vec<&str>, Vec<Node>) {
    let mut names = Names::default();
    let mut nodes = vec![Node::new(names.place("all"), None)];
    let mut children = HashMap::<(usize, usize), usize>::new();
    // The largest first: that is the order of the children of a node. Last is what has no bytes.
    let mut all: Vec<_> = calls.iter().collect();
    all.sort_by_key(|call| Reverse(call.value(Weight::AllocatedBytes)));
    for call in all {
        nodes[0].add(call);
        let mut parent = 0;
        for frame in call.frames.iter().rev() {
            let name = names.place(&frame.function);
            parent = *children.entry((parent, name)).or_insert_with(|| {
                nodes.push(Node::new(name, Some(parent)));
                nodes.len() - 1
            });
            nodes[parent].add(call);
        }
    }
    (names.names, nodes)
}

/// A function on the graph, as `[name, parent, value of each type…, error bar of each
/// value in thousandths…]`; an error of 0 is that of a value that is exact.
struct Node {
    name: usize,
    parent: Option<usize>,
    allocated: Amount,
    in_use: Amount,
    peak: Amount,
}

impl Node {
    fn new(name: usize, parent: Option<usize>) -> Self {
        let none = Amount::default();
        Self { name, parent, allocated: none, in_use: none, peak: none }
    }

    fn add(&mut self, call: &Call) {
        self.allocated.add(&call.site.allocated);
        self.in_use.add(&call.site.in_use);
        self.peak.add(&call.site.peak);
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let each = || {
            TYPES.iter().map(|(_, part, weight)| match *part {
                "allocated" => (*weight, &self.allocated),
                "in_use" => (*weight, &self.in_use),
                _ => (*weight, &self.peak),
            })
        };
        let places = [Some(self.name as u64), self.parent.map(|parent| parent as u64)];
        let values = each().map(|(weight, amount)| Some(weight.value(amount)));
        let errors = each().map(|(weight, amount)| {
            let error = weight.error_bar(amount);
            let least = u64::from(!exact(amount));
            error.is_finite().then(|| ((error * 1000.0).round() as u64).max(least))
        });
        to.collect_seq(places.into_iter().chain(values).chain(errors))
    }
}

#[derive(Default)]
struct Names<'a> {
    names: Vec<&'a str>,
    places: HashMap<&'a str, usize>,
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
        order.sort_by_key(|at| Reverse(calls[*at].value(weight)));
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
        "median_beyond": call.site.lifetimes.is_beyond(0.5),
        "age_ns": call.site.mean_age().map(|age| age.as_nanos() as u64),
    })
}

/// The innermost frame that is not the standard library's: what a reader knows.
fn first_of_the_program(call: &Call) -> usize {
    call.frames.iter().position(|frame| !is_standard(frame)).unwrap_or(0)
}

fn exact(amount: &Amount) -> bool {
    amount.samples != 0 && amount.is_exact()
}

fn amount(amount: &Amount) -> Value {
    let finite = |error: f64| error.is_finite().then_some(error);
    json!({
        "exact": exact(amount),
        "samples": amount.samples, "objects": amount.objects, "bytes": amount.bytes,
        "bytes_error": finite(amount.bytes_error_bar()),
        "objects_error": finite(amount.objects_error_bar()),
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
    parts.map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect()
}

fn classes(stats: &Stats, sizes: &[BlockSize]) -> Vec<Value> {
    let mut rest = sizes;
    let mut row = |class: &ClassStats, large: bool| {
        let fits = rest.partition_point(|size| size.block_bytes <= class.block_bytes);
        let (inside, larger) = rest.split_at(fits);
        rest = larger;
        let mut lived = Lifetimes::default();
        inside.iter().for_each(|size| lived.add(&size.lifetimes));
        let within = |share| lived.quantile(share).map(|lifetime| lifetime.as_nanos() as u64);
        let requested = class.requested;
        json!({
            "block_bytes": class.block_bytes, "large": large,
            "allocs": class.allocs, "frees": class.frees,
            "live_blocks": class.live_blocks, "live_bytes": class.live_bytes,
            "asked": requested.map(|requested| requested.mean_bytes),
            "asked_error": requested.and_then(|requested| requested.mean_error),
            "waste": requested.map(|requested| requested.waste),
            "exact": requested.is_some_and(|requested| requested.exact),
            "median_ns": within(0.5), "median_beyond": lived.is_beyond(0.5),
            "most_ns": within(0.9), "most_beyond": lived.is_beyond(0.9),
        })
    };
    let small = stats.classes.iter().map(|class| (class, false));
    let all = small.chain(stats.large.iter().map(|class| (class, true)));
    let rows: Vec<_> = all.map(|(class, large)| (class.allocs, row(class, large))).collect();
    rows.into_iter().filter(|(allocs, _)| *allocs != 0).map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests;
