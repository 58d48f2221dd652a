//! What was measured, as JSON, CSV, Markdown and a figure.

use std::fmt::Write as _;

use comfy_table::Table;
use plotters::prelude::*;

use super::{Report, Row, Variant};
use crate::report::axis::Axis;
use crate::report::figure::{self, Legend};
use crate::report::table;
use crate::{Error, Result};

/// Size of one panel of the figure, in pixels.
const PANEL: (u32, u32) = (440, 320);

/// Height of the figure's title, in pixels.
const TITLE: u32 = 30;

/// The report as JSON, in the form that the README documents.
///
/// # Errors
///
/// [`Error::Internal`] when it cannot be written, which no report is known to cause.
pub fn json(report: &Report) -> Result<String> {
    let text = serde_json::to_string_pretty(report);
    Ok(text.map_err(|error| Error::internal("writing JSON", error))? + "\n")
}

/// The rows as comma-separated values; cells of a row that failed are empty.
pub fn csv(report: &Report) -> String {
    let mut text = String::from(
        "pass,variant,plan,bond,batch,samples,median_s,min_s,mad_s,gflops,gbps,bound,fraction,error,launches,predicted_s\n",
    );
    for row in &report.rows {
        let plan = quoted(row.plan.as_deref().unwrap_or_default());
        let _ = write!(text, "{},{},{plan},{},{}", row.pass, row.variant, bond(row), row.batch);
        let _ = match &row.figures {
            Some(figures) => {
                let samples = &figures.samples;
                writeln!(
                    text,
                    ",{},{:.9},{:.9},{:.9},{:.4},{:.4},{},{:.4},,{},{}",
                    samples.samples,
                    samples.median_s,
                    samples.min_s,
                    samples.mad_s,
                    figures.gflops,
                    figures.gbps,
                    figures.bound,
                    figures.fraction,
                    figures.launches.map_or_else(String::new, |launches| launches.to_string()),
                    figures.predicted_s.map_or_else(String::new, |time| format!("{time:.9}"))
                )
            }
            None => {
                writeln!(text, ",,,,,,,,,{},,", quoted(row.error.as_deref().unwrap_or_default()))
            }
        };
    }
    text
}

/// The cell of a row's bond.
fn bond(row: &Row) -> String {
    row.bond.map_or_else(String::new, |bond| bond.to_string())
}

/// A cell that may hold commas and quotation marks.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

/// The report as Markdown: the device, its ceilings, the rows.
pub fn markdown(report: &Report) -> String {
    let mut text = format!("Device: {}\n\n{}\n\n", report.device, ceilings(report));
    let _ = writeln!(text, "{}", rows(report, true));
    text
}

/// The ceilings of the device, in one line.
pub fn ceilings(report: &Report) -> String {
    let ceilings = &report.ceilings;
    format!(
        "Ceilings measured here: {:.4} GFLOP/s multiply-add, {:.4} GB/s copy, {} per launch",
        ceilings.gflops,
        ceilings.gbps,
        time(ceilings.launch_s)
    )
}

/// The rows as a table; `plans` adds how the layer was computed.
pub fn rows(report: &Report, plans: bool) -> Table {
    let mut header = vec!["pass", "batch", "bond", "variant"];
    if plans {
        header.push("plan");
    }
    header.extend(["median", "min", "spread", "GFLOP/s", "GB/s", "of bound", "against fused"]);
    let predictions = plans && report.adapter.is_some();
    if predictions {
        header.extend(["launches", "predicted"]);
    }
    let mut table = table::new(&header, true);
    for row in &report.rows {
        let mut cells =
            vec![row.pass.to_string(), row.batch.to_string(), bond(row), row.variant.to_string()];
        if plans {
            cells.push(row.plan.clone().unwrap_or_default());
        }
        match &row.figures {
            Some(figures) => {
                let samples = &figures.samples;
                cells.extend([
                    time(samples.median_s),
                    time(samples.min_s),
                    format!("±{:.0} %", 100.0 * samples.mad_s / samples.median_s),
                    significant(figures.gflops),
                    significant(figures.gbps),
                    format!("{:.0} % {}", 100.0 * figures.fraction, figures.bound),
                    against_fused(report, row),
                ]);
                if predictions {
                    let launches = figures.launches.map(|launches| launches.to_string());
                    let predicted = figures.predicted_s.map(time);
                    cells.extend([launches, predicted].map(Option::unwrap_or_default));
                }
            }
            None => cells.push(format!("failed: {}", row.error.as_deref().unwrap_or_default())),
        }
        table.add_row(cells);
    }
    table
}

