//! Reuse by size class as a heat map: what was allocated again, what came without a
//! refill, and how full the spans are.

use std::fmt::Write;

use super::stats::{ClassStats, Stats};

/// Name of a column, and its part and whole.
type Column = (&'static str, fn(&ClassStats) -> (u64, u64));

const COLUMNS: [Column; 3] = [
    ("reused", |row| (row.allocs.saturating_sub(row.first_uses), row.allocs)),
    ("no refill", |row| (row.allocs.saturating_sub(row.refills), row.allocs)),
    ("live in spans", |row| (row.live_blocks, row.spans * row.blocks_per_span)),
];

impl Stats {
    /// How memory is used again, class by class, as an SVG document: a row for each
    /// class that was allocated, a field for each of three shares, white for 0 to red
    /// for 100 %. *Reused* is the share of allocations beyond the first use of each
    /// block; *no refill* that of allocations which a thread's own list
    /// served; *live in spans* how full the spans of the class are. Each field names its
    /// counts when pointed at. All are exact.
    ///
    /// # Examples
    ///
    /// ```
    /// let svg = spanalloc::stats().reuse_svg();
    /// assert!(svg.starts_with("<svg"));
    /// ```
    pub fn reuse_svg(&self) -> String {
        const FIELD: usize = 22;
        const WIDTH: usize = 110;
        const LEFT: usize = 80;
        const TOP: usize = 56;
        let rows: Vec<_> = self.classes.iter().filter(|row| row.allocs > 0).collect();
        let (width, height) = (LEFT + COLUMNS.len() * WIDTH + 16, TOP + rows.len() * FIELD + 16);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <title>Reuse by size class</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"8\" y=\"18\" font-size=\"14\">Reuse by size class</text>\n"
        );
        for (column, (name, _)) in COLUMNS.iter().enumerate() {
            let (x, y) = (LEFT + column * WIDTH, TOP - 8);
            line(&mut svg, format_args!("<text x=\"{x}\" y=\"{y}\">{name}</text>"));
        }
        for (number, row) in rows.into_iter().enumerate() {
            let (y, baseline) = (TOP + number * FIELD, TOP + number * FIELD + 15);
            let bytes = row.block_bytes;
            line(&mut svg, format_args!("<text x=\"8\" y=\"{baseline}\">{bytes} B</text>"));
            for (column, (name, of)) in COLUMNS.iter().enumerate() {
                let (part, whole) = of(row);
                let (x, fill) = (LEFT + column * WIDTH, fill(part, whole));
                let (w, h, middle) = (WIDTH - 2, FIELD - 2, x + 8);
                let share = share(part, whole).map_or("none".into(), |s| format!("{s:.1} %"));
                line(
                    &mut svg,
                    format_args!(
                        "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\">\
                         <title>{bytes} B, {name}: {part} of {whole}</title></rect>\
                         <text x=\"{middle}\" y=\"{baseline}\" pointer-events=\"none\">{share}</text>"
                    ),
                );
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Adds a line.
fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(svg, "{text}");
}

/// From 0 to 100; none of nothing.
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part.min(whole) as f64 / whole as f64)
}

fn fill(part: u64, whole: u64) -> String {
    share(part, whole).map_or("#ddd".into(), |share| {
        let cold = (235.0 - 2.35 * share) as u8;
        format!("#ff{cold:02x}{cold:02x}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_a_row_of_three_shares() {
        let used = ClassStats {
            block_bytes: 64,
            blocks_per_span: 100,
            allocs: 1000,
            first_uses: 80,
            refills: 500,
            live_blocks: 50,
            spans: 1,
            ..ClassStats::default()
        };
        let unused = ClassStats { block_bytes: 96, ..ClassStats::default() };
        let svg = Stats { classes: vec![used, unused], ..Stats::default() }.reuse_svg();
        assert_eq!(svg.matches("<rect x=").count(), 3, "{svg}");
        for part in ["92.0 %", "920 of 1000", "500 of 1000", "50 of 100", ">64 B<"] {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(fill(1, 1), "#ff0000");
        assert_eq!(fill(0, 1), "#ffebeb");
        assert_eq!(fill(0, 0), "#ddd");
    }
}
