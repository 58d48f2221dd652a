//! Convolutions on the CPU, [`LANES`] samples at a time: they lie side by side in a register, so that a term of a sum lies at one
//! offset for all of them, and no patch is ever written. Two cores are two steps, of which the first is shared by all taps:
//!
//! ```text
//! T[(m k), place] = Σ_j A[m,k,j] X[j, place]          Y[m, n, position] = Σ_{k,l} C[l,k,n] T[m, k, position + l]
//! ```
//!
//! which takes `M K (J + L N)` multiply-adds for a place, where the layer of two cores takes `J K N (L + M)`.

mod grid;
mod pool;

use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;

use grid::{Grid, Planes};

use super::chain::{from_lanes, into_lanes};
use super::simd::{Gathered, LANES, Outer, Places, add};
use super::{contiguous, filled, pool as threads, samples_per_partial, tensor, values};
use crate::mps::MpsSpec;
use crate::op::conv::{ConvKernels, ConvLayer, Kernel};

/// The weights as the products take them.
enum Packed<'a> {
    /// `W[(c l), o]`, and `[(o l), c]`.
    Matrix { outputs: usize, forward: &'a [f32], backward: Vec<f32> },
    /// `A[j, (m k)]` and `[(m k), j]`, `C[(k l), n]` and `[(n l), k]`.
    TwoCores { spec: MpsSpec, a: Vec<f32>, a_back: &'a [f32], c: Vec<f32>, c_back: Vec<f32> },
}

/// `[p, q, r]` in another order: element `(i, j, k)` of the result lies where the strides say.
fn permuted(from: &[f32], extents: [usize; 3], strides: [usize; 3]) -> Vec<f32> {
    super::pack(from, extents, strides)
}

impl<'a> Packed<'a> {
    fn of(layer: &ConvLayer, weights: &'a [f32]) -> Self {
        let (channels, taps) = (layer.window.input[0], layer.window.taps());
        match layer.kernel {
            Kernel::Matrix { outputs } => {
                let forward = &weights[layer.begins[0]..][..channels * taps * outputs];
                let strides = [1, outputs, taps * outputs];
                let backward = permuted(forward, [outputs, taps, channels], strides);
                Self::Matrix { outputs, forward, backward }
            }
            Kernel::TwoCores(spec) => {
                let MpsSpec { m, n, j, l, k } = spec;
                let a_back = &weights[layer.begins[0]..][..m * k * j];
                let c = &weights[layer.begins[1]..][..l * k * n];
                Self::TwoCores {
                    spec,
                    a: permuted(a_back, [1, j, m * k], [0, 1, j]),
                    a_back,
                    c_back: permuted(c, [n, l, k], [1, k * n, n]),
                    c: permuted(c, [k, l, n], [n, k * n, 1]),
                }
            }
        }
    }
}

impl Packed<'_> {
    /// Planes that one product takes: of the image, or of `T`.
    fn planes(&self, layer: &ConvLayer) -> usize {
        match self {
            Packed::Matrix { .. } => layer.window.input[0],
            Packed::TwoCores { spec, .. } => spec.k,
        }
    }

    /// The output, from images with their padding, or from `T`; then the bias, one number for each channel.
    fn apply(
        &self,
        grid: &Grid,
        taps: &[usize],
        [padded, t]: [&[f32]; 2],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        match self {
            Packed::Matrix { outputs, forward, .. } => {
                grid.forward(forward, taps, padded, *outputs, out);
            }
            Packed::TwoCores { spec, c, .. } => {
                let of_m = t
                    .chunks_exact(spec.k * grid.padded.plane())
                    .zip(out.chunks_exact_mut(spec.n * grid.output.plane()));
                of_m.for_each(|(t, out)| grid.forward(c, taps, t, spec.n, out));
            }
        }
        for (plane, bias) in out.chunks_exact_mut(grid.output.plane()).zip(bias.unwrap_or_default())
        {
            plane.iter_mut().for_each(|number| *number += bias);
        }
    }
}

