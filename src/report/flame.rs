//! Flamegraphs, drawn by `inferno`.

use std::cell::Cell;
use std::io;

use inferno::flamegraph::color::{BasicPalette, Palette};
use inferno::flamegraph::{self, Direction, Options};

use super::calls::{Call, Weight, calls};
use super::facts::{counted, facts, nothing};
use super::folded::folded;
use super::whole::whole;
use crate::profile::{self, Profile};

impl Profile {
    /// Writes a flamegraph as SVG, with search and zoom when opened in a
    /// browser. The same profile gives the same bytes. Without samples, or where the
    /// figure is empty, the picture says so.
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
    pub fn write_flamegraph<W: io::Write>(&self, weight: Weight, out: W) -> io::Result<()> {
        profile::quietly(|| whole(out, |out| write(self, &calls(self), weight, out)))
    }

    /// Writes the same upside down: the root on top, as an icicle hangs.
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
    /// spanalloc::profile::capture().write_icicle(Weight::PeakBytes, &mut svg)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_icicle<W: io::Write>(&self, weight: Weight, out: W) -> io::Result<()> {
        profile::quietly(|| whole(out, |out| write_icicle(self, &calls(self), weight, out)))
    }
}

/// Draws a flamegraph of named stacks.
pub(crate) fn write(
    profile: &Profile,
    calls: &[Call],
    weight: Weight,
    out: impl io::Write,
) -> io::Result<()> {
    draw(profile, calls, weight, Direction::Straight, out)
}

/// Draws the same upside down.
pub(crate) fn write_icicle(
    profile: &Profile,
    calls: &[Call],
    weight: Weight,
    out: impl io::Write,
) -> io::Result<()> {
    draw(profile, calls, weight, Direction::Inverted, out)
}

fn draw(
    profile: &Profile,
    calls: &[Call],
    weight: Weight,
    direction: Direction,
    mut out: impl io::Write,
) -> io::Result<()> {
    let folded = folded(calls, weight);
    if folded.is_empty() {
        let samples = profile.sites.iter().map(|site| site.allocated.samples).sum();
        let subtitle = subtitle(profile, weight);
        let nothing = nothing(weight, samples, profile.interval_bytes);
        return out.write_all(empty(weight.title(), &subtitle, nothing).as_bytes());
    }
    let mut options = Options::default();
    options.direction = direction;
    options.colors = Palette::Basic(BasicPalette::Mem);
    options.title = weight.title().to_owned();
    picture(options, weight, subtitle(profile, weight), &folded, out)
}

/// Draws folded stacks under the title that `options` have.
pub(super) fn picture<W: io::Write>(
    mut options: Options<'_>,
    weight: Weight,
    subtitle: String,
    folded: &str,
    out: W,
) -> io::Result<()> {
    DREW.with(|drew| drew.set(true));
    options.subtitle = Some(subtitle);
    options.count_name = weight.unit().to_owned();
    options.name_type = "Function:".to_owned();
    options.deterministic = true;
    // `inferno` draws neighbours with the same beginning as one, and would order lines as text:
    // there, functions with longer names stand between one's own line and those of its callees.
    // Lines of a chart it takes as they are, from the last to the first, and else the same.
    options.flame_chart = true;
    let mut lines: Vec<&str> = folded.lines().collect();
    lines.sort_by(|one, other| functions(other).cmp(functions(one)));
    flamegraph::from_lines(&mut options, lines, out)
}

/// The functions of a folded line, without the values behind them.
fn functions(line: &str) -> impl Iterator<Item = &str> {
    let mut stack = line;
    while let Some((rest, value)) = stack.rsplit_once(' ')
        && value.bytes().all(|byte| byte.is_ascii_digit())
    {
        stack = rest;
    }
    stack.split(';')
}

thread_local! {
    /// Whether this thread has drawn: `inferno` keeps a value for it then, which ends with it.
    static DREW: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread has drawn a picture.
pub(crate) fn has_drawn_here() -> bool {
    DREW.with(Cell::get)
}

/// Total, number of samples, interval and how stacks were walked.
fn subtitle(profile: &Profile, weight: Weight) -> String {
    let (mut total, mut samples) = (0, 0);
    for site in &profile.sites {
        let amount = weight.amount(site);
        samples += amount.samples;
        total += weight.value(amount);
    }
    let total = weight.figure(total);
    let facts = facts(profile);
    format!("total {total}; {}, {facts}", counted(samples, "sample"))
}

/// inferno refuses an empty profile; a dump still owes a picture.
pub(super) fn empty(title: &str, subtitle: &str, nothing: &str) -> String {
    format!(
        r##"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="90" viewBox="0 0 1200 90" xmlns="http://www.w3.org/2000/svg">
<rect width="100%" height="100%" fill="#eeeeee"/>
<g font-family="monospace" font-size="12" text-anchor="middle">
<text x="600" y="26" font-size="17">{title}</text>
<text x="600" y="48">{subtitle}</text>
<text x="600" y="74">{nothing}</text>
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
    fn a_function_is_one_box_whatever_its_neighbours_are_called() {
        let text = |lines: &str, direction| {
            let (mut options, mut out) = (Options::default(), Vec::new());
            options.direction = direction;
            picture(options, Weight::AllocatedBytes, String::new(), lines, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let plain = "main;step 100\nmain;step1;x 50\nmain;step;y 70\n";
        let differing = "main;step 90 100\nmain;step1;x 50 50\nmain;step;y 0 70\n";
        for direction in [Direction::Straight, Direction::Inverted] {
            for (lines, share) in [(plain, "77.27%"), (differing, "77.27%; +4.55%")] {
                let svg = text(lines, direction);
                assert_eq!(svg.matches("<title>step (").count(), 1, "{svg}");
                assert!(
                    svg.contains(&format!("<title>step (170 bytes, {share})</title>")),
                    "{svg}"
                );
                assert!(svg.find(">y (").unwrap() < svg.find(">x (").unwrap(), "by name");
                assert!(svg.contains("<title>main (220 bytes, 100.00%"));
            }
        }
    }

    #[test]
    fn an_icicle_hangs_from_its_root() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 300, 0)]);
        let height = |picture: &str, name: &str| -> f64 {
            let text = &picture[picture.rfind(&format!(">{name}</text>")).unwrap() - 80..];
            let y = &text[text.find(" y=\"").unwrap() + 4..];
            y[..y.find('"').unwrap()].parse().unwrap()
        };
        let mut icicle = Vec::new();
        profile.write_icicle(Weight::AllocatedBytes, &mut icicle).unwrap();
        let (icicle, flame) = (String::from_utf8(icicle).unwrap(), svg(&profile));
        assert!(height(&flame, "0x10") < height(&flame, "0x1"));
        assert!(height(&icicle, "0x10") > height(&icicle, "0x1"));
    }

    #[test]
    fn an_empty_profile_is_a_picture_too() {
        let svg = svg(&Profile::of_sites(&[]));
        assert!(svg.contains("There were no samples.") && svg.ends_with("</svg>\n"));
        let mut freed = Vec::new();
        let profile = Profile::of_sites(&[(&[0x11, 2], 300, 0)]);
        profile.write_flamegraph(Weight::InUseBytes, &mut freed).unwrap();
        assert!(String::from_utf8(freed).unwrap().contains("Nothing that was sampled is in use."));
    }
}
