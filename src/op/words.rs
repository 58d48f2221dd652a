//! What changes from step to step, as the kernels read it: a few words of 32 bits in a tensor on the device.
//!
//! A step that passed these numbers by value would have to write a buffer; the words of all steps of an epoch are copied
//! at once. In this order: the size of Adam's step and what is added to its root, as bits of f32, then the two halves of
//! a seed for each dropout layer.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::state::AdamStep;

/// The words of one step.
#[derive(Debug, Clone)]
pub struct StepWords(pub(crate) Tensor<1, Int>);

/// Where the seeds begin.
const SEEDS: usize = 2;

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
        let sizes = [step.size, step.epsilon].map(|number| number.to_bits() as i32);
        sizes.into_iter().chain(halves).collect()
    }

    /// Where the seed of a dropout layer is, counted from 0.
    pub fn seed_at(layer: usize) -> usize {
        SEEDS + 2 * layer
    }
}

/// The size of Adam's step, and what is added to its root.
pub(super) fn adam_sizes(words: &[i32]) -> [f32; 2] {
    [words[0], words[1]].map(|bits| f32::from_bits(bits as u32))
}

/// The two halves of the seed at an index.
pub(super) fn seed(words: &[i32], at: usize) -> [u32; 2] {
    [words[at], words[at + 1]].map(|half| half as u32)
}