/// Buffers of a block of samples. Borders are 0 from the beginning and never overwritten.
struct Scratch {
    flat: Vec<f32>,
    padded: Vec<f32>,
    /// `T` with its padding.
    between: Vec<f32>,
    out: Vec<f32>,
    /// After the pooling, where there is one, and the gradient by it.
    pooled: Vec<f32>,
    /// The gradient by the output.
    d: Vec<f32>,
    spread: Vec<f32>,
    /// The gradient by `T`.
    between_grad: Vec<f32>,
}

/// What passes through a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    /// Gradients by the weights alone. Through a matrix none pass then.
    Weights,
    /// Gradients by the input, too.
    Input,
}

impl Scratch {
    fn new(grid: &Grid, layer: &ConvLayer, pass: Pass) -> Self {
        let (channels, outputs) = (layer.window.input[0], layer.kernel.outputs());
        let between = match layer.kernel {
            Kernel::Matrix { .. } => 0,
            Kernel::TwoCores(spec) => spec.m * spec.k,
        };
        let zeros = |planes: usize, of: Planes| vec![0.0; planes * of.plane()];
        let if_so = |is_so: bool, count: usize| if is_so { count } else { 0 };
        let (is_back, pooled) =
            (pass != Pass::Forward, layer.pool.map_or(0, |pool| pool.outputs()));
        let spreads = pass == Pass::Input || (is_back && between > 0);
        Self {
            flat: zeros(channels, grid.image),
            padded: zeros(channels, grid.padded),
            between: zeros(between, grid.padded),
            // Without pooling, the gradients need no output.
            out: zeros(if_so(!is_back || pooled > 0, outputs), grid.output),
            pooled: vec![0.0; pooled * LANES],
            d: zeros(if_so(is_back, outputs), grid.output),
            spread: zeros(if_so(spreads, outputs), grid.spread),
            between_grad: zeros(if_so(spreads, between), grid.image),
        }
    }
}

/// `T`, from images with their padding.
fn between(grid: &Grid, (spec, a): (&MpsSpec, &[f32]), padded: &[f32], between: &mut [f32]) {
    let padding = grid.window.padding;
    let offsets: Vec<usize> = (0..spec.j).map(|j| j * grid.padded.plane()).collect();
    let (image, at) = (grid.image, grid.padded.at(padding, padding));
    let by_row = grid.padded.at(1, 0);
    Gathered {
        rows: spec.m * spec.k,
        left: a,
        offsets: &offsets,
        right: &padded[at..],
        outer: Places { extent: image.rows, right: by_row, out: by_row },
        inner: Places { extent: image.columns, right: LANES, out: LANES },
    }
    .into(&mut between[at..], grid.padded.plane(), grid.arch);
}

/// Sums of gradients, by lanes: of the matrix `[(c l), o]`, or of `A` as `[(m k), j]` and `C` as `[(k l), n]`; and of the bias.
struct Sums {
    weights: [Vec<f32>; 2],
    bias: Vec<f32>,
}

impl Sums {
    fn new(layer: &ConvLayer) -> Self {
        let (channels, taps, outputs) =
            (layer.window.input[0], layer.window.taps(), layer.kernel.outputs());
        let counts = match layer.kernel {
            Kernel::Matrix { .. } => [channels * taps * outputs, 0],
            Kernel::TwoCores(MpsSpec { m, n, j, l, k }) => [m * k * j, l * k * n],
        };
        let zeros = |count: usize| vec![0.0; count * LANES];
        Self { weights: counts.map(zeros), bias: zeros(outputs) }
    }

    /// The lanes added up.
    fn added(sums: &[f32]) -> Vec<f32> {
        sums.chunks_exact(LANES).map(|lanes| lanes.iter().sum()).collect()
    }

    /// The gradients as the layout has them.
    fn into_row(self, layer: &ConvLayer) -> Vec<f32> {
        let mut row = vec![0.0; layer.stride];
        let [first, second] = self.weights.map(|sums| Self::added(&sums));
        let mut put = |begin: usize, numbers: &[f32]| {
            row[begin..][..numbers.len()].copy_from_slice(numbers);
        };
        put(layer.begins[0], &first);
        if let Kernel::TwoCores(MpsSpec { l, k, n, .. }) = layer.kernel {
            put(layer.begins[1], &permuted(&second, [l, k, n], [n, l * n, 1]));
        }
        if let Some(begin) = layer.bias {
            put(begin, &Self::added(&self.bias));
        }
        row
    }
}

