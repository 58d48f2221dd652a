//! The operations of a training step on adapters: launches of WGSL kernels, and on a GPU, where that is chosen, Burn's
//! matrix products.

use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::attributes::BufferIOAttr::{ReadOnly, ReadWrite, WriteOnly};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::burn_matmul;
use super::launch::{
    Active, elements, empty, launch_elements, launch_on, part, sum_rows, sum_to_one_stage,
};
use super::matmul;
use super::params::{
    ActivateParams, AdamParams, AverageParams, GatherImagesParams, ReluGradParams,
    SoftmaxCrossEntropyParams, count,
};
use super::target::target;
use crate::mps::strategy::Target;
use crate::op::activation::Activation;
use crate::op::choice::{Product, products};
use crate::op::kernels::LayerOps;
use crate::op::layer::{activate, before_relu};
use crate::op::software;
use crate::op::state::Betas;
use crate::op::training::{AffineUpdate, ROWS, TrainingOps};

fn extents(matrix: &CubeTensor) -> [usize; 2] {
    matrix.meta.shape().dims()
}

/// The tensor itself where its buffer is not shared, else a copy: something to write into.
fn own(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

impl TrainingOps for CubeBackend {
    fn gather_images(images: CubeTensor, order: CubeTensor, pixels: usize) -> CubeTensor {
        let [images, order] = [images, order].map(into_contiguous);
        let ([images_count, words], [batch]) = (extents(&images), order.meta.shape().dims());
        let gathered = empty(&images, [batch, pixels]);
        let buffers = [(&images, ReadOnly), (&order, ReadOnly), (&gathered, WriteOnly)];
        let params = GatherImagesParams {
            batch: count(batch),
            words: count(words),
            pixels: count(pixels),
            count: count(images_count),
        };
        let (wide, row) = elements(pixels);
        launch_elements(wide, batch * row, &buffers, &params);
        gathered
    }

    fn part(state: CubeTensor, begin: usize, shape: Shape) -> CubeTensor {
        part(&into_contiguous(state), begin, shape)
    }

    fn part_of_integers(numbers: CubeTensor, begin: usize, count: usize) -> CubeTensor {
        part(&into_contiguous(numbers), begin, [count])
    }

    fn affine(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        words: CubeTensor,
        activation: Activation,
    ) -> CubeTensor {
        let active = (activation != Activation::NONE).then_some((words, activation));
        match (target(&x.device), products()) {
            (Target::Gpu, Product::Own) => {
                matmul::multiply([x, weight], [false; 2], Some(&bias), active.as_ref())
            }
            (Target::Gpu, Product::Burn(kernel)) => {
                let input = burn_matmul::multiply([x, weight], [false; 2], kernel);
                matmul::finished(input, &into_contiguous(bias), Active::of(active.as_ref()))
            }
            _ => activate::<Self>(Self::biased_product(x, weight, Some(bias)), active),
        }
    }

    fn affine_grad_x(
        weight: CubeTensor,
        y: CubeTensor,
        grad_y: CubeTensor,
        relu: Option<f32>,
    ) -> CubeTensor {
        match (target(&y.device), products()) {
            (Target::Gpu, Product::Own) => matmul::grad_x(weight, y, grad_y, relu),
            _ => Self::matmul(before_relu::<CubeBackend>(y, grad_y, relu), weight, [false, true]),
        }
    }

    fn matmul(left: CubeTensor, right: CubeTensor, transposed: [bool; 2]) -> CubeTensor {
        match (target(&left.device), products()) {
            (Target::Gpu, Product::Own) => matmul::multiply([left, right], transposed, None, None),
            (Target::Gpu, Product::Burn(kernel)) => {
                burn_matmul::multiply([left, right], transposed, kernel)
            }
            _ => software::matmul::multiply([left, right], transposed, None),
        }
    }

    fn column_sums(matrix: CubeTensor) -> CubeTensor {
        let matrix = into_contiguous(matrix);
        let [rows, columns] = extents(&matrix);
        sum_rows(matrix, [rows, columns], [columns])
    }

    fn activate(x: CubeTensor, words: CubeTensor, activation: Activation) -> CubeTensor {
        let x = own(x);
        let (wide, invocations) = elements(x.meta.shape().num_elements());
        let words = into_contiguous(words);
        let active = (words, activation);
        let Active { relu, seed, threshold, scale, .. } = Active::of(Some(&active));
        let params = ActivateParams { count: count(invocations), relu, seed, threshold, scale };
        let buffers = [(&x, ReadWrite), (&active.0, ReadOnly)];
        launch_elements(wide, invocations, &buffers, &params);
        x
    }

    fn relu_grad(y: CubeTensor, grad_y: CubeTensor, scale: f32) -> CubeTensor {
        let (y, grad_y) = (into_contiguous(y), own(grad_y));
        let (wide, invocations) = elements(grad_y.meta.shape().num_elements());
        let params = ReluGradParams { count: count(invocations), scale };
        let buffers = [(&y, ReadOnly), (&grad_y, ReadWrite)];
        launch_elements(wide, invocations, &buffers, &params);
        grad_y
    }

    fn softmax_cross_entropy(
        logits: CubeTensor,
        labels: CubeTensor,
        order: CubeTensor,
        smoothing: f32,
    ) -> (CubeTensor, CubeTensor) {
        let logits = own(logits);
        let [labels, order] = [labels, order].map(into_contiguous);
        let [batch, classes] = extents(&logits);
        let images = labels.meta.shape().num_elements();
        let groups = batch.div_ceil(ROWS);
        let sums = empty(&logits, [groups, 2]);
        let params = SoftmaxCrossEntropyParams {
            batch: count(batch),
            classes: count(classes),
            count: count(images),
            smoothing,
        };
        let buffers =
            [(&labels, ReadOnly), (&order, ReadOnly), (&logits, ReadWrite), (&sums, WriteOnly)];
        launch_on(groups * ROWS, &buffers, &params);
        (logits, sums)
    }

    fn adam(state: CubeTensor, grads: CubeTensor, words: CubeTensor, betas: Betas) -> CubeTensor {
        let (state, [rows, stride]) = (own(state), extents(&grads));
        let (grads, rows) = sum_to_one_stage(into_contiguous(grads), [rows, stride]);
        adam_of_rows(&grads, rows, &state, [0, stride], &into_contiguous(words), betas);
        state
    }

    fn average(mean: CubeTensor, state: CubeTensor, words: CubeTensor) -> CubeTensor {
        let (mean, [state, words]) = (own(mean), [state, words].map(into_contiguous));
        let (wide, invocations) = elements(mean.meta.shape().num_elements());
        let buffers = [(&state, ReadOnly), (&words, ReadOnly), (&mean, ReadWrite)];
        launch_elements(wide, invocations, &buffers, &AverageParams { count: count(invocations) });
        mean
    }

    fn affine_update(
        state: CubeTensor,
        x: CubeTensor,
        y: CubeTensor,
        grad_y: CubeTensor,
        words: CubeTensor,
        update: AffineUpdate,
    ) -> CubeTensor {
        let AffineUpdate { relu, bias, betas } = update;
        let stride = state.meta.shape().num_elements() / 3;
        match (target(&x.device), products()) {
            (Target::Gpu, Product::Own) => {
                let grads = matmul::grads(x, y, grad_y, relu, bias, stride);
                Self::adam(state, grads, words, betas)
            }
            (Target::Gpu, Product::Burn(kernel)) => {
                let (state, words) = (own(state), into_contiguous(words));
                let grad_y = into_contiguous(before_relu::<CubeBackend>(y, grad_y, relu));
                let grad = burn_matmul::multiply([x, grad_y.clone()], [true, false], kernel);
                let numbers = grad.meta.shape().num_elements();
                adam_of_rows(&grad, 1, &state, [0, numbers], &words, betas);
                if let Some(begin) = bias {
                    let [rows, columns] = extents(&grad_y);
                    let (sums, rows) = sum_to_one_stage(grad_y, [rows, columns]);
                    adam_of_rows(&sums, rows, &state, [begin, columns], &words, betas);
                }
                state
            }
            _ => {
                let grad_y = into_contiguous(before_relu::<CubeBackend>(y, grad_y, relu));
                let grads = software::matmul::grads(x, grad_y, bias, stride);
                Self::adam(state, grads, words, betas)
            }
        }
    }
}

/// A step of Adam of the numbers `[begin, count]` of a state, in place, from partial sums of their gradients in rows.
fn adam_of_rows(
    partial: &CubeTensor,
    rows: usize,
    state: &CubeTensor,
    [begin, numbers]: [usize; 2],
    words: &CubeTensor,
    [beta_1, beta_2]: Betas,
) {
    let stride = state.meta.shape().num_elements() / 3;
    // A GPU has lanes to spare, and waits less for many short sums.
    let short = rows == 1 || target(&state.device) == Target::Software;
    let (wide, invocations) = elements(numbers);
    let (wide, invocations) = if short { (wide, invocations) } else { (false, numbers) };
    let width = if wide { 4 } else { 1 };
    let params = AdamParams {
        rows: count(rows),
        columns: count(invocations),
        begin: count(begin / width),
        stride: count(stride / width),
        beta_1,
        beta_2,
    };
    let buffers = [(partial, ReadOnly), (state, ReadWrite), (words, ReadOnly)];
    launch_elements(wide, invocations, &buffers, &params);
}
