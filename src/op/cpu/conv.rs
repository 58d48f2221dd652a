//! Convolutions and pooling on the CPU: passes over the samples, which are shared out among the threads.

use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;

use super::{contiguous, filled, pool, tensor, values};
use crate::mps::conv::Window;
use crate::op::conv::{ConvKernels, Pool, PoolOps};

/// What every row of the image under a tap is: the columns of the output for which it lies in the image, and where in the
/// image the first of them lies.
fn row_under(window: &Window, row: usize, tap: usize) -> Option<(std::ops::Range<usize>, usize)> {
    let [_, height, width] = window.input;
    let [_, columns] = window.output();
    let [tap_row, tap_column] = [tap / window.kernel[1], tap % window.kernel[1]];
    let at = (row * window.stride + tap_row).checked_sub(window.padding)?;
    if at >= height {
        return None;
    }
    // column · stride + tap_column - padding lies in 0..width.
    let first = window.padding.saturating_sub(tap_column).div_ceil(window.stride);
    let end = (width + window.padding).saturating_sub(tap_column).div_ceil(window.stride);
    let range = first..end.min(columns);
    let begin = (first * window.stride + tap_column).checked_sub(window.padding)?;
    (!range.is_empty()).then_some((range, at * width + begin))
}

impl ConvKernels for Flex {
    fn patches(x: FlexTensor, window: &Window) -> FlexTensor {
        let x = contiguous(x);
        let x = values::<f32>(&x);
        let ([channels, height, width], [rows, columns]) = (window.input, window.output());
        let (taps, image) = (window.taps(), channels * height * width);
        let numbers = channels * taps;
        let batch = x.len() / image;
        let all = |patches: &mut [MaybeUninit<f32>]| {
            let tasks = x.chunks(image).zip(patches.chunks_mut(rows * columns * numbers));
            pool::for_each(tasks, |(x, patches)| {
                patches.iter_mut().for_each(|number| _ = number.write(0.0));
                for (channel, x) in x.chunks_exact(height * width).enumerate() {
                    for row in 0..rows {
                        for tap in 0..taps {
                            let Some((range, begin)) = row_under(window, row, tap) else {
                                continue;
                            };
                            let from = x[begin..].iter().step_by(window.stride);
                            let first =
                                (row * columns + range.start) * numbers + channel * taps + tap;
                            let to = patches[first..].iter_mut().step_by(numbers);
                            to.zip(from)
                                .take(range.len())
                                .for_each(|(to, from)| _ = to.write(*from));
                        }
                    }
                }
            });
        };
        // SAFETY: every number is written.
        let patches = unsafe { filled(batch * rows * columns * numbers, all) };
        tensor(patches, [batch * rows * columns, numbers])
    }

    fn patches_grad(grad: FlexTensor, window: &Window, batch: usize) -> FlexTensor {
        let grad = contiguous(grad);
        let grad = values::<f32>(&grad);
        let ([channels, height, width], [rows, columns]) = (window.input, window.output());
        let (taps, image) = (window.taps(), channels * height * width);
        let numbers = channels * taps;
        let mut grad_x = vec![0.0; batch * image];
        let tasks = grad.chunks(rows * columns * numbers).zip(grad_x.chunks_mut(image));
        pool::for_each(tasks, |(grad, grad_x)| {
            for (channel, grad_x) in grad_x.chunks_exact_mut(height * width).enumerate() {
                for row in 0..rows {
                    for tap in 0..taps {
                        let Some((range, begin)) = row_under(window, row, tap) else { continue };
                        let first = (row * columns + range.start) * numbers + channel * taps + tap;
                        let from = grad[first..].iter().step_by(numbers);
                        let to = grad_x[begin..].iter_mut().step_by(window.stride);
                        to.zip(from).take(range.len()).for_each(|(to, from)| *to += from);
                    }
                }
            }
        });
        tensor(grad_x, [batch, image])
    }
}

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
