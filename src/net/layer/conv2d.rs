//! `conv2d`: a convolution, of a matrix or of two cores.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, module};
use serde::{Deserialize, Serialize};

use super::Layer;
use crate::compress::Cores;
use crate::mps::conv::Window;
use crate::mps::{Fan, MpsSpec, Order};
use crate::net::{Backward, Call, Draw, Kind, MultiplyAdds, Shape, Stepped, Weight, features};
use crate::op::conv::{ConvLayer, Kernel, conv_layer, conv_update};
use crate::{Error, Result, op};

/// At every position of a kernel, the patch of the image under it `[channels, taps]` is multiplied by a matrix or, with a bond, by
/// two cores: as `X[j,l]`, with the channels of the output as `[m,n]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Number of channels of the output, or, with a bond, its factors `[M, N]`.
    pub out: Channels,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// From one position of the kernel to the next.
    #[serde(default = "one")]
    pub stride: usize,
    /// Rows and columns of zeros around the image.
    #[serde(default)]
    pub padding: usize,
    /// Size `K` of the bond of two cores; none of a matrix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<usize>,
    /// Whether a bias is added, one number for each channel.
    #[serde(default = "super::yes")]
    pub bias: bool,
}

fn one() -> usize {
    1
}

/// The channels of a convolution's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "out: expected a number, or two factors")]
pub enum Channels {
    /// Of a matrix: how many.
    Count(usize),
    /// Of two cores: their factors.
    Factors([usize; 2]),
}

impl Conv2d {
    /// What is convolved, which [`Kind::output`] has checked.
    pub(crate) fn window(&self, input: Shape) -> Window {
        let Self { kernel, stride, padding, .. } = *self;
        Window { input, kernel, stride, padding }
    }

    /// What is applied to a patch, which [`Kind::output`] has checked.
    pub(crate) fn kernel(&self, input: Shape) -> Kernel {
        match (self.out, self.bond) {
            (Channels::Factors([m, n]), Some(k)) => {
                let (j, l) = (input[0], self.kernel[0] * self.kernel[1]);
                Kernel::TwoCores(MpsSpec { m, n, j, l, k })
            }
            (Channels::Factors([m, n]), None) => Kernel::Matrix { outputs: m * n },
            (Channels::Count(outputs), _) => Kernel::Matrix { outputs },
        }
    }

    fn channels(&self) -> usize {
        match self.out {
            Channels::Count(outputs) => outputs,
            Channels::Factors([m, n]) => m * n,
        }
    }

    /// The matrix `[channels, taps, channels']`, that of two cores merged, and what is convolved.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming a core that has a number that is not finite.
    pub(crate) fn merged(&self, input: Shape, weights: &[Vec<f32>]) -> Result<(Window, Vec<f32>)> {
        let matrix = match self.kernel(input) {
            Kernel::Matrix { .. } => weights[0].clone(),
            Kernel::TwoCores(spec) => {
                let merged = Cores::new(spec, &weights[0], &weights[1])?.matrix();
                merged.into_iter().map(|number| number as f32).collect()
            }
        };
        Ok((self.window(input), matrix))
    }

    fn layer(&self, call: &Call, layout: &op::state::Layout) -> Result<ConvLayer> {
        let layer = ConvLayer::new(self.window(call.input), self.kernel(call.input), layout)?;
        match call.pool {
            Some(pool) => layer.followed_by(pool),
            None => Ok(layer),
        }
    }

    /// Multiply-adds for each number of the output, where what a core makes of the image is there already.
    pub(crate) fn multiply_adds_of_output(&self, input: Shape) -> usize {
        match self.kernel(input) {
            Kernel::Matrix { .. } => input[0] * self.window(input).taps(),
            Kernel::TwoCores(spec) => spec.k * spec.l,
        }
    }

    fn positions(&self, input: Shape) -> usize {
        self.window(input).output().iter().product()
    }
}

impl Kind for Conv2d {
    fn output(&self, input: Shape) -> Result<Shape> {
        let Self { kernel, stride, padding, .. } = *self;
        let window = Window::new(input, kernel, stride, padding)?;
        let channels = match (self.out, self.bond) {
            (Channels::Count(0), _) => {
                return Err(Error::argument("out", "0: expected at least 1"));
            }
            (Channels::Count(outputs), None) => outputs,
            (Channels::Count(outputs), Some(_)) => {
                let problem = format!("{outputs}: expected two factors, since there is a bond");
                return Err(Error::argument("out", problem));
            }
            (Channels::Factors(_), None) => {
                let problem = "none: expected one, since the channels have two factors";
                return Err(Error::argument("bond", problem));
            }
            (Channels::Factors(factors), Some(bond)) => {
                let named = |error| match error {
                    Error::Argument { name: "out_factors", problem } => {
                        Error::argument("out", problem)
                    }
                    error => error,
                };
                window.two_cores(factors, bond).map_err(named)?.outputs()
            }
        };
        let matrix = input[0].saturating_mul(window.taps()).saturating_mul(channels);
        let [rows, columns] = window.output();
        if matrix.max(channels.saturating_mul(rows * columns)) > 1 << 31 {
            let problem =
                format!("{channels}: a matrix or an image of more than 2147483648 elements");
            return Err(Error::argument("out", problem));
        }
        Ok([channels, rows, columns])
    }

