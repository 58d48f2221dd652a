//! `confusion.svg`: the confusion matrix, true classes from top to bottom, predicted ones from left to right.

use super::svg::{Anchor, Svg};
use super::{style, text};
use crate::report::table::thousands;

/// From more classes on, cells are without numbers and only some classes are named.
const NUMBERED: usize = 30;

/// Size of the letters, and the widest name in it.
const LETTERS: f64 = 13.0;
const WIDEST: f64 = 11.0;

/// Least distance of two names.
const APART: f64 = 20.0;

/// What the shading says.
const NOTE: [&str; 2] =
    ["The shade of a cell is the square root of", "its share of the images of its true class."];

/// Draws the matrix `counts[true][predicted]`.
pub fn figure(names: &[String], counts: &[Vec<usize>]) -> Svg {
    let classes = names.len();
    let cell = match classes {
        0..=12 => 44.0,
        13..=NUMBERED => 28.0,
        // 10 at first, and a matrix of about 900 from 128 classes on.
        _ => (900.0 / classes as f64).clamp(3.5, 10.0),
    };
    let side = cell * classes as f64;
    let short: Vec<String> = names.iter().map(|name| text::cut(name, WIDEST)).collect();
    let widest = short.iter().map(|name| text::width(name)).fold(0.0, f64::max) * LETTERS;
    // Names of columns rise at 45 degrees: 0.71 of their width upwards, and as much to the right of the last column.
    let rise = 0.71 * widest + 12.0;
    let [left, top] = [34.0 + widest + 8.0, 34.0 + rise];
    // Wide enough for the note.
    let width = (left + side + rise).max(16.0 + 0.5 * LETTERS * NOTE[1].len() as f64);
    let title = format!("Confusion matrix of {classes} classes");
    let mut svg = Svg::new(width, top + side + 52.0, title);
    svg.text([left + side / 2.0, 16.0], Anchor::Middle, "f-ink bold", "predicted class");
    svg.turned([16.0, top + side / 2.0], -90.0, Anchor::Middle, "f-ink bold", "true class");

    let every = (APART / cell).ceil().max(1.0) as usize;
    for (class, name) in short.iter().enumerate().step_by(every) {
        let middle = (class as f64 + 0.5) * cell;
        svg.text([left - 8.0, top + middle], Anchor::End, "f-ink", name);
        svg.turned([left + middle, top - 8.0], -45.0, Anchor::Start, "f-ink", name);
    }
    for (class, row) in counts.iter().enumerate() {
        let support: usize = row.iter().sum();
        for (predicted, &count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
            let corner = [left + predicted as f64 * cell, top + class as f64 * cell];
            let share = (100.0 * (count as f64 / support as f64).sqrt()).round() / 100.0;
            let kind = if class == predicted { "f-right" } else { "f-wrong" };
            let images = thousands(count);
            let tip = format!("{}, predicted {}: {images}", names[class], names[predicted]);
            svg.cell(corner, [cell, cell], share, kind, &text::cut(&tip, 100.0));
            if classes <= NUMBERED {
                number(&mut svg, corner, cell, count, style::on_cell(share));
            }
        }
    }
    grid(&mut svg, [left, top], side, cell);
    for (line, note) in NOTE.iter().enumerate() {
        let y = top + side + 20.0 + 18.0 * line as f64;
        svg.text([8.0, y], Anchor::Start, "f-soft", note);
    }
    svg
}

/// Writes a number into its cell, in letters of the size that fits.
fn number(svg: &mut Svg, [x, y]: [f64; 2], cell: f64, count: usize, class: &str) {
    let text = count.to_string();
    // A digit is about 0.6 of its size wide.
    let fits = (cell - 4.0) / (0.6 * text.len() as f64) >= LETTERS;
    let size = if fits { "" } else { " small" };
    let middle = [x + cell / 2.0, y + cell / 2.0];
    svg.text(middle, Anchor::Middle, &format!("{class}{size}"), &text);
}

/// Draws lines between the cells, or, where these are small, the frame alone.
fn grid(svg: &mut Svg, [left, top]: [f64; 2], side: f64, cell: f64) {
    let lines = (side / cell).round() as usize;
    let step = if lines <= NUMBERED { 1 } else { lines };
    for line in (0..=lines).step_by(step.max(1)) {
        let at = line as f64 * cell;
        svg.line([left + at, top], [left + at, top + side], "l-line");
        svg.line([left, top + at], [left + side, top + at], "l-line");
    }
}
