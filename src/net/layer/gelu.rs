//! `gelu`: `x Φ(x)`, element by element.

use std::f64::consts::{PI, SQRT_2};

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::net::{Backward, Call, Kind, Shape, Stepped};

/// `x Φ(x)`, element by element, where `Φ` is the distribution function of N(0, 1) (D. Hendrycks, K. Gimpel 2016, eq. 2).
/// It is made of Burn's operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gelu {}

impl Kind for Gelu {
    fn output(&self, input: Shape) -> Result<Shape> {
        Ok(input)
    }

    fn summary(&self, _input: Shape) -> String {
        String::new()
    }

    fn forward(&self, call: &Call, x: Tensor<2>) -> Result<Tensor<2>> {
        call.activate(activation::gelu(x))
    }

    fn backward(&self, call: &Call, step: Backward) -> Result<Stepped> {
        let (x, grad_y) = (step.x, call.activate_grad(step.y, step.grad_y)?);
        // Φ(x) + x φ(x)
        let distribution = ((x.clone() / SQRT_2).erf() + 1.0) / 2.0;
        let density = (x.clone().square() / -2.0).exp() / (2.0 * PI).sqrt();
        let slope = distribution + x * density;
        Ok(Stepped { grad_x: Some(grad_y * slope), state: step.state })
    }

    fn composed(&self, _input: Shape, _weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        activation::gelu(x)
    }
}
