//! What several runs with other seeds come to.

use serde::Serialize;

/// Mean and standard deviation of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// How many numbers.
    pub count: usize,
    /// Their mean; NaN of none.
    pub mean: f64,
    /// Their standard deviation, estimated from a sample (over `count - 1`); 0 of one number.
    pub sd: f64,
}

impl Spread {
    /// Of these numbers, without those that are NaN or infinite.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let numbers: Vec<f64> = numbers.into_iter().filter(|number| number.is_finite()).collect();
        let count = numbers.len();
        let mean = numbers.iter().sum::<f64>() / count as f64;
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        let sd = if count < 2 { 0.0 } else { (squares / (count - 1) as f64).sqrt() };
        Self { count, mean, sd }
    }

    /// The standard error of the mean.
    pub fn error(&self) -> f64 {
        self.sd / (self.count as f64).sqrt()
    }

    /// `431`: the mean alone, or `?` if there is none.
    pub fn rounded(&self) -> String {
        Self { sd: 0.0, count: self.count.min(1), ..*self }.text(0)
    }

    /// `0.8954 ± 0.0012`, or the number alone if there is only one; `?` of none.
    pub fn text(&self, decimals: usize) -> String {
        let Self { count, mean, sd } = *self;
        match count {
            0 => "?".into(),
            1 => format!("{mean:.decimals$}"),
            _ => format!("{mean:.decimals$} ± {sd:.decimals$}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_are_those_of_a_sample() {
        let spread = Spread::of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((spread.count, spread.mean), (8, 5.0));
        assert!((spread.sd - (32.0_f64 / 7.0).sqrt()).abs() < 1e-15);
        assert!((spread.error() - (4.0_f64 / 7.0).sqrt()).abs() < 1e-15);
        assert_eq!((spread.text(2), spread.rounded()), ("5.00 ± 2.14".into(), "5".into()));
        assert_eq!(Spread::of([0.25, f64::NAN]).text(3), "0.250");
        assert_eq!((Spread::of([]).text(3), Spread::of([]).rounded()), ("?".into(), "?".into()));
    }
}