    fn weights(&self, input: Shape) -> Vec<Weight> {
        let [rows, columns] = self.kernel;
        let (mut weights, bias): (Vec<Weight>, Vec<usize>) = match self.kernel(input) {
            Kernel::Matrix { outputs } => {
                let draw = Draw::Matrix { inputs: input[0] * rows * columns, outputs };
                let shape = vec![input[0], rows, columns, outputs];
                (vec![Weight { name: "weight".into(), shape, draw }], vec![outputs])
            }
            Kernel::TwoCores(spec) => {
                let core = |name: &str, shape: [usize; 3]| Weight {
                    name: name.into(),
                    shape: shape.into(),
                    draw: Draw::Core(Fan::from(&spec)),
                };
                let cores = vec![core("a", spec.a_shape()), core("c", spec.c_shape())];
                (cores, spec.bias_shape().into())
            }
        };
        if self.bias {
            weights.push(Weight { name: "bias".into(), shape: bias, draw: Draw::Zeros });
        }
        weights
    }

    fn multiply_adds(&self, input: Shape) -> MultiplyAdds {
        let positions = self.positions(input);
        let product = match self.kernel(input) {
            Kernel::Matrix { outputs } => input[0] * self.window(input).taps() * outputs,
            Kernel::TwoCores(spec) => Order::cheaper(&spec).multiply_adds(&spec),
        };
        let product = positions * product;
        match self.kernel(input) {
            Kernel::Matrix { .. } => {
                MultiplyAdds { forward: product, weights: product, grad_x: product }
            }
            // As of a tensor layer.
            Kernel::TwoCores(_) => {
                MultiplyAdds { forward: product, weights: 2 * product, grad_x: product / 2 }
            }
        }
    }

    fn buffer_of_one(&self, input: Shape) -> Option<usize> {
        Some(self.positions(input) * input[0] * self.window(input).taps())
    }

    fn scratch(&self, input: Shape, _batch: usize) -> [u64; 2] {
        // Of a block of 16 samples, which every thread has: the image with its padding and without, the output, and what two
        // cores have between them; the gradients of all besides.
        const BLOCKS: usize = 16 * 16;
        let image = features(input);
        let output = self.channels() * self.positions(input);
        let between = match self.kernel(input) {
            Kernel::Matrix { .. } => 0,
            Kernel::TwoCores(spec) => spec.m * spec.k * input[1] * input[2],
        };
        // The output twice: pooled, too.
        let forward = (2 * image + 2 * output + between) as u64;
        [BLOCKS as u64 * forward, 2 * BLOCKS as u64 * forward]
    }

    fn dense(&self) -> Option<Layer> {
        self.bond?;
        let out = Channels::Count(self.channels());
        Some(Self { out, bond: None, ..self.clone() }.into())
    }

    fn summary(&self, input: Shape) -> String {
        let image = |[channels, rows, columns]: Shape| format!("{channels}x{rows}x{columns}");
        let [rows, columns] = self.window(input).output();
        let window = self.window(input);
        let (from, to) = (image(input), image([self.channels(), rows, columns]));
        match (self.out, self.bond) {
            (Channels::Factors([m, n]), Some(bond)) => {
                format!("{from} -> {to}, {window}, channels {m}x{n}, bond {bond}")
            }
            _ => format!("{from} -> {to}, {window}"),
        }
    }

    fn forward(&self, call: &Call, x: Tensor<2>) -> Result<Tensor<2>> {
        let layer = self.layer(call, call.weights.layout())?;
        conv_layer(x, call.weights.all()?, &layer, call.activation, call.words)
    }

    fn backward(&self, call: &Call, mut step: Backward) -> Result<Stepped> {
        let state = step.state()?;
        let Backward { x, y, grad_y, layout, betas, .. } = step;
        let (relu, grad_y) = call.before_relu(y, grad_y)?;
        let layer = self.layer(call, layout)?;
        let (grad_x, state) =
            conv_update(state, &layer, x, relu, grad_y, call.words, betas, call.wants_grad_x)?;
        Ok(Stepped { grad_x, state: Some(state) })
    }

    fn composed(&self, input: Shape, weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        let ([channels, height, width], [rows, columns]) = (input, self.kernel);
        let [batch, _] = x.dims();
        let outputs = self.channels();
        let (matrix, bias) = match self.kernel(input) {
            Kernel::Matrix { .. } => {
                let weight = weights[0].clone().reshape([channels, rows, columns, outputs]);
                (weight.permute([3, 0, 1, 2]), weights.get(1))
            }
            Kernel::TwoCores(spec) => {
                let MpsSpec { m, n, j, l, k } = spec;
                let a = weights[0].clone().reshape(spec.a_shape()).swap_dims(1, 2);
                let c = weights[1].clone().reshape(spec.c_shape()).swap_dims(0, 1);
                let w = a.reshape([m * j, k]).matmul(c.reshape([k, l * n]));
                let w = w.reshape([m, j, l, n]).permute([0, 3, 1, 2]);
                (w.reshape([m * n, j, rows, columns]), weights.get(2))
            }
        };
        let x = x.reshape([batch, channels, height, width]);
        let options = ConvOptions::new([self.stride; 2], [self.padding; 2], [1; 2], 1);
        let y = module::conv2d(x, matrix, bias.cloned(), options);
        y.reshape([batch, features([outputs, 1, 1]) * self.positions(input)])
    }
}
