//! Axes that fit the data, with round ticks: linear ones, which start and end on a tick, and logarithmic
//! ones.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// How many intervals a linear axis has at most.
const MOST_INTERVALS: f64 = 8.0;

/// Share of the data's span that stays free below and above it.
const MARGIN: f64 = 0.04;

/// A logarithmic axis that spans more than this ratio labels powers of ten alone.
const WIDE: f64 = 300.0;

/// One that spans less has more ticks than 1, 2 and 5.
const NARROW: f64 = 5.0;

/// An axis: its range, its ticks and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    scale: Scale,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    /// With as many decimals as the step between two ticks needs.
    Linear { decimals: usize },
    /// With as many decimals as a tick's power of ten needs.
    Logarithmic,
}

impl Axis {
    /// The linear axis for `values` that lie in `[least, most]`, beyond which it does not go.
    ///
    /// Values that are not finite do not count; where none is left, the axis shows all of
    /// `[least, most]`.
    pub fn fit(values: impl IntoIterator<Item = f64>, [least, most]: [f64; 2]) -> Self {
        let (low, high) = ends(values).unwrap_or((least, most));
        // Values that are all equal still get a tick below and one above.
        let span = (high - low).max((most - least) / 100.0);
        let margin = span * MARGIN;
        let (low, high) = ((low - margin).max(least), (high + margin).min(most));
        let step = round_step((high - low).max(span) / MOST_INTERVALS);
        // In steps, and rounded: 0.9 / 0.01 must be the whole number 90.
        let steps = |value: f64| (value / step * 1e9).round() / 1e9;
        let (first, last) = (steps(low).floor(), steps(high).ceil());
        let ticks: Vec<f64> = (first as i64..=last as i64).map(|tick| tick as f64 * step).collect();
        let decimals = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
        Self { low: first * step, high: last * step, ticks, scale: Scale::Linear { decimals } }
    }

    /// The linear axis of the whole numbers from 1 to `last`, with ticks at 1 and at round numbers.
    pub fn counting(last: usize) -> Self {
        let step = round_step(last as f64 / MOST_INTERVALS).max(1.0) as usize;
        let round = (step..=last).step_by(step).filter(|&tick| tick > 1);
        let ticks = std::iter::once(1).chain(round).map(|tick| tick as f64).collect();
        Self { low: 1.0, high: last as f64, ticks, scale: Scale::Linear { decimals: 0 } }
    }

    /// The logarithmic axis for positive `values`: ticks at 1, 2 and 5 times every power of ten, or at
    /// the powers alone where there are many.
    pub fn logarithmic(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values).unwrap_or((1.0, 10.0));
        let (low, high) = (low / 1.25, high * 1.25);
        let leading: &[f64] = match high / low {
            ratio if ratio > WIDE => &[1.0],
            ratio if ratio > NARROW => &[1.0, 2.0, 5.0],
            _ => &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        };
        let ticks = (low.log10().floor() as i32..=high.log10().ceil() as i32)
            .flat_map(|power| leading.iter().map(move |leading| leading * 10_f64.powi(power)))
            .filter(|tick| (low..=high).contains(tick))
            .collect();
        Self { low, high, ticks, scale: Scale::Logarithmic }
    }

    /// The same axis with a tick at each of these values.
    pub fn with_ticks(self, ticks: Vec<f64>) -> Self {
        Self { ticks, ..self }
    }

    /// Whether a value is on the axis.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The ticks, each with its text.
    pub fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        self.ticks.iter().map(|&tick| (tick, self.label(tick)))
    }

    /// Where a value lies between the axis' ends, which are 0 and 1.
    pub fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear { .. } => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    /// A tick as text.
    fn label(&self, tick: f64) -> String {
        let decimals = match self.scale {
            Scale::Linear { decimals } => decimals,
            Scale::Logarithmic => (-(tick.log10() + 1e-9).floor()).max(0.0) as usize,
        };
        format!("{tick:.decimals$}")
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (begin, end): (i32, i32)) -> i32 {
        begin + (self.share(*value) * f64::from(end - begin)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, tick: &f64) -> String {
        self.label(*tick)
    }
}

/// The least and the greatest of the finite values, if there are any.
fn ends(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |ends, value| match ends {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|leading| leading * power);
    // A little less is enough, so that 0.16 / 8 gives 0.02.
    steps.into_iter().find(|step| *step >= least * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|&tick| axis.label(tick)).collect()
    }

    #[test]
    fn an_axis_fits_its_values_with_round_ends() {
        let cases = [
            // The article's curves.
            (&[0.8482, 0.8991, 0.9013][..], "0.84", "0.91", 8),
            (&[0.1, 0.95], "0.0", "1.0", 6),
            (&[0.5], "0.498", "0.502", 3),
            (&[1.0, 1.0], "0.998", "1.000", 2),
            (&[], "0.0", "1.0", 6),
            (&[f64::NAN, 0.71, 0.87], "0.70", "0.90", 5),
        ];
        for (values, first, last, count) in cases {
            let axis = Axis::fit(values.iter().copied(), [0.0, 1.0]);
            let labels = labels(&axis);
            assert_eq!(labels.first().map(String::as_str), Some(first), "{values:?}: {labels:?}");
            assert_eq!(labels.last().map(String::as_str), Some(last), "{values:?}: {labels:?}");
            assert_eq!(labels.len(), count, "{values:?}: {labels:?}");
            for &value in values.iter().filter(|value| value.is_finite()) {
                assert!(axis.contains(value), "{value} is outside {axis:?}");
            }
        }
    }

    #[test]
    fn epochs_are_counted_from_1() {
        for (last, expected) in [
            (2, &["1", "2"][..]),
            (5, &["1", "2", "3", "4", "5"]),
            (50, &["1", "10", "20", "30", "40", "50"]),
        ] {
            assert_eq!(labels(&Axis::counting(last)), expected);
        }
    }

    #[test]
    fn logarithmic_ticks_are_round_and_inside() {
        let of = |low: f64, high: f64| labels(&Axis::logarithmic([low * 1.25, high / 1.25]));
        assert_eq!(of(0.04, 3.0), ["0.05", "0.1", "0.2", "0.5", "1", "2"]);
        assert_eq!(of(0.02, 90.0), ["0.1", "1", "10"]);
        assert_eq!(of(0.9, 11.0), ["1", "2", "5", "10"]);
        assert_eq!(of(8.5e3, 2.5e4), ["9000", "10000", "20000"]);
    }

    #[test]
    fn values_are_placed_between_the_ends() {
        let places =
            |axis: Axis, values: [f64; 3]| values.map(|value| axis.map(&value, (300, 100)));
        assert_eq!(places(Axis::fit([0.0, 1.0], [0.0, 1.0]), [0.0, 0.25, 1.0]), [300, 250, 100]);
        let axis = Axis::logarithmic([1.25, 80.0]);
        assert_eq!(places(axis, [1.0, 10.0, 100.0]), [300, 200, 100]);
    }
}
