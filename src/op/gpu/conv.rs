//! Convolutions and pooling on adapters: one pass gathers the patches, and the layer's kernels compute them like samples of a
//! larger batch.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Shape, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{empty, launch, part};
use super::params::{PatchesGradParams, PatchesParams, PoolGradParams, PoolParams, count};
use crate::mps::MpsSpec;
use crate::mps::conv::Window;
use crate::op::MpsOps;
use crate::op::conv::{ConvKernels, ConvLayer, Kernel, Pool, PoolOps};
use crate::op::kernels::LayerOps;
use crate::op::layer::forward;
use crate::op::training::TrainingOps;

/// Most numbers of the patches of samples that are computed at once: half of what WebGPU guarantees one binding may hold. They
/// are channels times taps times positions, many times as many as the image.
const MOST_AT_ONCE: usize = 16 << 20;

/// The samples of a batch, as many at once as their patches allow.
fn parts(layer: &ConvLayer, batch: usize) -> impl ExactSizeIterator<Item = Slice> + use<> {
    let patches = layer.positions() * layer.window.input[0] * layer.window.taps();
    let at_once = (MOST_AT_ONCE / patches).max(1);
    (0..batch.max(1)).step_by(at_once).map(move |begin| (begin..batch.min(begin + at_once)).into())
}

/// Some samples.
fn of_samples(tensor: &CubeTensor, samples: Slice) -> CubeTensor {
    CubeBackend::float_slice(tensor.clone(), &[samples])
}

fn numbers(window: &Window) -> usize {
    window.input.iter().product()
}

/// The patches `[b·positions, channels·taps]` of images.
fn patches(x: CubeTensor, window: &Window) -> CubeTensor {
    let x = into_contiguous(x);
    let [batch, _] = x.meta.shape().dims();
    let [rows, columns] = window.output();
    let patches = empty(&x, [batch * rows * columns, window.input[0] * window.taps()]);
    let written = patches.meta.shape().num_elements();
    let params = PatchesParams { count: count(written), window: window.into() };
    launch(written, &[&x], &patches, &params);
    patches
}

/// The gradient by the images from that by their patches.
fn patches_grad(grad: CubeTensor, window: &Window, batch: usize) -> CubeTensor {
    let grad = into_contiguous(grad);
    let grad_x = empty(&grad, [batch, numbers(window)]);
    let written = batch * numbers(window);
    let params = PatchesGradParams { count: count(written), window: window.into() };
    launch(written, &[&grad], &grad_x, &params);
    grad_x
}

/// The matrix `[channels·taps, channels']`.
fn matrix(layer: &ConvLayer, weights: &CubeTensor, outputs: usize) -> CubeTensor {
    let inputs = layer.window.input[0] * layer.window.taps();
    part(weights, layer.begins[0], [inputs, outputs])
}

fn cores(layer: &ConvLayer, weights: &CubeTensor, spec: &MpsSpec) -> [CubeTensor; 2] {
    [part(weights, layer.begins[0], spec.a_shape()), part(weights, layer.begins[1], spec.c_shape())]
}

fn reshape<const D: usize>(tensor: CubeTensor, shape: [usize; D]) -> CubeTensor {
    CubeBackend::float_reshape(tensor, Shape::new(shape))
}

/// The convolution of samples whose patches fit.
fn convolved(layer: &ConvLayer, x: CubeTensor, weights: CubeTensor) -> CubeTensor {
    let (weights, positions) = (into_contiguous(weights), layer.positions());
    let ([batch, _], outputs) = (x.meta.shape().dims(), layer.kernel.outputs());
    let patches = patches(x, &layer.window);
    let y = match &layer.kernel {
        Kernel::Matrix { outputs } => {
            let bias = layer.bias.map(|begin| part(&weights, begin, [*outputs]));
            CubeBackend::biased_product(patches, matrix(layer, &weights, *outputs), bias)
        }
        Kernel::TwoCores(spec) => {
            let bias = layer.bias.map(|begin| part(&weights, begin, spec.bias_shape()));
            let [a, c] = cores(layer, &weights, spec);
            let patches = reshape(patches, [batch * positions, spec.j, spec.l]);
            forward::<CubeBackend>(patches, a, c, bias, None)
        }
    };
    // Channels before positions.
    let y = CubeBackend::float_swap_dims(reshape(y, [batch, positions, outputs]), 1, 2);
    let y = reshape(y, [batch, outputs * positions]);
    match layer.pool {
        Some(pool) => CubeBackend::pool(y, pool),
        None => y,
    }
}

/// The gradient by what is pooled, which is computed again.
fn before_pool(
    layer: &ConvLayer,
    x: &CubeTensor,
    weights: &CubeTensor,
    grad_y: CubeTensor,
) -> CubeTensor {
    let Some(pool) = layer.pool else { return grad_y };
    let layer = ConvLayer { pool: None, ..layer.clone() };
    CubeBackend::pool_grad(convolved(&layer, x.clone(), weights.clone()), grad_y, pool)
}

