//! Numbers for short names: of threads, of spans of `tracing`.
//!
//! A *label* is the number of a name. Names are never removed, and there are at
//! most [`LABELS_MAX`]; label 0 stands for what has no name, the last one for every
//! name that found no place.
//!
//! # Invariants
//!
//! 1. Label 0 and the `named` ones after it have a name, and no two the same.

use crate::sys::lock::Lock;

const LABELS_MAX: usize = 256;
/// Longer names are cut.
const NAME_BYTES_MAX: usize = 63;
/// What finds no place.
const REST: Label = Label(LABELS_MAX as u16 - 1);

/// Names a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label(u16);

impl Label {
    pub(crate) const NONE: Self = Self(0);

    pub(super) fn number(self) -> u16 {
        self.0
    }
}

pub(super) struct Labels {
    names: Lock<Names>,
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

impl Labels {
    pub(super) const fn new() -> Self {
        let empty = Name { len: 0, bytes: [0; NAME_BYTES_MAX] };
        Self { names: Lock::new(Names { named: 0, names: [empty; LABELS_MAX] }) }
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

    /// What `label` stands for; none for what found no place.
    pub(super) fn name(&self, label: Label) -> Option<Name> {
        (label != REST).then(|| self.names.lock().names[usize::from(label.0)])
    }

    pub(super) fn locks(&self) -> impl Iterator<Item = &Lock<impl Sized>> {
        std::iter::once(&self.names)
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
        let text = |label| labels.name(label).map(|name| name.text());
        assert_eq!(text(first).as_deref(), Some("worker-1"));
        assert_eq!(text(Label::NONE).as_deref(), Some(""));
        assert_eq!(text(REST), None);
    }

    #[test]
    fn as_many_names_are_told_apart_as_is_said() {
        let labels = Labels::new();
        let name = |n: u32| format!("t{n}");
        for n in 1..=254 {
            let label = labels.of(name(n).as_bytes());
            assert_eq!(u32::from(label.number()), n);
            assert_eq!(labels.name(label).map(|name| name.text()), Some(name(n)));
        }
        assert_eq!(labels.of(name(255).as_bytes()), REST);
        assert_eq!(labels.of(name(254).as_bytes()).number(), 254, "it keeps its own");
        // Two names that are the same as far as they are kept are one.
        let labels = Labels::new();
        let (short, long) = ([b'x'; NAME_BYTES_MAX], [b'x'; NAME_BYTES_MAX + 1]);
        assert_eq!(labels.of(&short), labels.of(&long));
        assert_ne!(labels.of(&short), labels.of(&short[1..]));
    }
}
