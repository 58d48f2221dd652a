//! What all figures have in common: charts with fitted axes, curves that are told apart by a colour and
//! by a marker, and a legend that stands above the charts, never over a curve.

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::element::DynElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;

/// The palette of M. Okabe and K. Ito, whose colours stay distinct for colour-blind readers, without
/// its yellow, which is too pale for a line on white.
const COLORS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x00, 0x00),
];

/// Outlines of the markers after the circle, around their point, in pixels.
const MARKERS: [&[(i32, i32)]; 6] = [
    // Square, triangle up, diamond, triangle down, plus, hourglass.
    &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
    &[(0, -5), (5, 4), (-5, 4)],
    &[(0, -6), (6, 0), (0, 6), (-6, 0)],
    &[(0, 5), (5, -4), (-5, -4)],
    &[
        (-2, -5),
        (2, -5),
        (2, -2),
        (5, -2),
        (5, 2),
        (2, 2),
        (2, 5),
        (-2, 5),
        (-2, 2),
        (-5, 2),
        (-5, -2),
        (-2, -2),
    ],
    &[(-5, -5), (5, -5), (-5, 5), (5, 5)],
];

/// Height of a legend's line and size of its text, in pixels.
const LEGEND_LINE: u32 = 20;
const LEGEND_TEXT: u32 = 14;

/// Length of the piece of a curve before its name in a legend, in pixels.
const LEGEND_CURVE: i32 = 28;

/// What drawing on a backend can fail with.
type Fault<DB> = DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>;

/// A chart with its axes and their names, on which curves can be drawn.
pub type Chart<'a, DB> = ChartContext<'a, DB, Cartesian2d<Axis, Axis>>;

/// Draws the axes of a chart that fills an area; a title may be empty.
///
/// # Errors
///
/// The backend's.
pub fn chart<'a, DB: DrawingBackend + 'a>(
    area: &'a DrawingArea<DB, Shift>,
    title: &str,
    (x, x_name): (Axis, &str),
    (y, y_name): (Axis, &str),
) -> Result<Chart<'a, DB>, Fault<DB>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(8).margin_right(16).x_label_area_size(38).y_label_area_size(56);
    if !title.is_empty() {
        builder.caption(title, ("sans-serif", 15));
    }
    let mut chart = builder.build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc(x_name)
        .y_desc(y_name)
        .label_style(("sans-serif", 13))
        .draw()?;
    Ok(chart)
}

/// Draws the curve with this index, with a marker at every `every`-th point from `first` on.
///
/// # Errors
///
/// The backend's.
pub fn curve<DB: DrawingBackend>(
    chart: &mut Chart<'_, DB>,
    index: usize,
    points: &[(f64, f64)],
    (first, every): (usize, usize),
) -> Result<(), Fault<DB>> {
    let marked = points.iter().skip(first).step_by(every);
    chart.draw_series(marked.map(|&point| EmptyElement::at(point) + marker(index)))?;
    let line = LineSeries::new(points.iter().copied(), color(index).stroke_width(2));
    chart.draw_series(line)?;
    Ok(())
}

/// The colour of the curve with this index; they repeat after the last.
pub fn color(index: usize) -> RGBColor {
    COLORS[index % COLORS.len()]
}

/// The marker of the curve with this index, around the pixel `(0, 0)` of whatever it is added to.
fn marker<DB: DrawingBackend>(index: usize) -> DynElement<'static, DB, (i32, i32)> {
    let style = color(index).filled();
    match (index % COLORS.len()).checked_sub(1) {
        None => Circle::new((0, 0), 4, style).into_dyn(),
        Some(at) => Polygon::new(MARKERS[at].to_vec(), style).into_dyn(),
    }
}

/// The entries of a legend, laid out in lines that are not wider than a figure.
#[derive(Debug)]
pub struct Legend<'a> {
    lines: Vec<Vec<&'a str>>,
}

impl<'a> Legend<'a> {
    /// Lays out `names` in a figure of this width.
    pub fn new(names: impl IntoIterator<Item = &'a str>, width: u32) -> Self {
        let mut lines: Vec<Vec<&str>> = Vec::new();
        for name in names {
            match lines.last_mut() {
                Some(line) if width_of(line) + entry_width(name) <= width as i32 => line.push(name),
                _ => lines.push(vec![name]),
            }
        }
        Self { lines }
    }

    /// Its height in pixels.
    pub fn height(&self) -> u32 {
        self.lines.len() as u32 * LEGEND_LINE
    }

    /// Draws it at the top of an area, each line in the middle, and returns what is left below.
    ///
    /// # Errors
    ///
    /// The backend's.
    pub fn draw<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
    ) -> Result<DrawingArea<DB, Shift>, Fault<DB>> {
        let (own, below) = area.split_vertically(self.height() as i32);
        let width = own.dim_in_pixel().0 as i32;
        let anchor = Pos::new(HPos::Left, VPos::Center);
        let text = ("sans-serif", LEGEND_TEXT).into_font().color(&BLACK).pos(anchor);
        let mut index = 0;
        for (line, names) in self.lines.iter().enumerate() {
            let y = line as i32 * LEGEND_LINE as i32 + LEGEND_LINE as i32 / 2;
            let mut x = (width - width_of(names)) / 2;
            for name in names {
                let curve = [(x, y), (x + LEGEND_CURVE, y)];
                own.draw(&PathElement::new(curve, color(index).stroke_width(2)))?;
                own.draw(&(EmptyElement::at((x + LEGEND_CURVE / 2, y)) + marker(index)))?;
                own.draw(&Text::new(*name, (x + LEGEND_CURVE + 6, y), text.clone()))?;
                x += entry_width(name);
                index += 1;
            }
        }
        Ok(below)
    }
}

/// The width of an entry, with the gap to the next one. The font is the reader's, so a letter's width is
/// a guess, and a generous one.
fn entry_width(name: &str) -> i32 {
    LEGEND_CURVE + 6 + name.chars().count() as i32 * LEGEND_TEXT as i32 * 11 / 20 + 18
}

fn width_of(line: &[&str]) -> i32 {
    line.iter().map(|name| entry_width(name)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_okabe_and_ito_and_repeat() {
        assert_eq!(color(0), RGBColor(0, 114, 178));
        assert_eq!(color(COLORS.len()), color(0));
        assert_eq!(MARKERS.len() + 1, COLORS.len());
    }

    #[test]
    fn a_legend_breaks_where_the_figure_ends() {
        assert_eq!(Legend::new(["train", "test"], 400).height(), LEGEND_LINE);
        assert_eq!(Legend::new(["train", "test"], 100).height(), 2 * LEGEND_LINE);
        assert_eq!(Legend::new([], 400).height(), 0);
        let names = ["a rather long name of a network"; 9];
        let legend = Legend::new(names, 720);
        assert!(legend.lines.iter().all(|line| width_of(line) <= 720));
        assert_eq!(legend.lines.concat(), names);
    }
}
