//! The file format of speedscope: a table of frames, and per figure the stacks
//! with their values.

use std::collections::HashMap;
use std::io;

use serde_json::{Value, json};

use super::calls::{Call, Weight, calls};
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
        profile::quietly(|| Ok(serde_json::to_writer(out, &document(self))?))
    }
}

fn document(profile: &Profile) -> Value {
    let mut frames = Frames::default();
    let profiles: Vec<_> =
        WEIGHTS.iter().map(|weight| view(&calls(profile, *weight), *weight, &mut frames)).collect();
    json!({
        "$schema": SCHEMA,
        "exporter": concat!("spanalloc ", env!("CARGO_PKG_VERSION")),
        "shared": { "frames": frames.table },
        "profiles": profiles,
        "activeProfileIndex": 0,
    })
}

fn view(calls: &[Call], weight: Weight, frames: &mut Frames) -> Value {
    let used = || calls.iter().filter(|call| call.value(weight) != 0);
    let values: Vec<u64> = used().map(|call| call.value(weight)).collect();
    let stacks: Vec<Vec<usize>> = used()
        .map(|call| call.frames.iter().rev().map(|frame| frames.place(frame)).collect())
        .collect();
    json!({
        "type": "sampled",
        "name": weight.title(),
        "unit": if weight.unit() == "bytes" { "bytes" } else { "none" },
        "startValue": 0,
        "endValue": values.iter().sum::<u64>(),
        "samples": stacks,
        "weights": values,
    })
}

/// Each function once: where it was called from differs by stack.
#[derive(Default)]
struct Frames {
    table: Vec<Value>,
    places: HashMap<String, usize>,
}

impl Frames {
    fn place(&mut self, frame: &Frame) -> usize {
        *self.places.entry(frame.function.to_string()).or_insert_with(|| {
            let mut entry = json!({ "name": &*frame.function });
            if let Some(file) = &frame.file {
                entry["file"] = json!(&**file);
            }
            self.table.push(entry);
            self.table.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_from_the_root_and_values_sum_to_the_end() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 3, 0), (&[0x21, 2], 30, 6)]);
        let document = document(&profile);
        assert_eq!(document["shared"]["frames"][0]["name"], "0x1");
        let in_use = &document["profiles"][0];
        assert_eq!(in_use["samples"], json!([[0, 1]]));
        assert_eq!((&in_use["weights"], &in_use["endValue"]), (&json!([60]), &json!(60)));
        let allocated = &document["profiles"][2];
        assert_eq!(allocated["samples"], json!([[0, 1], [0, 2]]));
        assert_eq!(allocated["unit"], "bytes");
        assert_eq!(document["profiles"][5]["unit"], "none");
    }
}
