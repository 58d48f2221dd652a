//! `report.html`: everything on one page, which loads nothing and runs nothing.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::classification::{Mistake, Scores};
use super::super::table::thousands;
use super::text::{cut, escape};
use super::{EvalReport, classes, confusion, curves, mistakes, picture, reliability, style};
use crate::Result;
use crate::text::shown;

/// Names longer than this, in widths of a letter's size, are cut on the page and whole under the pointer.
const WIDEST: f64 = 30.0;

/// More classes than this scroll in a box of their own.
const TALL: usize = 30;

/// What the page may load: the images that it holds itself. A name that were taken for markup could load nothing.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// The page.
///
/// # Errors
///
/// [`crate::Error::Internal`] when an image cannot be encoded.
pub fn page(report: &EvalReport) -> Result<String> {
    let title = format!("Evaluation of {}", escape(&shown(report.model)));
    let style = [style::variables(), style::figures(), include_str!("page.css").to_owned()];
    let sections = [
        header(report, &title),
        figures(report),
        section("Confusion matrix", &scroll("Confusion matrix", "", &matrix(report))),
        section("Classes", &of_classes(report)),
        section("Worst mistakes", &worst(report)?),
        section("Parameters", &scroll("Parameters", "", &parameters(report))),
    ];
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{title}</title>\n\
         <style>\n{}\n</style>\n</head>\n<body>\n{}</body>\n</html>\n",
        style.join("\n"),
        sections.concat()
    ))
}

fn section(heading: &str, content: &str) -> String {
    format!("<section>\n<h2>{heading}</h2>\n{content}</section>\n")
}

/// A box of its own for what may be wider, or higher, than the page has room for; the keyboard can scroll it too.
fn scroll(label: &str, class: &str, content: &str) -> String {
    format!(
        "<div class=\"scroll {class}\" role=\"region\" aria-label=\"{label}\" tabindex=\"0\">\n{content}</div>\n"
    )
}

/// A name of a class, kept apart from what is around it, whichever way it is written.
fn name(name: &str) -> String {
    let short = cut(name, WIDEST);
    let whole = if short == name { String::new() } else { format!(" title=\"{}\"", escape(name)) };
    format!("<bdi{whole}>{}</bdi>", escape(&short))
}

fn header(report: &EvalReport, title: &str) -> String {
    let found = &report.classification;
    let after = report.epoch.map_or_else(String::new, |epoch| format!(", after epoch {epoch}"));
    let [channels, height, width] = report.set.shape;
    let channels = if channels == 1 { String::new() } else { format!(" x {channels}") };
    let data = escape(&shown(report.data));
    let other = match report.own_data {
        Some(false) => " Not the test images of the network's own data set.",
        _ => "",
    };
    let parameters = report.parameters.last().map_or(0, |row| row.parameters);
    let numbers = [
        ("test accuracy", format!("{:.4}", report.accuracy)),
        ("test loss", format!("{:.4}", report.loss)),
        ("macro average of F1", format!("{:.4}", found.averages.macro_average.f1)),
        ("calibration error", format!("{:.4}", found.ece)),
        ("mistakes", thousands(found.mistakes.len())),
        ("parameters", thousands(parameters)),
    ];
    let numbers =
        numbers.map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"));
    format!(
        "<header>\n<h1>{title}</h1>\n<p class=\"soft\">tnet-gpu {}{after}. {} test images of {height} x {width}{channels} \
         pixels in {} classes, from {data}.{other}</p>\n<dl class=\"numbers\">\n{}</dl>\n</header>\n",
        env!("CARGO_PKG_VERSION"),
        thousands(found.images),
        report.names.len(),
        numbers.concat()
    )
}

/// Curves, where there are some, and the reliability diagram beside them.
fn figures(report: &EvalReport) -> String {
    let mut sections = String::new();
    if let Some(of_epochs) = &report.curves {
        let figure = curves::figure(of_epochs, report.epoch).inline();
        sections +=
            &section("Accuracy by epoch", &format!("<div class=\"fit\">\n{figure}</div>\n"));
    }
    let note = "<p class=\"soft\">Bars: of the answers with a probability in this range, the fraction that is right. Dots: \
                the same at their mean probability; on the dashed line a network is as often right as it says.</p>\n";
    let figure = reliability::figure(&report.classification).inline();
    let content = format!("<div class=\"fit\">\n{figure}</div>\n{note}");
    sections += &section("Reliability", &content);
    format!("<div class=\"pair\">\n{sections}</div>\n")
}

