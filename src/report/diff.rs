//! What changed between two profiles.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::calls::{Call, Weight, calls};
use super::facts::{counted, facts};
use super::folded::push_stack;
use super::shown::write_frames;
use super::units::percent;
use super::whole::whole;
use crate::profile::symbols::Frame;
use crate::profile::{self, Amount, Profile};

/// The difference of one figure between two profiles, by stack; displays as text.
///
/// Stacks are matched by the names of their functions, so the profiles may be of
/// different runs, and of different builds where names are the same.
#[derive(Clone, Debug)]
pub struct Diff {
    pub(super) weight: Weight,
    /// Those that grew most first.
    pub(super) changes: Vec<Change>,
    subtitle: String,
    facts: String,
}

#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) frames: Vec<Arc<Frame>>,
    pub(super) before: Amount,
    pub(super) after: Amount,
}

impl Profile {
    /// How a figure of this profile differs from that of an earlier one.
    ///
    /// Resolves names on the first report of a profile: that reads the files of
    /// the modules.
    ///
    /// # Examples
    ///
    /// ```
    /// use spanalloc::report::Weight;
    ///
    /// let before = spanalloc::profile::capture();
    /// // …
    /// let after = spanalloc::profile::capture();
    /// println!("{}", after.diff(&before, Weight::InUseBytes));
    /// ```
    pub fn diff(&self, before: &Profile, weight: Weight) -> Diff {
        profile::quietly(|| {
            let mut changes = BTreeMap::<Vec<Arc<str>>, Change>::new();
            let mut enter = |call: Call, is_after: bool| {
                let key = call.frames.iter().map(|frame| frame.function.clone()).collect();
                let amount = *call.amount(weight);
                let change = changes.entry(key).or_insert_with(|| Change {
                    frames: call.frames,
                    before: Amount::default(),
                    after: Amount::default(),
                });
                if is_after {
                    change.after = amount;
                } else {
                    change.before = amount;
                }
            };
            calls(before).into_iter().for_each(|call| enter(call, false));
            calls(self).into_iter().for_each(|call| enter(call, true));
            let mut changes: Vec<_> = changes.into_values().collect();
            changes.sort_by_key(|change| std::cmp::Reverse(change.grown(weight)));
            let subtitle = subtitle(&changes, weight);
            Diff { weight, changes, subtitle, facts: facts(self) }
        })
    }
}

fn subtitle(changes: &[Change], weight: Weight) -> String {
    let total = |of: fn(&Change) -> &Amount| {
        weight.figure(changes.iter().map(|change| weight.value(of(change))).sum())
    };
    format!("{} before, {} after", total(|change| &change.before), total(|change| &change.after))
}

impl Change {
    pub(super) fn values(&self, weight: Weight) -> (u64, u64) {
        (weight.value(&self.before), weight.value(&self.after))
    }

    fn grown(&self, weight: Weight) -> i128 {
        let (before, after) = self.values(weight);
        i128::from(after) - i128::from(before)
    }

    /// The error bar of the difference, in the unit of the values.
    pub(super) fn error(&self, weight: Weight) -> f64 {
        let of = |amount: &Amount| match weight.value(amount) {
            0 => 0.0,
            value => value as f64 * weight.error_bar(amount),
        };
        of(&self.before).hypot(of(&self.after))
    }
}

/// Stacks shown as text.
const SHOWN: usize = 20;

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = self.changes.iter().filter(|change| change.grown(self.weight) != 0);
        let stacks = match changed.clone().count() {
            1 => "1 stack differs".to_owned(),
            many => format!("{many} stacks differ"),
        };
        writeln!(f, "{}: {}, {stacks}:", self.weight.title(), self.subtitle)?;
        writeln!(f, "({})", self.facts)?;
        let mut largest: Vec<_> = changed.collect();
        largest.sort_by_key(|change| std::cmp::Reverse(change.grown(self.weight).abs()));
        for change in largest.into_iter().take(SHOWN) {
            self.row(f, change)?;
        }
        Ok(())
    }
}

impl Diff {
    fn row(&self, f: &mut fmt::Formatter<'_>, change: &Change) -> fmt::Result {
        let (before, after) = change.values(self.weight);
        let sign = if after >= before { '+' } else { '-' };
        let grown = format!("{sign}{}", self.weight.figure(before.abs_diff(after)));
        let error = self.weight.figure(change.error(self.weight).round() as u64);
        let ratio = (before != 0).then(|| after as f64 / before as f64);
        let (of, samples) =
            (self.weight.figure(before), change.before.samples + change.after.samples);
        write!(f, "{grown:>13} ±{error}  from {of}")?;
        if ratio.is_some() {
            write!(f, ", to {}", percent(ratio))?;
        }
        writeln!(f, "  {}", counted(samples, "sample"))?;
        write_frames(f, &change.frames)
    }

