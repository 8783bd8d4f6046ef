//! The file format of DHAT, valgrind's heap profiler, for its viewer and for
//! Firefox Profiler.
//!
//! The format wants what an exact profiler knows and a sampler estimates: all
//! figures are estimates here. A program point's own maximum (`mb`) is not kept;
//! the larger of what it held at the global peak and at the end stands for it. The
//! viewer gives up on a stack that comes twice, so stacks are merged by name first.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::calls::{Call, calls};
use super::facts::facts;
use super::whole::whole;
use crate::profile::symbols::Frame;
use crate::profile::{self, Lifetimes, Profile};

const VERSION: u32 = 2;
const ROOT: &str = "[root]";

impl Profile {
    /// Writes the profile as DHAT's JSON.
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
    /// let mut json = Vec::new();
    /// spanalloc::profile::capture().write_dhat(&mut json)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_dhat<W: io::Write>(&self, out: W) -> io::Result<()> {
        profile::quietly(|| whole(out, |out| write(self, &calls(self), out)))
    }
}

/// Writes named stacks.
pub(crate) fn write(profile: &Profile, calls: &[Call], out: impl io::Write) -> io::Result<()> {
    Ok(serde_json::to_writer(out, &document(profile, calls))?)
}

/// The names of the fields are the format's.
#[derive(Serialize)]
#[allow(non_snake_case, reason = "so are their letters")]
struct Document<'a> {
    dhatFileVersion: u32,
    mode: &'static str,
    verb: &'static str,
    bklt: bool,
    bkacc: bool,
    tu: &'static str,
    Mtu: &'static str,
    tuth: u32,
    cmd: String,
    pid: u32,
    tg: u64,
    te: u64,
    pps: Vec<Point>,
    ftbl: Vec<Text<'a>>,
}

/// A program point: what was allocated at a stack, how long it lived in sum, and what
/// was in use at its own maximum, at the peak, and at the end; bytes and blocks.
#[derive(Serialize)]
struct Point {
    tb: u64,
    tbk: u64,
    tl: u64,
    mb: u64,
    mbk: u64,
    gb: u64,
    gbk: u64,
    eb: u64,
    ebk: u64,
    fs: Vec<usize>,
}

fn document<'a>(profile: &Profile, calls: &'a [Call]) -> Document<'a> {
    let mut frames = Frames { table: vec![Text::Root], places: HashMap::new() };
    let point = |call: &'a Call| {
        let (site, of) = (&call.site, |amount: profile::Amount| (amount.bytes, amount.objects));
        let ((tb, tbk), (gb, gbk), (eb, ebk)) =
            (of(site.allocated), of(site.peak), of(site.in_use));
        let (mb, mbk) = (gb.max(eb), gbk.max(ebk));
        // Those in use are taken to end now, as at an end of the program.
        let tl = lived_us(&site.lifetimes, profile.duration_ns).saturating_add(site.in_use_ages_us);
        let fs = frames.places(call);
        Point { tb, tbk, tl, mb, mbk, gb, gbk, eb, ebk, fs }
    };
    let points = calls.iter().map(point).collect();
    let program = profile.modules.iter().find(|module| module.main);
    let program = program.map(|module| module.path.to_string_lossy()).unwrap_or_default();
    Document {
        dhatFileVersion: VERSION,
        mode: "rust-heap",
        verb: "Allocated",
        bklt: true,
        bkacc: false,
        tu: "µs",
        Mtu: "s",
        tuth: 10,
        // The format has no other place for how the figures were made.
        cmd: format!("{program} ({})", facts(profile)),
        pid: profile.process,
        tg: profile.peak_after_ns / 1000,
        te: profile.duration_ns / 1000,
        pps: points,
        ftbl: frames.table,
    }
}

/// The sum of all lifetimes, each taken from the middle of its bucket: of as much of it as the run
/// lasted, where that is known.
fn lived_us(lifetimes: &Lifetimes, run_ns: u64) -> u64 {
    let run_ns = (run_ns != 0).then_some(u128::from(run_ns));
    let mut begin_ns = 0;
    let mut total_ns = 0_u128;
    for (bucket, objects) in lifetimes.objects.iter().enumerate() {
        let bound_ns = Lifetimes::bound(bucket).map(|bound| bound.as_nanos());
        let end_ns = bound_ns.into_iter().chain(run_ns).min().unwrap_or(begin_ns);
        total_ns += u128::from(*objects) * (begin_ns + end_ns) / 2;
        begin_ns = end_ns;
    }
    u64::try_from(total_ns / 1000).unwrap_or(u64::MAX)
}

/// An entry of the table of frames.
enum Text<'a> {
    Root,
    Frame(u64, &'a Frame),
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self::Frame(address, frame) = self else { return to.serialize_str(ROOT) };
        let (function, line) = (&frame.function, frame.line.unwrap_or(0));
        let file = frame.file.as_deref().unwrap_or("unknown");
        // The viewer shows the call, which is before the address it returns to.
        let call = address.saturating_sub(1);
        to.collect_str(&format_args!("{call:#x}: {function} ({file}:{line}:0)"))
    }
}

struct Frames<'a> {
    table: Vec<Text<'a>>,
    /// By address and frame.
    places: HashMap<(u64, *const Frame), usize>,
}

