//! What a least-squares fit needs to know of a layer's inputs: how many, their mean, and their covariance.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use crate::{Error, Result};

/// Inputs that are summed together, so that the f64 copies of a batch stay small: 13 MB of 784 features.
const TOGETHER: usize = 2048;

/// The first two moments of the inputs that a layer gets.
#[derive(Debug, Clone)]
pub struct Moments {
    count: usize,
    sum: Vec<f64>,
    /// Of the products of two features.
    products: Mat<f64>,
}

impl Moments {
    /// Of no input yet, of so many features.
    pub fn new(features: usize) -> Self {
        let products = Mat::zeros(features, features);
        Self { count: 0, sum: vec![0.0; features], products }
    }

    /// Number of features of an input.
    pub fn features(&self) -> usize {
        self.sum.len()
    }

    /// Number of inputs.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds `inputs[batch, features]`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `inputs` when they are not whole rows, or a number is not finite.
    pub fn add(&mut self, inputs: &[f32]) -> Result<()> {
        let features = self.features();
        if features == 0 || !inputs.len().is_multiple_of(features) {
            let problem = format!("{} numbers: expected rows of {features}", inputs.len());
            return Err(Error::argument("inputs", problem));
        }
        super::cores::check("inputs", inputs, inputs.len())?;
        for inputs in inputs.chunks(TOGETHER * features) {
            let rows = inputs.len() / features;
            let inputs: Vec<f64> = inputs.iter().copied().map(f64::from).collect();
            for row in inputs.chunks(features) {
                for (sum, number) in self.sum.iter_mut().zip(row) {
                    *sum += number;
                }
            }
            let inputs = MatRef::from_row_major_slice(&inputs, rows, features);
            let products = self.products.as_mut();
            matmul(products, Accum::Add, inputs.transpose(), inputs, 1.0, Par::rayon(0));
            self.count += rows;
        }
        Ok(())
    }

    /// The mean of each feature.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `inputs` when there are none.
    pub fn mean(&self) -> Result<Vec<f64>> {
        if self.count == 0 {
            return Err(Error::argument("inputs", "none: expected at least one"));
        }
        Ok(self.sum.iter().map(|sum| sum / self.count as f64).collect())
    }

    /// The covariance of the features, row-major.
    ///
    /// # Errors
    ///
    /// As [`Moments::mean`].
    pub fn covariance(&self) -> Result<Vec<f64>> {
        let mean = self.mean()?;
        let count = self.count as f64;
        let mut covariance = vec![0.0; mean.len() * mean.len()];
        let mut matrix = MatMut::from_row_major_slice_mut(&mut covariance, mean.len(), mean.len());
        for (row, of_row) in mean.iter().enumerate() {
            for (column, of_column) in mean.iter().enumerate() {
                matrix[(row, column)] = self.products[(row, column)] / count - of_row * of_column;
            }
        }
        Ok(covariance)
    }

    /// The bias with which another matrix has the same mean outputs: `B' = B + (W - W')ᵀ E x`, all matrices `[features,
    /// outputs]`.
    ///
    /// # Errors
    ///
    /// As [`Moments::mean`]; [`Error::Argument`] naming the matrix that has not a number for each feature and output.
    pub fn corrected_bias(&self, bias: &[f32], weight: &[f32], other: &[f64]) -> Result<Vec<f32>> {
        for (operand, count) in [("weight", weight.len()), ("other", other.len())] {
            let expected = self.features() * bias.len();
            if count != expected || count == 0 {
                let problem = format!("{count} numbers: expected {expected}, at least one");
                return Err(Error::argument(operand, problem));
            }
        }
        let mut corrected: Vec<f64> = bias.iter().copied().map(f64::from).collect();
        let rows = weight.chunks(bias.len()).zip(other.chunks(bias.len()));
        for (mean, (weight, other)) in self.mean()?.iter().zip(rows) {
            for (bias, (weight, other)) in corrected.iter_mut().zip(weight.iter().zip(other)) {
                *bias += mean * (f64::from(*weight) - other);
            }
        }
        Ok(corrected.into_iter().map(|bias| bias as f32).collect())
    }
}