impl ConvKernels for Flex {
    fn convolve(layer: &ConvLayer, x: FlexTensor, weights: FlexTensor) -> FlexTensor {
        let [x, weights] = [x, weights].map(contiguous);
        let [x, weights] = [&x, &weights].map(values::<f32>);
        let (grid, packed) = (Grid::new(layer.window), Packed::of(layer, weights));
        let inputs: usize = layer.window.input.iter().product();
        let outputs = layer.outputs();
        let bias = layer.bias.map(|begin| &weights[begin..][..layer.kernel.outputs()]);
        let (taps, pool) =
            (grid.forward_offsets(packed.planes(layer)), layer.pool.map(pool::Grid::new));
        let all = |y: &mut [MaybeUninit<f32>]| {
            let blocks = x.chunks(LANES * inputs).zip(y.chunks_mut(LANES * outputs));
            let scratch = || Scratch::new(&grid, layer, Pass::Forward);
            threads::for_each_with(blocks, scratch, |scratch, (x, y)| {
                let Scratch { flat, padded, between: t, out, pooled, .. } = scratch;
                grid.pad(x, flat, padded);
                if let Packed::TwoCores { spec, a, .. } = &packed {
                    between(&grid, (spec, a), padded, t);
                }
                packed.apply(&grid, &taps, [padded, t], bias, out);
                let out = match &pool {
                    None => out,
                    Some(pool) => {
                        pool.forward(out, pooled);
                        pooled
                    }
                };
                from_lanes(out, outputs, y, grid.arch);
            });
        };
        let batch = x.len() / inputs;
        // SAFETY: every block is written whole.
        tensor(unsafe { filled(batch * outputs, all) }, [batch, outputs])
    }

