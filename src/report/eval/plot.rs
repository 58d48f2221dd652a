//! The part of a figure that has two axes: grid, ticks and names, and where a point lies.

use super::super::axis::Axis;
use super::svg::{Anchor, Svg};
use super::text;

/// Size of the letters, and least distance of two labels of a horizontal axis.
const LETTERS: f64 = 13.0;
const LABELS_APART: f64 = 8.0;

/// A rectangle between two axes.
#[derive(Debug)]
pub struct Plot {
    /// Its upper left corner.
    pub corner: [f64; 2],
    /// Width and height.
    pub size: [f64; 2],
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
}

impl Plot {
    /// The place of a point.
    pub fn at(&self, x: f64, y: f64) -> [f64; 2] {
        let [left, top] = self.corner;
        let [width, height] = self.size;
        [left + self.x.share(x) * width, top + (1.0 - self.y.share(y)) * height]
    }

    /// Draws the grid, the ticks of the horizontal axis below it, and its name.
    pub fn draw_x(&self, svg: &mut Svg, name: &str) {
        let [left, top] = self.corner;
        let [width, height] = self.size;
        let bottom = top + height;
        let ticks: Vec<(f64, String)> = self.x.ticks().collect();
        let widest = ticks.iter().map(|(_, label)| text::width(label)).fold(0.0, f64::max);
        // Every second, third, … tick has a label where there is no room for more.
        let room = width / (LETTERS * widest + LABELS_APART);
        let every = (ticks.len() as f64 / room.max(1.0)).ceil().max(1.0) as usize;
        for (number, (tick, label)) in ticks.iter().enumerate() {
            let x = left + self.x.share(*tick) * width;
            svg.line([x, top], [x, bottom], "l-line");
            if number % every == 0 {
                svg.text([x, bottom + 12.0], Anchor::Middle, "f-soft", label);
            }
        }
        svg.text([left + width / 2.0, bottom + 31.0], Anchor::Middle, "f-ink", name);
    }

    /// Draws the grid, the ticks of the vertical axis beside it, and its name `gap` pixels to the left.
    pub fn draw_y(&self, svg: &mut Svg, name: &str, gap: f64) {
        let [left, top] = self.corner;
        let [width, height] = self.size;
        for (tick, label) in self.y.ticks() {
            let y = top + (1.0 - self.y.share(tick)) * height;
            svg.line([left, y], [left + width, y], "l-line");
            svg.text([left - 7.0, y], Anchor::End, "f-soft", &label);
        }
        svg.turned([left - gap, top + height / 2.0], -90.0, Anchor::Middle, "f-ink", name);
    }
}

/// Draws a legend in one line from a point on: a marker and a name for each class of lines.
pub fn legend(svg: &mut Svg, [mut x, y]: [f64; 2], entries: &[(&str, &str)]) {
    for (number, (name, class)) in entries.iter().enumerate() {
        svg.marker([x + 6.0, y], number, &format!("f-{class}"));
        svg.text([x + 17.0, y], Anchor::Start, "f-ink", name);
        x += 17.0 + LETTERS * text::width(name) + 16.0;
    }
}