/// How many times as long as the fused layer another variant takes.
fn against_fused(report: &Report, row: &Row) -> String {
    let ratio = report
        .fused(row)
        .zip(row.figures)
        .map(|(fused, figures)| figures.samples.median_s / fused.samples.median_s);
    match ratio {
        Some(ratio) if row.variant != Variant::Fused => format!("{ratio:.2}x"),
        _ => String::new(),
    }
}

/// Three significant digits.
fn significant(number: f64) -> String {
    let digits = 2 - number.abs().max(0.01).log10().floor() as i32;
    format!("{number:.*}", digits.max(0) as usize)
}

/// A time with the unit that suits it.
pub fn time(seconds: f64) -> String {
    let (scaled, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", significant(scaled))
}

/// Time against bond, both logarithmic: a panel for each pass and batch, a curve for each variant.
///
/// # Errors
///
/// [`Error::Internal`] when the figure cannot be drawn.
pub fn plot(report: &Report) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, report).map_err(|error| Error::internal("drawing the figure", error))?;
    Ok(svg)
}

fn draw(svg: &mut String, report: &Report) -> Result<(), Box<dyn std::error::Error>> {
    let measured = report.rows.iter().filter(|row| row.figures.is_some());
    let panels = distinct(measured.map(|row| (row.pass, row.batch)));
    let variants = distinct(report.rows.iter().map(|row| row.variant));
    let names: Vec<String> = variants.iter().map(Variant::to_string).collect();

    let (columns, rows) = grid(panels.len());
    let width = PANEL.0 * columns as u32;
    let legend = Legend::new(names.iter().map(String::as_str), width);
    let size = (width, PANEL.1 * rows as u32 + TITLE + legend.height());
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, below) = root.split_vertically(TITLE);
    title.titled(&report.device, ("sans-serif", 16))?;
    let areas = legend.draw(&below)?.split_evenly((rows, columns));
    for (area, &(pass, batch)) in areas.iter().zip(&panels) {
        let curve = |variant: Variant| -> Vec<(f64, f64)> {
            let case = (pass, batch, variant);
            let rows = report.rows.iter().filter(|row| (row.pass, row.batch, row.variant) == case);
            let points = rows.filter_map(|row| {
                let (bond, figures) = row.bond.zip(row.figures)?;
                Some((bond as f64, figures.samples.median_s * 1e3))
            });
            points.collect()
        };
        let curves: Vec<_> = variants.iter().map(|&variant| curve(variant)).collect();
        let points = || curves.iter().flatten().copied();
        // The bonds that were measured are the ticks: there are few.
        let bonds = Axis::logarithmic(points().map(|(bond, _)| bond))
            .with_ticks(distinct(points().map(|(bond, _)| bond)));
        let times = Axis::logarithmic(points().map(|(_, ms)| ms));
        let title = format!("{pass}, batch {batch}");
        let mut chart = figure::chart(area, &title, (bonds, "bond"), (times, "ms"))?;
        for (index, points) in curves.iter().enumerate() {
            figure::curve(&mut chart, index, points, (0, 1))?;
        }
    }
    root.present()?;
    Ok(())
}

/// Columns and rows that hold a number of panels, as near to a square as they can be.
fn grid(panels: usize) -> (usize, usize) {
    let columns = (1..).find(|columns| columns * columns >= panels).unwrap_or(1);
    (columns, panels.div_ceil(columns).max(1))
}

