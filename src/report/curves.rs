//! `curves.svg`: training and test accuracy by epoch, as in the article's figure.

use plotters::prelude::*;

use super::axis::Axis;
use super::figure::{self, Legend};
use crate::{Error, Result};

/// Width and height of a figure without its legend, in pixels.
const SIZE: (u32, u32) = (720, 440);

/// The accuracy that the article's networks reach on Fashion-MNIST.
const MARK: f64 = 0.9;

/// Most markers of a curve.
const MARKERS: usize = 10;

/// One curve of a figure.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Accuracy after each epoch, from epoch 1.
    pub accuracy: Vec<f64>,
}

/// Draws accuracy by epoch and returns the SVG. The axes fit the curves; a dashed line is at 0.9 where
/// that is among the accuracies shown.
///
/// # Errors
///
/// [`Error::Internal`] when the figure cannot be drawn.
pub fn accuracy(title: &str, curves: &[Curve]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, curves).map_err(|error| Error::internal("drawing the curves", error))?;
    Ok(svg)
}

fn draw(svg: &mut String, title: &str, curves: &[Curve]) -> Result<(), Box<dyn std::error::Error>> {
    let epochs = curves.iter().map(|curve| curve.accuracy.len()).max().unwrap_or_default().max(2);
    let x = Axis::counting(epochs);
    let y = Axis::fit(curves.iter().flat_map(|curve| curve.accuracy.iter().copied()), [0.0, 1.0]);
    let mark = y.contains(MARK).then_some([(1.0, MARK), (epochs as f64, MARK)]);

    let legend = Legend::new(curves.iter().map(|curve| curve.name.as_str()), SIZE.0);
    let size = (SIZE.0, SIZE.1 + legend.height());
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let root = legend.draw(&root.titled(title, ("sans-serif", 18))?)?;
    let mut chart = figure::chart(&root, "", (x, "epoch"), (y, "accuracy"))?;
    if let Some(mark) = mark {
        chart.draw_series(DashedLineSeries::new(mark, 6, 5, BLACK.mix(0.7).stroke_width(1)))?;
    }
    // A marker at every few epochs, so that the line between them is still seen; those of the second
    // curve are beside those of the first.
    let every = epochs.div_ceil(MARKERS);
    for (index, curve) in curves.iter().enumerate() {
        let points = curve.accuracy.iter().enumerate();
        let points: Vec<(f64, f64)> =
            points.map(|(at, &accuracy)| ((at + 1) as f64, accuracy)).collect();
        figure::curve(&mut chart, index, &points, (index * every / curves.len(), every))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(name: &str, accuracy: &[f64]) -> Curve {
        Curve { name: name.into(), accuracy: accuracy.into() }
    }

    #[test]
    fn a_figure_names_its_curves_and_has_a_line_for_each() {
        let curves = [curve("train", &[0.71, 0.84, 0.86]), curve("test <3>", &[0.8, 0.85, 0.87])];
        let svg = accuracy("MPS, bond 1", &curves).unwrap();
        for text in ["MPS, bond 1", "train", "test &lt;3&gt;", "epoch", "accuracy", "0.70", "0.90"]
        {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(!svg.contains("1.00"), "the axis goes beyond the curves");
        // Two curves of three points; the grid's and the dashed line's pieces have two.
        let lines = svg.match_indices("<polyline").filter(|(at, _)| {
            let points =
                svg[*at..].split("points=\"").nth(1).and_then(|rest| rest.split('"').next());
            points.is_some_and(|points| points.split_whitespace().count() == 3)
        });
        assert_eq!(lines.count(), 2, "{svg}");
    }

    #[test]
    fn the_mark_is_drawn_only_where_the_curves_come_near_it() {
        let lines = |accuracies: &[f64]| {
            let svg = accuracy("", &[curve("test", accuracies)]).unwrap();
            svg.matches("<polyline").count()
        };
        // The same axes but for the mark's dashes.
        assert!(lines(&[0.86, 0.91]) > lines(&[0.76, 0.81]) + 10);
    }

    #[test]
    fn one_epoch_and_no_epoch_can_be_drawn() {
        assert!(accuracy("one", &[curve("train", &[0.5])]).unwrap().contains("<circle"));
        accuracy("none", &[curve("train", &[])]).unwrap();
    }
}
