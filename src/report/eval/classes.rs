//! `classes.svg`: precision, recall and F1 of each class, and their averages.

use super::plot::{self, Plot};
use super::svg::{Anchor, Svg};
use super::text;
use crate::report::axis::Axis;
use crate::report::classification::{Classification, Scores};
use crate::report::table::thousands;

/// Height of a line.
const LINE: f64 = 22.0;

/// Width of the plot, and of what is to its right.
const PLOT: f64 = 290.0;
const RIGHT: f64 = 66.0;

/// Size of the letters, and the widest name in it.
const LETTERS: f64 = 13.0;
const WIDEST: f64 = 11.0;

/// Draws a line for each class, and below one for each average.
pub fn figure(names: &[String], found: &Classification) -> Svg {
    let averages = [
        ("macro average", &found.averages.macro_average),
        ("weighted average", &found.averages.weighted),
    ];
    let of_classes = names.iter().map(String::as_str).zip(&found.classes);
    let lines: Vec<(String, &Scores)> = of_classes
        .chain(averages)
        .map(|(name, scores)| (text::cut(name, WIDEST), scores))
        .collect();
    let widest = lines.iter().map(|(name, _)| text::width(name)).fold(0.0, f64::max) * LETTERS;
    let [left, top] = [16.0 + widest, 62.0];
    let height = LINE * lines.len() as f64;
    let title = "Precision, recall and F1 of each class";
    let mut svg = Svg::new(left + PLOT + RIGHT, top + height + 26.0, title);
    let scores = lines.iter().flat_map(|(_, one)| [one.precision, one.recall, one.f1]);
    let x = Axis::fit(scores, [0.0, 1.0]);
    let plot = Plot { corner: [left, top], size: [PLOT, height], x, y: Axis::fit([], [0.0, 1.0]) };
    plot.draw_x(&mut svg, "");
    let entries = [("precision", "first"), ("recall", "second"), ("F1", "third")];
    plot::legend(&mut svg, [left, 16.0], &entries);
    svg.text([left + PLOT + RIGHT - 8.0, 44.0], Anchor::End, "f-soft", "images");
    svg.line(
        [left, top + LINE * names.len() as f64],
        [left + PLOT, top + LINE * names.len() as f64],
        "l-soft",
    );
    for (number, (name, scores)) in lines.iter().enumerate() {
        let y = top + (number as f64 + 0.5) * LINE;
        svg.text([left - 8.0, y], Anchor::End, "f-ink", name);
        let values = [scores.precision, scores.recall, scores.f1];
        let places = values.map(|value| plot.at(value, 0.0)[0]);
        let least = places.iter().copied().fold(f64::INFINITY, f64::min);
        let most = places.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        svg.line([least, y], [most, y], "l-soft");
        for (marker, (x, (_, class))) in places.into_iter().zip(entries).enumerate() {
            svg.marker([x, y], marker, &format!("f-{class}"));
        }
        let images = thousands(scores.support);
        svg.text([left + PLOT + RIGHT - 8.0, y], Anchor::End, "f-soft", &images);
    }
    svg
}
