//! `report.md`: what a study found, in sentences and a table.

use std::fmt::Write;

use super::front::{Choice, Summary, choose};
use super::row::{Outcome, Row};
use crate::report::table::thousands;

/// How the figures were measured, besides what the rows tell.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// The device, in words.
    pub device: &'a str,
    /// Most parameters of the network that is looked for.
    pub budget: Option<usize>,
    /// Runs that are not over.
    pub missing: usize,
}

/// The sentence that says which network to take, and why.
pub fn sentence(summaries: &[Summary], budget: Option<usize>) -> String {
    let within = budget.map_or_else(String::new, |budget| {
        format!(" with at most {} parameters", thousands(budget))
    });
    let Some(Choice { taken, best }) = choose(summaries, budget) else {
        return format!("No network{within} has finished a run.");
    };
    let accuracy = |summary: &Summary| summary.validation_accuracy.text(4);
    let test = taken.test_accuracy.text(4);
    let (title, parameters) = (taken.point.title(), thousands(taken.parameters));
    if taken.point == best.point {
        return format!(
            "Take {title} ({parameters} parameters): of the networks{within} it is the best on the held-out images ({}), \
             and none that is smaller is within one standard error of it. Test accuracy: {test}.",
            accuracy(taken)
        );
    }
    let less = 100.0 * (1.0 - taken.parameters as f64 / best.parameters as f64);
    format!(
        "Take {title} ({parameters} parameters): of the networks{within} {} is the best on the held-out images ({}), but \
         this one ({}) is within one standard error of it with {less:.0} % fewer parameters. Test accuracy: {test}.",
        best.point.title(),
        accuracy(best),
        accuracy(taken)
    )
}

/// The file.
pub fn markdown(rows: &[Row], summaries: &[Summary], conditions: Conditions) -> String {
    let Conditions { device, budget, missing } = conditions;
    let mut text = format!("# Sweep\n\n{}\n\n", sentence(summaries, budget));
    if missing > 0 {
        // Infallible, as below: a String takes everything.
        let plural = if missing == 1 { "run is" } else { "runs are" };
        let _ = writeln!(text, "{missing} {plural} not over yet.\n");
    }
    text += "![Accuracy by parameters and by latency](front.svg)\n\n";
    text += "| network | parameters | multiply-adds | held-out accuracy | test accuracy | step (µs) | one image (µs) |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|\n";
    for summary in summaries {
        let [parameters, work] = [summary.parameters, summary.multiply_adds].map(thousands);
        let [validation, test, step, latency] = summary.texts();
        let title = summary.point.title().replace('|', "\\|");
        let _ = writeln!(
            text,
            "| {title} | {parameters} | {work} | {validation} | {test} | {step} | {latency} |"
        );
    }
    let _ = write!(
        text,
        "\nMean ± standard deviation over the seeds. The epoch of each run was chosen on its held-out images, on which \
         also the network is chosen; the test images influence no choice. Times on {device}.\n"
    );
    let failed = rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Failed(problem) => {
            Some(format!("- {}, seed {}: {problem}\n", row.point.title(), row.seed))
        }
        Outcome::Finished(_) => None,
    });
    let failed: String = failed.collect();
    if !failed.is_empty() {
        text += "\nFailed runs:\n\n";
        text += &failed;
    }
    text
}
