//! What a report must tell to be listed.

use crate::cli::view::table::Table;

/// A report that is a row of a list.
pub trait Rows {
    /// What many of them are called.
    const PLURAL: &'static str;
    /// Heads of the columns, the additional ones of `-o wide` last.
    const HEADS: &'static [&'static str];
    /// How many of the heads `-o table` shows.
    const NARROW: usize;

    /// The cells, one per head.
    fn cells(&self) -> Vec<String>;

    /// The name for `-o name`, kind first.
    fn name(&self) -> String;
}

/// A report that belongs to a namespace.
pub trait Namespaced {
    /// `metadata.namespace`.
    fn namespace(&self) -> &str;
}

/// The list as a table.
pub fn render<T: Rows>(items: &[T], wide: bool, with_heads: bool) -> String {
    render_from(0, items, wide, with_heads)
}

/// The list as a table, without the columns before `first`.
pub fn render_from<T: Rows>(first: usize, items: &[T], wide: bool, with_heads: bool) -> String {
    let columns = if wide { T::HEADS.len() } else { T::NARROW };
    let mut table = Table::new(T::HEADS.get(first..columns).unwrap_or(T::HEADS));
    for item in items {
        table.row(item.cells().into_iter().take(columns).skip(first));
    }
    table.render(with_heads)
}

/// The names, one a line.
pub fn names<T: Rows>(items: &[T]) -> String {
    items.iter().map(|item| item.name() + "\n").collect()
}