/// Its gradients.
fn grads(
    layer: &ConvLayer,
    x: CubeTensor,
    weights: CubeTensor,
    grad_y: CubeTensor,
    wants_x: bool,
) -> (CubeTensor, Option<CubeTensor>) {
    let (weights, positions) = (into_contiguous(weights), layer.positions());
    let ([batch, _], outputs) = (x.meta.shape().dims(), layer.kernel.outputs());
    let grad_y = before_pool(layer, &x, &weights, grad_y);
    let d = CubeBackend::float_swap_dims(reshape(grad_y, [batch, outputs, positions]), 1, 2);
    let d = reshape(d, [batch * positions, outputs]);
    let patches = patches(x, &layer.window);
    let (mut grads, grad_bias, grad_patches) = match &layer.kernel {
        Kernel::Matrix { outputs } => {
            let matrix = matrix(layer, &weights, *outputs);
            let grad_bias = CubeBackend::column_sums(d.clone());
            let grad_patches =
                wants_x.then(|| CubeBackend::matmul(d.clone(), matrix, [false, true]));
            let grad = CubeBackend::matmul(patches, d, [true, false]);
            (vec![(grad, layer.begins[0])], grad_bias, grad_patches)
        }
        Kernel::TwoCores(spec) => {
            let [a, c] = cores(layer, &weights, spec);
            let d = reshape(d, [batch * positions, spec.m, spec.n]);
            let grad_patches =
                wants_x.then(|| CubeBackend::mps_grad_x(a.clone(), c.clone(), d.clone()));
            let patches = reshape(patches, [batch * positions, spec.j, spec.l]);
            let (grad_a, grad_c, grad_bias) = CubeBackend::mps_grads(patches, a, c, d);
            let grads = vec![(grad_a, layer.begins[0]), (grad_c, layer.begins[1])];
            (grads, grad_bias, grad_patches)
        }
    };
    grads.extend(layer.bias.map(|begin| (grad_bias, begin)));
    let grad_x = grad_patches.map(|grad| patches_grad(grad, &layer.window, batch));
    (CubeBackend::side_by_side(grads, layer.stride), grad_x)
}

impl ConvKernels for CubeBackend {
    fn convolve(layer: &ConvLayer, x: CubeTensor, weights: CubeTensor) -> CubeTensor {
        let [batch, _] = x.meta.shape().dims();
        let parts = parts(layer, batch);
        if parts.len() == 1 {
            return convolved(layer, x, weights);
        }
        let of_part = |samples| convolved(layer, of_samples(&x, samples), weights.clone());
        Self::float_cat(parts.map(of_part).collect(), 0)
    }

    fn convolve_grads(
        layer: &ConvLayer,
        x: CubeTensor,
        weights: CubeTensor,
        grad_y: CubeTensor,
        wants_x: bool,
    ) -> (CubeTensor, Option<CubeTensor>) {
        let [batch, _] = x.meta.shape().dims();
        let parts = parts(layer, batch);
        if parts.len() == 1 {
            return grads(layer, x, weights, grad_y, wants_x);
        }
        let (mut of_weights, mut of_x) = (Vec::new(), Vec::new());
        for samples in parts {
            let [x, grad_y] = [&x, &grad_y].map(|tensor| of_samples(tensor, samples));
            let (own, grad_x) = grads(layer, x, weights.clone(), grad_y, wants_x);
            of_weights.push(own);
            of_x.extend(grad_x);
        }
        let sum = Self::column_sums(Self::float_cat(of_weights, 0));
        (reshape(sum, [1, layer.stride]), wants_x.then(|| Self::float_cat(of_x, 0)))
    }
}

impl PoolOps for CubeBackend {
    fn pool(x: CubeTensor, Pool { window, mean }: Pool) -> CubeTensor {
        let x = into_contiguous(x);
        let [batch, _] = x.meta.shape().dims();
        let [rows, columns] = window.output();
        let y = empty(&x, [batch, window.input[0] * rows * columns]);
        let written = y.meta.shape().num_elements();
        let params =
            PoolParams { count: count(written), window: (&window).into(), mean: u32::from(mean) };
        launch(written, &[&x], &y, &params);
        y
    }

    fn pool_grad(x: CubeTensor, grad_y: CubeTensor, Pool { window, mean }: Pool) -> CubeTensor {
        let [x, grad_y] = [x, grad_y].map(into_contiguous);
        let grad_x = empty(&x, x.meta.shape().clone());
        let written = grad_x.meta.shape().num_elements();
        let params = PoolGradParams {
            count: count(written),
            window: (&window).into(),
            mean: u32::from(mean),
        };
        launch(written, &[&x, &grad_y], &grad_x, &params);
        grad_x
    }
}