fn matrix(report: &EvalReport) -> String {
    confusion::figure(report.names, &report.classification.confusion).inline()
}

fn of_classes(report: &EvalReport) -> String {
    let tall = if report.names.len() > TALL { "tall" } else { "" };
    let table = scroll("Scores of each class", tall, &class_table(report));
    let figure = classes::figure(report.names, &report.classification).inline();
    let figure = scroll("Figure of the scores", &format!("shrinks {tall}"), &figure);
    format!("<div class=\"pair\">\n{table}{figure}</div>\n")
}

fn class_table(report: &EvalReport) -> String {
    let found = &report.classification;
    let row = |name: &str, scores: &Scores| {
        let Scores { precision, recall, f1, support } = scores;
        format!(
            "<tr><th scope=\"row\">{name}</th><td>{precision:.4}</td><td>{recall:.4}</td><td>{f1:.4}</td><td>{}</td></tr>\n",
            thousands(*support)
        )
    };
    let names = report.names.iter();
    let rows = names.zip(&found.classes).map(|(of_class, scores)| row(&name(of_class), scores));
    format!(
        "<table>\n<thead><tr><th scope=\"col\">class</th><th scope=\"col\">precision</th><th scope=\"col\">recall</th>\
         <th scope=\"col\">F1</th><th scope=\"col\">images</th></tr></thead>\n<tbody>\n{}</tbody>\n<tfoot>\n\
         <tr><th scope=\"row\">accuracy</th><td></td><td></td><td>{:.4}</td><td>{}</td></tr>\n{}{}</tfoot>\n</table>\n",
        rows.collect::<String>(),
        found.accuracy,
        thousands(found.images),
        row("macro average", &found.averages.macro_average),
        row("weighted average", &found.averages.weighted)
    )
}

fn worst(report: &EvalReport) -> Result<String> {
    let all = &report.classification.mistakes;
    let shown = &all[..all.len().min(mistakes::SHOWN)];
    if shown.is_empty() {
        return Ok("<p>No image was taken for another class.</p>\n".into());
    }
    let mut figures = String::new();
    for mistake in shown {
        let Mistake { image, class, predicted, probability } = *mistake;
        let data = STANDARD.encode(picture::png(&picture::of(report.set, image))?);
        let [class, predicted] = [class, predicted].map(|class| name(&report.names[class]));
        let which = match report.files.get(image) {
            // Within the data set, whose folder is told above.
            Some(file) => {
                let file = crate::text::shown(file.strip_prefix(report.data).unwrap_or(file));
                format!("<bdi>{}</bdi>", escape(&file))
            }
            None => format!("image {image}"),
        };
        // Infallible: a String takes everything.
        let _ = writeln!(
            figures,
            "<figure><img alt=\"test image {image}\" src=\"data:image/png;base64,{data}\"/><figcaption>\
             <span class=\"soft\">true</span> {class}<br/><span class=\"soft\">predicted</span> {predicted}<br/>\
             <span class=\"soft\">probability</span> {probability:.4}<br/><span class=\"soft\">{which}</span>\
             </figcaption></figure>"
        );
    }
    Ok(format!(
        "<p class=\"soft\">{} of {} wrong answers, those with the highest probability.</p>\n\
         <div class=\"mistakes\">\n{figures}</div>\n",
        shown.len(),
        thousands(all.len())
    ))
}

fn parameters(report: &EvalReport) -> String {
    let rows = report.parameters.iter().map(|row| {
        let [own, dense] = [row.parameters, row.dense_parameters].map(thousands);
        let [layer, summary] = [&row.layer, &row.summary].map(|text| escape(text));
        format!(
            "<tr><th scope=\"row\">{layer}</th><td class=\"words\">{summary}</td><td>{own}</td><td>{dense}</td><td>{}</td></tr>\n",
            row.of_dense()
        )
    });
    format!(
        "<table>\n<thead><tr><th scope=\"col\">layer</th><th scope=\"col\" class=\"words\">extents</th>\
         <th scope=\"col\">parameters</th><th scope=\"col\">dense</th><th scope=\"col\">of dense</th></tr></thead>\n\
         <tbody>\n{}</tbody>\n</table>\n",
        rows.collect::<String>()
    )
}
