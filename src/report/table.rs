//! Tables for the terminal.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use crate::Result;
use crate::model::{ClassifierConfig, FirstLayer};

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

/// Numbers of parameters of the first layer and of the whole network, compared with the same network with
/// a dense first layer.
///
/// # Errors
///
/// [`crate::Error::Argument`] for an impossible network.
pub fn parameters(classifier: &ClassifierConfig) -> Result<Table> {
    let own = classifier.parameters()?;
    let dense = ClassifierConfig { model: FirstLayer::Dense, ..*classifier }.parameters()?;
    let mut table = new(&["parameters", "this network", "dense", "of dense"], true);
    for (name, own, dense) in
        [("first layer", own.first, dense.first), ("whole network", own.total, dense.total)]
    {
        let share = format!("{:.2} %", 100.0 * own as f64 / dense as f64);
        table.add_row([name.to_owned(), thousands(own), thousands(dense), share]);
    }
    Ok(table)
}

/// Where the time of a training step goes: `parts` has the total time of each part over all `steps`.
pub fn profile(steps: usize, parts: &[(&str, Duration)]) -> Table {
    let steps = steps.max(1) as f64;
    let mut table = new(&["part of a step", "ms", "share"], true);
    let total: f64 = parts.iter().map(|(_, time)| time.as_secs_f64()).sum();
    let parts = parts.iter().map(|(part, time)| (*part, time.as_secs_f64()));
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
    use crate::mps::MpsInit;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn the_article_s_networks_are_counted() {
        let classifier = ClassifierConfig {
            model: FirstLayer::Mps,
            in_factors: [28, 28],
            out_factors: [32, 16],
            bond: 1,
            init: MpsInit::He,
            classes: 10,
        };
        let text = parameters(&classifier).unwrap().to_string();
        for number in ["1,856", "401,920", "0.46 %", "269,642", "669,706", "40.26 %"] {
            assert!(text.contains(number), "{number} in\n{text}");
        }
    }
}
