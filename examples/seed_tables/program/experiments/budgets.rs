//! E21: limits on tags, to the byte.

use super::{Experiment, Finding, Plot, Verdict};
use crate::program::probe::{Probe, timed};
use spanalloc::observe::{BudgetLimits, TagBudget};

const LARGEST: &str = "largest tag accepted, bytes";
const LIMITS: [usize; 3] = [10 << 10, 50 << 10, 1000 << 10];
const KEY: &str = "tag";

pub(super) const E21: Experiment = Experiment {
    id: "E21",
    title: "A budget for tags",
    workload: "Tags of 1, 2, 3 and 4 bytes per character around limits of 10, 50 and 1000 KiB: the \
               largest that is accepted, by bytes and by characters.",
    article: "thresholds of 10, 50 and 1000 KB, counted by `len`",
    rule: "at each limit the largest tag accepted ends less than a character below it, counted in \
           bytes",
    plot: Plot::lines(LARGEST, "limit, bytes").log_x().log_y(),
    measure: tags,
    rule_on: |data| {
        let mut exact = true;
        let mut seen = Vec::new();
        for limit in LIMITS.map(|limit| limit as f64) {
            for (name, width) in NAMES {
                let largest = data.ours_at(LARGEST, name, limit)?;
                let room = limit - largest.low;
                exact &= largest.high <= limit && room < width as f64;
                seen.push(largest.median);
            }
        }
        let characters = data.ours_at("largest tag accepted, characters", "4 bytes", 51200.0)?;
        let ns = data.ours_at("ns per tag", "1 byte", 10240.0)?;
        Some(Finding {
            verdict: Verdict::when(exact),
            ours: format!("{} of {} largest tags within a character", seen.len(), seen.len()),
            why: format!(
                "sizes are those of the UTF-8 text: 50 KiB are {characters} characters of four \
                 bytes, where counting characters would let 200 KiB pass; a check costs {ns} ns."
            ),
        })
    },
};

/// Characters by their bytes.
const NAMES: [(&str, usize); 4] = [("1 byte", 1), ("2 bytes", 2), ("3 bytes", 3), ("4 bytes", 4)];
const CHARACTERS: [&str; 4] = ["a", "ä", "€", "🦀"];

fn tags(probe: &mut Probe) {
    for limit in LIMITS {
        let bounds =
            BudgetLimits { tag_bytes_max: limit, span_bytes_max: limit, trace_bytes_max: limit };
        for ((name, width), character) in NAMES.into_iter().zip(CHARACTERS) {
            let text = character.repeat(limit / width + 1);
            let accepted = |characters: usize| {
                let budget = TagBudget::new(bounds);
                let value = &text[..characters * width];
                budget.trace().span().tag(KEY, value).is_ok()
            };
            // The number of characters below which all tags are accepted, by bisection.
            let (mut low, mut high) = (0, limit / width + 1);
            while high - low > 1 {
                let middle = usize::midpoint(low, high);
                if accepted(middle) { low = middle } else { high = middle }
            }
            let x = limit as f64;
            probe.record_at(LARGEST, name, x, (KEY.len() + low * width) as f64);
            let characters = (KEY.len() + low) as f64;
            probe.record_at("largest tag accepted, characters", name, x, characters);
            let budget = TagBudget::new(bounds);
            let (ns, ()) = timed(|| {
                for _ in 0..1000 {
                    let _ = budget.trace().span().tag(KEY, &text[..low * width]);
                }
            });
            probe.record_at("ns per tag", name, x, ns / 1000.0);
            let breaches = budget.stats().tag_breaches;
            probe.record_at("breaches below the limit", name, x, breaches as f64);
        }
    }
}
