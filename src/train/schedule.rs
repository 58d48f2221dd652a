//! What training steps take that is not on the device yet, copied there at once for many of them: between two steps,
//! nothing is.

use burn::tensor::{Device, Int, Tensor};

use crate::Result;
use crate::data::resident;
use crate::op::state::AdamStep;
use crate::op::words::StepWords;

/// Most steps of a schedule: rows of one image each take 2 MB, with their words.
pub const MOST_STEPS: usize = 4096;

/// Numbers from one row to the next are a multiple of this, so that kernels can bind each of them: 256 bytes is the most
/// that a device may ask for.
const ALIGNMENT: usize = 64;

/// The images and the words of some steps, on the device.
#[derive(Debug)]
pub struct Schedule {
    orders: Rows,
    words: Rows,
    /// Images of all steps, and of each but the last.
    count: usize,
    batch_size: usize,
}

/// What one step takes.
#[derive(Debug, Clone)]
pub struct StepInput {
    /// The indices of its images.
    pub order: Tensor<1, Int>,
    /// What changes from step to step.
    pub words: StepWords,
}

/// Rows of whole numbers in one tensor.
#[derive(Debug)]
struct Rows {
    numbers: Tensor<1, Int>,
    stride: usize,
}

impl Rows {
    fn new<'a>(
        rows: impl ExactSizeIterator<Item = &'a [u32]>,
        longest: usize,
        device: &Device,
    ) -> Self {
        let stride = longest.next_multiple_of(ALIGNMENT);
        let mut numbers = vec![0; rows.len() * stride];
        for (to, row) in numbers.chunks_exact_mut(stride).zip(rows) {
            to[..row.len()].copy_from_slice(row);
        }
        Self { numbers: resident::order(&numbers, device), stride }
    }

    fn row(&self, row: usize, count: usize) -> Result<Tensor<1, Int>> {
        resident::part(&self.numbers, row * self.stride, count)
    }
}

impl Schedule {
    /// Of steps that visit the images of `order`, `batch_size` at a time, at most [`MOST_STEPS`] of them: `step` gives
    /// the numbers and the seeds of each.
    pub fn new(
        order: &[u32],
        batch_size: usize,
        step: impl Fn(usize) -> (AdamStep, Vec<u64>),
        device: &Device,
    ) -> Self {
        let order = &order[..order.len().min(batch_size.saturating_mul(MOST_STEPS))];
        let batches = order.chunks(batch_size);
        let words: Vec<Vec<u32>> = (0..batches.len())
            .map(|at| {
                let (adam, seeds) = step(at);
                StepWords::packed(&adam, &seeds).into_iter().map(|word| word as u32).collect()
            })
            .collect();
        let longest = words.first().map_or(1, Vec::len);
        Self {
            orders: Rows::new(batches, batch_size.min(order.len()).max(1), device),
            words: Rows::new(words.iter().map(|words| &words[..]), longest, device),
            count: order.len(),
            batch_size,
        }
    }

    /// Number of its steps.
    pub fn steps(&self) -> usize {
        self.count.div_ceil(self.batch_size)
    }

    /// What a step takes, counted from 0.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] past the last step.
    pub fn step(&self, step: usize) -> Result<StepInput> {
        let batch = self.batch_size.min(self.count.saturating_sub(step * self.batch_size));
        let order = self.orders.row(step, batch)?;
        Ok(StepInput { order, words: StepWords(self.words.row(step, self.words.stride)?) })
    }
}
