//! What is done to each element of a layer's output: ReLU, then dropout.

use super::words::StepWords;

/// What is dropped: each element with probability `rate`, as a seed and its index determine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The share that is set to 0; what is left is scaled by `1 / (1 - rate)`.
    pub rate: f32,
    /// Where the seed is in the step's [`StepWords`].
    pub seed: usize,
}

impl Dropout {
    /// An element is kept where its hash is not below this.
    pub(super) fn threshold(&self) -> u32 {
        (f64::from(self.rate) * 4_294_967_296.0) as u32
    }

    pub(super) fn scale(rate: f32) -> f32 {
        1.0 / (1.0 - rate)
    }
}

/// What is done to each element of a layer's output, in this order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// Whether what is not above 0 becomes 0.
    pub relu: bool,
    /// What is dropped, if anything.
    pub dropout: Option<Dropout>,
}

impl Activation {
    /// Nothing.
    pub const NONE: Self = Self { relu: false, dropout: None };

    /// ReLU alone.
    pub const RELU: Self = Self { relu: true, dropout: None };

    /// Dropout alone, by the seed of the first dropout layer.
    pub fn dropout(rate: f32) -> Self {
        Self { relu: false, dropout: Some(Dropout { rate, seed: StepWords::seed_at(0) }) }
    }

    /// This and then another in one pass, where that can be.
    pub fn then(self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self { dropout: Some(_), .. }, _)
            | (Self { relu: true, .. }, Self { relu: true, .. }) => None,
            (Self { relu, .. }, next) => {
                Some(Self { relu: relu || next.relu, dropout: next.dropout })
            }
        }
    }

    /// With the seed of another dropout layer, counted from 0.
    pub fn seeded(self, layer: usize) -> Self {
        let seed = StepWords::seed_at(layer);
        Self { dropout: self.dropout.map(|dropout| Dropout { seed, ..dropout }), ..self }
    }

    /// With nothing dropped.
    pub fn without_dropout(self) -> Self {
        Self { dropout: None, ..self }
    }

    /// Whether the gradient needs the output: where that is above 0, the element was positive and kept. Without ReLU the
    /// hash says what was kept.
    pub fn needs_output(self) -> bool {
        self.relu
    }

    /// By what an element is multiplied that is kept.
    pub(super) fn scale(self) -> f32 {
        self.dropout.map_or(1.0, |dropout| Dropout::scale(dropout.rate))
    }
}
