//! E14: tables of size classes on recorded traces of requests.

use super::{About, Experiment, Finding, Plot, Verdict};
use crate::program::RECORDER;
use crate::program::data::figure;
use crate::program::probe::{Probe, Random, counts, resident, timed, unused};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;

/// The largest size that a class serves, in all four tables.
const SIZE_MAX: usize = 32 * 1024;
/// Go's classes, of 67 sizes.
const GO: [u16; 67] = [
    8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352,
    384, 416, 448, 480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048,
    2304, 2688, 3072, 3200, 3456, 4096, 4864, 5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728,
    10240, 10880, 12288, 13568, 14336, 16384, 18432, 19072, 20480, 21760, 24576, 27264, 28672,
    32768,
];
const ALL: &str = "waste over all traces, %";
const NS: &str = "ns per lookup";
const RESIDENT: &str = "resident over all traces, MB";
const GEOMETRIC: &str = "geo12.5";

pub(super) const E14: Experiment = Experiment {
    id: "E14",
    title: "Tables of size classes",
    workload: "The requests of four recorded jobs (JSON, aggregation, text, an ordered index) \
               rounded up by four tables: Go's 67 sizes, the article's steps of 8 to 128 and of \
               12.5 % above, powers of two, and ours. The blocks are laid out class by class and \
               written as far as was asked for.",
    about: About::General,
    article: "at most 12.5 % waste",
    rule: "on every trace the table of 12.5 % wastes at most 12.5 % of its blocks' bytes",
    plot: Plot::bars(ALL),
    measure: tables,
    rule_on: |data| {
        let traces: Vec<&str> = data
            .distinct(|key| &key.metric)
            .into_iter()
            .filter(|metric| metric.starts_with("waste on"))
            .collect();
        if traces.is_empty() {
            return Some(Finding {
                verdict: Verdict::NotMeasurable,
                ours: String::from("not measured"),
                why: format!("the recorder, {RECORDER}, is not beside this program or failed."),
            });
        }
        let worst = |table| {
            let all = traces.iter().map(|metric| Some(data.ours(metric, table)?.high));
            all.collect::<Option<Vec<f64>>>().map(|all| all.into_iter().fold(0.0, f64::max))
        };
        let of = |table| data.ours(ALL, table);
        let (geometric, ours, go, powers) = (of(GEOMETRIC)?, of("ours")?, of("go67")?, of("pow2")?);
        let largest = worst(GEOMETRIC)?;
        Some(Finding {
            verdict: Verdict::when(largest <= 12.5),
            ours: format!("{} % on the worst trace, {geometric} % over all", figure(largest)),
            why: format!(
                "the bound holds from class to class above 128 bytes and the steps of 8 below \
                 are finer for what programs ask; over all traces Go's table wastes {go} %, powers \
                 of two {powers} %, ours {ours} %; with all blocks live at once, resident are {} \
                 MB by Go's, {} by powers of two, {} by ours.",
                data.ours(RESIDENT, "go67")?,
                data.ours(RESIDENT, "pow2")?,
                data.ours(RESIDENT, "ours")?,
            ),
        })
    },
};

/// Looks sizes up and adds the numbers of their classes.
type LookUp = Box<dyn Fn(&[u16]) -> usize>;

/// Sizes of a table, and how it finds the class of each of a list of sizes.
struct Table {
    name: &'static str,
    classes: Vec<u16>,
    look_up: LookUp,
}

impl Table {
    /// A table that is looked up by the size's eighth.
    fn by_eighths(name: &'static str, classes: Vec<u16>) -> Self {
        let numbers = numbers(&classes, 8, SIZE_MAX);
        let of = move |size: u16| usize::from(numbers[usize::from(size).div_ceil(8)]);
        let look_up = Box::new(move |sizes: &[u16]| sizes.iter().map(|size| of(*size)).sum());
        Self { name, classes, look_up }
    }

    fn all() -> [Self; 4] {
        let mut geometric: Vec<u16> = (1..=16).map(|step| step * 8).collect();
        while let Some(last) =
            geometric.last().copied().filter(|last| usize::from(*last) < SIZE_MAX)
        {
            // The next multiple of 8 below the step, so that the bound holds.
            let next = (usize::from(last) * 9 / 8 / 8 * 8).max(usize::from(last) + 8);
            geometric.push(next.min(SIZE_MAX) as u16);
        }
        let stats = spanalloc::stats();
        let ours = stats.classes.iter().map(|class| class.block_bytes as u16).collect();
        let powers = (3..=15).map(|log| 1u16 << log).collect();
        let (mut fine, coarse) = (numbers(&GO, 8, 1024), numbers(&GO, 128, SIZE_MAX));
        fine.truncate(1024 / 8 + 1);
        let go = move |size: u16| {
            let size = usize::from(size);
            usize::from(if size <= 1024 {
                fine[size.div_ceil(8)]
            } else {
                coarse[size.div_ceil(128)]
            })
        };
        let go = Box::new(move |sizes: &[u16]| sizes.iter().map(|size| go(*size)).sum());
        let power = |size: u16| size.max(8).next_power_of_two().trailing_zeros() as usize;
        let power = Box::new(move |sizes: &[u16]| sizes.iter().map(|size| power(*size)).sum());
        [
            Self { name: "go67", classes: GO.to_vec(), look_up: go },
            Self::by_eighths(GEOMETRIC, geometric),
            Self { name: "pow2", classes: powers, look_up: power },
            Self::by_eighths("ours", ours),
        ]
    }

