//! Accuracy by epoch, for the page.

use super::super::axis::Axis;
use super::super::curves::Curve;
use super::plot::{self, Plot};
use super::svg::{Anchor, Svg};

const SIZE: [f64; 2] = [440.0, 340.0];

/// How the two curves look.
const CLASSES: [&str; 2] = ["first", "second"];

/// Most markers of a curve.
const MARKERS: usize = 10;

/// Draws accuracy by epoch. A dashed line marks the epoch after which the network was that of the report.
pub fn figure(curves: &[Curve; 2], epoch: Option<usize>) -> Svg {
    let epochs = curves.iter().map(|curve| curve.accuracy.len()).max().unwrap_or_default();
    let mut svg = Svg::new(SIZE[0], SIZE[1], format!("Accuracy after each of {epochs} epochs"));
    let plot = Plot {
        corner: [66.0, 40.0],
        size: [SIZE[0] - 66.0 - 22.0, SIZE[1] - 40.0 - 46.0],
        x: Axis::counting(epochs.max(2)),
        y: Axis::fit(curves.iter().flat_map(|curve| curve.accuracy.iter().copied()), [0.0, 1.0]),
    };
    plot.draw_x(&mut svg, "epoch");
    plot.draw_y(&mut svg, "accuracy", 52.0);
    if let Some(epoch) = epoch.filter(|epoch| (1..=epochs).contains(epoch)) {
        let x = plot.at(epoch as f64, 0.0)[0];
        let bottom = plot.corner[1] + plot.size[1];
        svg.line([x, plot.corner[1] - 4.0], [x, bottom], "l-ink dashed");
        let text = format!("this network: epoch {epoch}");
        svg.text([SIZE[0] - 22.0, 18.0], Anchor::End, "f-soft", &text);
    }
    let every = epochs.div_ceil(MARKERS).max(1);
    for (number, (curve, class)) in curves.iter().zip(CLASSES).enumerate() {
        let points = curve.accuracy.iter().enumerate();
        let points: Vec<[f64; 2]> =
            points.map(|(at, &accuracy)| plot.at((at + 1) as f64, accuracy)).collect();
        svg.curve(&points, &format!("l-{class}"));
        for &point in points.iter().skip(number * every / 2).step_by(every) {
            svg.marker(point, number, &format!("f-{class}"));
        }
    }
    let entries = [(curves[0].name.as_str(), CLASSES[0]), (&curves[1].name, CLASSES[1])];
    plot::legend(&mut svg, [66.0, 18.0], &entries);
    svg
}
