//! Tables for people: plain text, numbers to the right. What must stay out: colours and borders,
//! which do not survive a mail or a log.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

/// A line below the header, and nothing else.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Where a column's text stands.
#[derive(Clone, Copy)]
pub(crate) enum Align {
    Left,
    Right,
}

/// An empty table with these columns.
pub(crate) fn new(columns: &[&str], align: &[Align]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(columns);
    for (column, align) in table.column_iter_mut().zip(align) {
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table
}

/// `texts` columns to the left, the rest to the right.
pub(crate) fn numbers_after(texts: usize, columns: usize) -> Vec<Align> {
    (0..columns).map(|at| if at < texts { Align::Left } else { Align::Right }).collect()
}
