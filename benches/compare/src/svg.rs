//! The few shapes that the charts are made of, as SVG.

use std::fmt::Write;

/// A picture under construction. Lengths are in pixels.
#[derive(Debug)]
pub(crate) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// An empty picture.
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// A line of text.
    pub(crate) fn text(&mut self, x: f64, y: f64, size: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    /// A straight line.
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), color: &str, width: f64) {
        self.path(&[from, to], color, width);
    }

    /// A line through `points`.
    pub(crate) fn path(&mut self, points: &[(f64, f64)], color: &str, width: f64) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\"/>",
            points.join(" ")
        );
    }

    /// A dot; `title` is shown when the pointer rests on it.
    pub(crate) fn dot(&mut self, at: (f64, f64), radius: f64, color: &str, title: &str) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\" fill=\"{color}\">\
             <title>{title}</title></circle>",
            at.0, at.1
        );
    }

    /// The finished document.
    pub(crate) fn finish(self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" \
             viewBox=\"0 0 {0} {1}\" font-family=\"system-ui, sans-serif\" fill=\"#222\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{2}</svg>\n",
            self.width, self.height, self.body
        )
    }
}

/// The color of an allocator, the same in every chart.
pub(crate) fn color(allocator: &str) -> &'static str {
    match allocator {
        "spanalloc" => "#d62728",
        "spanalloc-sampled" => "#ff9896",
        "system" => "#7f7f7f",
        "mimalloc" => "#1f77b4",
        "jemalloc" => "#2ca02c",
        "snmalloc" => "#9467bd",
        "rpmalloc" => "#bcbd22",
        "rusty_alloc" => "#8c564b",
        "stoolap" => "#17becf",
        _ => "#9edae5",
    }
}

/// A scale that maps `low..=high` of a quantity to `start..=end` of a picture,
/// in equal steps per doubling.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogScale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) start: f64,
    pub(crate) end: f64,
}

impl LogScale {
    /// The place of `value`, clamped to the picture.
    pub(crate) fn at(self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.start + (self.end - self.start) * share.clamp(0.0, 1.0)
    }
}

/// The names of the allocators in their colors, in a row that starts at `x`.
pub(crate) fn legend(svg: &mut Svg, allocators: &[String], x: f64, y: f64) {
    let mut x = x;
    for name in allocators {
        svg.dot((x, y - 4.0), 5.0, color(name), name);
        svg.text(x + 9.0, y, 12.0, Anchor::Start, name);
        x += 26.0 + 7.0 * name.len() as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::{Anchor, LogScale, Svg};

    #[test]
    fn doublings_are_equally_far_apart_and_nothing_leaves_the_picture() {
        let scale = LogScale { low: 1.0, high: 16.0, start: 0.0, end: 40.0 };
        assert!((scale.at(2.0) - 10.0).abs() < 1e-9);
        assert!((scale.at(8.0) - 30.0).abs() < 1e-9);
        assert_eq!((scale.at(0.1), scale.at(99.0)), (0.0, 40.0));
    }

    #[test]
    fn text_is_escaped() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text(0.0, 0.0, 10.0, Anchor::Start, "a<b&c");
        assert!(svg.finish().contains("a&lt;b&amp;c"));
    }
}
