//! `relu`: `max(x, 0)`, element by element.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::net::{Kind, Shape};
use crate::op::activation::Activation;

/// `max(x, 0)`, element by element. It runs in one pass with the layer before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relu {}

impl Kind for Relu {
    fn output(&self, input: Shape) -> Result<Shape> {
        Ok(input)
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::RELU)
    }

    fn summary(&self, _input: Shape) -> String {
        String::new()
    }

    fn composed(&self, _input: Shape, _weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        activation::relu(x)
    }
}
