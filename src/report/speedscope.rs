//! The file format of speedscope: a table of frames, and per figure the stacks
//! with their values.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::calls::{Call, Weight, calls, largest};
use super::facts::facts;
use super::whole::whole;
use crate::profile::symbols::Frame;
use crate::profile::{self, Profile};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";
const WEIGHTS: [Weight; 6] = [
    Weight::InUseBytes,
    Weight::InUseObjects,
    Weight::AllocatedBytes,
    Weight::AllocatedObjects,
    Weight::PeakBytes,
    Weight::PeakObjects,
];

impl Profile {
    /// Writes the profile for speedscope: one view per [`Weight`].
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
    /// spanalloc::profile::capture().write_speedscope(&mut json)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_speedscope<W: io::Write>(&self, out: W) -> io::Result<()> {
        profile::quietly(|| whole(out, |out| write(self, &calls(self), out)))
    }
}

/// Writes named stacks.
pub(crate) fn write(profile: &Profile, calls: &[Call], out: impl io::Write) -> io::Result<()> {
    let (frames, places) = functions(calls);
    let profiles = WEIGHTS.iter().map(|weight| view(calls, *weight, &places)).collect();
    let document = Document {
        schema: SCHEMA,
        exporter: concat!("spanalloc ", env!("CARGO_PKG_VERSION")),
        name: facts(profile),
        shared: Shared { frames },
        profiles,
        active_profile_index: 0,
    };
    Ok(serde_json::to_writer(out, &document)?)
}

/// The names of the fields are the format's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: &'static str,
    name: String,
    shared: Shared<'a>,
    profiles: Vec<View<'a>>,
    active_profile_index: usize,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<Function<'a>>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Vec<Stack<'a>>,
    weights: Vec<u64>,
}

/// A stack from the root on, as the places of its functions.
struct Stack<'a> {
    call: &'a Call,
    places: &'a Places,
}

/// Each function once: where it was called from differs by stack.
type Places = HashMap<Arc<str>, usize>;

impl Serialize for Stack<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let place = |frame: &Arc<Frame>| self.places.get(&frame.function);
        to.collect_seq(self.call.frames.iter().rev().filter_map(place))
    }
}

/// The functions of all stacks, and where each is.
fn functions(calls: &[Call]) -> (Vec<Function<'_>>, Places) {
    let (mut table, mut places) = (Vec::new(), Places::new());
    for frame in calls.iter().flat_map(|call| call.frames.iter().rev()) {
        places.entry(frame.function.clone()).or_insert_with(|| {
            table.push(Function { name: &frame.function, file: frame.file.as_deref() });
            table.len() - 1
        });
    }
    (table, places)
}

fn view<'a>(calls: &'a [Call], weight: Weight, places: &'a Places) -> View<'a> {
    let used = largest(calls, weight);
    let weights: Vec<u64> = used.iter().map(|call| call.value(weight)).collect();
    View {
        kind: "sampled",
        name: weight.title(),
        unit: if weight.unit() == "bytes" { "bytes" } else { "none" },
        start_value: 0,
        end_value: weights.iter().sum(),
        samples: used.into_iter().map(|call| Stack { call, places }).collect(),
        weights,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn stacks_are_from_the_root_and_values_sum_to_the_end() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 3, 0), (&[0x21, 2], 30, 6)]);
        let mut text = Vec::new();
        profile.write_speedscope(&mut text).unwrap();
        let document: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(document["shared"]["frames"][0]["name"], "0x1");
        let in_use = &document["profiles"][0];
        assert_eq!(in_use["samples"], json!([[0, 2]]));
        assert_eq!((&in_use["weights"], &in_use["endValue"]), (&json!([60]), &json!(60)));
        let allocated = &document["profiles"][2];
        assert_eq!(allocated["samples"], json!([[0, 2], [0, 1]]));
        assert_eq!(allocated["unit"], "bytes");
        assert_eq!(document["profiles"][5]["unit"], "none");
    }

    #[test]
    fn a_document_has_every_figure_under_its_name() {
        use crate::profile::symbols::Symbols;

        let mut profile = Profile::of_sites(&[(&[0x11, 2], 30, 3)]);
        let peak = &mut profile.sites[0].peak;
        (peak.bytes, peak.objects) = (70, 8);
        let frame = |function: &str, file: Option<&str>| {
            Arc::new(Frame { function: function.into(), file: file.map(Into::into), line: Some(1) })
        };
        let known: [(u64, Box<[_]>); 2] =
            [(0x11, [frame("f", Some("f.rs"))].into()), (2, [frame("g", None)].into())];
        profile.symbols = std::sync::OnceLock::from(Symbols::known(known.into()));
        let mut text = Vec::new();
        profile.write_speedscope(&mut text).unwrap();
        let document: Value = serde_json::from_slice(&text).unwrap();
        let view = |name: &str, unit: &str, value: u64| {
            json!({
                "type": "sampled", "name": name, "unit": unit, "startValue": 0,
                "endValue": value, "samples": [[0, 1]], "weights": [value],
            })
        };
        let expected = json!({
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": format!("spanalloc {}", env!("CARGO_PKG_VERSION")),
            "name": facts(&profile),
            "activeProfileIndex": 0,
            "shared": { "frames": [{ "name": "g" }, { "name": "f", "file": "f.rs" }] },
            "profiles": [
                view("Bytes in use", "bytes", 30),
                view("Objects in use", "none", 3),
                view("Bytes allocated", "bytes", 300),
                view("Objects allocated", "none", 30),
                view("Bytes in use at the peak", "bytes", 70),
                view("Objects in use at the peak", "none", 8),
            ],
        });
        assert_eq!(document, expected);
    }
}
