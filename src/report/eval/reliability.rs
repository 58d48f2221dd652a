//! `reliability.svg`: how often the network is right when it gives an answer a probability (A. Niculescu-Mizil and R.
//! Caruana 2005; bins as in C. Guo et al. 2017).

use super::super::axis::Axis;
use super::super::classification::{Bin, Classification};
use super::super::table::thousands;
use super::plot::Plot;
use super::svg::{Anchor, Svg};

const SIZE: [f64; 2] = [440.0, 450.0];

/// Left and right of the plot.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 22.0;

/// Heights of the plot and of the bars that say how many images a bin has.
const PLOT: f64 = 270.0;
const COUNTS: f64 = 46.0;

/// Draws the diagram.
pub fn figure(found: &Classification) -> Svg {
    let ece = found.ece;
    let title = format!("Reliability diagram: expected calibration error {ece:.4}");
    let mut svg = Svg::new(SIZE[0], SIZE[1], title);
    let width = SIZE[0] - LEFT - RIGHT;
    let heading = format!("expected calibration error {ece:.4}");
    svg.text([LEFT, 18.0], Anchor::Start, "f-ink bold", &heading);
    let unit = || Axis::fit([0.0, 1.0], [0.0, 1.0]);
    let plot = Plot { corner: [LEFT, 38.0], size: [width, PLOT], x: unit(), y: unit() };
    plot.draw_x(&mut svg, "probability of the answer");
    plot.draw_y(&mut svg, "fraction that is right", 52.0);
    for bin in found.bins.iter().filter(|bin| bin.count > 0) {
        let [left, top] = plot.at(bin.low, bin.accuracy);
        let [right, bottom] = plot.at(bin.high, 0.0);
        let tip = format!(
            "{:.3} to {:.3}: {} images, mean probability {:.4}, right {:.4}",
            bin.low,
            bin.high,
            thousands(bin.count),
            bin.probability,
            bin.accuracy
        );
        bar(&mut svg, [left, top], [right, bottom], "f-first", &tip);
    }
    svg.line(plot.at(0.0, 0.0), plot.at(1.0, 1.0), "l-ink dashed");
    for bin in found.bins.iter().filter(|bin| bin.count > 0) {
        svg.marker(plot.at(bin.probability, bin.accuracy), 0, "f-second");
    }
    counts(&mut svg, &found.bins, width);
    svg
}

/// Bars for the numbers of images, each with its number below.
fn counts(svg: &mut Svg, bins: &[Bin], width: f64) {
    let top = 38.0 + PLOT + 46.0;
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or_default().max(1);
    let bottom = top + COUNTS;
    svg.line([LEFT, bottom], [LEFT + width, bottom], "l-line");
    svg.turned([LEFT - 52.0, top + COUNTS], -90.0, Anchor::Middle, "f-ink", "images");
    for bin in bins {
        let (left, right) = (LEFT + bin.low * width, LEFT + bin.high * width);
        let height = COUNTS * bin.count as f64 / most as f64;
        let text = thousands(bin.count);
        bar(svg, [left, bottom - height], [right, bottom], "f-soft", &format!("{text} images"));
        let middle = f64::midpoint(left, right);
        svg.turned([middle, bottom + 6.0], -90.0, Anchor::End, "f-ink small", &text);
    }
}

fn bar(svg: &mut Svg, [left, top]: [f64; 2], [right, bottom]: [f64; 2], class: &str, tip: &str) {
    // Pale enough for the lines that cross it.
    svg.cell([left + 1.0, top], [right - left - 2.0, bottom - top], 0.6, class, tip);
}
