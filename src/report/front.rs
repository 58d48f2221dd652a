//! `front.svg`: accuracy by parameters and by latency, each network a point with the spread of its runs, and the front of
//! those that no other beats.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::axis::Axis;
use super::figure;
use crate::{Error, Result};

/// Width and height without the names below, in pixels.
const SIZE: (u32, u32) = (960, 420);

/// Height of a name's line and size of its text, in pixels; names stand in this many columns.
const LINE: u32 = 18;
const TEXT: u32 = 13;
const COLUMNS: usize = 2;

/// Most points of a front that have a number; more would cover each other.
const MOST_NUMBERS: usize = 24;

/// One network of the figure.
#[derive(Debug, Clone)]
pub struct Dot {
    /// Its name.
    pub name: String,
    /// What it costs: parameters, and microseconds.
    pub costs: [f64; 2],
    /// Mean accuracy, and the standard deviation over its runs.
    pub accuracy: [f64; 2],
}

/// Draws accuracy by either cost, side by side, and returns the SVG. `fronts` are the points of each chart that no other
/// beats, in the order of their costs: they are joined, numbered, and named below.
///
/// # Errors
///
/// [`Error::Internal`] when the figure cannot be drawn.
pub fn svg(title: &str, costs: [&str; 2], dots: &[Dot], fronts: [&[usize]; 2]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, costs, dots, fronts)
        .map_err(|error| Error::internal("drawing the front", error))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    costs: [&str; 2],
    dots: &[Dot],
    fronts: [&[usize]; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    // In the order of the first chart, then those that are on the second front alone.
    let mut numbered: Vec<usize> = fronts[0].to_vec();
    numbered.extend(fronts[1].iter().filter(|at| !fronts[0].contains(at)));
    numbered.truncate(MOST_NUMBERS);

    let lines = numbered.len().div_ceil(COLUMNS) as u32;
    let size = (SIZE.0, SIZE.1 + lines * LINE + 8);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (charts, names) = root.split_vertically(SIZE.1);
    let charts = charts.titled(title, ("sans-serif", 18))?;
    for (chart, area) in charts.split_evenly((1, 2)).iter().enumerate() {
        draw_chart(area, costs[chart], dots, chart, fronts[chart], &numbered)?;
    }
    for (number, &at) in numbered.iter().enumerate() {
        let (column, line) = (number / lines as usize, number % lines as usize);
        let x = 56 + column as i32 * (SIZE.0 as i32 - 56) / COLUMNS as i32;
        let text = format!("{}  {}", number + 1, dots[at].name);
        names.draw(&Text::new(
            text,
            (x, line as i32 * LINE as i32),
            ("sans-serif", TEXT).into_font(),
        ))?;
    }
    root.present()?;
    Ok(())
}

fn draw_chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    name: &str,
    dots: &[Dot],
    chart: usize,
    front: &[usize],
    numbered: &[usize],
) -> Result<(), Box<dyn std::error::Error>> {
    let seen = |dot: &&Dot| dot.costs[chart] > 0.0 && dot.accuracy[0].is_finite();
    let ends = dots.iter().filter(seen).flat_map(|dot| {
        let [mean, sd] = dot.accuracy;
        [mean - sd, mean + sd]
    });
    let y = Axis::fit(ends, [0.0, 1.0]);
    let x = Axis::logarithmic(dots.iter().filter(seen).map(|dot| dot.costs[chart]));
    let mut context = figure::chart(area, "", (x, name), (y, "test accuracy"))?;
    let joined = front.iter().map(|&at| (dots[at].costs[chart], dots[at].accuracy[0]));
    context.draw_series(LineSeries::new(joined, figure::color(0).stroke_width(2)))?;
    for (at, dot) in dots.iter().enumerate().filter(|(_, dot)| seen(dot)) {
        let (cost, [mean, sd]) = (dot.costs[chart], dot.accuracy);
        let color = figure::color(if front.contains(&at) { 0 } else { 1 });
        let spread = [(cost, mean - sd), (cost, mean + sd)];
        context.draw_series([PathElement::new(spread, color.stroke_width(1))])?;
        let point = EmptyElement::at((cost, mean));
        context.draw_series([point + Circle::new((0, 0), 4, color.filled())])?;
        if let Some(number) = numbered.iter().position(|&other| other == at) {
            let number = (number + 1).to_string();
            let text = Text::new(number, (6, -16), ("sans-serif", TEXT).into_font());
            context.draw_series([EmptyElement::at((cost, mean)) + text])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_numbered_and_named() {
        let dot = |name: &str, costs: [f64; 2], accuracy: f64| Dot {
            name: name.into(),
            costs,
            accuracy: [accuracy, 0.01],
        };
        let dots = [
            dot("small <a>", [1e3, 30.0], 0.8),
            dot("beaten", [2e3, 40.0], 0.7),
            dot("large", [4e3, 20.0], 0.9),
            dot("failed", [8e3, 10.0], f64::NAN),
        ];
        let svg = svg("title", ["parameters", "latency"], &dots, [&[0, 2], &[2]]).unwrap();
        for text in
            ["title", "parameters", "latency", "1  small &lt;a&gt;", "2  large", "test accuracy"]
        {
            assert!(svg.contains(text), "{text} is missing: {svg}");
        }
        assert!(!svg.contains("beaten") && !svg.contains("failed") && !svg.contains("NaN"));
        // Three points that are seen in each chart.
        assert_eq!(svg.matches("<circle").count(), 6);
        super::svg("nothing", ["a", "b"], &[], [&[], &[]]).unwrap();
    }
}
