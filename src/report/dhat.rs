//! The file format of DHAT, valgrind's heap profiler, for its viewer and for
//! Firefox Profiler.
//!
//! The format wants what an exact profiler knows and a sampler estimates: all
//! figures are estimates here. A program point's own maximum (`mb`) is not kept;
//! the larger of what it held at the global peak and at the end stands for it. The
//! viewer gives up on a stack that comes twice, so stacks are merged by name first.

use std::collections::HashMap;
use std::io;

use serde_json::{Value, json};

use super::calls::{Call, Weight, calls};
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
        profile::quietly(|| Ok(serde_json::to_writer(out, &document(self))?))
    }
}

fn document(profile: &Profile) -> Value {
    let mut frames = Frames { table: vec![ROOT.to_owned()], places: HashMap::new() };
    let points: Vec<_> = calls(profile, Weight::AllocatedBytes)
        .iter()
        .map(|call| {
            let (site, of) = (&call.site, |amount: profile::Amount| (amount.bytes, amount.objects));
            let (allocated, peak, end) = (of(site.allocated), of(site.peak), of(site.in_use));
            json!({
                "tb": allocated.0, "tbk": allocated.1,
                "tl": lived_us(&site.lifetimes),
                "mb": peak.0.max(end.0), "mbk": peak.1.max(end.1),
                "gb": peak.0, "gbk": peak.1,
                "eb": end.0, "ebk": end.1,
                "fs": frames.places(call),
            })
        })
        .collect();
    let program = profile.modules.iter().find(|module| module.main);
    json!({
        "dhatFileVersion": VERSION,
        "mode": "rust-heap",
        "verb": "Allocated",
        "bklt": true,
        "bkacc": false,
        "tu": "µs",
        "Mtu": "s",
        "tuth": 10,
        "cmd": program.map(|module| module.path.to_string_lossy()).unwrap_or_default(),
        "pid": profile.process,
        "tg": profile.peak_after_ns / 1000,
        "te": profile.duration_ns / 1000,
        "pps": points,
        "ftbl": frames.table,
    })
}

/// The sum of all lifetimes, each taken from the middle of its bucket.
fn lived_us(lifetimes: &Lifetimes) -> u64 {
    let mut begin_ns = 0;
    let mut total_ns = 0_u128;
    for (bucket, objects) in lifetimes.objects.iter().enumerate() {
        let end_ns = Lifetimes::bound(bucket).map_or(begin_ns, |bound| bound.as_nanos());
        total_ns += u128::from(*objects) * (begin_ns + end_ns) / 2;
        begin_ns = end_ns;
    }
    u64::try_from(total_ns / 1000).unwrap_or(u64::MAX)
}

struct Frames {
    table: Vec<String>,
    places: HashMap<String, usize>,
}

impl Frames {
    /// The places of a stack's frames in the table, leaf first.
    fn places(&mut self, call: &Call) -> Vec<usize> {
        let texts = call.frames.iter().zip(&call.site.frames).map(|(frame, address)| {
            let file = frame.file.as_deref().unwrap_or("unknown");
            let line = frame.line.unwrap_or(0);
            // The viewer shows the call, which is before the address it returns to.
            format!("{:#x}: {} ({file}:{line}:0)", address.saturating_sub(1), frame.function)
        });
        let texts: Vec<_> = texts.collect();
        texts.into_iter().map(|text| self.place(text)).collect()
    }

    fn place(&mut self, text: String) -> usize {
        let table = &mut self.table;
        *self.places.entry(text).or_insert_with_key(|text| {
            table.push(text.clone());
            table.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_every_figure_and_no_stack_comes_twice() {
        let sites: &[(&[u64], u64, u64)] =
            &[(&[0x11, 2], 3, 1), (&[0x11, 2], 6, 0), (&[0x21, 2], 30, 6)];
        let document = document(&Profile::of_sites(sites));
        let points = document["pps"].as_array().unwrap();
        assert_eq!(points.len(), 2);
        let expected = json!({
            "tb": 300, "tbk": 30, "tl": 60, "mb": 60, "mbk": 6,
            "gb": 60, "gbk": 6, "eb": 60, "ebk": 6, "fs": [1, 2],
        });
        assert_eq!(points[0], expected);
        assert_eq!(points[1]["tbk"], 9);
        let frames = ["[root]", "0x20: 0x20 (unknown:0:0)", "0x1: 0x1 (unknown:0:0)"];
        assert_eq!(document["ftbl"].as_array().unwrap()[..3], frames);
    }
}