    /// Writes folded stacks with two values, before and after: the input of
    /// `flamegraph.pl` and `inferno` for differential flamegraphs.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_folded<W: io::Write>(&self, out: W) -> io::Result<()> {
        profile::quietly(|| whole(out, |out| io::Write::write_all(out, self.folded().as_bytes())))
    }

    fn folded(&self) -> String {
        let mut text = String::new();
        for change in &self.changes {
            let (before, after) = change.values(self.weight);
            if (before, after) != (0, 0) {
                push_stack(&mut text, &change.frames);
                text.push_str(&format!(" {before} {after}\n"));
            }
        }
        text
    }

    /// Writes a differential flamegraph: its widths are those after, red what
    /// grew, blue what shrank.
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
    /// let (before, after) = (spanalloc::profile::capture(), spanalloc::profile::capture());
    /// let mut svg = Vec::new();
    /// after.diff(&before, Weight::InUseBytes).write_flamegraph(&mut svg)?;
    /// # std::io::Result::Ok(())
    /// ```
    #[cfg(feature = "flamegraph")]
    pub fn write_flamegraph<W: io::Write>(&self, out: W) -> io::Result<()> {
        profile::quietly(|| whole(out, |out| self.draw(out)))
    }

    #[cfg(feature = "flamegraph")]
    fn draw(&self, mut out: impl io::Write) -> io::Result<()> {
        let title = format!("Change of {}", self.weight.title().to_lowercase());
        let subtitle = format!("{}; {}", self.subtitle, self.facts);
        let total = |of: fn((u64, u64)) -> u64| -> u64 {
            self.changes.iter().map(|change| of(change.values(self.weight))).sum()
        };
        // Widths are those after: what is gone by then has none.
        if total(|(_, after)| after) == 0 {
            let before = total(|(before, _)| before);
            let nothing = if before == 0 { "There were no samples." } else { "Nothing is left." };
            return out.write_all(super::flame::empty(&title, &subtitle, nothing).as_bytes());
        }
        let mut options = inferno::flamegraph::Options::default();
        options.title = title;
        super::flame::picture(options, self.weight, subtitle, &self.folded(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference() -> Diff {
        let before = Profile::of_sites(&[(&[0x11, 2], 300, 300), (&[0x21, 2], 30, 30)]);
        let after = Profile::of_sites(&[(&[0x11, 2], 900, 900), (&[0x31, 2], 9, 9)]);
        after.diff(&before, Weight::InUseBytes)
    }

    #[test]
    fn stacks_are_matched_by_name_and_sorted_by_change() {
        let text = difference().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "Bytes in use: 3.22 KiB before, 8.88 KiB after, 3 stacks differ:");
        assert_eq!(lines[1], "(one per 4.00 KiB; stacks by unwind tables)");
        let row: Vec<_> = lines[2].split_whitespace().collect();
        assert_eq!(row[..5], ["+5.86", "KiB", "±589", "B", "from"], "{text}");
        assert!(lines[2].ends_with("to 300.0%  800 samples"), "{text}");
        assert_eq!(lines[3].trim(), "0x10");
        assert!(lines[5].trim().starts_with("-300 B") && lines[8].trim().starts_with("+90 B"));
    }

    #[test]
    fn one_is_no_plural() {
        let (before, after) = (Profile::of_sites(&[]), Profile::of_sites(&[(&[2], 2, 2)]));
        let text = after.diff(&before, Weight::InUseBytes).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with(", 1 stack differs:"), "{text}");
        assert!(lines[2].ends_with("  1 sample"), "{text}");
    }

    #[test]
    fn folded_lines_have_both_values() {
        assert_eq!(difference().folded(), "0x1;0x10 3000 9000\n0x1;0x30 0 90\n0x1;0x20 300 0\n");
    }

    #[cfg(feature = "flamegraph")]
    #[test]
    fn the_picture_tells_what_grew_from_what_is_new() {
        let mut svg = Vec::new();
        difference().write_flamegraph(&mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert!(svg.contains("3.22 KiB before, 8.88 KiB after"));
        assert!(svg.contains("9,000 bytes, 99.01%; +"), "{svg}");
        let mut nothing = Vec::new();
        let empty = Profile::of_sites(&[]);
        empty.diff(&empty, Weight::InUseBytes).write_flamegraph(&mut nothing).unwrap();
        assert!(String::from_utf8(nothing).unwrap().contains("no samples"));
        let (mut freed, before) = (Vec::new(), Profile::of_sites(&[(&[0x11, 2], 300, 300)]));
        empty.diff(&before, Weight::InUseBytes).write_flamegraph(&mut freed).unwrap();
        let freed = String::from_utf8(freed).unwrap();
        assert!(freed.contains("Nothing is left.") && freed.contains(">Change of bytes in use<"));
    }
}
