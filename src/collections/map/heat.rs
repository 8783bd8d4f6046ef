//! Where holes are filled: a heat map of slot reuse.
//!
//! Rows are equal parts of the bucket array, columns are cells of the chain: eight
//! in the bucket itself, eight in the first overflow bucket, eight in all later
//! ones. A field counts new entries, and those among them that took a *hole*: a cell
//! from which an entry had been removed while others lay behind it in the chain
//! (`emptyOne` in Go). Its heat is the share of the latter. A removal with nothing
//! behind it shortens the chain instead: that cell, and holes before it, count as
//! never used.

use std::fmt::Write;

use super::tops::CELLS;

/// Rows of the map.
const ROWS: usize = 32;
/// Columns of the map.
const COLUMNS: usize = 3 * CELLS;

/// How often new entries took a cell, and how often that was a hole among others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reuse {
    /// New entries written.
    pub inserts: u64,
    /// Those that took a hole: a cell from which an entry had been removed while others lay behind
    /// it in the chain. Cells at the chain's end count as never used, whatever was in them.
    pub reused: u64,
}

impl Reuse {
    /// The share of holes, 0 to 100; `None` if nothing was written.
    #[must_use]
    pub fn percent(self) -> Option<f64> {
        (self.inserts > 0).then(|| 100.0 * self.reused as f64 / self.inserts as f64)
    }
}

/// Holes filled by part of the array and cell of the chain. Recorded from
/// [`Map::record_heat`](super::Map::record_heat) on.
///
/// ```
/// let mut map = spanalloc::map::Map::new();
/// map.record_heat();
/// map.insert(1, ());
/// map.insert(2, ());
/// map.remove(&1);
/// map.insert(3, ()); // where 1 was, before 2
/// map.remove(&2);
/// map.insert(4, ()); // where 2 was, with nothing behind it
/// let heat = map.heat().unwrap();
/// assert_eq!((heat.total().inserts, heat.total().reused), (4, 1));
/// assert!(heat.to_svg().starts_with("<svg"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heat {
    fields: Vec<[Reuse; COLUMNS]>,
}

impl Heat {
    pub(super) fn new() -> Self {
        Self { fields: vec![[Reuse::default(); COLUMNS]; ROWS] }
    }

    /// An insert into chain `index` of `2^log2`, at `position` of the chain.
    pub(super) fn note(&mut self, index: usize, log2: u8, position: usize, reused: bool) {
        let row = ((index as u128 * ROWS as u128) >> log2) as usize;
        let column = if position < COLUMNS { position } else { COLUMNS - CELLS + position % CELLS };
        let field = &mut self.fields[row][column];
        field.inserts += 1;
        field.reused += u64::from(reused);
    }

    /// The fields, row by row from the start of the array; 24 columns each.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[Reuse]> {
        self.fields.iter().map(<[Reuse; COLUMNS]>::as_slice)
    }

    /// The sum of all fields.
    #[must_use]
    pub fn total(&self) -> Reuse {
        let mut total = Reuse::default();
        for field in self.fields.iter().flatten() {
            total.inserts += field.inserts;
            total.reused += field.reused;
        }
        total
    }

    /// An SVG document: one rectangle per field, white for no holes to red for
    /// nothing but holes, grey where nothing was written. Each names its counts
    /// when pointed at.
    #[must_use]
    pub fn to_svg(&self) -> String {
        const FIELD: usize = 14;
        const LEFT: usize = 64;
        const TOP: usize = 56;
        let (width, height) = (LEFT + COLUMNS * FIELD + 24, TOP + ROWS * FIELD + 24);
        let total = self.total();
        let share = total.percent().map_or("none".into(), |percent| format!("{percent:.1} %"));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <title>Holes filled</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"8\" y=\"18\" font-size=\"14\">Holes filled: {} of {} inserts ({share})</text>\n",
            total.reused, total.inserts
        );
        for (part, name) in ["bucket", "1st overflow", "later"].iter().enumerate() {
            let x = LEFT + part * CELLS * FIELD;
            let y = TOP - 8;
            writeln!(svg, "<text x=\"{x}\" y=\"{y}\">{name}</text>").expect("a String takes all");
        }
        for (row, fields) in self.fields.iter().enumerate() {
            let y = TOP + row * FIELD;
            let from = 100.0 * row as f64 / ROWS as f64;
            writeln!(svg, "<text x=\"8\" y=\"{}\">{from:.0} %</text>", y + FIELD - 3)
                .expect("a String takes all");
            for (column, field) in fields.iter().enumerate() {
                let x = LEFT + column * FIELD;
                let side = FIELD - 1;
                let (fill, Reuse { inserts, reused }) = (fill(*field), field);
                writeln!(
                    svg,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" fill=\"{fill}\">\
                     <title>cell {column}: {reused} of {inserts}</title></rect>"
                )
                .expect("a String takes all");
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn fill(field: Reuse) -> String {
    match field.percent() {
        None => "#ddd".into(),
        Some(percent) => {
            let cold = (235.0 - 2.35 * percent) as u8;
            format!("#ff{cold:02x}{cold:02x}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_chains_fold_into_the_last_columns() {
        let mut heat = Heat::new();
        heat.note(0, 0, 0, false);
        heat.note(0, 0, 23, true);
        heat.note(0, 0, 31, true);
        heat.note(1023, 10, 8, false);
        let rows: Vec<_> = heat.rows().collect();
        assert_eq!(rows[0][0], Reuse { inserts: 1, reused: 0 });
        assert_eq!(rows[0][23], Reuse { inserts: 2, reused: 2 });
        assert_eq!(rows[ROWS - 1][8], Reuse { inserts: 1, reused: 0 });
        assert_eq!(heat.total(), Reuse { inserts: 4, reused: 2 });
    }

    #[test]
    fn the_picture_has_a_field_for_each_cell_and_colours_by_share() {
        let mut heat = Heat::new();
        heat.note(0, 0, 0, true);
        heat.note(0, 0, 1, false);
        let svg = heat.to_svg();
        assert_eq!(svg.matches("<rect x=").count(), ROWS * COLUMNS);
        assert_eq!(svg.matches("#ff0000").count(), 1);
        assert_eq!(svg.matches("#ffebeb").count(), 1);
        assert!(svg.contains("1 of 2 inserts (50.0 %)"));
        assert_eq!(Heat::new().to_svg().matches("#ddd").count(), ROWS * COLUMNS);
    }
}
