//! Which reports a dump writes, by name.

use core::sync::atomic::{AtomicU16, Ordering};

/// A set of formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Formats(u16);

/// What dumps write in this process.
static CHOSEN: AtomicU16 = AtomicU16::new(Formats::DEFAULT.0);

impl Formats {
    pub(super) const TEXT: Self = Self(1);
    pub(super) const JSON: Self = Self(1 << 1);
    pub(super) const FOLDED: Self = Self(1 << 2);
    #[cfg(feature = "flamegraph")]
    pub(super) const SVG: Self = Self(1 << 3);
    #[cfg(feature = "flamegraph")]
    pub(super) const ICICLE: Self = Self(1 << 4);
    #[cfg(feature = "pprof")]
    pub(super) const PPROF: Self = Self(1 << 5);
    pub(super) const DHAT: Self = Self(1 << 6);
    pub(super) const SPEEDSCOPE: Self = Self(1 << 7);
    pub(super) const HTML: Self = Self(1 << 8);
    #[cfg(feature = "pprof")]
    pub(super) const RAW: Self = Self(1 << 9);

    const NAMES: &[(&[u8], Self)] = &[
        (b"text", Self::TEXT),
        (b"json", Self::JSON),
        (b"folded", Self::FOLDED),
        #[cfg(feature = "flamegraph")]
        (b"svg", Self::SVG),
        #[cfg(feature = "flamegraph")]
        (b"icicle", Self::ICICLE),
        #[cfg(feature = "pprof")]
        (b"pprof", Self::PPROF),
        #[cfg(feature = "pprof")]
        (b"raw", Self::RAW),
        (b"dhat", Self::DHAT),
        (b"speedscope", Self::SPEEDSCOPE),
        (b"html", Self::HTML),
    ];

    /// What this build lacks, by name, with what is said about it.
    const LACKING: &[(&[u8], &str)] = &[
        #[cfg(not(feature = "flamegraph"))]
        (b"svg", "names what needs a build with the feature `flamegraph` and is not written"),
        #[cfg(not(feature = "flamegraph"))]
        (b"icicle", "names what needs a build with the feature `flamegraph` and is not written"),
        #[cfg(not(feature = "pprof"))]
        (b"pprof", "names what needs a build with the feature `pprof` and is not written"),
        #[cfg(not(feature = "pprof"))]
        (b"raw", "names what needs a build with the feature `pprof` and is not written"),
    ];

    /// What the names may be.
    pub(super) const ACCEPTED: &str = match (cfg!(feature = "flamegraph"), cfg!(feature = "pprof"))
    {
        (true, true) => {
            "names joined by +, of text+json+folded+svg+icicle+pprof+raw+dhat+speedscope+html"
        }
        (true, false) => "names joined by +, of text+json+folded+svg+icicle+dhat+speedscope+html",
        (false, true) => "names joined by +, of text+json+folded+pprof+raw+dhat+speedscope+html",
        (false, false) => "names joined by +, of text+json+folded+dhat+speedscope+html",
    };

    /// What is written unless something else is asked for: everything but what only
    /// says the same in another form.
    const DEFAULT: Self = {
        let mut all = 0;
        let mut at = 0;
        while at < Self::NAMES.len() {
            all |= Self::NAMES[at].1.0;
            at += 1;
        }
        #[cfg(feature = "flamegraph")]
        let all = all & !Self::ICICLE.0;
        #[cfg(feature = "pprof")]
        let all = all & !Self::RAW.0;
        Self(all & !Self::DHAT.0 & !Self::SPEEDSCOPE.0)
    };

    #[cfg(test)]
    pub(super) const EVERY: Self = Self(u16::MAX);

    /// The formats of these names, joined by `+`; none, so that the defaults are written, where all
    /// of them are unknown, or missing in this build. `wrong` is told what is the matter with
    /// which.
    pub(super) fn named<'a>(
        text: &'a [u8],
        mut wrong: impl FnMut(&'static str, &'a [u8]),
    ) -> Option<Self> {
        let mut all = Self(0);
        for name in text.split(|byte| *byte == b'+').map(<[u8]>::trim_ascii) {
            let lacking = Self::LACKING.iter().find(|(known, _)| *known == name);
            if let Some((_, one)) = Self::NAMES.iter().find(|(known, _)| *known == name) {
                all.0 |= one.0;
            } else if let Some((_, what)) = lacking {
                wrong(what, name);
            } else {
                wrong("names an unknown format, which is not written", name);
            }
        }
        (all.0 != 0).then_some(all)
    }

    /// Has all dumps of this process write these.
    pub(super) fn choose(self) {
        CHOSEN.store(self.0, Ordering::Relaxed);
    }

    /// What dumps of this process write.
    pub(super) fn chosen() -> Self {
        Self(CHOSEN.load(Ordering::Relaxed))
    }

    pub(super) fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }
}
