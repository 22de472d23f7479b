//! Tables of plain text: columns aligned by spaces, headers in capitals, no borders.

use crate::screen;
use comfy_table::{Cell, CellAlignment, Table};

/// Draws a table that ends in a line feed; no line ends in a space. With no rows only the headers appear.
pub fn draw(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(headers.iter().map(Cell::new));
    for row in rows {
        table.add_row(row.iter().map(|text| Cell::new(screen::line(text))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// What an empty cell shows.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_borders_or_trailing_spaces() {
        let rows =
            vec![vec!["a".to_owned(), "long value".to_owned()], vec!["bcdef".to_owned(), "-".to_owned()]];
        assert_eq!(draw(&["NAME", "KIND"], &rows), "NAME   KIND\na      long value\nbcdef  -\n");
        assert_eq!(draw(&["NAME", "KIND"], &[]), "NAME  KIND\n");
    }

    #[test]
    fn a_cell_cannot_break_its_line() {
        assert_eq!(draw(&["N"], &[vec!["a\nb\x1b".to_owned()]]), "N\na\\nb\\x1b\n");
    }
}
