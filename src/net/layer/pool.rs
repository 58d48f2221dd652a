//! `maxpool` and `avgpool`: the largest number, or the mean, of each channel under a kernel.

use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Tensor, module};
use serde::{Deserialize, Serialize};

use crate::mps::conv::Window;
use crate::net::{Backward, Call, Kind, Shape, Stepped, features};
use crate::op::conv::{Pool, pooled, pooled_grad};
use crate::{Error, Result};

/// Most numbers under the kernel of a maximum: for each of them the gradient looks at all.
const MOST_TAPS: usize = 225;

/// On the CPU every thread has a channel of 16 samples; counted for 16 threads.
const BLOCKS: usize = 16 * 16;

/// The largest number of each channel under a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// From one position of the kernel to the next; without it, as far as the kernel is high, so that none overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
}

/// The mean of each channel under a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// From one position of the kernel to the next; without it, as far as the kernel is high, so that none overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
}

/// The position of a kernel, checked.
fn window(input: Shape, kernel: [usize; 2], stride: Option<usize>) -> Result<Window> {
    Window::new(input, kernel, stride.unwrap_or(kernel[0].max(1)), 0)
}

fn shape(window: &Window) -> Shape {
    let [rows, columns] = window.output();
    [window.input[0], rows, columns]
}

fn backward(call: &Call, step: Backward, pool: Pool) -> Result<Stepped> {
    let grad_y = call.activate_grad(step.y, step.grad_y)?;
    let grad_x = call.wants_grad_x.then(|| pooled_grad(step.x, grad_y, pool)).transpose()?;
    Ok(Stepped { grad_x, state: step.state })
}

fn summary(window: &Window) -> String {
    let ([rows, columns], stride) = (window.kernel, window.stride);
    format!("{rows}x{columns}, stride {stride}")
}

fn image(input: Shape, x: Tensor<2>) -> Tensor<4> {
    let ([batch, _], [channels, height, width]) = (x.dims(), input);
    x.reshape([batch, channels, height, width])
}

macro_rules! pool {
    ($kind:ident, $mean:literal, $composed:expr) => {
        impl $kind {
            /// Where its kernel lies.
            pub(crate) fn window(&self, input: Shape) -> Result<Window> {
                window(input, self.kernel, self.stride)
            }

            /// What it takes of an image.
            pub(crate) fn pool(&self, input: Shape) -> Result<Pool> {
                Ok(Pool { window: self.window(input)?, mean: $mean })
            }
        }

        impl Kind for $kind {
            fn output(&self, input: Shape) -> Result<Shape> {
                let Pool { window, mean } = self.pool(input)?;
                if !mean && window.taps() > MOST_TAPS {
                    let [rows, columns] = self.kernel;
                    let problem = format!("{rows},{columns}: expected at most {MOST_TAPS} numbers");
                    return Err(Error::argument("kernel", problem));
                }
                Ok(shape(&window))
            }

            fn scratch(&self, input: Shape, _batch: usize) -> [u64; 2] {
                let numbers = |pool: Pool| {
                    let [_, height, width] = input;
                    let (plane, positions) =
                        (height * width, pool.window.output().iter().product::<usize>());
                    [plane + positions, 2 * plane + positions]
                        .map(|numbers| (BLOCKS * numbers) as u64)
                };
                self.pool(input).map_or([0; 2], numbers)
            }

            fn takes_relu_after(&self) -> bool {
                !$mean
            }

            fn summary(&self, input: Shape) -> String {
                self.pool(input).map_or_else(|_| String::new(), |pool| summary(&pool.window))
            }

            fn forward(&self, call: &Call, x: Tensor<2>) -> Result<Tensor<2>> {
                call.activate(pooled(x, self.pool(call.input)?)?)
            }

            fn backward(&self, call: &Call, step: Backward) -> Result<Stepped> {
                backward(call, step, self.pool(call.input)?)
            }

            fn composed(&self, input: Shape, _weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
                let ([batch, _], stride) = (x.dims(), self.stride.unwrap_or(self.kernel[0]));
                let y: Tensor<4> = $composed(image(input, x), self.kernel, [stride; 2]);
                let [_, channels, rows, columns] = y.dims();
                y.reshape([batch, features([channels, rows, columns])])
            }
        }
    };
}

pool!(MaxPool, false, |x, kernel, stride| {
    module::max_pool2d(x, MaxPoolOptions::new(kernel).with_stride(stride))
});
pool!(AvgPool, true, |x, kernel, stride| {
    module::avg_pool2d(x, AvgPoolOptions::new(kernel).with_stride(stride))
});
