//! What changes from step to step, as the kernels read it: a few words of 32 bits in a tensor on the device.
//!
//! A step that passed these numbers by value would have to write a buffer; the words of all steps of an epoch are copied
//! at once. In this order: the four numbers of [`AdamStep`], as bits of f32, then the two halves of a seed for each dropout
//! layer.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::state::AdamStep;

/// The words of one step.
#[derive(Debug, Clone)]
pub struct StepWords(pub(crate) Tensor<1, Int>);

/// Where the seeds begin.
const SEEDS: usize = 4;

impl StepWords {
    /// Of one step.
    pub fn new(step: &AdamStep, seeds: &[u64], device: &Device) -> Self {
        let words = Self::packed(step, seeds);
        let count = words.len();
        Self(Tensor::from_data(TensorData::new(words, [count]), (device, DType::I32)))
    }

    /// For operations that neither drop anything nor train.
    pub fn none(device: &Device) -> Self {
        Self(Tensor::from_data(TensorData::new(vec![0; SEEDS], [SEEDS]), (device, DType::I32)))
    }

    /// The numbers themselves.
    pub fn packed(step: &AdamStep, seeds: &[u64]) -> Vec<i32> {
        let halves = seeds.iter().flat_map(|seed| [*seed as i32, (*seed >> 32) as i32]);
        let AdamStep { size, epsilon, keep, inertia } = *step;
        let numbers = [size, epsilon, keep, inertia].map(|number| number.to_bits() as i32);
        numbers.into_iter().chain(halves).collect()
    }

    /// Where the seed of a dropout layer is, counted from 0.
    pub fn seed_at(layer: usize) -> usize {
        SEEDS + 2 * layer
    }
}

/// The step's numbers.
pub(super) fn adam_step(words: &[i32]) -> AdamStep {
    let [size, epsilon, keep, inertia] =
        [0, 1, 2, 3].map(|at: usize| f32::from_bits(words[at] as u32));
    AdamStep { size, epsilon, keep, inertia }
}

/// The two halves of the seed at an index.
pub(super) fn seed(words: &[i32], at: usize) -> [u32; 2] {
    [words[at], words[at + 1]].map(|half| half as u32)
}
