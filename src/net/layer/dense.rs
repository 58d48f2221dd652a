//! `dense`: a matrix and a bias.

use burn::tensor::{Tensor, module};
use serde::{Deserialize, Serialize};

use crate::net::{Backward, Call, Draw, Kind, MultiplyAdds, Shape, Stepped, Weight, features};
use crate::op::{self, training};
use crate::{Error, Result};

/// Every output is a weighted sum of all inputs: `y = x W + b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// Number of outputs.
    pub out: usize,
    /// Whether a bias is added.
    #[serde(default = "super::yes")]
    pub bias: bool,
}

impl Kind for Dense {
    fn output(&self, input: Shape) -> Result<Shape> {
        if self.out == 0 {
            return Err(Error::argument("out", "0: expected at least 1"));
        }
        let inputs = features(input);
        if inputs.saturating_mul(self.out) > 1 << 31 {
            let problem = format!(
                "{}: a matrix from {inputs} inputs has more than 2147483648 elements",
                self.out
            );
            return Err(Error::argument("out", problem));
        }
        Ok([self.out, 1, 1])
    }

    fn weights(&self, input: Shape) -> Vec<Weight> {
        let (inputs, outputs) = (features(input), self.out);
        let matrix = Draw::Matrix { inputs, outputs };
        let mut weights =
            vec![Weight { name: "weight".into(), shape: vec![inputs, outputs], draw: matrix }];
        if self.bias {
            weights.push(Weight { name: "bias".into(), shape: vec![outputs], draw: Draw::Zeros });
        }
        weights
    }

    fn multiply_adds(&self, input: Shape) -> MultiplyAdds {
        let product = features(input) * self.out;
        MultiplyAdds { forward: product, weights: product, grad_x: product }
    }

    fn summary(&self, input: Shape) -> String {
        format!("{} -> {}", features(input), self.out)
    }

    fn forward(&self, call: &Call, x: Tensor<2>) -> Result<Tensor<2>> {
        let weight = call.weights.get(0, [features(call.input), self.out])?;
        let bias = call.weights.optional(1, [self.out])?;
        training::linear(x, weight, bias, call.activation, call.words)
    }

    fn backward(&self, call: &Call, mut step: Backward) -> Result<Stepped> {
        let state = step.state()?;
        let Backward { x, y, grad_y, layout, betas, .. } = step;
        let (relu, grad_y) = match op::products_pass_relu(&x.device()) {
            true => call.before_relu(y, grad_y)?,
            false => (None, call.activate_grad(y, grad_y)?),
        };
        let grad_x = match call.wants_grad_x {
            true => {
                let shape = [features(call.input), self.out];
                let weight = training::weight(&state, layout, 0, shape)?;
                Some(training::linear_grad_x(weight, relu.clone(), grad_y.clone())?)
            }
            false => None,
        };
        let state = training::linear_update(state, layout, x, relu, grad_y, call.words, betas)?;
        Ok(Stepped { grad_x, state: Some(state) })
    }

    fn composed(&self, input: Shape, weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        let weight = weights[0].clone().reshape([features(input), self.out]);
        module::linear(x, weight, weights.get(1).cloned())
    }
}
