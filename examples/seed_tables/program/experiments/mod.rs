//! The experiments: how each is measured, and by which rule it is judged. E1–E22 are those of the
//! table; the others settle rows that no experiment of the table and no test does.

mod arenas;
mod budgets;
mod churn;
mod classes;
mod facts;
mod growth;
mod load;
mod observers;
mod pools;
mod reuse;
mod sampling;
mod sharing;
mod sizing;
mod values;

use super::data::{Data, Estimate};
use super::probe::Probe;

/// One experiment of the table.
pub(crate) struct Experiment {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What is done, in which variants.
    pub(crate) workload: &'static str,
    /// What the claim is about, and so what a verdict on it can say.
    pub(crate) about: About,
    /// The article's figure.
    pub(crate) article: &'static str,
    /// When the claim holds.
    pub(crate) rule: &'static str,
    /// What the plot shows.
    pub(crate) plot: Plot,
    /// Takes one round of readings.
    pub(crate) measure: fn(&mut Probe),
    /// Applies the rule. `None` when a reading it needs is missing.
    pub(crate) rule_on: fn(&Data) -> Option<Finding>,
}

/// What a plot shows.
pub(crate) struct Plot {
    pub(crate) metric: &'static str,
    /// What is swept; none for a bar per variant.
    pub(crate) x: Option<&'static str>,
    pub(crate) log_x: bool,
    pub(crate) log_y: bool,
}

impl Plot {
    /// A bar per variant.
    const fn bars(metric: &'static str) -> Self {
        Self { metric, x: None, log_x: false, log_y: false }
    }

    /// A line per variant over `x`.
    const fn lines(metric: &'static str, x: &'static str) -> Self {
        Self { metric, x: Some(x), log_x: false, log_y: false }
    }

    const fn log_x(self) -> Self {
        Self { log_x: true, ..self }
    }

    const fn log_y(self) -> Self {
        Self { log_y: true, ..self }
    }
}

/// What came of an experiment.
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    /// Our figure, with its interval.
    pub(crate) ours: String,
    /// Why, in a sentence.
    pub(crate) why: String,
}

/// What a claim is about. The articles are about Go; measured is this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// Arithmetic or statistics, which are the same everywhere.
    General,
    /// How something is built. That it does not hold of our map, pool, arena or allocator does not
    /// make it wrong about another one.
    Implementation,
    /// No result in an article: the rule is what we expect of ourselves.
    Expectation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    /// One part of the claim and not another; or a gain, but a smaller one than is claimed.
    InPart,
    Fails,
    /// The interval has the bound inside.
    Undecided,
    NotMeasurable,
}

impl Verdict {
    fn when(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }

    /// Whether the estimate is at least `bound`, if its interval leaves no doubt.
    fn at_least(estimate: Estimate, bound: f64) -> Self {
        match () {
            () if estimate.low >= bound => Self::Holds,
            () if estimate.high < bound => Self::Fails,
            () => Self::Undecided,
        }
    }

    /// Whether the gain, as a ratio, is at least the article's. A smaller gain that is sure holds
    /// in part.
    fn gain(ratio: Estimate, articles: f64) -> Self {
        match Self::at_least(ratio, articles) {
            Self::Fails if ratio.low > 1.0 => Self::InPart,
            verdict => verdict,
        }
    }

    /// The verdict on a claim of several parts.
    fn of_all(parts: &[(&str, Self)]) -> Self {
        let any = |verdict| parts.iter().any(|(_, part)| *part == verdict);
        let (some, not_all) =
            (any(Self::Holds) || any(Self::InPart), any(Self::Fails) || any(Self::InPart));
        match () {
            () if some && not_all => Self::InPart,
            () if any(Self::NotMeasurable) => Self::NotMeasurable,
            () if any(Self::Undecided) => Self::Undecided,
            () => Self::when(some),
        }
    }

    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::InPart => "partly",
            Self::Fails => "fails",
            Self::Undecided | Self::NotMeasurable => "unmeasured",
        }
    }

    /// What the report says.
    pub(crate) fn words(self, about: About) -> &'static str {
        match (self, about) {
            (Self::Holds, About::General) => "reproduced",
            (Self::InPart, About::General) => "reproduced in part",
            (Self::Fails, About::General) => "refuted",
            (Self::Holds, About::Implementation) => "holds here",
            (Self::InPart, About::Implementation) => "holds here in part",
            (Self::Fails, About::Implementation) => "does not hold here",
            (Self::Holds, About::Expectation) => "as expected",
            (Self::InPart, About::Expectation) => "as expected in part",
            (Self::Fails, About::Expectation) => "not as expected",
            (Self::Undecided, _) => "undecided",
            (Self::NotMeasurable, _) => "not measurable here",
        }
    }
}

/// The parts of a claim and which of them hold, as the end of a sentence.
fn listed(parts: &[(&str, Verdict)]) -> String {
    let word = |verdict| match verdict {
        Verdict::Holds => "yes",
        Verdict::InPart => "less than claimed",
        Verdict::Fails => "no",
        Verdict::Undecided => "undecided",
        Verdict::NotMeasurable => "not measurable",
    };
    let part = |(name, verdict): &(&str, Verdict)| format!("{name}: {}", word(*verdict));
    parts.iter().map(part).collect::<Vec<_>>().join("; ")
}

impl Experiment {
    pub(crate) fn judge(&self, data: &Data) -> Finding {
        (self.rule_on)(data).unwrap_or_else(|| Finding {
            verdict: Verdict::NotMeasurable,
            ours: String::from("not measured"),
            why: String::from("a reading that the rule needs could not be taken on this machine."),
        })
    }
}

/// All experiments, in order.
pub(crate) fn experiments() -> impl Iterator<Item = &'static Experiment> {
    ALL.iter().copied()
}

const ALL: [&Experiment; 30] = [
    &pools::E1,
    &reuse::E2,
    &growth::E3,
    &observers::E4,
    &pools::E5,
    &churn::E6,
    &load::E7,
    &growth::E8,
    &churn::E9,
    &sharing::E10,
    &sharing::E11,
    &values::E12,
    &values::E13,
    &classes::E14,
    &sizing::E15,
    &reuse::E16,
    &pools::E17,
    &sampling::E18,
    &observers::E19,
    &sampling::E20,
    &budgets::E21,
    &arenas::E22,
    &facts::A1,
    &facts::A2,
    &facts::A3,
    &facts::A5,
    &facts::A7,
    &facts::O2,
    &facts::O3,
    &facts::O6,
];
