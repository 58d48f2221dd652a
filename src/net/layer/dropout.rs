//! `dropout`: in training, a share of the elements becomes 0.

use burn::nn::DropoutConfig;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::net::{Kind, Shape};
use crate::op::activation::Activation;
use crate::{Error, Result};

/// In training, each element becomes 0 with a probability, and the others grow so that the mean stays (N. Srivastava
/// et al. 2014, in the inverted form). It runs in one pass with the layer before it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The probability, from 0 to less than 1.
    pub rate: f64,
}

impl Kind for Dropout {
    fn output(&self, input: Shape) -> Result<Shape> {
        // As f32, in which the kernels have it, a rate just below 1 is 1.
        if self.rate >= 0.0 && (self.rate as f32) < 1.0 {
            return Ok(input);
        }
        let problem = format!("{}: expected a number from 0 to less than 1", self.rate);
        Err(Error::argument("rate", problem))
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::dropout(self.rate as f32))
    }

    fn summary(&self, _input: Shape) -> String {
        format!("{}", self.rate)
    }

    fn composed(&self, _input: Shape, _weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        DropoutConfig::new(self.rate).init().forward(x)
    }
}
