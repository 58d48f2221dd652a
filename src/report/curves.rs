//! `curves.svg`: training and test accuracy by epoch, as in the article's figure.

use plotters::prelude::*;

use crate::{Error, Result};

/// Width and height of a figure, in pixels.
const SIZE: (u32, u32) = (720, 440);

/// The article's mark: the accuracy that its networks reach on Fashion-MNIST.
const MARK: f64 = 0.9;

/// One curve of a figure.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Accuracy after each epoch, from epoch 1.
    pub accuracy: Vec<f64>,
}

/// Draws accuracy by epoch, with a dashed line at 0.9, and returns the SVG.
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
    let lowest = curves.iter().flat_map(|curve| &curve.accuracy).copied().fold(MARK, f64::min);
    // From the next lower twentieth to 1, so that most of the height shows what differs.
    let bottom = (lowest * 20.0).floor() / 20.0;

    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(1.0..epochs as f64, bottom..1.0)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_labels(11)
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        .x_desc("epoch")
        .y_label_formatter(&|accuracy| format!("{accuracy:.2}"))
        .y_desc("accuracy")
        .label_style(("sans-serif", 13))
        .draw()?;
    let mark = [(1.0, MARK), (epochs as f64, MARK)];
    chart.draw_series(DashedLineSeries::new(mark, 6, 5, BLACK.mix(0.7).stroke_width(1)))?;
    for (index, curve) in curves.iter().enumerate() {
        let style = Palette99::pick(index).stroke_width(2);
        let points = curve.accuracy.iter().enumerate();
        let points = points.map(|(at, &accuracy)| ((at + 1) as f64, accuracy));
        // A point for an only epoch, through which no line can be drawn.
        let single = if curve.accuracy.len() == 1 { 3 } else { 0 };
        chart
            .draw_series(LineSeries::new(points, style).point_size(single))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()?;
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
        for text in ["MPS, bond 1", "train", "test &lt;3&gt;", "epoch", "accuracy", "0.70", "1.00"]
        {
            assert!(svg.contains(text), "{text} is missing");
        }
        // Two curves of three points; the grid's and the dashed line's pieces have two.
        let lines = svg.match_indices("<polyline").filter(|(at, _)| {
            let points =
                svg[*at..].split("points=\"").nth(1).and_then(|rest| rest.split('"').next());
            points.is_some_and(|points| points.split_whitespace().count() == 3)
        });
        assert_eq!(lines.count(), 2, "{svg}");
    }

    #[test]
    fn one_epoch_and_no_epoch_can_be_drawn() {
        assert!(accuracy("one", &[curve("train", &[0.5])]).unwrap().contains("<circle"));
        accuracy("none", &[curve("train", &[])]).unwrap();
    }
}
