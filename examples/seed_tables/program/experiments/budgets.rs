//! E21: limits on tags, to the byte.

use super::{About, Experiment, Finding, Plot, Verdict};
use crate::program::probe::{Probe, timed};
use spanalloc::observe::{BudgetLimits, TagBudget};

const LARGEST: &str = "largest tag accepted, bytes";
const LIMITS: [usize; 3] = [10 << 10, 50 << 10, 1000 << 10];
const BELOW: &str = "triggers below the limit";
const ABOVE: &str = "triggers above the limit";
const BYTES: &str = "bytes accepted";
const KEY: &str = "tag";
/// Tags of each size.
const TAGS: usize = 1000;

pub(super) const E21: Experiment = Experiment {
    id: "E21",
    title: "A budget for tags",
    workload: "Tags of 1, 2, 3 and 4 bytes per character around limits of 10, 50 and 1000 KiB: the \
               largest that is accepted, by bytes and by characters. Then 1000 tags of that size, \
               and 1000 with a character more.",
    about: About::Expectation,
    article: "thresholds of 10, 50 and 1000 KB, counted by `len`",
    rule: "at each limit the largest tag accepted ends less than a character below it, counted in \
           bytes; no tag of that size triggers, and every one a character longer",
    plot: Plot::lines(LARGEST, "limit, bytes").log_x().log_y(),
    measure: tags,
    rule_on: |data| {
        let (mut sizes, mut exact, mut triggers) = (0, 0, 0.0);
        for limit in LIMITS.map(|limit| limit as f64) {
            for (name, width) in NAMES {
                let largest = data.ours_at(LARGEST, name, limit)?;
                let room = limit - largest.low;
                let within = largest.high <= limit && room < width as f64;
                let (below, above) =
                    (data.ours_at(BELOW, name, limit)?, data.ours_at(ABOVE, name, limit)?);
                let triggered = below.high == 0.0 && above.low == TAGS as f64;
                let bytes = data.ours_at(BYTES, name, limit)?;
                let counted = bytes.low == TAGS as f64 * largest.low && bytes.low == bytes.high;
                exact += usize::from(within && triggered && counted);
                (sizes, triggers) = (sizes + 1, triggers + above.median);
            }
        }
        let characters = data.ours_at("largest tag accepted, characters", "4 bytes", 51200.0)?;
        let ns = data.ours_at("ns per tag", "1 byte", 10240.0)?;
        Some(Finding {
            verdict: Verdict::when(exact == sizes),
            ours: format!(
                "{exact} of {sizes} largest tags exact; {triggers} triggers by {} longer ones",
                sizes * TAGS,
            ),
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
                for _ in 0..TAGS {
                    let _ = budget.trace().span().tag(KEY, &text[..low * width]);
                }
            });
            probe.record_at("ns per tag", name, x, ns / TAGS as f64);
            let stats = budget.stats();
            probe.record_at(BELOW, name, x, stats.tag_breaches as f64);
            for _ in 0..TAGS {
                let _ = budget.trace().span().tag(KEY, &text[..(low + 1) * width]);
            }
            let triggers = budget.stats().tag_breaches - stats.tag_breaches;
            probe.record_at(ABOVE, name, x, triggers as f64);
            probe.record_at(BYTES, name, x, budget.stats().accepted_bytes as f64);
        }
    }
}
