//! What the optimizer keeps of a layer between two steps, and what changes in its rule from step to step.

/// Decays of Adam's means, of the gradients and of their squares.
pub type Betas = [f32; 2];

/// What changes from one step of Adam to the next (D. P. Kingma, J. Ba 2015, algorithm 1 with the corrections of its
/// section 2 folded into the step's size), and of what is done with the weights beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// `lr √(1-β₂ᵗ) / (1-β₁ᵗ)`.
    pub size: f32,
    /// `ε √(1-β₂ᵗ)`.
    pub epsilon: f32,
    /// What a weight is multiplied by before the step: 1, or less where weights decay.
    pub keep: f32,
    /// The share that the mean of the weights keeps of itself; the rest is taken from the weights after the step.
    pub inertia: f32,
}

impl AdamStep {
    /// The `step`-th step, counted from 1.
    pub fn new(lr: f64, [beta_1, beta_2]: Betas, epsilon: f64, step: u64) -> Self {
        // Of the decays as they are in f32: 0.999 is so far from it that 1 - β₂ differs by 5e-5.
        let left = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
        let root = left(beta_2).sqrt();
        let (size, epsilon) = (lr * root / left(beta_1), epsilon * root);
        Self { size: size as f32, epsilon: epsilon as f32, keep: 1.0, inertia: 0.0 }
    }

    /// The same with weights that decay, apart from their gradients: `lr · decay` of each is taken off (I. Loshchilov,
    /// F. Hutter 2019, algorithm 2; PyTorch's AdamW).
    pub fn decaying(self, lr: f64, decay: f64) -> Self {
        Self { keep: (1.0 - lr * decay) as f32, ..self }
    }

    /// The same with a mean of the weights that keeps `inertia` of itself, or less in the first steps, where it
    /// would remember the weights that were drawn: `(1 + t) / (10 + t)`, as TensorFlow's ExponentialMovingAverage.
    pub fn averaging(self, inertia: f64, step: u64) -> Self {
        let step = step as f64;
        Self { inertia: inertia.min((1.0 + step) / (10.0 + step)) as f32, ..self }
    }
}

/// Numbers between two weights of a layer, or between values and moments, in the tensor that holds them: where each
/// begins, a kernel can bind it. 256 bytes is the most that a device may ask for.
pub(crate) const ALIGNMENT: usize = 64;

/// Numbers in 4 KiB, and by how many a value and its mean are off a multiple of it.
const APART: usize = 1024;
/// See [`APART`].
const OFF: usize = 320;

/// Where the weights of a layer lie in its state: one tensor of their values side by side, then as many means of their
/// gradients, then means of the squares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Where each weight begins, and how many numbers it has.
    pub weights: Vec<[usize; 2]>,
    /// From a value to its mean, and from that to its square.
    pub stride: usize,
}

impl Layout {
    /// Of weights of so many numbers.
    pub fn new(counts: impl IntoIterator<Item = usize>) -> Self {
        let mut stride = 0;
        let mut weights = Vec::new();
        for count in counts {
            weights.push([stride, count]);
            stride += count.next_multiple_of(ALIGNMENT);
        }
        // Value, mean and square of a weight are read and written together. With 4 KiB between them, less some, they meet
        // in the caches of a CPU: a step of the article's network took 1.09 times as long.
        while stride % APART != OFF {
            stride += ALIGNMENT;
        }
        Self { weights, stride }
    }

    /// A state from values, means and squares, each for all weights.
    pub fn state(&self, parts: [Vec<&[f32]>; 3]) -> Vec<f32> {
        parts.map(|part| self.values(part)).concat()
    }

    /// Value, mean and square of a weight.
    pub fn of_weight<'a>(&self, state: &'a [f32], weight: usize) -> [&'a [f32]; 3] {
        [0, 1, 2].map(|part| self.value(&state[part * self.stride..], weight))
    }

    /// What [`Layout::state`] begins with, alone: the values side by side.
    pub fn values(&self, weights: Vec<&[f32]>) -> Vec<f32> {
        let mut state = vec![0.0; self.stride];
        for ([begin, count], numbers) in self.weights.iter().zip(weights) {
            state[*begin..][..*count].copy_from_slice(numbers);
        }
        state
    }

    /// A weight among values side by side.
    pub fn value<'a>(&self, values: &'a [f32], weight: usize) -> &'a [f32] {
        let [begin, count] = self.weights[weight];
        &values[begin..][..count]
    }
}