impl<'a> Frames<'a> {
    /// The places of a stack's frames in the table, leaf first.
    fn places(&mut self, call: &'a Call) -> Vec<usize> {
        let frames = call.frames.iter().zip(&call.site.frames);
        frames.map(|(frame, address)| self.place(*address, frame)).collect()
    }

    fn place(&mut self, address: u64, frame: &'a Arc<Frame>) -> usize {
        let table = &mut self.table;
        *self.places.entry((address, Arc::as_ptr(frame))).or_insert_with(|| {
            table.push(Text::Frame(address, frame));
            table.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_lifetime_is_longer_than_the_run() {
        let mut profile = Profile::of_sites(&[(&[0x11, 2], 3, 1)]);
        profile.sites[0].in_use_ages_us = 0;
        // 1.05 to 4.19 s of a run of two seconds.
        profile.sites[0].lifetimes.objects = vec![0; 12];
        profile.sites[0].lifetimes.objects[11] = 3;
        let lived = |profile: &Profile| document(profile, &calls(profile)).pps[0].tl;
        assert_eq!(lived(&profile), 3 * (1_048_576 + 2_000_000) / 2);
        profile.duration_ns = 1_048_600_000;
        assert!(lived(&profile) <= 3 * 1_048_600);
        profile.duration_ns = 0;
        assert_eq!(lived(&profile), 3 * (1_048_576 + 4_194_304) / 2, "not known");
        // The last bucket has no end but the run's.
        profile.sites[0].lifetimes.objects = vec![0; Lifetimes::buckets()];
        *profile.sites[0].lifetimes.objects.last_mut().unwrap() = 1;
        let (begin_us, run_us) = (1_u64 << 40, 1 << 41);
        assert_eq!(lived(&profile), begin_us);
        profile.duration_ns = run_us * 1000;
        assert_eq!(lived(&profile), (begin_us + run_us) / 2);
    }

    #[test]
    fn points_have_every_figure_and_no_stack_comes_twice() {
        let sites: &[(&[u64], u64, u64)] =
            &[(&[0x11, 2], 3, 1), (&[0x11, 2], 6, 0), (&[0x21, 2], 30, 6)];
        let profile = Profile::of_sites(sites);
        let document = serde_json::to_value(document(&profile, &calls(&profile))).unwrap();
        let points = document["pps"].as_array().unwrap();
        assert_eq!(points.len(), 2);
        let expected = json!({
            "tb": 300, "tbk": 30, "tl": 102, "mb": 60, "mbk": 6,
            "gb": 60, "gbk": 6, "eb": 60, "ebk": 6, "fs": [3, 2],
        });
        assert_eq!(points[1], expected);
        assert_eq!(points[0]["tbk"], 9);
        let frames = ["[root]", "0x10: 0x10 (unknown:0:0)", "0x1: 0x1 (unknown:0:0)"];
        assert_eq!(document["ftbl"].as_array().unwrap()[..3], frames);
    }

    #[test]
    fn a_document_says_what_its_figures_are_and_whose() {
        let mut profile = Profile::of_sites(&[(&[0x11, 2], 3, 1)]);
        profile.duration_ns = 2_000_000_999;
        let module = |path: &str, main| profile::Module {
            path: path.into(),
            bias: 0,
            start: 0x1000,
            end: 0x2000,
            file_offset: 0,
            build_id: String::new(),
            main,
        };
        profile.modules = vec![module("/lib/a", false), module("/bin/app", true)];
        let mut document = serde_json::to_value(document(&profile, &calls(&profile))).unwrap();
        let fields = document.as_object_mut().unwrap();
        assert!(fields.remove("pps").is_some() && fields.remove("ftbl").is_some());
        let expected = json!({
            "dhatFileVersion": 2,
            "mode": "rust-heap",
            "verb": "Allocated",
            "bklt": true,
            "bkacc": false,
            "tu": "µs",
            "Mtu": "s",
            "tuth": 10,
            "cmd": format!("/bin/app ({})", facts(&profile)),
            "pid": 7,
            "tg": 1_000_000,
            "te": 2_000_000,
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn a_points_own_maximum_is_the_larger_of_what_is_known() {
        let mut profile = Profile::of_sites(&[(&[0x11, 2], 30, 9)]);
        let of = |profile: &Profile| {
            let point = &document(profile, &calls(profile)).pps[0];
            [(point.mb, point.mbk), (point.gb, point.gbk), (point.eb, point.ebk)]
        };
        let peak = &mut profile.sites[0].peak;
        (peak.bytes, peak.objects) = (40, 4);
        assert_eq!(of(&profile), [(90, 9), (40, 4), (90, 9)]);
        let peak = &mut profile.sites[0].peak;
        (peak.bytes, peak.objects) = (200, 20);
        assert_eq!(of(&profile), [(200, 20), (200, 20), (90, 9)]);
    }

    #[test]
    fn a_frame_of_the_table_has_its_file_and_line() {
        let frame = Frame { function: "f".into(), file: Some("f.rs".into()), line: Some(7) };
        let text = serde_json::to_value([Text::Root, Text::Frame(0x11, &frame)]).unwrap();
        assert_eq!(text, json!(["[root]", "0x10: f (f.rs:7:0)"]));
    }
}
