//! The list of layers, checked, named and counted.

use serde::{Deserialize, Serialize};

use super::{Layer, Shape, Stage, Weight, features};
use crate::mps::MpsInit;
use crate::mps::strategy::Target;
use crate::op::activation::Activation;
use crate::random::{Purpose, random};
use crate::{Error, Result};

/// A network without its weights: the shape of a sample and the layers that it passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// Shape `[channels, height, width]` of an image.
    pub input: Shape,
    /// The layers. The outputs of the last one are the logits of the classes.
    pub layers: Vec<Layer>,
}

/// A layer in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed<'a> {
    /// Its kind and its position, counted from 1: `mps1`, `relu2`, ….
    pub name: String,
    /// The layer.
    pub layer: &'a Layer,
    /// The shape of its input.
    pub input: Shape,
    /// The shape of its output.
    pub output: Shape,
}

impl Placed<'_> {
    /// Its weights.
    pub fn weights(&self) -> Vec<Weight> {
        self.layer.kind().weights(self.input)
    }

    /// Number of its parameters.
    pub fn parameters(&self) -> usize {
        self.weights().iter().map(Weight::count).sum()
    }

    /// Number of parameters of the dense layer that it replaces; of itself, if it replaces none.
    pub fn dense_parameters(&self) -> usize {
        let dense = self.layer.kind().dense();
        let layer = dense.as_ref().unwrap_or(self.layer);
        layer.kind().weights(self.input).iter().map(Weight::count).sum()
    }
}

