//! Tables for the terminal.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::Result;
use crate::net::{Placed, Stack};

/// An empty table in the program's style: a header and rules; if `numbers` is set, all columns but the
/// first are aligned to the right.
pub fn new(header: &[&str], numbers: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header.iter().copied());
    if numbers {
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The parameters of a layer, or of the whole network: a row of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParameterRow {
    /// The layer's name, as in `mps1`; `all` in the last row.
    pub layer: String,
    /// Its extents, in words.
    pub summary: String,
    /// How many parameters it has.
    pub parameters: usize,
    /// How many the dense layer has that it replaces; its own if it replaces none.
    pub dense_parameters: usize,
}

impl ParameterRow {
    /// Parameters as a share of the dense layer's; empty where that has none.
    pub fn of_dense(&self) -> String {
        match self.dense_parameters {
            0 => String::new(),
            dense => format!("{:.2} %", 100.0 * self.parameters as f64 / dense as f64),
        }
    }
}

/// Numbers of parameters of each layer and, in the last row, of the whole network, compared with the same network with
/// dense layers in place of tensor networks.
///
/// # Errors
///
/// [`crate::Error::Layer`] for an impossible network.
pub fn parameter_rows(network: &Stack) -> Result<Vec<ParameterRow>> {
    let placed = network.placed()?;
    let row = |placed: &Placed| ParameterRow {
        layer: placed.name.clone(),
        summary: placed.layer.kind().summary(placed.input),
        parameters: placed.parameters(),
        dense_parameters: placed.dense_parameters(),
    };
    let all = ParameterRow {
        layer: "all".into(),
        summary: String::new(),
        parameters: placed.iter().map(Placed::parameters).sum(),
        dense_parameters: placed.iter().map(Placed::dense_parameters).sum(),
    };
    Ok(placed.iter().map(row).chain([all]).collect())
}

/// The same as a table.
///
/// # Errors
///
/// As [`parameter_rows`].
pub fn parameters(network: &Stack) -> Result<Table> {
    let mut table = new(&["layer", "", "parameters", "dense", "of dense"], true);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    for row in parameter_rows(network)? {
        let share = row.of_dense();
        let [own, dense] = [row.parameters, row.dense_parameters].map(thousands);
        table.add_row([row.layer, row.summary, own, dense, share]);
    }
    Ok(table)
}

/// Where the time of a training step goes: `parts` has the total time of each part over all `steps`.
pub fn profile(steps: usize, parts: &[(String, Duration)]) -> Table {
    let steps = steps.max(1) as f64;
    let mut table = new(&["part of a step", "ms", "share"], true);
    let total: f64 = parts.iter().map(|(_, time)| time.as_secs_f64()).sum();
    let parts = parts.iter().map(|(part, time)| (part.as_str(), time.as_secs_f64()));
    for (part, seconds) in parts.chain([("all", total)]) {
        let share = format!("{:.1} %", 100.0 * seconds / total.max(f64::MIN_POSITIVE));
        table.add_row([part.to_owned(), format!("{:.3}", 1e3 * seconds / steps), share]);
    }
    table
}

/// `401920` as `401,920`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Model, Preset};

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn the_article_s_networks_are_counted() {
        let text = |model, bond: &[usize]| {
            let preset = Preset { model, bond: bond.into(), ..Preset::default() };
            parameters(&preset.stack([1, 28, 28], 10).unwrap()).unwrap().to_string()
        };
        let article = text(Model::Mps, &[1]);
        for number in ["1,856", "401,920", "0.46 %", "269,642", "669,706", "40.26 %"] {
            assert!(article.contains(number), "{number} in\n{article}");
        }
        let all = text(Model::MpsAll, &[1, 2]);
        for number in ["| mps4 ", "32x16 -> 32x16, bond 2", "3,072", "10,058"] {
            assert!(all.contains(number), "{number} in\n{all}");
        }
        // A row for each of seven layers and one for all of them, below a header.
        assert_eq!(all.lines().count(), 2 + 8, "{all}");
    }
}
