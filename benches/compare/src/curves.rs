//! The chart of the scaling mode: panels of curves, one curve per allocator.

use crate::scaling::{Curves, Panel};
use crate::svg::{Anchor, LogScale, Svg, color, legend};

const WIDTH: f64 = 1100.0;
const PANEL_HEIGHT: f64 = 320.0;
const TOP: f64 = 80.0;
const MARGIN: f64 = 70.0;

/// The picture, as SVG.
pub(crate) fn render(curves: &Curves) -> String {
    let mut svg = Svg::new(WIDTH, TOP + PANEL_HEIGHT * curves.panels.len() as f64);
    svg.text(10.0, 24.0, 17.0, Anchor::Start, "cost as it grows");
    svg.text(10.0, 42.0, 11.0, Anchor::Start, &curves.head().trim_end().replace('\n', ", "));
    legend(&mut svg, &curves.allocators, 16.0, 64.0);
    for (index, panel) in curves.panels.iter().enumerate() {
        draw(&mut svg, panel, &curves.allocators, TOP + PANEL_HEIGHT * index as f64);
    }
    svg.finish()
}

fn draw(svg: &mut Svg, panel: &Panel, allocators: &[String], top: f64) {
    let values = || panel.values.values().flatten().flatten().copied().filter(|v| *v > 0.0);
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
    if low > high {
        return;
    }
    let last = *panel.sizes.last().expect("a panel has points") as f64;
    let bottom = top + PANEL_HEIGHT - 50.0;
    let across = LogScale {
        low: panel.sizes[0] as f64,
        high: last.max(panel.sizes[0] as f64 * 2.0),
        start: MARGIN,
        end: WIDTH - 20.0,
    };
    let up = LogScale { low: low * 0.8, high: high * 1.25, start: bottom, end: top + 30.0 };
    svg.text(MARGIN, top + 18.0, 14.0, Anchor::Start, &panel.title);
    for &size in &panel.sizes {
        let x = across.at(size as f64);
        svg.line((x, top + 30.0), (x, bottom), "#ddd", 0.5);
        svg.text(x, bottom + 16.0, 11.0, Anchor::Middle, &label(size));
    }
    for tick in ticks(low, high) {
        let y = up.at(tick);
        svg.line((MARGIN, y), (WIDTH - 20.0, y), "#ddd", 0.5);
        svg.text(MARGIN - 6.0, y + 4.0, 11.0, Anchor::End, &format!("{tick}"));
    }
    for name in allocators.iter().rev() {
        let Some(values) = panel.values.get(name) else { continue };
        let points: Vec<(f64, f64)> = panel
            .sizes
            .iter()
            .zip(values)
            .filter_map(|(&size, value)| Some((across.at(size as f64), up.at((*value)?))))
            .collect();
        let width = if crate::catalog::is_ours(name) { 3.0 } else { 1.5 };
        svg.path(&points, color(name), width);
        for &point in &points {
            svg.dot(point, width + 0.5, color(name), name);
        }
    }
}

/// Round values at 1, 2 and 5 times the powers of ten, within `low..=high`.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let powers = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
    let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

/// A size with the largest binary unit that divides it.
pub(crate) fn label(size: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB")];
    units
        .into_iter()
        .find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit))
        .map_or(size.to_string(), |(unit, name)| format!("{} {name}", size / unit))
}

#[cfg(test)]
mod tests {
    use super::{label, ticks};

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(3.0, 60.0), [5.0, 10.0, 20.0, 50.0]);
    }

    #[test]
    fn labels_have_units() {
        assert_eq!([1 << 20, 8 << 30, 1000].map(label), ["1 MiB", "8 GiB", "1000"]);
    }
}
