//! The report: one HTML page that needs nothing but itself.

use std::fmt::Write;

use super::data::{Data, Estimate, Key, figure};
use super::experiments::{About, Experiment, Finding, Verdict};
use super::plot::plot;
use super::rows;

/// An experiment with its readings and what came of it.
pub(super) type Outcome = (&'static Experiment, Data, Finding);

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #57606a; --line: #d0d7de;
  --c0: #0969da; --c1: #bc4c00; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989; --c5: #7d6600;
  --c6: #0a7f8f; --c7: #6e7781; --good: #1a7f37; --bad: #cf222e; --none: #6e7781; --half: #7d6600 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9198a1;
  --line: #30363d; --c0: #4493f8; --c1: #f0883e; --c2: #3fb950; --c3: #ab7df8; --c4: #f778ba;
  --c5: #d2a822; --c6: #39c5cf; --c7: #9198a1; --good: #3fb950; --bad: #f85149; --none: #9198a1;
  --half: #d2a822 } }
body { color: var(--ink); background: var(--paper); font: 15px/1.5 system-ui, sans-serif;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .8rem 0; font-size: 13px }
.scroll { overflow-x: auto }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left;
  vertical-align: top; font-variant-numeric: tabular-nums }
thead th { border-bottom-width: 2px }
section { border-top: 2px solid var(--line); margin-top: 2.5rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem } dd { margin: 0 }
dt, .soft { color: var(--soft) }
.holds { color: var(--good) } .fails { color: var(--bad) } .partly { color: var(--half) }
.unmeasured { color: var(--none) }
strong.holds, strong.fails, strong.partly, strong.unmeasured { white-space: nowrap }
svg { display: block; width: 100%; height: auto; margin: 1rem 0 }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif }
.grid { stroke: var(--line) } .whisker { stroke: var(--ink); stroke-width: 1.5 }
polyline, line { fill: none; stroke-width: 1.8 } .band { opacity: .18 }
.dashed { stroke-dasharray: 5 3 }
a { color: var(--c0) }
";

/// How to read a verdict.
const VERDICTS: &str = "<p>The articles are about Go; measured is this crate, so ratios and shapes \
    are compared, not nanoseconds. A verdict follows from our allocator’s figures by the rule \
    given. What is arithmetic is <em>reproduced</em> or <em>refuted</em>. What is said of Go’s map, \
    pool or runtime <em>holds here</em> or <em>does not hold here</em>, in this crate’s, which says \
    nothing about Go’s. Where an article has no result, the rule is our own expectation, and things \
    are <em>as expected</em> or not. A factor must reach the article’s own: a smaller gain, whose \
    interval does not reach down to 1, holds <em>in part</em>, and so does a claim of which one part \
    holds and another does not. A bound inside an interval leaves it <em>undecided</em>.</p>\n";

