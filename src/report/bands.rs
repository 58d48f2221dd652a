//! Test and training accuracy by epoch of groups of runs, a chart for each: the mean of a group as a line, and what its runs
//! deviate from it as a band.

use plotters::prelude::*;

use super::axis::Axis;
use super::figure::{self, Chart, Legend};
use crate::{Error, Result};

/// Width of the figure, and heights of the title with its caption and of the two charts, in pixels. Test accuracy has the
/// larger chart, and its own axis: groups differ little in it, and training accuracy spans far more.
const WIDTH: u32 = 720;
const TITLE: u32 = 60;
const HEIGHTS: [u32; 2] = [380, 270];

/// Most markers of a line.
const MARKERS: usize = 10;

/// How much of a band's colour covers what is below it.
const OPACITY: f64 = 0.2;

/// Longest name in the legend, so that an entry is no wider than the figure.
const LONGEST: usize = 80;

/// What is drawn of a group of runs.
#[derive(Debug, Clone, Default)]
pub struct GroupCurves {
    /// Its name in the legend.
    pub name: String,
    /// Accuracy on the test images.
    pub test: Band,
    /// Accuracy on the training images, during training.
    pub training: Band,
}

/// A line and a band around it. Lists begin with epoch 1.
#[derive(Debug, Clone, Default)]
pub struct Band {
    /// The mean of the runs after each epoch.
    pub mean: Vec<f64>,
    /// Their standard deviation; none of a single run.
    pub deviation: Option<Vec<f64>>,
}

impl Band {
    /// The lower and the upper end of the band after each epoch. No accuracy is beyond 0 and 1.
    fn ends(&self) -> impl Iterator<Item = [f64; 2]> {
        let deviations = self.deviation.iter().flatten();
        let around = |(mean, deviation): (&f64, &f64)| {
            [(mean - deviation).max(0.0), (mean + deviation).min(1.0)]
        };
        self.mean.iter().zip(deviations).map(around)
    }
}

/// Draws the groups and returns the SVG. The axes fit what is drawn.
///
/// # Errors
///
/// [`Error::Internal`] when the figure cannot be drawn.
pub fn accuracy(title: &str, groups: &[GroupCurves]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, groups).map_err(|error| Error::internal("drawing the curves", error))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    groups: &[GroupCurves],
) -> Result<(), Box<dyn std::error::Error>> {
    let names: Vec<String> = groups.iter().map(|group| in_legend(&group.name)).collect();
    let legend = Legend::new(names.iter().map(String::as_str), WIDTH);
    let size = (WIDTH, TITLE + legend.height() + HEIGHTS.iter().sum::<u32>());
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(TITLE);
    let above = above.margin(6, 0, 0, 0);
    above.titled(title, ("sans-serif", 18))?.titled(caption(groups), ("sans-serif", 13))?;
    let (test, training) = legend.draw(&below)?.split_vertically(HEIGHTS[0]);
    let of = |band: fn(&GroupCurves) -> &Band| groups.iter().map(band).collect::<Vec<_>>();
    for (area, name, bands) in [
        (test, "test accuracy", of(|group| &group.test)),
        (training, "training accuracy", of(|group| &group.training)),
    ] {
        let epochs = bands.iter().map(|band| band.mean.len()).max().unwrap_or_default().max(2);
        let means = bands.iter().flat_map(|band| band.mean.iter().copied());
        let ends = bands.iter().flat_map(|band| band.ends().flatten());
        let (x, y) = (Axis::counting(epochs), Axis::fit(means.chain(ends), [0.0, 1.0]));
        let mut chart = figure::chart(&area, "", (x, "epoch"), (y, name))?;
        // No line is below the band of another group.
        for (index, band) in bands.iter().enumerate() {
            draw_band(&mut chart, index, band)?;
        }
        // A marker at every few epochs, those of each group beside those of the others.
        let every = epochs.div_ceil(MARKERS);
        for (index, band) in bands.iter().enumerate() {
            let line: Vec<(f64, f64)> = points(&band.mean).collect();
            figure::curve(&mut chart, index, &line, (index * every / bands.len(), every))?;
        }
    }
    root.present()?;
    Ok(())
}

/// Draws the band of a group, of which there is none for a single run.
fn draw_band<DB: DrawingBackend>(
    chart: &mut Chart<'_, DB>,
    index: usize,
    band: &Band,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let [lower, upper] = [0, 1].map(|end| band.ends().map(|ends| ends[end]).collect::<Vec<_>>());
    let outline: Vec<(f64, f64)> = points(&lower).chain(points(&upper).rev()).collect();
    let color = figure::color(index).mix(OPACITY);
    match outline.len() {
        0 => {}
        // An area of one epoch could not be seen.
        2 => drop(chart.draw_series([PathElement::new(outline, color.stroke_width(8))])?),
        _ => drop(chart.draw_series([Polygon::new(outline, color.filled())])?),
    }
    Ok(())
}

/// Accuracies by epoch, from epoch 1.
fn points(accuracies: &[f64]) -> impl DoubleEndedIterator<Item = (f64, f64)> {
    let points = accuracies.iter().enumerate();
    points.map(|(at, &accuracy)| ((at + 1) as f64, accuracy))
}

