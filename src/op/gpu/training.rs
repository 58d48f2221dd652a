//! The operations on a GPU: launches of WGSL kernels.
//!
//! Matrix products on a GPU are Burn's, which it tunes; on a software adapter they are ours.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::attributes::BufferIOAttr::{ReadOnly, ReadWrite, WriteOnly};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use crate::op::training::{AdamStep, Dropout, TrainingOps};
use crate::mps::plan::Target;
use super::launch::{empty, launch_on, sum_rows, target};
use crate::op::software::matmul::{Operand, matmul};
use super::shader::{Kernel, Shader};

/// Images of one launch of `softmax_cross_entropy.wgsl`: 64 an invocation, whose loops over at most
/// 256 classes stay below the 65,535 iterations after which llvmpipe ends them.
const ROWS_A_LAUNCH: usize = 16 << 10;

fn extents(matrix: &CubeTensor) -> [usize; 2] {
    matrix.meta.shape().dims()
}

/// The tensor itself where nothing else holds it, else a copy: something to write into.
fn own(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

impl TrainingOps for CubeBackend {
    fn gather_images(images: CubeTensor, order: CubeTensor, pixels: usize) -> CubeTensor {
        let [images, order] = [images, order].map(into_contiguous);
        let ([_, words], [batch]) = (extents(&images), order.meta.shape().dims());
        let gathered = empty(&images, [batch, pixels]);
        let buffers = [(&images, ReadOnly), (&order, ReadOnly), (&gathered, WriteOnly)];
        let params = [batch, words, pixels].map(|count| count as u32);
        let wide = pixels.is_multiple_of(4);
        let kernel = Kernel { wide, ..Shader::GatherImages.into() };
        let invocations = batch * if wide { pixels / 4 } else { pixels };
        launch_on(kernel, invocations, &buffers, &params);
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

    fn matmul(left: CubeTensor, right: CubeTensor, turned: [bool; 2]) -> CubeTensor {
        if target(&left.device) == Target::Gpu {
            let turn = |matrix, turned| match turned {
                true => Self::float_swap_dims(matrix, 0, 1),
                false => matrix,
            };
            return Self::float_matmul(turn(left, turned[0]), turn(right, turned[1]));
        }
        let [left, right] = [left, right].map(into_contiguous);
        let turn = |[rows, columns]: [usize; 2], turned| match turned {
            true => [columns, rows],
            false => [rows, columns],
        };
        let ([rows, inner], [_, columns]) =
            (turn(extents(&left), turned[0]), turn(extents(&right), turned[1]));
        let operand = |tensor, transposed| Operand { tensor, transposed };
        let (left, right) = (operand(&left, turned[0]), operand(&right, turned[1]));
        matmul(left, right, None, [rows, inner, columns])
    }

    fn column_sums(matrix: CubeTensor) -> CubeTensor {
        let matrix = into_contiguous(matrix);
        let [rows, columns] = extents(&matrix);
        sum_rows(matrix, [rows, columns], [columns])
    }

    fn relu_dropout(x: CubeTensor, dropout: Dropout) -> CubeTensor {
        let x = own(x);
        let (kernel, count) = Shader::ReluDropout.wide(x.meta.shape().num_elements());
        let [low, high] = dropout.words();
        let scale = Dropout::scale(dropout.rate).to_bits();
        let params = [count as u32, low, high, dropout.threshold(), scale];
        launch_on(kernel, count, &[(&x, ReadWrite)], &params);
        x
    }

    fn relu_dropout_grad(y: CubeTensor, grad_y: CubeTensor, rate: f32) -> CubeTensor {
        let (y, grad_y) = (into_contiguous(y), own(grad_y));
        let (kernel, count) = Shader::ReluDropoutGrad.wide(grad_y.meta.shape().num_elements());
        let params = [count as u32, Dropout::scale(rate).to_bits()];
        let buffers = [(&y, ReadOnly), (&grad_y, ReadWrite)];
        launch_on(kernel, count, &buffers, &params);
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
        let sums = empty(&logits, [2]);
        let invocations = Shader::SoftmaxCrossEntropy.workgroup_size() as usize;
        for begin in (0..batch).step_by(ROWS_A_LAUNCH) {
            let end = batch.min(begin + ROWS_A_LAUNCH);
            let params =
                [batch, classes, begin, end, usize::from(begin > 0)].map(|count| count as u32);
            let buffers =
                [(&labels, ReadOnly), (&order, ReadOnly), (&logits, ReadWrite), (&sums, ReadWrite)];
            // One workgroup: the losses are summed in it, in a fixed order.
            launch_on(Shader::SoftmaxCrossEntropy, invocations, &buffers, &params);
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
        let (kernel, count) = Shader::Adam.wide(value.meta.shape().num_elements());
        let AdamStep { beta_1, beta_2, size, epsilon } = step;
        let [beta_1, beta_2, size, epsilon] = [beta_1, beta_2, size, epsilon].map(f32::to_bits);
        let buffers =
            [(&grad, ReadOnly), (&value, ReadWrite), (&mean, ReadWrite), (&square, ReadWrite)];
        let params = [count as u32, beta_1, beta_2, size, epsilon];
        launch_on(kernel, count, &buffers, &params);
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
