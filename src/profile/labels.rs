//! Sums by a short name: of threads, of spans of `tracing`.
//!
//! A *label* is the number of a name. Names are never removed, and there are at
//! most [`LABELS_MAX`]; label 0 stands for what has no name, the last one for every
//! name that found no place. What is in use counts for the label it was allocated
//! under, whoever frees it.
//!
//! Invariants
//! 1. Label 0 and the `named` ones after it have a name, and no two the same.

use super::sums::Sums;
use crate::sys::lock::Lock;

const LABELS_MAX: usize = 256;
/// Longer names are cut.
const NAME_BYTES_MAX: usize = 63;
/// What finds no place.
const REST: Label = Label(LABELS_MAX as u16 - 1);

/// Names a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(u16);

impl Label {
    pub(crate) const NONE: Self = Self(0);

    pub(super) fn number(self) -> u16 {
        self.0
    }
}

pub(super) struct Labels {
    names: Lock<Names>,
    rows: [Lock<Row>; LABELS_MAX],
}

struct Names {
    named: usize,
    names: [Name; LABELS_MAX],
}

#[derive(Clone, Copy)]
pub(super) struct Name {
    len: u8,
    bytes: [u8; NAME_BYTES_MAX],
}

/// What was sampled under one label.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) alloc: Sums,
    pub(super) live: Sums,
}

impl Row {
    const EMPTY: Self = Self { alloc: Sums::ZERO, live: Sums::ZERO };
}

impl Labels {
    pub(super) const MAX: usize = LABELS_MAX;

    pub(super) const fn new() -> Self {
        let empty = Name { len: 0, bytes: [0; NAME_BYTES_MAX] };
        Self {
            names: Lock::new(Names { named: 0, names: [empty; LABELS_MAX] }),
            rows: [const { Lock::new(Row::EMPTY) }; LABELS_MAX],
        }
    }

    /// The label of a name.
    pub(super) fn of(&self, name: &[u8]) -> Label {
        let name = &name[..name.len().min(NAME_BYTES_MAX)];
        let mut names = self.names.lock();
        let used = names.named + 1;
        let found = names.names[..used].iter().position(|known| known.bytes() == name);
        if let Some(at) = found {
            return Label(at as u16);
        }
        if used == usize::from(REST.0) {
            return REST;
        }
        let place = &mut names.names[used];
        place.len = name.len() as u8;
        place.bytes[..name.len()].copy_from_slice(name);
        names.named += 1;
        Label(used as u16)
    }

    pub(super) fn update(&self, label: Label, change: impl FnOnce(&mut Row)) {
        change(&mut self.rows[usize::from(label.0)].lock());
    }

    /// Calls `visit` with each label, its name and its row, if anything was sampled
    /// there; the name is none for what found no place.
    pub(super) fn for_each(&self, mut visit: impl FnMut(Label, Option<&Name>, Row)) {
        for (at, row) in self.rows.iter().enumerate() {
            let row = *row.lock();
            if row.alloc.samples != 0 {
                let name = self.names.lock().names[at];
                visit(Label(at as u16), (at != usize::from(REST.0)).then_some(&name), row);
            }
        }
    }

    /// Forgets the sums; names stay.
    pub(super) fn reset(&self) {
        self.rows.iter().for_each(|row| *row.lock() = Row::EMPTY);
    }

    pub(super) fn name_locks(&self) -> impl Iterator<Item = &Lock<impl Sized>> {
        std::iter::once(&self.names)
    }

    pub(super) fn row_locks(&self) -> impl Iterator<Item = &Lock<impl Sized>> {
        self.rows.iter()
    }
}

impl Name {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sums::Weight;
    use super::*;

    #[test]
    fn a_name_keeps_its_label_and_too_many_share_one() {
        let labels = Labels::new();
        assert_eq!(labels.of(b""), Label::NONE);
        let first = labels.of(b"worker-1");
        let others: Vec<_> = (0..400).map(|n| labels.of(format!("t{n}").as_bytes())).collect();
        assert_eq!(labels.of(b"worker-1"), first);
        assert_eq!(labels.of(b"t7"), others[7]);
        assert_eq!((others[399], labels.of(b"another")), (REST, REST));
        let sums = Sums::of(Weight::new(8, 1), 5, 8);
        for label in [first, REST, REST] {
            labels.update(label, |row| row.alloc.add(&sums));
        }
        let mut seen = Vec::new();
        labels.for_each(|_, name, row| {
            seen.push((name.map(Name::text), row.alloc.samples));
        });
        assert_eq!(seen, [(Some("worker-1".to_owned()), 1), (None, 2)]);
    }
}
