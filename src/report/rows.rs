//! The rows of [`Top`] and [`Diff`] as data, for programs that decide by them.

use std::sync::Arc;

use super::calls::Call;
use super::diff::{Change, Diff};
use super::top::Top;
use crate::profile::symbols::Frame;

/// A function on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedFrame<'a> {
    /// Its name, demangled and without the hash; `file+0xoffset` in a module without symbols.
    pub function: &'a str,
    /// The source file, where debug information tells.
    pub file: Option<&'a str>,
    /// The line of the call, from 1 on, where debug information tells.
    pub line: Option<u32>,
}

/// A site of a [`Top`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopRow<'a> {
    /// The estimate: bytes or objects, as the weight says.
    pub value: u64,
    /// Its error bar, in the same unit: the truth lies within `value ± error` in about 95 of 100
    /// cases. 0 where everything was sampled.
    pub error: u64,
    /// Samples that it rests on.
    pub samples: u64,
    /// The stack, from the allocating function outwards; all of it, without the allocator's own
    /// functions.
    pub frames: Vec<NamedFrame<'a>>,
}

/// A stack of a [`Diff`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiffRow<'a> {
    /// The estimate of the earlier profile: bytes or objects, as the weight says.
    pub before: u64,
    /// That of the later one.
    pub after: u64,
    /// The error bar of their difference, in the same unit, as in [`TopRow::error`]: of what
    /// changed if both profiles are of one run, else of two estimates.
    pub error: u64,
    /// Samples that both rest on.
    pub samples: u64,
    /// The stack, as in [`TopRow::frames`].
    pub frames: Vec<NamedFrame<'a>>,
}

impl Top {
    /// The sites, the largest first, as [`Display`](std::fmt::Display) shows them. Empty where
    /// nothing was sampled.
    ///
    /// # Examples
    ///
    /// ```
    /// use spanalloc::report::Weight;
    ///
    /// let top = spanalloc::profile::capture().top(10, Weight::InUseBytes);
    /// for row in top.rows().filter(|row| row.value - row.error.min(row.value) > 1 << 30) {
    ///     eprintln!("{} holds more than a gibibyte", row.frames[0].function);
    /// }
    /// ```
    pub fn rows(&self) -> impl Iterator<Item = TopRow<'_>> {
        self.calls.iter().map(|call: &Call| {
            let (value, amount) = (call.value(self.weight), call.amount(self.weight));
            let error = if value == 0 { 0.0 } else { value as f64 * self.weight.error_bar(amount) };
            let (error, samples) = (error.round() as u64, amount.samples);
            TopRow { value, error, samples, frames: named(&call.frames) }
        })
    }
}

impl Diff {
    /// The stacks that differ, those that grew most first, also those whose change is within its
    /// [`error`](DiffRow::error).
    ///
    /// # Examples
    ///
    /// ```
    /// use spanalloc::report::Weight;
    ///
    /// let before = spanalloc::profile::capture();
    /// // … requests are served …
    /// let diff = spanalloc::profile::capture().diff(&before, Weight::InUseBytes);
    /// let leaks = diff.rows().filter(|row| row.after > row.before + row.error);
    /// for row in leaks {
    ///     eprintln!("{} grew by {} bytes", row.frames[0].function, row.after - row.before);
    /// }
    /// ```
    pub fn rows(&self) -> impl Iterator<Item = DiffRow<'_>> {
        let changed = self.changes.iter().filter(|change| change.grown(self.weight) != 0);
        changed.map(|change: &Change| {
            let (before, after) = change.values(self.weight);
            DiffRow {
                before,
                after,
                error: self.error(change).round() as u64,
                samples: change.samples(self.weight),
                frames: named(&change.frames),
            }
        })
    }
}

fn named(frames: &[Arc<Frame>]) -> Vec<NamedFrame<'_>> {
    frames.iter().map(|frame| frame.named()).collect()
}

impl Frame {
    fn named(&self) -> NamedFrame<'_> {
        let Self { function, file, line } = self;
        NamedFrame { function, file: file.as_deref(), line: *line }
    }
}

#[cfg(test)]
mod tests {
    use crate::profile::Profile;
    use crate::report::Weight;

    #[test]
    fn rows_of_the_largest_say_what_the_text_says() {
        let profile = Profile::of_sites(&[(&[0x11, 2], 150, 0), (&[0x21, 2], 450, 6)]);
        let top = profile.top(1, Weight::AllocatedBytes);
        let rows: Vec<_> = top.rows().collect();
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        // Twice the standard error, as the text's ±8 %.
        assert_eq!((row.value, row.samples), (4500, 300));
        assert!((340..=380).contains(&row.error), "{row:?}");
        let functions: Vec<_> = row.frames.iter().map(|frame| frame.function).collect();
        assert_eq!(functions, ["0x20", "0x1"]);
        assert_eq!((row.frames[0].file, row.frames[0].line), (None, None));
        assert_eq!(Profile::of_sites(&[]).top(3, Weight::InUseBytes).rows().count(), 0);
    }

    #[test]
    fn rows_of_a_difference_are_those_that_differ() {
        let before = Profile::of_sites(&[(&[0x11], 300, 300), (&[0x21], 30, 30), (&[0x41], 3, 3)]);
        let after = Profile::of_sites(&[(&[0x11], 900, 900), (&[0x31], 9, 9), (&[0x41], 3, 3)]);
        let diff = after.diff(&before, Weight::InUseObjects);
        let rows: Vec<_> = diff.rows().collect();
        let values: Vec<_> = rows.iter().map(|row| (row.before, row.after)).collect();
        assert_eq!(values, [(300, 900), (0, 9), (30, 0)]);
        assert_eq!((rows[0].samples, rows[0].frames[0].function), (800, "0x10"));
        assert!(rows.iter().all(|row| row.error > 0), "{rows:?}");
    }
}