    fn convolve_grads(
        layer: &ConvLayer,
        x: FlexTensor,
        weights: FlexTensor,
        grad_y: FlexTensor,
        wants_x: bool,
    ) -> (FlexTensor, Option<FlexTensor>) {
        let [x, weights, grad_y] = [x, weights, grad_y].map(contiguous);
        let [x, weights, grad_y] = [&x, &weights, &grad_y].map(values::<f32>);
        let (grid, packed) = (Grid::new(layer.window), Packed::of(layer, weights));
        let inputs: usize = layer.window.input.iter().product();
        let outputs = layer.outputs();
        let bias = layer.bias.map(|begin| &weights[begin..][..layer.kernel.outputs()]);
        let pool = layer.pool.map(pool::Grid::new);
        let batch = x.len() / inputs;
        let group = samples_per_partial(batch);
        let [out_planes, between_planes] = match &packed {
            Packed::Matrix { outputs, .. } => [*outputs, 0],
            Packed::TwoCores { spec, .. } => [spec.n, spec.m * spec.k],
        };
        let taps = grid.forward_offsets(packed.planes(layer));
        let offsets = grid.backward_offsets(out_planes);
        let between_offsets: Vec<usize> =
            (0..between_planes).map(|plane| plane * grid.image.plane()).collect();
        let pass = if wants_x { Pass::Input } else { Pass::Weights };
        let block = |scratch: &mut Scratch, (x, grad_y): (&[f32], &[f32]), sums: &mut Sums| {
            let Scratch { flat, padded, between: t, out, pooled, d, spread, between_grad } =
                scratch;
            grid.pad(x, flat, padded);
            if let Packed::TwoCores { spec, a, .. } = &packed {
                between(&grid, (spec, a), padded, t);
            }
            match &pool {
                None => into_lanes(grad_y, outputs, d, grid.arch),
                // Which number a maximum has taken is seen in the output. To compute that again takes less than to
                // write it in the forward pass and read it here, with the gradient by it: see `Stack::stages_for`.
                Some(pool) => {
                    packed.apply(&grid, &taps, [padded, t], bias, out);
                    into_lanes(grad_y, outputs, pooled, grid.arch);
                    pool.backward(out, pooled, d);
                }
            }
            for (sum, plane) in
                sums.bias.chunks_exact_mut(LANES).zip(d.chunks_exact(grid.output.plane()))
            {
                plane.chunks_exact(LANES).for_each(|lanes| add(sum, lanes));
            }
            if !spread.is_empty() {
                grid.spread(d, spread);
            }
            let [first, second] = &mut sums.weights;
            match &packed {
                Packed::Matrix { outputs, backward, .. } => {
                    let channels = layer.window.input[0];
                    grid.tap_grads((padded, &taps), (d, *outputs), first);
                    if wants_x {
                        grid.backward(backward, &offsets, spread, channels, flat);
                    }
                }
                Packed::TwoCores { spec, a_back, c_back, .. } => {
                    let MpsSpec { n, j, k, .. } = *spec;
                    let of_m = t
                        .chunks_exact(k * grid.padded.plane())
                        .zip(d.chunks_exact(n * grid.output.plane()));
                    of_m.for_each(|(t, d)| grid.tap_grads((t, &taps), (d, n), second));
                    let of_m = spread
                        .chunks_exact(n * grid.spread.plane())
                        .zip(between_grad.chunks_exact_mut(k * grid.image.plane()));
                    of_m.for_each(|(d, t)| grid.backward(c_back, &offsets, d, k, t));
                    let (image, padding) = (grid.image, grid.window.padding);
                    Outer {
                        p: image.rows,
                        r: image.columns,
                        columns: j,
                        left: between_grad,
                        offsets: &between_offsets,
                        left_strides: [image.at(1, 0), LANES],
                        right: &padded[grid.padded.at(padding, padding)..],
                        right_strides: [grid.padded.plane(), grid.padded.at(1, 0), LANES],
                    }
                    .add_to(first, grid.arch);
                    if wants_x {
                        Gathered {
                            rows: j,
                            left: a_back,
                            offsets: &between_offsets,
                            right: between_grad,
                            outer: Places { extent: 1, right: 0, out: 0 },
                            inner: Places {
                                extent: image.rows * image.columns,
                                right: LANES,
                                out: LANES,
                            },
                        }
                        .into(flat, image.plane(), grid.arch);
                    }
                }
            }
        };
        let all = |grad_x: Option<&mut [MaybeUninit<f32>]>| {
            let mut grad_x = grad_x.map(|grad_x| grad_x.chunks_mut(group * inputs));
            let parts = std::iter::from_fn(|| Some(grad_x.as_mut().and_then(Iterator::next)));
            let groups = x.chunks(group * inputs).zip(grad_y.chunks(group * outputs)).zip(parts);
            let scratch = || Scratch::new(&grid, layer, pass);
            threads::map_with(groups, scratch, |scratch, ((x, grad_y), mut grad_x)| {
                let mut sums = Sums::new(layer);
                let blocks = x.chunks(LANES * inputs).zip(grad_y.chunks(LANES * outputs));
                for (at, (x, grad_y)) in blocks.enumerate() {
                    block(scratch, (x, grad_y), &mut sums);
                    if let Some(grad_x) = &mut grad_x {
                        let rows = &mut grad_x[at * LANES * inputs..][..x.len()];
                        from_lanes(&scratch.flat, inputs, rows, grid.arch);
                    }
                }
                sums
            })
        };
        let mut partials = Vec::new();
        let grad_x = wants_x.then(|| {
            // SAFETY: every block writes the gradient by its own samples.
            let grad_x = unsafe { filled(batch * inputs, |grad_x| partials = all(Some(grad_x))) };
            tensor(grad_x, [batch, inputs])
        });
        if !wants_x {
            partials = all(None);
        }
        let mut sums = Sums::new(layer);
        for partial in &partials {
            add(&mut sums.bias, &partial.bias);
            for (sum, partial) in sums.weights.iter_mut().zip(&partial.weights) {
                add(sum, partial);
            }
        }
        (tensor(sums.into_row(layer), [1, layer.stride]), grad_x)
    }
}