pub(super) fn render(
    facts: &[(&str, String)],
    rounds: usize,
    quick: bool,
    outcomes: &[Outcome],
) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width\">\n<title>What is said about maps, pools \
         and arenas, measured</title>\n<style>{STYLE}{}</style>\n</head>\n<body>\n<h1>What is said \
         about maps, pools and arenas, measured</h1>\n",
        colours()
    );
    // Writing to a string does not fail, here and below.
    let _ = write!(
        page,
        "<p>Figures are medians of {rounds} {}rounds in processes of their own, taken in turns on \
         both allocators, with the order-statistics interval that covers the median with at least \
         95 %: <em>median [low–high]</em>. Plots show the same. “–” is what was not \
         measured. Times are processor time of the thread; latencies of single operations and \
         what several threads do are by the clock.</p>\n{VERDICTS}<dl>",
        if quick { "short " } else { "" }
    );
    for (name, value) in facts {
        let _ = write!(page, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    page.push_str("</dl>\n");
    summary(&mut page, outcomes);
    for outcome in outcomes {
        section(&mut page, outcome);
    }
    page.push_str(&rows::table(outcomes));
    page.push_str("</body>\n</html>\n");
    page
}

fn colours() -> String {
    let class = |n| format!(".s{n} {{ stroke: var(--c{n}) }} .f{n} {{ fill: var(--c{n}) }}\n");
    (0..8).map(class).collect()
}

fn summary(page: &mut String, outcomes: &[Outcome]) {
    page.push_str(
        "<h2 id=\"verdicts\">Verdicts</h2>\n<div class=\"scroll\"><table class=\"summary\"><thead><tr>\
         <th></th><th>experiment</th><th>article</th><th>ours</th><th>verdict</th></tr></thead>\
         <tbody>",
    );
    for (experiment, _, finding) in outcomes {
        let _ = write!(
            page,
            "<tr><td><a href=\"#{id}\">{id}</a></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(experiment.title),
            escape(experiment.article),
            escape(&finding.ours),
            verdict(finding.verdict, experiment.about),
            id = experiment.id,
        );
    }
    page.push_str("</tbody></table></div>\n");
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for (experiment, _, finding) in outcomes {
        let words = finding.verdict.words(experiment.about);
        match counts.iter_mut().find(|(known, _)| *known == words) {
            Some((_, count)) => *count += 1,
            None => counts.push((words, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let counts: Vec<_> = counts.iter().map(|(words, count)| format!("{words}: {count}")).collect();
    let _ = writeln!(page, "<p id=\"counts\">{}.</p>", counts.join("; "));
}

pub(super) fn verdict(verdict: Verdict, about: About) -> String {
    format!("<strong class=\"{}\">{}</strong>", verdict.class(), verdict.words(about))
}

fn section(page: &mut String, (experiment, data, finding): &Outcome) {
    let _ = write!(
        page,
        "<section id=\"{id}\" class=\"experiment\">\n<h2>{id} · {}</h2>\n<p>{}</p>\n<dl \
         class=\"verdict\"><dt>verdict</dt><dd>{}</dd><dt>article</dt><dd>{}</dd><dt>ours</dt><dd>\
         {}</dd><dt>holds when</dt><dd>{}</dd><dt>why</dt><dd>{}</dd></dl>\n{}\n",
        escape(experiment.title),
        escape(experiment.workload),
        verdict(finding.verdict, experiment.about),
        escape(experiment.article),
        escape(&finding.ours),
        escape(experiment.rule),
        escape(&sentence(&finding.why)),
        plot(&experiment.plot, data),
        id = experiment.id,
    );
    readings(page, data);
    page.push_str("</section>\n");
}

/// The sentence with a capital at its beginning.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A table of all series: a row per variant and `x`, a column per metric and allocator. Long sweeps
/// are folded away.
fn readings(page: &mut String, data: &Data) {
    let metrics = data.distinct(|key| &key.metric);
    let allocators = data.distinct(|key| key.allocator);
    let mut rows: Vec<(&str, Option<f64>)> = Vec::new();
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for (key, _) in &data.series {
        if !rows.contains(&(&*key.variant, key.x)) {
            rows.push((&key.variant, key.x));
        }
    }
    for metric in metrics {
        for allocator in &allocators {
            let fits = |key: &Key| key.metric == metric && key.allocator == *allocator;
            if data.series.iter().any(|(key, _)| fits(key)) {
                columns.push((metric, allocator));
            }
        }
    }
    rows.sort_by_key(|(variant, _)| {
        data.series.iter().position(|(key, _)| key.variant == *variant)
    });
    if rows.is_empty() {
        return;
    }
    let swept = rows.iter().any(|(_, x)| x.is_some());
    if rows.len() > 24 {
        let _ = write!(page, "<details><summary>All {} rows</summary>", rows.len());
    }
    page.push_str("<div class=\"scroll\"><table class=\"readings\"><thead><tr><th>variant</th>");
    if swept {
        page.push_str("<th>at</th>");
    }
    for (metric, allocator) in &columns {
        let _ =
            write!(page, "<th>{}<br><span class=\"soft\">{allocator}</span></th>", escape(metric));
    }
    page.push_str("</tr></thead><tbody>");
    for (variant, x) in &rows {
        let _ = write!(page, "<tr><td>{}</td>", escape(variant));
        if swept {
            let _ = write!(page, "<td>{}</td>", x.map_or(String::new(), figure));
        }
        for (metric, allocator) in &columns {
            let cell = data.find(allocator, metric, variant, *x);
            let cell = cell.map_or_else(|| String::from("–"), |cell: Estimate| cell.to_string());
            let _ = write!(page, "<td>{cell}</td>");
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>\n");
    if rows.len() > 24 {
        page.push_str("</details>\n");
    }
}

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
