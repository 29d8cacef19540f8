//! Tables on a terminal.

use std::fmt::Write;

/// Columns as wide as their widest cell; nothing for a table without rows.
pub(super) fn add_table<const N: usize>(
    text: &mut String,
    head: [&str; N],
    rows: Vec<[String; N]>,
) {
    if rows.is_empty() {
        return;
    }
    let head = head.map(str::to_owned);
    let rows: Vec<&[String; N]> = std::iter::once(&head).chain(&rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    text.push('\n');
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
}