/// What lines and bands are.
fn caption(groups: &[GroupCurves]) -> &'static str {
    match groups.iter().any(|group| group.test.deviation.is_some()) {
        true => "line: mean of a group's runs; band: ± one standard deviation",
        false => "one run each",
    }
}

/// A name as it stands in the legend.
fn in_legend(name: &str) -> String {
    // XML has no place for these two.
    let name = name.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    match name.char_indices().nth(LONGEST) {
        Some(_) => name.chars().take(LONGEST - 1).chain(['…']).collect(),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, mean: &[f64], deviation: Option<&[f64]>) -> GroupCurves {
        let test = Band { mean: mean.into(), deviation: deviation.map(<[f64]>::to_vec) };
        GroupCurves { name: name.into(), test, training: Band::default() }
    }

    /// The points of the elements of this kind that have so many.
    fn points_of(svg: &str, tag: &str, count: usize) -> Vec<Vec<[f64; 2]>> {
        let tag = format!("<{tag} ");
        let elements = svg.split(&tag).skip(1);
        let lists =
            elements.filter_map(|element| element.split("points=\"").nth(1)?.split('"').next());
        let points = lists.map(|list| {
            let points = list.split_whitespace().map(|point| {
                let (x, y) = point.split_once(',').unwrap();
                [x.parse().unwrap(), y.parse().unwrap()]
            });
            points.collect::<Vec<_>>()
        });
        points.filter(|points| points.len() == count).collect()
    }

    #[test]
    fn a_group_has_a_line_and_a_band_of_one_deviation_around_it() {
        let groups = [
            group("tensor <1>", &[0.7, 0.8, 0.82], Some(&[0.05, 0.02, 0.01])),
            group("dense", &[0.75, 0.81], None),
        ];
        let svg = accuracy("runs", &groups).unwrap();
        for text in ["runs", "tensor &lt;1&gt;", "dense", "epoch", "± one standard", "test acc"] {
            assert!(svg.contains(text), "{text} is missing: {svg}");
        }
        let [line] = &points_of(&svg, "polyline", 3)[..] else { panic!("{svg}") };
        // The only polygon of six corners: along the line and back.
        let [area] = &points_of(&svg, "polygon", 6)[..] else { panic!("{svg}") };
        // Pixels for an accuracy of 1, from the height of a line that is known.
        let scale = (line[0][1] - line[2][1]) / 0.12;
        for (at, deviation) in [0.05, 0.02, 0.01].into_iter().enumerate() {
            let [lower, upper] = [area[at], area[5 - at]];
            assert_eq!([lower[0], upper[0]], [line[at][0]; 2]);
            for (end, sign) in [(lower, 1.0), (upper, -1.0)] {
                let expected = line[at][1] + sign * deviation * scale;
                assert!((end[1] - expected).abs() <= 1.5, "{end:?} for {expected}");
            }
        }
    }

    #[test]
    fn training_accuracy_has_a_chart_of_its_own_below() {
        let training = Band { mean: vec![0.4, 0.5, 0.6], deviation: None };
        let svg = accuracy("", &[GroupCurves { training, ..group("a", &[0.7, 0.8, 0.81], None) }]);
        let svg = svg.unwrap();
        let [test, training] = &points_of(&svg, "polyline", 3)[..] else { panic!("{svg}") };
        let bottom = f64::from(TITLE + 20 + HEIGHTS[0]);
        assert!(test.iter().all(|[_, y]| *y < bottom), "{test:?}");
        assert!(training.iter().all(|[_, y]| *y > bottom), "{training:?}");
        // Each axis fits its own lines.
        let height = |line: &[[f64; 2]]| line[0][1] - line[2][1];
        assert!(height(test) > 150.0 && height(training) > 100.0, "{test:?} {training:?}");
    }

    #[test]
    fn a_single_run_has_no_band() {
        let svg = accuracy("", &[group("a", &[0.5, 0.6, 0.7], None)]).unwrap();
        assert!(points_of(&svg, "polygon", 6).is_empty());
        assert!(!svg.contains("deviation"), "{svg}");
    }

    #[test]
    fn a_band_ends_where_accuracy_does() {
        let wide = group("", &[0.05, 0.99], Some(&[0.1, 0.1]));
        let ends: Vec<[f64; 2]> = wide.test.ends().collect();
        assert_eq!(ends, [[0.0, 0.05 + 0.1], [0.99 - 0.1, 1.0]]);
        assert!(accuracy("", &[wide]).unwrap().contains(">\n0.0\n<"));
    }

    #[test]
    fn one_epoch_no_epoch_and_any_name_can_be_drawn() {
        let svg = accuracy("one", &[group("a", &[0.5], Some(&[0.1]))]).unwrap();
        let is_upright = |line: &Vec<[f64; 2]>| line[0][0] == line[1][0];
        assert!(svg.contains("<circle") && svg.contains("stroke-width=\"8\""), "{svg}");
        assert!(points_of(&svg, "polyline", 2).iter().any(is_upright));
        accuracy("none", &[GroupCurves::default()]).unwrap();
        accuracy("no group", &[]).unwrap();
        let long = "x".repeat(200);
        let svg = accuracy("", &[group(&long, &[0.5], None), group("\u{ffff}", &[0.5], None)]);
        let svg = svg.unwrap();
        assert!(svg.contains("x…") && !svg.contains(&long) && !svg.contains('\u{ffff}'));
    }
}
