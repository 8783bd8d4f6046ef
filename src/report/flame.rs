//! Flamegraphs, drawn by `inferno`.

use std::io;

use inferno::flamegraph::color::{BasicPalette, Palette};
use inferno::flamegraph::{self, Options};

use super::calls::Weight;
use super::folded::folded;
use super::units::Bytes;
use crate::profile::{self, Profile, Unwinding};

impl Profile {
    /// Writes a flamegraph as SVG, with search and zoom when opened in a
    /// browser. The same profile gives the same bytes. Without samples the
    /// picture says so.
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
    /// use spanalloc::report::Weight;
    ///
    /// let mut svg = Vec::new();
    /// spanalloc::profile::capture().write_flamegraph(Weight::AllocatedBytes, &mut svg)?;
    /// assert!(svg.starts_with(b"<?xml"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_flamegraph<W: io::Write>(&self, weight: Weight, mut out: W) -> io::Result<()> {
        profile::quietly(|| {
            let folded = folded(self, weight);
            let subtitle = subtitle(self, weight);
            if folded.is_empty() {
                return out.write_all(empty(weight.title(), &subtitle).as_bytes());
            }
            let mut options = Options::default();
            options.title = weight.title().to_owned();
            options.subtitle = Some(subtitle);
            options.count_name = weight.unit().to_owned();
            options.name_type = "Function:".to_owned();
            options.colors = Palette::Basic(BasicPalette::Mem);
            options.deterministic = true;
            flamegraph::from_lines(&mut options, folded.lines(), out)
        })
    }
}

/// Total, number of samples, interval and how stacks were walked.
fn subtitle(profile: &Profile, weight: Weight) -> String {
    let (mut total, mut samples) = (0, 0);
    for site in &profile.sites {
        let amount = weight.amount(&site.allocated, &site.in_use);
        samples += amount.samples;
        total += weight.value(amount);
    }
    let total = weight.figure(total);
    let interval = match profile.interval_bytes {
        0 => "sampling now off".to_owned(),
        1 => "every allocation".to_owned(),
        bytes => format!("one per {}", Bytes(bytes)),
    };
    let stacks = match profile.unwinding {
        Unwinding::Undecided => "unwind tables (still comparing with frame pointers)",
        Unwinding::UnwindTables => "unwind tables",
        Unwinding::FramePointers => "frame pointers",
    };
    format!("total {total}; {samples} samples, {interval}; stacks by {stacks}")
}

/// inferno refuses an empty profile; a dump still owes a picture.
fn empty(title: &str, subtitle: &str) -> String {
    format!(
        r##"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="90" viewBox="0 0 1200 90" xmlns="http://www.w3.org/2000/svg">
<rect width="100%" height="100%" fill="#eeeeee"/>
<g font-family="monospace" font-size="12" text-anchor="middle">
<text x="600" y="26" font-size="17">{title}</text>
<text x="600" y="48">{subtitle}</text>
<text x="600" y="74">There were no samples.</text>
</g>
</svg>
"##
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(profile: &Profile) -> String {
        let mut out = Vec::new();
        profile.write_flamegraph(Weight::AllocatedBytes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_subtitle_gives_total_samples_interval_and_mode() {
        let svg = svg(&Profile::of_sites(&[(&[0x11, 2], 300, 0)]));
        let expected = "total 2.93 KiB; 200 samples, one per 4.00 KiB; stacks by unwind tables";
        assert!(svg.contains(expected));
        assert!(svg.contains("3,000 bytes"));
    }

    #[test]
    fn the_same_profile_gives_the_same_bytes() {
        let profile = || Profile::of_sites(&[(&[0x11, 2], 3, 0), (&[0x21, 2], 30, 6)]);
        assert_eq!(svg(&profile()), svg(&profile()));
    }

    #[test]
    fn an_empty_profile_is_a_picture_too() {
        let svg = svg(&Profile::of_sites(&[]));
        assert!(svg.contains("There were no samples.") && svg.ends_with("</svg>\n"));
    }
}
