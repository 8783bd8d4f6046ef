//! Plots as SVG that takes its colours from the page: bars with intervals, lines with bands.

use std::fmt::Write;

use super::data::{Data, Estimate, figure};
use super::experiments::Plot;
use super::page::escape;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 80.0;
const BAR: f64 = 20.0;
const HEIGHT: f64 = 300.0;
/// More lines than this tell nobody anything.
const COLOURS: usize = 8;

/// A scale from values to places.
struct Scale {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
    log: bool,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let map = |value: f64| if self.log { value.max(self.low).ln() } else { value };
        let span = map(self.high) - map(self.low);
        let share = if span > 0.0 { (map(value) - map(self.low)) / span } else { 0.5 };
        self.start + (self.end - self.start) * share.clamp(0.0, 1.0)
    }

    /// Values to mark: powers of ten, or round steps.
    fn ticks(&self) -> Vec<f64> {
        if self.log && self.high / self.low >= 30.0 {
            let first = self.low.log10().ceil() as i32;
            return (first..=self.high.log10().floor() as i32).map(|ten| 10f64.powi(ten)).collect();
        }
        let raw = (self.high - self.low).max(f64::MIN_POSITIVE) / 5.0;
        let ten = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|by| by * ten).into_iter().find(|step| *step >= raw);
        let step = step.unwrap_or(raw);
        let first = (self.low / step).ceil() as i64;
        (first..=(self.high / step).floor() as i64).map(|n| n as f64 * step).collect()
    }
}

/// The plot of an experiment; a sentence where there is nothing to show.
pub(super) fn plot(plot: &Plot, data: &Data) -> String {
    let of_metric = data.series.iter().filter(|(key, _)| key.metric == plot.metric);
    let points: Vec<Point> = of_metric
        .filter(|(key, _)| key.x.is_some() == plot.x.is_some())
        .filter_map(|(key, values)| {
            let name = if key.allocator == super::OURS {
                key.variant.clone()
            } else {
                format!("{} ({})", key.variant, key.allocator)
            };
            Some(Point { name, x: key.x.unwrap_or_default(), value: Estimate::of(values)? })
        })
        .collect();
    if points.is_empty() {
        return String::from("<p>Nothing was measured, so there is nothing to plot.</p>");
    }
    match plot.x {
        None => bars(plot, &points),
        Some(x) => lines(plot, x, &points),
    }
}

struct Point {
    name: String,
    x: f64,
    value: Estimate,
}

/// The extremes of `values`; for a logarithmic scale of those above zero.
fn range(values: impl Iterator<Item = f64>, log: bool) -> (f64, f64) {
    let used = values.filter(|value| value.is_finite() && (!log || *value > 0.0));
    let (low, high) = used.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    if low > high { (1.0, 10.0) } else { (low, high) }
}

fn bars(plot: &Plot, points: &[Point]) -> String {
    let ends = points.iter().flat_map(|point| [point.value.low, point.value.high]);
    let (low, high) = range(ends, plot.log_y);
    let low = if plot.log_y { low / 2.0 } else { low.min(0.0) };
    let scale = Scale { low, high, start: LEFT, end: WIDTH - RIGHT, log: plot.log_y };
    let bottom = points.len() as f64 * BAR + 8.0;
    let mut svg = open(bottom + 44.0, plot.metric);
    for tick in scale.ticks() {
        let x = scale.at(tick);
        line(&mut svg, "grid", (x, 4.0), (x, bottom));
        text(&mut svg, "middle", x, bottom + 15.0, &figure(tick));
    }
    let zero = scale.at(if plot.log_y { low } else { 0.0 });
    for (row, point) in points.iter().enumerate() {
        let (y, value) = (8.0 + row as f64 * BAR, point.value);
        let (from, to) = (zero.min(scale.at(value.median)), zero.max(scale.at(value.median)));
        let colour = if point.name.ends_with(')') { 1 } else { 0 };
        let (width, height) = (to - from, BAR - 6.0);
        let _ = write!(
            svg,
            "<rect class=\"f{colour}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height}\"><title>{}: {value}</title></rect>",
            escape(&point.name)
        );
        let middle = y + height / 2.0;
        line(&mut svg, "whisker", (scale.at(value.low), middle), (scale.at(value.high), middle));
        text(&mut svg, "end", LEFT - 8.0, y + 11.0, &point.name);
        let after = to.max(scale.at(value.high)) + 5.0;
        text(&mut svg, "start", after, y + 11.0, &figure(value.median));
    }
    text(&mut svg, "middle", f64::midpoint(LEFT, WIDTH - RIGHT), bottom + 34.0, plot.metric);
    svg + "</svg>"
}

