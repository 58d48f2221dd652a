//! Adam over a layer's state, in place.

use pulp::{Arch, Simd, WithSimd};

use super::activation::PIECE;
use super::pool;
use crate::op::state::{AdamStep, Betas};
use crate::op::words;

/// The numbers of a step of Adam.
#[derive(Clone, Copy)]
pub struct Adam {
    betas: Betas,
    step: AdamStep,
}

impl Adam {
    pub fn new(betas: Betas, words: &[i32]) -> Self {
        Self { betas, step: words::adam_step(words) }
    }
}

/// Values, means and squares of a part of a layer's weights.
pub struct Part<'a> {
    value: &'a mut [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
}

impl<'a> Part<'a> {
    /// Those of a whole layer.
    pub fn whole(state: &'a mut [f32]) -> Self {
        let stride = state.len() / 3;
        let (value, moments) = state.split_at_mut(stride);
        let (mean, square) = moments.split_at_mut(stride);
        Self { value, mean, square }
    }

    /// The `count` numbers from `begin` on.
    pub fn range(&mut self, begin: usize, count: usize) -> Part<'_> {
        let Self { value, mean, square } = self;
        Part {
            value: &mut value[begin..][..count],
            mean: &mut mean[begin..][..count],
            square: &mut square[begin..][..count],
        }
    }

    /// In pieces of at most `count` numbers.
    pub fn chunks(self, count: usize) -> impl Iterator<Item = Part<'a>> {
        let moments = self.mean.chunks_mut(count).zip(self.square.chunks_mut(count));
        let parts = self.value.chunks_mut(count).zip(moments);
        parts.map(|(value, (mean, square))| Part { value, mean, square })
    }

    /// A step by a gradient, on all threads.
    pub fn step(self, grad: &[f32], adam: Adam) {
        if grad.len() <= PIECE {
            return self.step_here(grad, adam);
        }
        pool::for_each(self.chunks(PIECE).zip(grad.chunks(PIECE)), |(part, grad)| {
            part.step_here(grad, adam);
        });
    }

    /// A step by a gradient, on this thread.
    pub fn step_here(self, grad: &[f32], adam: Adam) {
        Arch::new().dispatch(AdamPass { part: self, grad, adam });
    }

    /// How many weights these are.
    pub fn len(&self) -> usize {
        self.value.len()
    }
}

/// Adam over parts of a weight, its moments and its gradient.
struct AdamPass<'a> {
    part: Part<'a>,
    grad: &'a [f32],
    adam: Adam,
}

impl WithSimd for AdamPass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Adam { betas: [beta_1, beta_2], step } = self.adam;
        let AdamStep { size, epsilon, keep, .. } = step;
        let Part { value, mean, square } = self.part;
        let moments = mean.iter_mut().zip(square);
        for ((value, (mean, square)), &grad) in value.iter_mut().zip(moments).zip(self.grad) {
            *mean = beta_1 * *mean + (1.0 - beta_1) * grad;
            *square = beta_2 * *square + (1.0 - beta_2) * grad * grad;
            *value = keep * *value - size * *mean / (square.sqrt() + epsilon);
        }
    }
}

/// The step of a mean: `mean = inertia · mean + (1 - inertia) · value`.
pub struct Average<'a> {
    pub mean: &'a mut [f32],
    pub value: &'a [f32],
    pub inertia: f32,
}

impl WithSimd for Average<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (mean, &value) in self.mean.iter_mut().zip(self.value) {
            *mean = self.inertia * *mean + (1.0 - self.inertia) * value;
        }
    }
}
