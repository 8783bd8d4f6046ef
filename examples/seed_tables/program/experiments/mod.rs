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

use std::fmt;

use super::data::{Data, Estimate};
use super::probe::Probe;

/// One experiment of the table.
pub(crate) struct Experiment {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What is done, in which variants.
    pub(crate) workload: &'static str,
    /// The article's figure.
    pub(crate) article: &'static str,
    /// When the verdict is "reproduced".
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Reproduced,
    Refuted,
    NotMeasurable,
}

impl Verdict {
    /// Reproduced or refuted.
    fn when(holds: bool) -> Self {
        if holds { Self::Reproduced } else { Self::Refuted }
    }

    /// Whether the estimate is at least `bound`, if its interval leaves no doubt.
    fn at_least(estimate: Estimate, bound: f64) -> Self {
        match () {
            () if estimate.low >= bound => Self::Reproduced,
            () if estimate.high < bound => Self::Refuted,
            () => Self::NotMeasurable,
        }
    }

    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Refuted => "refuted",
            Self::NotMeasurable => "unmeasured",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reproduced => "reproduced",
            Self::Refuted => "refuted",
            Self::NotMeasurable => "not measurable here",
        })
    }
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