impl Stack {
    /// The layers in their places.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] naming the first layer that does not fit, [`Error::Argument`] when there is none or the input
    /// is impossible.
    pub fn placed(&self) -> Result<Vec<Placed<'_>>> {
        if self.input.contains(&0) || features(self.input) > 1 << 31 {
            let [channels, height, width] = self.input;
            let problem = format!(
                "{channels},{height},{width}: expected three numbers from 1, with a product of at most 2147483648"
            );
            return Err(Error::argument("input", problem));
        }
        if self.layers.is_empty() {
            return Err(Error::argument("layers", "none: expected at least one"));
        }
        let mut input = self.input;
        let placed = self.layers.iter().enumerate().map(|(at, layer)| {
            let name = format!("{}{}", layer.name(), at + 1);
            let output = match layer.kind().output(input) {
                Ok(output) => output,
                Err(error) => return Err(Error::Layer { layer: name, problem: error.to_string() }),
            };
            let placed = Placed { name, layer, input, output };
            input = output;
            Ok(placed)
        });
        placed.collect()
    }

    /// Checks that every layer fits the one before it.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn check(&self) -> Result<()> {
        self.placed().map(drop)
    }

    /// Number of outputs: of classes.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn outputs(&self) -> Result<usize> {
        Ok(self.placed()?.last().map_or(0, |placed| features(placed.output)))
    }

    /// Name, as in `mps1.a`, and kind of every weight, in the order of the layers.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn weights(&self) -> Result<Vec<(String, Weight)>> {
        let placed = self.placed()?;
        let named = placed.iter().flat_map(|placed| {
            let weights = placed.weights().into_iter();
            weights.map(|weight| (format!("{}.{}", placed.name, weight.name), weight))
        });
        Ok(named.collect())
    }

    /// Checks that these are as many numbers for each weight as the network has.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`]; [`Error::Argument`] naming `weights` when they are not.
    pub fn check_weights(&self, weights: &[Vec<f32>]) -> Result<()> {
        let counts: Vec<usize> = self.weights()?.iter().map(|(_, weight)| weight.count()).collect();
        let found: Vec<usize> = weights.iter().map(Vec::len).collect();
        if found == counts {
            return Ok(());
        }
        Err(Error::argument("weights", format!("of sizes {found:?}: expected {counts:?}")))
    }

    /// Number of trainable parameters.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn parameters(&self) -> Result<usize> {
        Ok(self.placed()?.iter().map(Placed::parameters).sum())
    }

    /// The same network with every tensor network replaced by the dense layer for which it stands.
    pub fn dense(&self) -> Self {
        let dense = |layer: &Layer| layer.kind().dense().unwrap_or_else(|| layer.clone());
        Self { input: self.input, layers: self.layers.iter().map(dense).collect() }
    }

    /// Number of dropout layers, each of which takes a seed in every step.
    pub fn dropouts(&self) -> usize {
        let drops = |layer: &&Layer| {
            layer.kind().activation().is_some_and(|activation| activation.dropout.is_some())
        };
        self.layers.iter().filter(drops).count()
    }

    /// The weights before training, each flat, in the order of [`Stack::weights`]. They follow from `seed` alone and
    /// are the same for every device. Biases are 0.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn draw(&self, init: MpsInit, seed: u64) -> Result<Vec<Vec<f32>>> {
        self.draw_while(init, seed, &|| Ok(()))
    }

    /// The same, as long as `go_on` lets it: it is asked every few milliseconds.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`], and that of `go_on`.
    pub fn draw_while(
        &self,
        init: MpsInit,
        seed: u64,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Vec<Vec<f32>>> {
        let mut random = random(Purpose::Weights, seed, 0);
        let weights = self.weights()?.into_iter();
        weights
            .map(|(_, weight)| weight.draw.numbers(init, weight.count(), &mut random, go_on))
            .collect()
    }

    /// The layers that are computed in one go: each with those after it that are only activations, as far as one pass
    /// does them. A ReLU before a maximum is done after it ([`super::Kind::takes_relu_after`]).
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn stages(&self) -> Result<Vec<Stage>> {
        let mut stages: Vec<Stage> = Vec::new();
        let (mut weights, mut seeds) = (0, 0);
        for placed in self.placed()? {
            let own = placed.layer.kind().activation();
            let seed = own.and_then(|own| own.dropout).map(|_| seeds);
            seeds += usize::from(seed.is_some());
            if let (Some(last), Some(own)) = (stages.last_mut(), own)
                && let Some(both) = last.activation.then(own)
            {
                last.name = format!("{}, {}", last.name, placed.name);
                last.activation = both;
                last.seed = seed;
                continue;
            }
            let (mut name, mut activation) = (placed.name.clone(), own.unwrap_or(Activation::NONE));
            if let Some(last) = stages.last_mut()
                && last.activation == Activation::RELU
                && placed.layer.kind().takes_relu_after()
                && let Some((before, relu)) = last.name.rsplit_once(", ")
            {
                name = format!("{name}, {relu}");
                activation = std::mem::replace(&mut last.activation, Activation::NONE);
                last.name.truncate(before.len());
            }
            let begin = weights;
            weights += placed.weights().len();
            stages.push(Stage {
                name,
                layer: placed.layer.clone(),
                input: placed.input,
                weights: begin..weights,
                activation,
                seed,
                pool: None,
            });
        }
        Ok(stages)
    }

    /// The same for what computes them. On the CPU, a convolution and the pooling after it are one stage where a number of the
    /// convolution's output takes few multiply-adds: it is computed again for the gradients then, and never leaves the cache.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn stages_for(&self, target: Target) -> Result<Vec<Stage>> {
        // With 9, of one channel, both layers and their gradients took 1.91 ms apart and 1.21 together; with 36, of two cores,
        // 2.34 and 2.17. With 144 the forward pass alone takes 0.84 ms, more than the 0.41 of all the pooling.
        const FEW: usize = 64;
        let mut stages: Vec<Stage> = Vec::new();
        for stage in self.stages()? {
            let pool = match &stage.layer {
                Layer::MaxPool(layer) => Some(layer.pool(stage.input)?),
                Layer::AvgPool(layer) => Some(layer.pool(stage.input)?),
                _ => None,
            };
            let has_few = |last: &Stage| match &last.layer {
                Layer::Conv2d(layer) => layer.multiply_adds_of_output(last.input) <= FEW,
                _ => false,
            };
            match stages.last_mut() {
                Some(last)
                    if target == Target::Cpu
                        && pool.is_some()
                        && last.pool.is_none()
                        && last.activation == Activation::NONE
                        && has_few(last) =>
                {
                    last.name = format!("{}, {}", last.name, stage.name);
                    (last.activation, last.seed, last.pool) = (stage.activation, stage.seed, pool);
                }
                _ => stages.push(stage),
            }
        }
        Ok(stages)
    }

    /// The layers that have weights, in one line: `mps1 28x28 -> 32x16, bond 1; dense4 512 -> 10`.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn title(&self) -> Result<String> {
        const SHOWN: usize = 4;
        let placed = self.placed()?;
        let weighted = placed.iter().filter(|placed| placed.parameters() > 0);
        let mut parts: Vec<String> = weighted
            .map(|placed| format!("{} {}", placed.name, placed.layer.kind().summary(placed.input)))
            .collect();
        if parts.len() > SHOWN {
            let more = parts.len() - SHOWN;
            parts.truncate(SHOWN);
            parts.push(format!("{more} more"));
        }
        Ok(parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ReLU before a maximum is done after it, with the dropout that follows; one before a mean stays.
    #[test]
    fn activations_go_with_the_layer_that_has_fewer_outputs() {
        let stack = r#"
            input = [1, 8, 8]
            layers = [
                { kind = "conv2d", out = 2, kernel = [3, 3], padding = 1 },
                { kind = "relu" },
                { kind = "maxpool", kernel = [2, 2] },
                { kind = "dropout", rate = 0.5 },
                { kind = "conv2d", out = 2, kernel = [3, 3], padding = 1 },
                { kind = "relu" },
                { kind = "avgpool", kernel = [2, 2] },
                { kind = "dense", out = 3 },
            ]"#;
        let stages = toml::from_str::<Stack>(stack).unwrap().stages().unwrap();
        let found: Vec<_> =
            stages.iter().map(|stage| (&stage.name[..], stage.activation)).collect();
        let dropped = Activation { relu: true, ..Activation::dropout(0.5) };
        let expected = [
            ("conv2d1", Activation::NONE),
            ("maxpool3, relu2, dropout4", dropped),
            ("conv2d5, relu6", Activation::RELU),
            ("avgpool7", Activation::NONE),
            ("dense8", Activation::NONE),
        ];
        assert_eq!(found, expected);
    }

    /// Pooling goes with a convolution on the CPU, unless something stands between or the convolution has much to compute.
    #[test]
    fn pooling_goes_with_a_small_convolution() {
        let stack = r#"
            input = [1, 16, 16]
            layers = [
                { kind = "conv2d", out = 8, kernel = [3, 3], padding = 1 },
                { kind = "relu" },
                { kind = "maxpool", kernel = [2, 2] },
                { kind = "dropout", rate = 0.5 },
                { kind = "conv2d", out = 2, kernel = [3, 3], padding = 1 },
                { kind = "maxpool", kernel = [2, 2] },
                { kind = "conv2d", out = 2, kernel = [1, 1] },
                { kind = "relu" },
                { kind = "avgpool", kernel = [2, 2] },
                { kind = "dense", out = 3 },
            ]"#;
        let stack = toml::from_str::<Stack>(stack).unwrap();
        let names = |target| {
            let stages = stack.stages_for(target).unwrap();
            stages.into_iter().map(|stage| stage.name).collect::<Vec<_>>()
        };
        let expected = [
            "conv2d1, maxpool3, relu2, dropout4",
            "conv2d5",
            "maxpool6",
            "conv2d7, relu8",
            "avgpool9",
            "dense10",
        ];
        assert_eq!(names(Target::Cpu), expected);
        assert_eq!(names(Target::Gpu).len(), 7);
    }
}
