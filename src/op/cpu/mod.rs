//! The layer on the CPU: on all cores, by one of three strategies.
//!
//! [`tiles`] keeps sums in registers, [`blocks`] is made of a library's matrix products over blocks
//! of samples, and [`super::rebuilt`] multiplies with the rebuilt `W`. Whatever the number of
//! threads, the batch is cut into the same pieces and sums over pieces are taken in their order, so
//! the same inputs give the same bits.

mod blocks;
mod pool;
mod simd;
mod tiles;
mod training;

use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Element, TensorData};

use super::{MpsOps, forward_plan, grads_plan, rebuilt, spec_of};
use crate::mps::MpsSpec;
use crate::mps::plan::{Plan, Strategy, Target, View};
use blocks::Blocks;
use simd::add;
use tiles::Tiles;

/// Samples of the smallest piece of work: few enough for a batch of 128 to occupy eight cores.
const BLOCK: usize = 16;

/// Most partial sums that a sum over the batch keeps: a bound on memory, and work for 64 cores.
const MAX_PARTIALS: usize = 64;

/// Gradients by `A[m,k,j]`, `C[l,k,n]` and the bias.
struct Grads {
    a: Vec<f32>,
    c: Vec<f32>,
    bias: Vec<f32>,
}

/// Copies a tensor of three modes, read through `strides`, into row-major order of `extents`.
fn pack(core: &[f32], extents: [usize; 3], strides: [usize; 3]) -> Vec<f32> {
    let [e0, e1, e2] = extents;
    let mut packed = Vec::with_capacity(e0 * e1 * e2);
    for i in 0..e0 {
        for j in 0..e1 {
            let at = i * strides[0] + j * strides[1];
            packed.extend((0..e2).map(|k| core[at + k * strides[2]]));
        }
    }
    packed
}

/// Samples that go into one partial sum: whole blocks, at most [`MAX_PARTIALS`] partial sums.
fn samples_a_partial(batch: usize) -> usize {
    BLOCK * batch.div_ceil(BLOCK * MAX_PARTIALS)
}

/// The elements in row-major order, of a tensor that `to_contiguous` returned.
#[expect(clippy::expect_used, reason = "the operations admit one type, and make it contiguous")]
fn values<E: Element + bytemuck::Pod>(tensor: &FlexTensor) -> &[E] {
    tensor.as_slice().expect("a contiguous tensor of this type")
}

fn tensor(values: Vec<f32>, shape: impl Into<burn::tensor::Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

/// The contraction of `x` with both cores, plus the bias where there is one.
fn contract(
    plan: Plan,
    view: View,
    x: &[f32],
    [a, c]: [&[f32]; 2],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    match plan.strategy {
        Strategy::Tiled => Tiles::new(view, plan.order, a, c).forward(x, bias),
        _ => Blocks::new(view, plan.order, a, c).forward(x, bias),
    }
}

fn forward(x: FlexTensor, a: FlexTensor, c: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let (spec, batch) = spec_of(x.layout().shape(), a.layout().shape(), c.layout().shape());
    let plan = forward_plan(&spec, batch, Target::Cpu);
    if plan.strategy == Strategy::Rebuilt {
        return rebuilt::forward::<Flex>(x, a, c, bias, &spec, batch);
    }
    let [x, a, c] = [x, a, c].map(|tensor| tensor.to_contiguous());
    let bias = bias.map(|tensor| tensor.to_contiguous());
    let view = View::forward(&spec, plan.order);
    let y = contract(plan, view, values(&x), [values(&a), values(&c)], bias.as_ref().map(values));
    tensor(y, [batch, spec.m, spec.n])
}

impl MpsOps for Flex {
    fn mps_linear(x: FlexTensor, a: FlexTensor, c: FlexTensor, bias: FlexTensor) -> FlexTensor {
        forward(x, a, c, Some(bias))
    }

    fn mps_contract(x: FlexTensor, a: FlexTensor, c: FlexTensor) -> FlexTensor {
        forward(x, a, c, None)
    }

    fn mps_grads(
        x: FlexTensor,
        a: FlexTensor,
        c: FlexTensor,
        grad_y: FlexTensor,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (spec, batch) = spec_of(x.layout().shape(), a.layout().shape(), c.layout().shape());
        let plan = grads_plan(&spec, batch, Target::Cpu);
        if plan.strategy == Strategy::Rebuilt {
            return rebuilt::grads::<Flex>(x, a, c, grad_y, &spec, batch);
        }
        let [x, a, c, grad_y] = [x, a, c, grad_y].map(|tensor| tensor.to_contiguous());
        let view = View::forward(&spec, plan.order);
        let (a, c) = (values(&a), values(&c));
        let (x, grad_y) = (values(&x), values(&grad_y));
        let grads = match plan.strategy {
            Strategy::Tiled => Tiles::new(view, plan.order, a, c).grads(x, grad_y),
            _ => Blocks::new(view, plan.order, a, c).grads(x, grad_y),
        };
        (
            tensor(grads.a, spec.a_shape()),
            tensor(grads.c, spec.c_shape()),
            tensor(grads.bias, spec.bias_shape()),
        )
    }

    fn mps_grad_bias(grad_y: FlexTensor) -> FlexTensor {
        let grad_y = grad_y.to_contiguous();
        let [batch, m, n] = grad_y.layout().shape().dims();
        let groups = values(&grad_y).chunks(samples_a_partial(batch) * m * n);
        let partials = pool::map(groups, |samples| sum_of_samples(samples, m * n));
        let mut grad_bias = vec![0.0; m * n];
        partials.iter().for_each(|partial| add(&mut grad_bias, partial));
        tensor(grad_bias, [m, n])
    }

    fn mps_grad_x(a: FlexTensor, c: FlexTensor, grad_y: FlexTensor) -> FlexTensor {
        let [batch, m, n] = grad_y.layout().shape().dims();
        let [_, k, j] = a.layout().shape().dims();
        let l = c.layout().shape()[0];
        let spec = MpsSpec { m, n, j, l, k };
        let plan = forward_plan(&spec.transposed(), batch, Target::Cpu);
        if plan.strategy == Strategy::Rebuilt {
            return rebuilt::grad_x::<Flex>(a, c, grad_y, &spec, batch);
        }
        let [a, c, grad_y] = [a, c, grad_y].map(|tensor| tensor.to_contiguous());
        let view = View::transposed(&spec, plan.order);
        let grad_x = contract(plan, view, values(&grad_y), [values(&a), values(&c)], None);
        tensor(grad_x, [batch, j, l])
    }
}

fn sum_of_samples(samples: &[f32], outputs: usize) -> Vec<f32> {
    let mut sum = vec![0.0; outputs];
    samples.chunks_exact(outputs).for_each(|sample| add(&mut sum, sample));
    sum
}

/// `count` elements that `fill` writes, without being zeroed before.
///
/// # Safety
///
/// `fill` must write every element.
unsafe fn filled(count: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut elements = Vec::with_capacity(count);
    fill(&mut elements.spare_capacity_mut()[..count]);
    // SAFETY: the caller vouches for it.
    unsafe { elements.set_len(count) };
    elements
}
