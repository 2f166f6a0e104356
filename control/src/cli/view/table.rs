//! kubectl's table look: upper-case heads, three spaces, no borders.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table as Grid};

/// Spaces between columns.
const GAP: u16 = 3;

/// A table being filled.
#[derive(Debug)]
pub struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these heads.
    pub fn new(heads: &[&str]) -> Self {
        Self { heads: heads.iter().map(|&head| head.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row; one cell per head. An empty cell is shown as `-`, so that `awk` counts columns.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let dash = |cell: T| match cell.into() {
            empty if empty.is_empty() => "-".to_owned(),
            text => text,
        };
        self.rows.push(cells.into_iter().map(dash).collect());
    }

    /// The text, each line ended, no line with trailing spaces.
    pub fn render(&self, with_heads: bool) -> String {
        let mut grid = Grid::new();
        grid.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if with_heads {
            grid.add_row(&self.heads);
        }
        grid.add_rows(&self.rows);
        for column in grid.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        grid.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_three_spaces_apart_and_lines_end_bare() {
        let mut table = Table::new(&["NAME", "AGE"]);
        table.row(["wéb", "1"]);
        table.row(["", "234567"]);
        assert_eq!(table.render(true), "NAME   AGE\nwéb    1\n-      234567\n");
        assert_eq!(table.render(false), "wéb   1\n-     234567\n");
    }

    #[test]
    fn a_table_without_rows_is_its_head() {
        assert_eq!(Table::new(&["NAME"]).render(true), "NAME\n");
        assert_eq!(Table::new(&["NAME"]).render(false), "");
    }
}
