//! The operations on a GPU: launches of WGSL kernels.
//!
//! Matrix products on a GPU are Burn's, which it tunes; on a software adapter they are ours.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::attributes::BufferIOAttr::{ReadOnly, ReadWrite, WriteOnly};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{elements, empty, launch_elements, launch_on, sum_rows};
use super::params::{
    ActivateParams, AdamParams, GatherImagesParams, ReluGradParams, SoftmaxCrossEntropyParams,
    count,
};
use super::shader::Shader;
use super::target::target;
use crate::mps::plan::Target;
use crate::op::software::matmul::{Operand, matmul};
use crate::op::training::{Activation, AdamStep, Dropout, TrainingOps};

/// Images of one launch of `softmax_cross_entropy.wgsl`: 64 per invocation, whose loops over at most
/// 256 classes stay below the 65,535 iterations after which llvmpipe ends them.
const ROWS_PER_LAUNCH: usize = 16 << 10;

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

    fn affine(x: CubeTensor, weight: CubeTensor, bias: CubeTensor) -> CubeTensor {
        if target(&x.device) == Target::Gpu {
            let bias = Self::float_reshape(bias, Shape::new([1, extents(&weight)[1]]));
            return Self::float_add(Self::float_matmul(x, weight), bias);
        }
        let [x, weight, bias] = [x, weight, bias].map(into_contiguous);
        let ([rows, inner], [_, columns]) = (extents(&x), extents(&weight));
        let [x, weight] = [&x, &weight].map(Operand::rows);
        matmul(x, weight, Some(&bias), [rows, inner, columns])
    }

    fn matmul(left: CubeTensor, right: CubeTensor, transposed: [bool; 2]) -> CubeTensor {
        if target(&left.device) == Target::Gpu {
            let transpose = |matrix, transposed| match transposed {
                true => Self::float_swap_dims(matrix, 0, 1),
                false => matrix,
            };
            return Self::float_matmul(
                transpose(left, transposed[0]),
                transpose(right, transposed[1]),
            );
        }
        let [left, right] = [left, right].map(into_contiguous);
        let transpose = |[rows, columns]: [usize; 2], transposed| match transposed {
            true => [columns, rows],
            false => [rows, columns],
        };
        let ([rows, inner], [_, columns]) =
            (transpose(extents(&left), transposed[0]), transpose(extents(&right), transposed[1]));
        let operand = |tensor, transposed| Operand { tensor, transposed };
        let (left, right) = (operand(&left, transposed[0]), operand(&right, transposed[1]));
        matmul(left, right, None, [rows, inner, columns])
    }

    fn column_sums(matrix: CubeTensor) -> CubeTensor {
        let matrix = into_contiguous(matrix);
        let [rows, columns] = extents(&matrix);
        sum_rows(matrix, [rows, columns], [columns])
    }

    fn activate(x: CubeTensor, activation: Activation) -> CubeTensor {
        let x = own(x);
        let (wide, invocations) = elements(x.meta.shape().num_elements());
        let dropout = activation.dropout.unwrap_or(Dropout { rate: 0.0, seed: 0 });
        let [seed_low, seed_high] = dropout.words();
        let params = ActivateParams {
            count: count(invocations),
            relu: u32::from(activation.relu),
            seed_low,
            seed_high,
            threshold: dropout.threshold(),
            scale: activation.scale(),
        };
        launch_elements(wide, invocations, &[(&x, ReadWrite)], &params);
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
    ) -> (CubeTensor, CubeTensor) {
        let logits = own(logits);
        let [labels, order] = [labels, order].map(into_contiguous);
        let [batch, classes] = extents(&logits);
        let images = labels.meta.shape().num_elements();
        let sums = empty(&logits, [2]);
        let invocations = Shader::SoftmaxCrossEntropy.facts().workgroup_size as usize;
        for begin in (0..batch).step_by(ROWS_PER_LAUNCH) {
            let end = batch.min(begin + ROWS_PER_LAUNCH);
            let params = SoftmaxCrossEntropyParams {
                batch: count(batch),
                classes: count(classes),
                count: count(images),
                begin: count(begin),
                end: count(end),
                add: u32::from(begin > 0),
            };
            let buffers =
                [(&labels, ReadOnly), (&order, ReadOnly), (&logits, ReadWrite), (&sums, ReadWrite)];
            // One workgroup: the losses are summed in it, in a fixed order.
            launch_on(invocations, &buffers, &params);
        }
        (logits, sums)
    }

    fn adam(
        value: CubeTensor,
        mean: CubeTensor,
        square: CubeTensor,
        grad: CubeTensor,
        step: AdamStep,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [value, mean, square] = [value, mean, square].map(own);
        let grad = into_contiguous(grad);
        let (wide, invocations) = elements(value.meta.shape().num_elements());
        let AdamStep { beta_1, beta_2, size, epsilon } = step;
        let buffers =
            [(&grad, ReadOnly), (&value, ReadWrite), (&mean, ReadWrite), (&square, ReadWrite)];
        let params = AdamParams { count: count(invocations), beta_1, beta_2, size, epsilon };
        launch_elements(wide, invocations, &buffers, &params);
        (value, mean, square)
    }

    fn adam_of_product(
        value: CubeTensor,
        mean: CubeTensor,
        square: CubeTensor,
        x: CubeTensor,
        grad_y: CubeTensor,
        step: AdamStep,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let grad = Self::matmul(x, grad_y, [true, false]);
        let grad = Self::float_reshape(grad, value.meta.shape().clone());
        Self::adam(value, mean, square, grad, step)
    }
}
