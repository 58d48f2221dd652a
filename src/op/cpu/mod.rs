//! The layer on the CPU, on all cores: [`tiles`] keeps sums in registers ([`simd`]), on the threads of [`pool`].
//!
//! Whatever the number of threads, the batch is cut into the same pieces and sums over pieces are taken in their
//! order, so the same inputs give the same bits.

mod activation;
mod adam;
mod chain;
mod conv;
mod pool;
mod simd;
mod tiles;
mod training;

use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Element, TensorData};

use super::activation::Activation;
use super::kernels::{LayerOps, Operands, Updated};
use crate::mps::plan::{Contraction, Gradients, Plan};
use crate::mps::strategy::{Strategy, Target};
use activation::{Active, ReluGrad};
use adam::{Adam, Part};
use tiles::Tiles;
use training::{indices, values_mut};

/// Samples of the smallest piece of work: few enough for a batch of 128 to occupy eight cores.
const BLOCK: usize = 16;

/// Most partial sums that a sum over the batch keeps: a bound on memory, and work for 64 cores.
const MAX_PARTIALS: usize = 64;

/// Gradients by `A[m,k,j]`, `C[l,k,n]` and the bias, and by the input where it is wanted.
struct Grads {
    x: Option<Vec<f32>>,
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
fn samples_per_partial(batch: usize) -> usize {
    BLOCK * batch.div_ceil(BLOCK * MAX_PARTIALS)
}

/// Partial sums over a batch.
pub fn partials(batch: usize) -> usize {
    batch.div_ceil(samples_per_partial(batch))
}

/// The tensor itself where its elements follow each other, as a part of a larger one too, which Burn would copy. It is
/// taken by value: a second handle would make its storage a shared one, which is copied before it is written to.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The elements in row-major order, of a tensor that [`contiguous`] returned.
#[expect(clippy::expect_used, reason = "the operations admit one type, and make it contiguous")]
fn values<E: Element + bytemuck::Pod>(tensor: &FlexTensor) -> &[E] {
    tensor.as_slice().expect("a contiguous tensor of this type")
}

fn tensor(values: Vec<f32>, shape: impl Into<burn::tensor::Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

impl LayerOps for Flex {
    fn target(_tensor: &FlexTensor) -> Target {
        Target::Cpu
    }

    fn resize<const D: usize>(tensor: FlexTensor, _shape: [usize; D]) -> FlexTensor {
        // Nothing is padded here.
        tensor
    }

    fn biased_product(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
        training::biased_product(x, weight, bias)
    }

    fn contract(
        plan: &Plan<Contraction>,
        x: FlexTensor,
        [a, c]: [FlexTensor; 2],
        bias: Option<FlexTensor>,
        active: Option<(FlexTensor, Activation)>,
        shape: [usize; 3],
    ) -> FlexTensor {
        let [x, a, c] = [x, a, c].map(contiguous);
        let bias = bias.map(contiguous);
        let active = active.map_or(Active::NONE, |(words, activation)| {
            Active::new(activation, indices(&contiguous(words)))
        });
        let tiles = Tiles::new(plan.pass.view, plan.order, values(&a), values(&c));
        tensor(tiles.forward(values(&x), bias.as_ref().map(values), active), shape)
    }

    fn grads(
        plan: &Plan<Gradients>,
        x: FlexTensor,
        [a, c]: [FlexTensor; 2],
        grad_y: FlexTensor,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [x, a, c, grad_y] = [x, a, c, grad_y].map(contiguous);
        let tiles = Tiles::new(plan.pass.view, plan.order, values(&a), values(&c));
        let grads = tiles.grads(values(&x), None, values(&grad_y), false);
        (
            tensor(grads.a, plan.layer.a_shape()),
            tensor(grads.c, plan.layer.c_shape()),
            tensor(grads.bias, plan.layer.bias_shape()),
        )
    }

    fn update(
        plan: &Plan<Gradients>,
        operands: Operands<Self>,
        wants_x: bool,
    ) -> Result<Updated<Self>, Operands<Self>> {
        if plan.strategy != Strategy::Tiled {
            return Err(operands);
        }
        let Operands { state, x, y, grad_y, words, update } = operands;
        let [mut state, x, y, grad_y] = [state, x, y, grad_y].map(contiguous);
        let relu = update.relu.map(|scale| ReluGrad { y: values(&y), scale });
        let (layer, numbers) = (&plan.layer, values::<f32>(&state));
        let a = &numbers[..layer.a_shape().iter().product()];
        let c = &numbers[update.c..][..layer.c_shape().iter().product()];
        let tiles = Tiles::new(plan.pass.view, plan.order, a, c);
        let grads = tiles.grads(values(&x), relu.as_ref(), values(&grad_y), wants_x);
        let adam = Adam::new(update.betas, indices(&contiguous(words)));
        let mut part = Part::whole(values_mut(&mut state));
        let bias = update.bias.map(|begin| (begin, &grads.bias));
        for (begin, grad) in [(0, &grads.a), (update.c, &grads.c)].into_iter().chain(bias) {
            part.range(begin, grad.len()).step(grad, adam);
        }
        let shape = x.layout().shape().clone();
        Ok(Updated { grad_x: grads.x.map(|grad_x| tensor(grad_x, shape)), state })
    }

    fn side_by_side(grads: Vec<(FlexTensor, usize)>, stride: usize) -> FlexTensor {
        let mut row = vec![0.0; stride];
        for (grad, begin) in grads {
            let grad = contiguous(grad);
            let numbers: &[f32] = values(&grad);
            row[begin..][..numbers.len()].copy_from_slice(numbers);
        }
        tensor(row, [1, stride])
    }
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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::data::{ImageSet, Resident};
    use crate::mps::MpsInit;
    use crate::net::{Model, Preset};
    use crate::train::{Learner, Recipe, TrainConfig};

    /// Weights and moments after two steps of a network, whose batch does not come out even in pieces.
    fn trained(model: Model, cores: usize, bond: usize) -> Vec<u32> {
        let (height, width, batch) = (28, 28, 130);
        let set = ImageSet {
            count: batch,
            shape: [1, height, width],
            pixels: (0..batch * height * width).map(|at| (at * 37 % 256) as u8).collect(),
            labels: (0..batch).map(|image| (image % 10) as u8).collect(),
        };
        let (cores, bond) = (Some(cores), vec![bond]);
        let preset = Preset { model, cores, bond, ..Preset::default() };
        let config = TrainConfig {
            epochs: 1,
            batch_size: batch,
            lr: 1e-3,
            seed: 1,
            validation: 0,
            init: MpsInit::He,
            recipe: Recipe::default(),
            network: preset.stack([1, height, width], 10).unwrap(),
        };
        let device = Device::flex();
        let order: Vec<u32> = (0..batch as u32).collect();
        let set = Resident::new(&set, &device);
        let mut learner = Learner::new(&config, &device).unwrap();
        let seeds = |step: usize| vec![2 * step as u64, 2 * step as u64 + 1];
        let schedule = learner.schedule(&order.repeat(2), batch, seeds).unwrap();
        for step in 0..2 {
            learner.step(&set, schedule.step(step).unwrap()).unwrap();
        }
        let weights = learner.state().unwrap().weights.into_iter();
        let numbers =
            weights.flat_map(|weight| [weight.values, weight.mean, weight.square].concat());
        numbers.map(f32::to_bits).collect()
    }

    /// `grad_x`, which a first layer does not need.
    fn grad_x(bond: usize) -> Vec<u32> {
        let device = Device::flex().autodiff();
        let numbers = |count: usize| (0..count).map(|at| (at * 37 % 101) as f32 / 101.0 - 0.5);
        let tensor = |shape: [usize; 3]| {
            let numbers: Vec<f32> = numbers(shape.iter().product()).collect();
            Tensor::<1>::from_data(&numbers[..], &device).reshape(shape)
        };
        let x = tensor([130, 28, 28]).require_grad();
        let (a, c) = (tensor([32, bond, 28]), tensor([28, bond, 16]));
        let y = crate::op::mps_linear(x.clone(), a, c, None).unwrap();
        let grads = y.square().sum().backward();
        let grad_x = x.grad(&grads).unwrap().try_to_vec_as::<f32>().unwrap();
        grad_x.into_iter().map(f32::to_bits).collect()
    }

    /// The pieces, and the order in which their sums are added, do not depend on the number of threads. At bond
    /// 16 `W` is rebuilt for the gradients.
    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let run = || {
            [
                trained(Model::Mps, 2, 1),
                trained(Model::Mps, 2, 16),
                trained(Model::Dense, 2, 1),
                trained(Model::MpsAll, 2, 2),
                // Folded, and core by core.
                trained(Model::MpsAll, 4, 8),
                trained(Model::MpsAll, 6, 2),
                grad_x(4),
                grad_x(64),
            ]
        };
        let (expected, forks) = pool::with_threads(1, run);
        assert_eq!(forks, 0);
        for threads in [2, 3, 8] {
            let (bits, forks) = pool::with_threads(threads, run);
            assert!(forks > 20, "the kernels do not run on this pool: {forks} forks");
            assert!(bits == expected, "other bits on {threads} threads");
        }
    }
}
