//! `mps`: two cores joined by a bond, in place of a matrix.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Dense, Layer};
use crate::mps::{MpsSpec, Order};
use crate::net::{Backward, Call, Draw, Kind, MultiplyAdds, Shape, Stepped, Weight, features};
use crate::op;
use crate::{Error, Result};

/// `Y[m,n] = Σ A[m,k,j] C[l,k,n] X[j,l] + B[m,n]`: a matrix replaced by two cores that are joined by a bond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mps {
    /// Extents `[J, L]` into which the input is folded.
    #[serde(rename = "in")]
    pub in_factors: [usize; 2],
    /// Extents `[M, N]` into which the output is folded.
    #[serde(rename = "out")]
    pub out_factors: [usize; 2],
    /// Size `K` of the bond.
    pub bond: usize,
    /// Whether a bias is added.
    #[serde(default = "super::yes")]
    pub bias: bool,
}

impl Mps {
    /// Its extents, which [`Kind::output`] has checked.
    pub fn spec(&self) -> MpsSpec {
        let ([j, l], [m, n]) = (self.in_factors, self.out_factors);
        MpsSpec { m, n, j, l, k: self.bond }
    }
}

impl Kind for Mps {
    fn output(&self, input: Shape) -> Result<Shape> {
        let named = |error| match error {
            Error::Argument { name: "in_factors", problem } => Error::argument("in", problem),
            Error::Argument { name: "out_factors", problem } => Error::argument("out", problem),
            error => error,
        };
        let spec = MpsSpec::new(self.in_factors, self.out_factors, self.bond).map_err(named)?;
        let inputs = features(input);
        if spec.inputs() == inputs {
            return Ok([spec.outputs(), 1, 1]);
        }
        let [j, l] = self.in_factors;
        Err(Error::argument(
            "in",
            format!("{j},{l}: expected a product of {inputs}, the layer's inputs"),
        ))
    }

    fn weights(&self, _input: Shape) -> Vec<Weight> {
        let spec = self.spec();
        let core =
            |name, shape: [usize; 3]| Weight { name, shape: shape.into(), draw: Draw::Core(spec) };
        let mut weights = vec![core("a", spec.a_shape()), core("c", spec.c_shape())];
        if self.bias {
            let shape = spec.bias_shape().into();
            weights.push(Weight { name: "bias", shape, draw: Draw::Zeros });
        }
        weights
    }

    fn multiply_adds(&self, _input: Shape) -> MultiplyAdds {
        let spec = self.spec();
        let order = Order::cheaper(&spec);
        let forward = order.multiply_adds(&spec);
        // Of `V` with the core that meets the input.
        let grad_x = match order {
            Order::CFirst => spec.j * spec.l * spec.n * spec.k,
            Order::AFirst => spec.m * spec.j * spec.l * spec.k,
        };
        // `U` or `T` again, one core's gradient from it, `V`, and the other's gradient from that.
        MultiplyAdds { forward, weights: 2 * forward, grad_x }
    }

    fn scratch(&self, _input: Shape, batch: usize) -> [u64; 2] {
        op::scratch_on_cpu(&self.spec(), batch)
    }

    fn dense(&self) -> Option<Layer> {
        Some(Dense { out: self.spec().outputs(), bias: self.bias }.into())
    }

    fn summary(&self, _input: Shape) -> String {
        self.spec().to_string()
    }

    fn forward(&self, call: &Call, x: Tensor<2>) -> Result<Tensor<2>> {
        let spec = self.spec();
        let [batch, _] = x.dims();
        let x = x.reshape([batch, spec.j, spec.l]);
        let [a, c] = [call.weight(0, spec.a_shape()), call.weight(1, spec.c_shape())];
        let bias = call.optional(2, spec.bias_shape());
        let y = op::mps_layer(x, a, c, bias, call.activation, call.words)?;
        Ok(y.reshape([batch, spec.outputs()]))
    }

    fn backward(&self, call: &Call, mut step: Backward) -> Result<Stepped> {
        let state = step.state()?;
        let Backward { x, y, grad_y, layout, betas, .. } = step;
        let (relu, grad_y) = call.before_relu(y, grad_y)?;
        let (spec, wanted) = (self.spec(), call.wants_grad_x);
        let (grad_x, state) =
            op::mps_update(state, layout, spec, x, relu, grad_y, call.words, betas, wanted)?;
        Ok(Stepped { grad_x, state: Some(state) })
    }

    /// Two matrix products in the cheaper order, with the core permuted instead of the larger intermediate, as a user of
    /// Burn would compose them.
    fn composed(&self, _input: Shape, weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        let spec = self.spec();
        let MpsSpec { m, n, j, l, k } = spec;
        let [batch, _] = x.dims();
        let a = weights[0].clone().reshape(spec.a_shape());
        let c = weights[1].clone().reshape(spec.c_shape());
        let y = match Order::cheaper(&spec) {
            Order::CFirst => {
                let u = x.reshape([batch * j, l]).matmul(c.reshape([l, k * n]));
                let a = a.swap_dims(1, 2).reshape([1, m, j * k]);
                a.matmul(u.reshape([batch, j * k, n]))
            }
            Order::AFirst => {
                let t = a.reshape([1, m * k, j]).matmul(x.reshape([batch, j, l]));
                let c = c.swap_dims(0, 1).reshape([k * l, n]);
                t.reshape([batch * m, k * l]).matmul(c).reshape([batch, m, n])
            }
        };
        let y = y.reshape([batch, m * n]);
        match weights.get(2) {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }
}