fn lines(plot: &Plot, x_title: &str, points: &[Point]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for point in points {
        if !names.contains(&&*point.name) {
            names.push(&point.name);
        }
    }
    let left = 60.0;
    let (low, high) = range(points.iter().map(|point| point.x), plot.log_x);
    let across = Scale { low, high, start: left, end: WIDTH - 260.0, log: plot.log_x };
    let ends = points.iter().flat_map(|point| [point.value.low, point.value.high]);
    let (low, high) = range(ends, plot.log_y);
    let low = if plot.log_y { low } else { low.min(0.0) };
    let high = if high > low { high } else { low + 1.0 };
    let up = Scale { low, high, start: HEIGHT, end: 12.0, log: plot.log_y };
    let mut svg = open(HEIGHT + 44.0, plot.metric);
    for tick in up.ticks() {
        let y = up.at(tick);
        line(&mut svg, "grid", (left, y), (across.end, y));
        text(&mut svg, "end", left - 5.0, y + 4.0, &figure(tick));
    }
    for tick in across.ticks() {
        text(&mut svg, "middle", across.at(tick), HEIGHT + 16.0, &figure(tick));
    }
    for (number, name) in names.iter().enumerate() {
        let colour = number % COLOURS;
        let dashed = if number >= COLOURS || name.ends_with(')') { " dashed" } else { "" };
        let mut series: Vec<&Point> = points.iter().filter(|point| point.name == *name).collect();
        series.sort_by(|a, b| a.x.total_cmp(&b.x));
        let place = |x: f64, y: f64| format!("{:.1},{:.1} ", across.at(x), up.at(y));
        let over = series.iter().map(|point| place(point.x, point.value.high));
        let under = series.iter().rev().map(|point| place(point.x, point.value.low));
        let band: String = over.chain(under).collect();
        let middle: String =
            series.iter().map(|point| place(point.x, point.value.median)).collect();
        let _ = write!(
            svg,
            "<polygon class=\"f{colour} band\" points=\"{band}\"/>\
             <polyline class=\"s{colour}{dashed}\" points=\"{middle}\"/>"
        );
        if series.len() <= 20 {
            for point in &series {
                let (x, y) = (across.at(point.x), up.at(point.value.median));
                let _ = write!(
                    svg,
                    "<circle class=\"f{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"><title>{}, \
                     {}: {}</title></circle>",
                    escape(name),
                    figure(point.x),
                    point.value
                );
            }
        }
        let y = 18.0 + number as f64 * 17.0;
        let (start, end) = (WIDTH - 245.0, WIDTH - 225.0);
        line(&mut svg, &format!("s{colour}{dashed}"), (start, y - 4.0), (end, y - 4.0));
        text(&mut svg, "start", end + 6.0, y, name);
    }
    let title = format!("{} over {x_title}", plot.metric);
    text(&mut svg, "middle", f64::midpoint(left, across.end), HEIGHT + 36.0, &title);
    svg + "</svg>"
}

fn open(height: f64, label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escape(label))
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = write!(
        svg,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, anchor: &str, x: f64, y: f64, text: &str) {
    let text = escape(text);
    let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}