    fn block(&self, size: usize) -> usize {
        let number = self.classes.partition_point(|class| usize::from(*class) < size);
        self.classes.get(number).map_or(size, |class| usize::from(*class))
    }
}

/// For each multiple of `step` up to `max` the number of its class.
fn numbers(classes: &[u16], step: usize, max: usize) -> Vec<u8> {
    let number = |size: usize| classes.partition_point(|class| usize::from(*class) < size) as u8;
    (0..=max / step).map(|steps| number(steps * step)).collect()
}

/// Counts by size, by trace.
type Traces = BTreeMap<String, Vec<(usize, u64)>>;

fn tables(probe: &mut Probe) {
    if !counts() {
        return;
    }
    let Some(traces) = traces() else { return };
    let mut random = Random(probe.seed());
    let sizes: Vec<u16> = (0..4096).map(|_| 1 + random.below(2048) as u16).collect();
    for table in Table::all() {
        let (mut all_asked, mut all_given) = (0.0, 0.0);
        for (trace, requests) in &traces {
            let sum = |of: &dyn Fn(usize) -> usize| -> f64 {
                requests.iter().map(|(size, count)| of(*size) as f64 * *count as f64).sum()
            };
            let (asked, given) = (sum(&|size| size), sum(&|size| table.block(size)));
            let metric = format!("waste on {trace}, %");
            probe.record(&metric, table.name, 100.0 * (1.0 - asked / given));
            (all_asked, all_given) = (all_asked + asked, all_given + given);
        }
        probe.record(ALL, table.name, 100.0 * (1.0 - all_asked / all_given));
        probe.record_some(RESIDENT, table.name, resident_mb(&table, traces.values().flatten()));
        let repeats = probe.size(100, 10);
        let (ns, ()) = timed(|| {
            (0..repeats).for_each(|_| unused(black_box((table.look_up)(black_box(&sizes)))))
        });
        probe.record(NS, table.name, ns / (repeats * sizes.len()) as f64);
        probe.record("classes", table.name, table.classes.len() as f64);
    }
}

/// What grows resident when the requests' blocks are laid out class by class and each is written as
/// far as was asked for.
fn resident_mb<'r>(table: &Table, requests: impl Iterator<Item = &'r (usize, u64)>) -> Option<f64> {
    let mut by_block: BTreeMap<usize, Vec<(usize, u64)>> = BTreeMap::new();
    for &(size, count) in requests {
        by_block.entry(table.block(size)).or_default().push((size, count));
    }
    let blocks =
        |sizes: &[(usize, u64)]| sizes.iter().map(|(_, count)| count).sum::<u64>() as usize;
    let bytes: usize = by_block.iter().map(|(block, sizes)| block * blocks(sizes)).sum();
    let pages = Pages::map(bytes)?;
    let before = resident()?;
    let mut at = 0;
    for (block, sizes) in &by_block {
        for &(size, count) in sizes {
            for _ in 0..count {
                pages.write(at, size);
                at += block;
            }
        }
    }
    Some((resident()? - before) / 1e6)
}

/// Anonymous memory in ordinary pages, none of them there yet.
struct Pages {
    start: *mut u8,
    bytes: usize,
}

impl Pages {
    fn map(bytes: usize) -> Option<Self> {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever there is room.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
        let pages = Self { start: start.cast(), bytes };
        if start == libc::MAP_FAILED {
            std::mem::forget(pages);
            return None;
        }
        Some(pages)
    }

    fn write(&self, at: usize, bytes: usize) {
        assert!(at + bytes <= self.bytes, "every block was counted");
        // SAFETY: `at` lies in the mapping.
        let place = unsafe { self.start.add(at) };
        // SAFETY: the bytes lie in the mapping, which nobody else writes to.
        unsafe { place.write_bytes(1, bytes) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// What the recorder, a program beside this one, prints.
fn traces() -> Option<Traces> {
    let recorder = std::env::current_exe().ok()?.with_file_name(RECORDER);
    let output = Command::new(recorder).output().ok().filter(|output| output.status.success())?;
    let mut traces = Traces::new();
    for line in String::from_utf8(output.stdout).ok()?.lines() {
        let mut parts = line.split('\t');
        let (trace, size, count) = (parts.next()?, parts.next()?, parts.next()?);
        let request = (size.parse().ok()?, count.parse().ok()?);
        traces.entry(trace.to_owned()).or_default().push(request);
    }
    (!traces.is_empty()).then_some(traces)
}
