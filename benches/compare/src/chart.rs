//! The chart of a comparison: a line per workload, a dot per allocator, placed
//! by the ratio of its time to that of the best rival.

use crate::results::Results;
use crate::summary::{Line, Summary, overall};
use crate::svg::{Anchor, LogScale, Svg, color, legend};

const LINE_HEIGHT: f64 = 20.0;
const TOP: f64 = 90.0;
const LABELS: f64 = 190.0;
const WIDTH: f64 = 1100.0;

/// The picture, as SVG.
pub(crate) fn render(results: &Results, summary: &Summary) -> String {
    let lines = &summary.time;
    let bottom = TOP + LINE_HEIGHT * (lines.len() + 1) as f64;
    let mut svg = Svg::new(WIDTH, bottom + 30.0);
    let title = "time against the best rival in each row (left is faster; at the edge: beyond)";
    svg.text(10.0, 24.0, 17.0, Anchor::Start, title);
    svg.text(10.0, 42.0, 11.0, Anchor::Start, &results.head().trim_end().replace('\n', ", "));
    legend(&mut svg, &results.allocators, 16.0, 64.0);
    let scale = LogScale { low: 0.4, high: 10.0, start: LABELS, end: WIDTH - 20.0 };
    for tick in [0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0] {
        let x = scale.at(tick);
        let width = if tick == 1.0 { 1.5 } else { 0.5 };
        svg.line((x, TOP - 8.0), (x, bottom), "#bbb", width);
        svg.text(x, bottom + 16.0, 11.0, Anchor::Middle, &format!("{tick}×"));
    }
    for (index, line) in lines.iter().enumerate() {
        let y = TOP + LINE_HEIGHT * index as f64;
        svg.text(LABELS - 12.0, y + 4.0, 12.0, Anchor::End, &line.workload);
        dots(&mut svg, scale, y, &results.allocators, |name| best_ratio(line, name));
    }
    let y = TOP + LINE_HEIGHT * lines.len() as f64;
    svg.text(LABELS - 12.0, y + 4.0, 12.0, Anchor::End, "geometric mean");
    dots(&mut svg, scale, y, &results.allocators, |name| {
        overall(lines, name, 0.0).map(|overall| overall.geomean)
    });
    svg.finish()
}

fn dots(
    svg: &mut Svg,
    scale: LogScale,
    y: f64,
    allocators: &[String],
    ratio: impl Fn(&str) -> Option<f64>,
) {
    // Ours come first in the table and so last here, on top of the others.
    for name in allocators.iter().rev() {
        if let Some(ratio) = ratio(name) {
            let radius = if crate::catalog::is_ours(name) { 5.5 } else { 4.0 };
            svg.dot((scale.at(ratio), y), radius, color(name), &format!("{name} {ratio:.2}×"));
        }
    }
}

fn best_ratio(line: &Line, allocator: &str) -> Option<f64> {
    line.ratios.get(allocator).copied()
}
