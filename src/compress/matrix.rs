//! The matrix for which a layer stands.

use super::{ChainCores, Cores};
use crate::Result;
use crate::net::Layer;

/// The matrix and the bias of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// `[inputs, outputs]`, row-major.
    pub weight: Vec<f32>,
    /// One for each output, if the layer has a bias.
    pub bias: Option<Vec<f32>>,
    /// Number of inputs.
    pub inputs: usize,
    /// Number of outputs.
    pub outputs: usize,
}

impl Matrix {
    /// That of a layer with its weights, the cores of a tensor layer merged. None of a layer that has none.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Argument`] naming a core that has a number that is not finite.
    pub fn of(layer: &Layer, weights: &[Vec<f32>]) -> Result<Option<Self>> {
        Ok(match layer {
            Layer::Dense(dense) => {
                let outputs = dense.out;
                let (weight, bias) = (weights[0].clone(), weights.get(1).cloned());
                Some(Self { inputs: weight.len() / outputs, outputs, weight, bias })
            }
            Layer::Mps(mps) => {
                let chain = mps.chain();
                let merged = match chain.two_cores() {
                    Some(spec) => Cores::new(spec, &weights[0], &weights[1])?.matrix(),
                    None => ChainCores::new(chain.clone(), &weights[..chain.cores()])?.matrix(),
                };
                let [zeros, _] = mps.pad;
                let (inputs, outputs) = (chain.input() - zeros, mps.outputs());
                let rows = merged.chunks_exact(chain.output()).take(inputs);
                let numbers = rows.flat_map(|row| &row[..outputs]);
                let bias = weights.get(chain.cores());
                Some(Self {
                    weight: numbers.map(|number| *number as f32).collect(),
                    bias: bias.map(|bias| bias[..outputs].to_vec()),
                    inputs,
                    outputs,
                })
            }
            // A convolution's is one for every position.
            Layer::Conv2d(_) | Layer::MaxPool(_) | Layer::AvgPool(_) => None,
            Layer::Relu(_) | Layer::Gelu(_) | Layer::Dropout(_) => None,
        })
    }
}