/// The distinct values, in the order of their first occurrence.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::super::ceilings::Ceilings;
    use super::super::count::Bound;
    use super::super::stats::Samples;
    use super::super::workloads::{Pass, Rival};
    use super::super::{FORMAT, Figures};
    use super::*;

    fn report() -> Report {
        let figures = |median_s: f64| Figures {
            samples: Samples {
                samples: 9,
                median_s,
                min_s: median_s / 2.0,
                mad_s: median_s / 10.0,
            },
            gflops: 12.345,
            gbps: 0.5,
            bound: Bound::Compute,
            fraction: 0.25,
            launches: None,
            predicted_s: None,
        };
        let row = |variant, bond, figures: Option<Figures>| Row {
            pass: Pass::Forward,
            variant,
            bond: Some(bond),
            batch: 128,
            plan: (variant == Variant::Fused).then(|| "tiled, C first".into()),
            error: figures.is_none().then(|| "too large, by far".into()),
            figures,
        };
        Report {
            version: FORMAT,
            device: "cpu, 2 threads".into(),
            adapter: None,
            ceilings: Ceilings { gflops: 70.0, gbps: 10.0, launch_s: 2e-5 },
            rows: vec![
                row(Variant::Fused, 1, Some(figures(1e-3))),
                row(Variant::Rival(Rival::Dense), 1, Some(figures(4e-3))),
                row(Variant::Fused, 4, None),
            ],
        }
    }

    #[test]
    fn json_has_the_documented_form() {
        let text = json(&report()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["version"], 1);
        for key in ["device", "adapter", "ceilings"] {
            assert!(value.get(key).is_some(), "{key}");
        }
        let row = &value["rows"][1];
        for (key, expected) in [("pass", "forward"), ("variant", "dense"), ("bound", "compute")] {
            assert_eq!(row[key], expected);
        }
        for key in ["bond", "batch", "samples", "median_s", "min_s", "mad_s", "gflops", "gbps"] {
            assert!(row[key].is_number(), "{key}");
        }
        assert_eq!(row["fraction"], 0.25);
        assert_eq!(value["rows"][2]["error"], "too large, by far");
    }

    #[test]
    fn every_row_of_the_csv_has_every_column() {
        let text = csv(&report());
        let columns: Vec<usize> = text
            .lines()
            // Commas within quotation marks do not count.
            .map(|line| line.split('"').step_by(2).map(|part| part.matches(',').count()).sum())
            .collect();
        assert_eq!(columns, [15; 4], "{text}");
        assert!(text.contains("\"too large, by far\""), "{text}");
    }

    #[test]
    fn the_table_compares_with_the_fused_layer() {
        let text = markdown(&report());
        for part in
            ["cpu, 2 threads", "70.0", "4.00x", "failed: too large", "25 % compute", "1.00 ms"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_figure_has_a_curve_for_each_variant() {
        let svg = plot(&report()).unwrap();
        for part in ["<svg", "forward, batch 128", "fused", "dense"] {
            assert!(svg.contains(part), "{part} is missing");
        }
    }

    #[test]
    fn panels_stand_in_a_grid_that_is_nearly_square() {
        let grids = [0, 1, 2, 3, 4, 5, 7, 12].map(grid);
        assert_eq!(grids, [(1, 1), (1, 1), (2, 1), (2, 2), (2, 2), (3, 2), (3, 3), (4, 3)]);
    }

    #[test]
    fn a_report_without_figures_can_be_drawn() {
        let mut report = report();
        report.rows.retain(|row| row.figures.is_none());
        assert!(plot(&report).unwrap().contains("cpu, 2 threads"));
    }

    #[test]
    fn numbers_have_three_digits() {
        for (number, text) in
            [(0.0123, "0.0123"), (1.2345, "1.23"), (12.345, "12.3"), (1234.5, "1234")]
        {
            assert_eq!(significant(number), text);
        }
        assert_eq!(time(1.5e-6), "1.50 µs");
        assert_eq!(time(0.0123), "12.3 ms");
        assert_eq!(time(75.0), "75.0 s");
    }
}
