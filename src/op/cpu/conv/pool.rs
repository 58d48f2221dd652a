//! Pooling on the CPU: a pass over the samples, which are shared out among the threads.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;

use crate::mps::conv::Window;
use crate::op::conv::{Pool, PoolOps};
use crate::op::cpu::{contiguous, pool, tensor, values};

/// The offsets of the taps of a kernel in a channel.
fn offsets(window: &Window) -> Vec<usize> {
    let [_, _, width] = window.input;
    let [kernel_rows, kernel_columns] = window.kernel;
    let row = |row: usize| (0..kernel_columns).map(move |column| row * width + column);
    (0..kernel_rows).flat_map(row).collect()
}

/// Where the kernel begins in a channel, at every position.
fn begins(window: &Window) -> Vec<usize> {
    let [_, _, width] = window.input;
    let ([rows, columns], stride) = (window.output(), window.stride);
    let row = |row: usize| (0..columns).map(move |column| (row * width + column) * stride);
    (0..rows).flat_map(row).collect()
}

impl PoolOps for Flex {
    fn pool(x: FlexTensor, Pool { window, mean }: Pool) -> FlexTensor {
        let x = contiguous(x);
        let x = values::<f32>(&x);
        let [channels, height, width] = window.input;
        let (offsets, begins, channel) = (offsets(&window), begins(&window), height * width);
        let (image, outputs) = (channels * channel, channels * begins.len());
        let batch = x.len() / image;
        let scale = 1.0 / offsets.len() as f32;
        let mut y = vec![0.0; batch * outputs];
        pool::for_each(x.chunks(image).zip(y.chunks_mut(outputs)), |(x, y)| {
            let of_channels = x.chunks_exact(channel).zip(y.chunks_exact_mut(begins.len()));
            for (x, y) in of_channels {
                for (y, &begin) in y.iter_mut().zip(&begins) {
                    let under = offsets.iter().map(|offset| x[begin + offset]);
                    *y = if mean {
                        under.sum::<f32>() * scale
                    } else {
                        under.fold(f32::NEG_INFINITY, f32::max)
                    };
                }
            }
        });
        tensor(y, [batch, outputs])
    }

    fn pool_grad(x: FlexTensor, grad_y: FlexTensor, Pool { window, mean }: Pool) -> FlexTensor {
        let [x, grad_y] = [x, grad_y].map(contiguous);
        let [x, grad_y] = [&x, &grad_y].map(values::<f32>);
        let [channels, height, width] = window.input;
        let (offsets, begins, channel) = (offsets(&window), begins(&window), height * width);
        let (image, outputs) = (channels * channel, channels * begins.len());
        let scale = 1.0 / offsets.len() as f32;
        let mut grad_x = vec![0.0; x.len()];
        let samples = x.chunks(image).zip(grad_y.chunks(outputs)).zip(grad_x.chunks_mut(image));
        pool::for_each(samples, |((x, grad_y), grad_x)| {
            let of_channels = x
                .chunks_exact(channel)
                .zip(grad_y.chunks_exact(begins.len()))
                .zip(grad_x.chunks_exact_mut(channel));
            for ((x, grad_y), grad_x) in of_channels {
                for (grad, &begin) in grad_y.iter().zip(&begins) {
                    if mean {
                        offsets.iter().for_each(|offset| grad_x[begin + offset] += grad * scale);
                        continue;
                    }
                    // The first of the largest.
                    let mut largest = begin;
                    for offset in &offsets {
                        if x[begin + offset] > x[largest] {
                            largest = begin + offset;
                        }
                    }
                    grad_x[largest] += grad;
                }
            }
        });
        tensor(grad_x, [x.len() / image, image])
    }
}
