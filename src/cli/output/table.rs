//! Small tables: columns as wide as they need to be, the last one broken to fit.

use super::{Style, plain::visible, wrap};

/// A table under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

const GAP: usize = 2;

impl Table {
    /// With these headings.
    pub(crate) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            rows: vec![headings.into_iter().map(str::to_owned).collect()],
        }
    }

    /// Adds a row; its cells may be coloured, and are each on one line.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| cell.replace('\n', " "));
        self.rows.push(cells.collect());
    }

    /// Whether there is nothing but headings.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// How wide it is, unless something is broken.
    pub(crate) fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
    }

    /// The whole table, a newline after every row.
    pub(crate) fn render(&self, style: Style) -> String {
        let mut widths = self.widths();
        let before: usize = widths.iter().rev().skip(1).map(|width| width + GAP).sum();
        if let Some(last) = widths.last_mut() {
            *last = (*last).min(style.width.saturating_sub(before)).max(20);
        }
        let mut text = String::new();
        for (i, row) in self.rows.iter().enumerate() {
            for line in lines(row, &widths) {
                let line = line.trim_end();
                text += &if i == 0 {
                    style.bold(line)
                } else {
                    line.to_owned()
                };
                text.push('\n');
            }
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |i: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(i))
                .map(|cell| visible(cell))
                .max()
        };
        (0..columns).map(|i| width(i).unwrap_or(0)).collect()
    }
}

/// A row as lines; more than one where its last cell is broken.
fn lines(row: &[String], widths: &[usize]) -> Vec<String> {
    let Some((last, first)) = row.split_last() else {
        return vec![];
    };
    let head: String = first
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - visible(cell) + GAP)))
        .collect();
    let width = widths.get(row.len() - 1).copied().unwrap_or(0);
    let parts = if visible(last) > width {
        wrap(last, width)
    } else {
        vec![last.clone()]
    };
    let indent = " ".repeat(visible(&head));
    let part = |(i, part)| format!("{}{part}", if i == 0 { &head } else { &indent });
    parts.iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::filter::painted;

    #[test]
    fn columns_line_up_and_the_last_is_broken() {
        let mut table = Table::new(["CLUSTER", "ISTIOD", "WHY"]);
        assert!(table.is_empty());
        let green = Style {
            color: true,
            ..Style::plain()
        }
        .green("ok");
        table.row(["eks-1".into(), green, String::new()]);
        table.row([
            "a-cluster".into(),
            "failed".into(),
            "no replica of Deployment istiod is available after 15m, and for an unknown reason"
                .into(),
        ]);
        let style = Style {
            width: 50,
            ..Style::plain()
        };
        insta::assert_snapshot!(painted(&table.render(style), true).replace('\x1b', "^"), @"
        CLUSTER    ISTIOD  WHY
        eks-1      ^[32mok^[0m
        a-cluster  failed  no replica of Deployment istiod
                           is available after 15m, and for
                           an unknown reason
        ");
    }
}
