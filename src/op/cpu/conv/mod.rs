//! Convolutions on the CPU, [`LANES`] samples at a time: they lie side by side in a register, so that a term of a sum lies at one
//! offset for all of them, and no patch is ever written. Two cores are two steps, of which the first is shared by all taps:
//!
//! ```text
//! T[(m k), place] = Σ_j A[m,k,j] X[j, place]          Y[m, n, position] = Σ_{k,l} C[l,k,n] T[m, k, position + l]
//! ```
//!
//! which takes `M K (J + L N)` multiply-adds for a place, where the layer of two cores takes `J K N (L + M)`.

mod pool;

use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::Arch;

use super::chain::{from_lanes, into_lanes};
use super::simd::{Gathered, LANES, Outer, Places, add};
use super::{contiguous, filled, pool as threads, samples_per_partial, tensor, values};
use crate::mps::MpsSpec;
use crate::mps::conv::Window;
use crate::op::conv::{ConvKernels, ConvLayer, Kernel};

/// Planes of a block of samples: one for each channel, of rows and columns.
#[derive(Clone, Copy)]
struct Planes {
    rows: usize,
    columns: usize,
}

impl Planes {
    /// Numbers of a plane, for all lanes.
    fn plane(self) -> usize {
        self.rows * self.columns * LANES
    }

    /// Where a place lies in a plane.
    fn at(self, row: usize, column: usize) -> usize {
        (row * self.columns + column) * LANES
    }
}

/// What every block needs to know.
struct Grid {
    window: Window,
    /// The image.
    image: Planes,
    /// The image with its padding.
    padded: Planes,
    /// The output.
    output: Planes,
    /// The gradient by the output as the gradient by the image reads it: as far apart as the stride, with a border of one
    /// kernel less one, so that it is a convolution of stride 1 with the kernel turned around.
    spread: Planes,
    arch: Arch,
}

impl Grid {
    fn new(window: Window) -> Self {
        let ([_, height, width], [kernel_rows, kernel_columns]) = (window.input, window.kernel);
        let (padding, [rows, columns]) = (2 * window.padding, window.output());
        Self {
            window,
            image: Planes { rows: height, columns: width },
            padded: Planes { rows: height + padding, columns: width + padding },
            output: Planes { rows, columns },
            spread: Planes { rows: height + kernel_rows - 1, columns: width + kernel_columns - 1 },
            arch: Arch::new(),
        }
    }

    /// Rows and columns of all taps.
    fn taps(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let columns = self.window.kernel[1];
        (0..self.window.taps()).map(move |tap| [tap / columns, tap % columns])
    }

    /// The offsets of `count` planes' taps in padded planes, plane by plane.
    fn forward_offsets(&self, count: usize) -> Vec<usize> {
        let of_plane = |plane: usize| {
            self.taps()
                .map(move |[row, column]| plane * self.padded.plane() + self.padded.at(row, column))
        };
        (0..count).flat_map(of_plane).collect()
    }

    /// The same of the kernel turned around, in spread planes.
    fn backward_offsets(&self, count: usize) -> Vec<usize> {
        let [rows, columns] = self.window.kernel;
        let of_plane = |plane: usize| {
            self.taps().map(move |[row, column]| {
                plane * self.spread.plane() + self.spread.at(rows - 1 - row, columns - 1 - column)
            })
        };
        (0..count).flat_map(of_plane).collect()
    }

    /// A convolution: `out[i, position] = Σ_t left[t, i] planes[offsets[t] + position]`.
    fn forward(
        &self,
        left: &[f32],
        offsets: &[usize],
        planes: &[f32],
        rows: usize,
        out: &mut [f32],
    ) {
        let stride = self.window.stride;
        let mode = |extent, right, out| Places { extent, right, out };
        let outer = mode(self.output.rows, self.padded.at(stride, 0), self.output.at(1, 0));
        let inner = mode(self.output.columns, stride * LANES, LANES);
        Gathered { rows, left, offsets, right: planes, outer, inner }.into(
            out,
            self.output.plane(),
            self.arch,
        );
    }

    /// Its transpose: `out[i, place] = Σ_t left[t, i] spread[offsets[t] + place]`, into planes of the image.
    fn backward(
        &self,
        left: &[f32],
        offsets: &[usize],
        spread: &[f32],
        rows: usize,
        out: &mut [f32],
    ) {
        let mode = |extent, right, out| Places { extent, right, out };
        let outer = mode(self.image.rows, self.spread.at(1, 0), self.image.at(1, 0));
        let inner = mode(self.image.columns, LANES, LANES);
        Gathered { rows, left, offsets, right: spread, outer, inner }.into(
            out,
            self.image.plane(),
            self.arch,
        );
    }

    /// Adds the gradients by the weights of all taps, the rows `(plane, tap)` as [`Grid::forward_offsets`] has them:
    /// `sums[row, j, lane] += Σ_position planes[position + row] d[j, position]`.
    fn tap_grads(
        &self,
        (planes, offsets): (&[f32], &[usize]),
        (d, columns): (&[f32], usize),
        sums: &mut [f32],
    ) {
        let stride = self.window.stride;
        Outer {
            p: self.output.rows,
            r: self.output.columns,
            columns,
            left: planes,
            offsets,
            left_strides: [self.padded.at(stride, 0), stride * LANES],
            right: d,
            right_strides: [self.output.plane(), self.output.at(1, 0), LANES],
        }
        .add_to(sums, self.arch);
    }

    /// Copies planes into larger ones, from a place on, so far apart; what lies between is left.
    fn copy(
        (from, small): (&[f32], Planes),
        (to, large): (&mut [f32], Planes),
        [row, column]: [usize; 2],
        stride: usize,
    ) {
        for (from, to) in from.chunks_exact(small.plane()).zip(to.chunks_exact_mut(large.plane())) {
            for (at, from) in from.chunks_exact(small.at(1, 0)).enumerate() {
                let to = &mut to[large.at(row + at * stride, column)..];
                if stride == 1 {
                    to[..from.len()].copy_from_slice(from);
                    continue;
                }
                let places = to.chunks_mut(stride * LANES).zip(from.chunks_exact(LANES));
                places.for_each(|(to, from)| to[..LANES].copy_from_slice(from));
            }
        }
    }

    /// The images of a block with their padding, which is there from the beginning.
    fn pad(&self, x: &[f32], flat: &mut [f32], padded: &mut [f32]) {
        let numbers = self.window.input.iter().product();
        into_lanes(x, numbers, flat, self.arch);
        let padding = self.window.padding;
        let flat = &flat[..numbers * LANES];
        Self::copy((flat, self.image), (padded, self.padded), [padding, padding], 1);
    }

    /// The gradient by the output as [`Grid::backward`] reads it; what lies between is 0 from the beginning.
    fn spread(&self, d: &[f32], spread: &mut [f32]) {
        let ([rows, columns], padding) = (self.window.kernel, self.window.padding);
        let begin = [rows - 1 - padding, columns - 1 - padding];
        Self::copy((d, self.output), (spread, self.spread), begin, self.window.stride);
    }
}

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
