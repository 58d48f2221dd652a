//! Chains of cores on the CPU, [`LANES`] samples at a time: they lie side by side in a register, so that every step is one
//! [`Gathered`] over its `p` and `r`, whatever the extents of its core, and a chain of steps stays in the cache.
//!
//! ```text
//! T[p, q, r, sample]          out[p, s, r, sample] = Σ_q G[s,q] T[p, q, r, sample]
//! ```

use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::Arch;

use super::simd::{Gathered, LANES, Outer, Places, Product, Transpose, add};
use super::{contiguous, filled, pool, samples_per_partial, tensor, values};
use crate::mps::chain::Step;
use crate::op::chain::{ChainKernels, CoreGrads, PlacedStep, reversed};

/// A step with its core, packed for the product.
struct Packed {
    step: Step,
    /// `G[q,s]`, row-major.
    core: Vec<f32>,
    /// Where each `q` begins in a block of samples.
    offsets: Vec<usize>,
}

impl Packed {
    fn all(steps: &[PlacedStep], weights: &[f32]) -> Vec<Self> {
        let packed = steps.iter().map(|&PlacedStep { step, begin }| Self {
            step,
            core: packed_core(&step, &weights[begin..]),
            offsets: (0..step.terms()).map(|q| q * step.r.extent * LANES).collect(),
        });
        packed.collect()
    }

    /// Applies the core to a block of samples.
    fn apply(&self, from: &[f32], out: &mut [f32], arch: Arch) {
        let (p, r) = (self.step.p.extent, self.step.r.extent);
        let (sums, terms) = (self.step.sums(), self.step.terms());
        let by_p = Places { extent: p, right: terms * r * LANES, out: sums * r * LANES };
        let by_r = Places { extent: r, right: LANES, out: LANES };
        // Neighbours in `r` lie side by side, but a tile has four places.
        let [outer, inner] = if r < p.min(4) { [by_r, by_p] } else { [by_p, by_r] };
        Gathered {
            rows: sums,
            left: &self.core,
            offsets: &self.offsets,
            right: from,
            outer,
            inner,
        }
        .into(out, r * LANES, arch);
    }
}

/// The numbers of the samples whose rows these are, of which there are at most [`LANES`]; the other lanes are 0.
pub(super) fn into_lanes(rows: &[f32], numbers: usize, lanes: &mut [f32], arch: Arch) {
    let (lanes, count) = (&mut lanes[..numbers * LANES], rows.len() / numbers);
    if count < LANES {
        lanes.fill(0.0);
    }
    Transpose { elements: rows, rows: count, columns: numbers, stride: numbers }
        .into(lanes, LANES, arch);
}

/// The numbers of some samples as rows.
pub(super) fn from_lanes(lanes: &[f32], numbers: usize, rows: &mut [MaybeUninit<f32>], arch: Arch) {
    let count = rows.len() / numbers;
    Transpose { elements: &lanes[..numbers * LANES], rows: numbers, columns: count, stride: LANES }
        .into_uninit(rows, numbers, arch);
}

/// Numbers of a sample before the first step.
fn inputs(steps: &[Packed]) -> usize {
    steps[0].step.input()
}

/// Numbers of a sample after the last step.
fn outputs(steps: &[Packed]) -> usize {
    steps[steps.len() - 1].step.output()
}

/// Numbers of a sample between any two steps, at most.
fn between(steps: &[Packed]) -> usize {
    let sizes = steps.iter().flat_map(|Packed { step, .. }| [step.input(), step.output()]);
    sizes.max().unwrap_or_default()
}

/// Sums of gradients by cores: `[q, s, lane]` of every step.
type Sums = Vec<Vec<f32>>;

/// What a thread keeps from block to block: the input of every step, and the gradient on both sides of one.
struct Scratch {
    inputs: Vec<Vec<f32>>,
    grads: [Vec<f32>; 2],
}

impl ChainKernels for Flex {
    fn apply(
        steps: &[PlacedStep],
        weights: &FlexTensor,
        x: FlexTensor,
        batch: usize,
        bias: Option<usize>,
    ) -> FlexTensor {
        let (weights, x) = (contiguous(weights.clone()), contiguous(x));
        let (weights, x) = (values::<f32>(&weights), values::<f32>(&x));
        let (steps, arch) = (Packed::all(steps, weights), Arch::new());
        let (inputs, outputs) = (inputs(&steps), outputs(&steps));
        let scratch = || [0, 1].map(|_| vec![0.0; between(&steps) * LANES]);
        let all = |y: &mut [MaybeUninit<f32>]| {
            let tasks = x.chunks(LANES * inputs).zip(y.chunks_mut(LANES * outputs));
            pool::for_each_with(tasks, scratch, |[from, to], (x, y)| {
                into_lanes(x, inputs, from, arch);
                for step in &steps {
                    step.apply(from, to, arch);
                    std::mem::swap(from, to);
                }
                if let Some(begin) = bias {
                    let bias = &weights[begin..][..outputs];
                    for (lanes, bias) in from.chunks_exact_mut(LANES).zip(bias) {
                        lanes.iter_mut().for_each(|number| *number += bias);
                    }
                }
                from_lanes(from, outputs, y, arch);
            });
        };
        // SAFETY: every block is written whole.
        tensor(unsafe { filled(batch * outputs, all) }, [batch, outputs])
    }

    fn core_grads(
        steps: &[PlacedStep],
        weights: &FlexTensor,
        x: FlexTensor,
        grad_y: FlexTensor,
        batch: usize,
        wants_x: bool,
    ) -> (CoreGrads<Self>, Option<FlexTensor>) {
        let [weights, x, grad_y] = [weights.clone(), x, grad_y].map(contiguous);
        let [weights, x, grad_y] = [&weights, &x, &grad_y].map(values::<f32>);
        let arch = Arch::new();
        let forward = Packed::all(steps, weights);
        // In the order of the steps, each by the transposed core.
        let mut backward = Packed::all(&reversed(steps), weights);
        backward.reverse();
        let (inputs, outputs) = (inputs(&forward), outputs(&forward));
        let scratch = || Scratch {
            inputs: forward
                .iter()
                .map(|Packed { step, .. }| vec![0.0; step.input() * LANES])
                .collect(),
            grads: [0, 1].map(|_| vec![0.0; between(&forward) * LANES]),
        };
        let zeros =
            || -> Sums { forward.iter().map(|step| vec![0.0; step.core.len() * LANES]).collect() };
        let group = samples_per_partial(batch);
        let block_of = |scratch: &mut Scratch, first: usize, count: usize, sums: &mut Sums| {
            let Scratch { inputs: states, grads: [d, next] } = scratch;
            into_lanes(&x[first * inputs..][..count * inputs], inputs, &mut states[0], arch);
            for at in 1..forward.len() {
                let (before, after) = states.split_at_mut(at);
                forward[at - 1].apply(&before[at - 1], &mut after[0], arch);
            }
            into_lanes(&grad_y[first * outputs..][..count * outputs], outputs, d, arch);
            for (at, step) in backward.iter().enumerate().rev() {
                let (p, r) = (step.step.p.extent, step.step.r.extent);
                // Of the transposed step: its terms are what the step itself gives.
                let (rows, columns) = (step.step.sums(), step.step.terms());
                let offsets: Vec<usize> = (0..rows).map(|row| row * r * LANES).collect();
                let outer = Outer {
                    p,
                    r,
                    columns,
                    left: &states[at],
                    offsets: &offsets,
                    left_strides: [rows * r * LANES, LANES],
                    right: d,
                    right_strides: [r * LANES, columns * r * LANES, LANES],
                };
                outer.add_to(&mut sums[at], arch);
                if at > 0 || wants_x {
                    step.apply(d, next, arch);
                    std::mem::swap(d, next);
                }
            }
        };
        let all = |grad_x: Option<&mut [MaybeUninit<f32>]>| {
            let mut grad_x = grad_x.map(|grad_x| grad_x.chunks_mut(group * inputs));
            let parts = std::iter::from_fn(|| Some(grad_x.as_mut().and_then(Iterator::next)));
            let groups = (0..batch).step_by(group).zip(parts);
            pool::map_with(groups, scratch, |scratch, (begin, mut grad_x)| {
                let mut sums = zeros();
                let end = batch.min(begin + group);
                for first in (begin..end).step_by(LANES) {
                    let count = LANES.min(end - first);
                    block_of(scratch, first, count, &mut sums);
                    if let Some(grad_x) = &mut grad_x {
                        let rows = &mut grad_x[(first - begin) * inputs..][..count * inputs];
                        from_lanes(&scratch.grads[0], inputs, rows, arch);
                    }
                }
                sums
            })
        };
        let mut partials = Vec::new();
        let grad_x = wants_x.then(|| {
            // SAFETY: every block writes the gradient by its own samples.
            let grad_x = unsafe { filled(batch * inputs, |grad_x| partials = all(Some(grad_x))) };
            tensor(grad_x, [batch, inputs])
        });
        if !wants_x {
            partials = all(None);
        }
        let mut sums = zeros();
        for partial in &partials {
            for (sum, partial) in sums.iter_mut().zip(partial) {
                add(sum, partial);
            }
        }
        let grads = forward.iter().zip(steps).zip(sums).map(|((packed, placed), sums)| {
            let mut grad = vec![0.0; packed.core.len()];
            let ([s_core, _], [q_core, _]) = (packed.step.s_offsets(), packed.step.q_offsets());
            let mut lanes = sums.chunks_exact(LANES);
            for q in q_core {
                for (s, lanes) in s_core.iter().zip(&mut lanes) {
                    grad[s + q] = lanes.iter().sum();
                }
            }
            let numbers = grad.len();
            (tensor(grad, [numbers]), placed.begin)
        });
        (grads.collect(), grad_x)
    }

    fn fold(placed: &PlacedStep, weights: &FlexTensor, t: Option<&FlexTensor>) -> FlexTensor {
        let (weights, t) = (contiguous(weights.clone()), t.cloned().map(contiguous));
        let step = placed.step;
        let t = t.as_ref().map_or(&[1.0][..], values::<f32>);
        let core = packed_core(&step, &values::<f32>(&weights)[placed.begin..]);
        let ([_, s_out], [_, q_in]) = (step.s_offsets(), step.q_offsets());
        let columns = Columns::of([step.p.extent, step.r.extent]);
        let from = columns.gathered(t, &q_in, [step.p.t, step.r.t]);
        let product = columns.product(&core, step.sums(), &from);
        let mut out = vec![0.0; step.output()];
        columns.scatter(&product, &s_out, [step.p.out, step.r.out], &mut out);
        tensor(out, [step.output()])
    }

    fn fold_grad(placed: &PlacedStep, t: Option<&FlexTensor>, grad: &FlexTensor) -> FlexTensor {
        let (t, grad) = (t.cloned().map(contiguous), contiguous(grad.clone()));
        let step = placed.step;
        let t = t.as_ref().map_or(&[1.0][..], values::<f32>);
        let ([s_core, s_out], [q_core, q_in]) = (step.s_offsets(), step.q_offsets());
        let columns = Columns::of([step.p.extent, step.r.extent]);
        let d = columns.gathered(values(&grad), &s_out, [step.p.out, step.r.out]);
        let t = columns.gathered(t, &q_in, [step.p.t, step.r.t]);
        // The sum over columns, as rows of `T`: `[(p r), q]`.
        let (terms, arch) = (step.terms(), Arch::new());
        let wide = terms.next_multiple_of(LANES);
        let mut rows = vec![0.0; columns.padded * wide];
        Transpose { elements: &t, rows: terms, columns: columns.padded, stride: columns.padded }
            .into(&mut rows, wide, arch);
        let mut sums = vec![0.0; step.sums() * wide];
        for column in (0..wide).step_by(LANES) {
            let product = Product {
                terms: columns.padded,
                rows: step.sums(),
                left: &d,
                left_strides: [1, columns.padded],
                right: &rows[column..],
                right_stride: wide,
                add: false,
            };
            product.into(&mut sums[column..], wide, arch);
        }
        let mut grads = vec![0.0; step.sums() * terms];
        for (s, sums) in s_core.iter().zip(sums.chunks_exact(wide)) {
            q_core.iter().zip(sums).for_each(|(q, sum)| grads[s + q] = *sum);
        }
        let numbers = grads.len();
        tensor(grads, [numbers])
    }
}

/// The core of a step as `G[q,s]`, row-major.
fn packed_core(step: &Step, core: &[f32]) -> Vec<f32> {
    let ([s_core, _], [q_core, _]) = (step.s_offsets(), step.q_offsets());
    q_core.iter().flat_map(|q| s_core.iter().map(move |s| core[s + q])).collect()
}

/// The columns `(p, r)` of a fold, which is a product of matrices once its operands lie in rows of them, padded to whole rows
/// of [`LANES`]. Loops over the strides themselves took 160 µs for a chain of four cores at bond 8, a tenth of its step.
#[derive(Clone, Copy)]
struct Columns {
    extents: [usize; 2],
    padded: usize,
}

impl Columns {
    fn of(extents: [usize; 2]) -> Self {
        Self { extents, padded: (extents[0] * extents[1]).next_multiple_of(LANES) }
    }

    /// Rows of a tensor, each from an offset on, through the strides of `p` and `r`.
    fn gathered(self, tensor: &[f32], offsets: &[usize], [by_p, by_r]: [usize; 2]) -> Vec<f32> {
        let [p, r] = self.extents;
        let mut rows = vec![0.0; offsets.len() * self.padded];
        for (row, offset) in rows.chunks_exact_mut(self.padded).zip(offsets) {
            for (p, row) in row.chunks_exact_mut(r).take(p).enumerate() {
                let from = tensor[offset + p * by_p..].iter().step_by(by_r.max(1));
                row.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
        }
        rows
    }

    /// `out[s, column] = Σ_q core[q,s] rows[q, column]`.
    fn product(self, core: &[f32], sums: usize, rows: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; sums * self.padded];
        for column in (0..self.padded).step_by(LANES) {
            let product = Product {
                terms: core.len() / sums,
                rows: sums,
                left: core,
                left_strides: [sums, 1],
                right: &rows[column..],
                right_stride: self.padded,
                add: false,
            };
            product.into(&mut out[column..], self.padded, Arch::new());
        }
        out
    }

    /// The reverse of [`Self::gathered`].
    fn scatter(self, rows: &[f32], offsets: &[usize], [by_p, by_r]: [usize; 2], out: &mut [f32]) {
        let [p, r] = self.extents;
        for (row, offset) in rows.chunks_exact(self.padded).zip(offsets) {
            for (p, row) in row.chunks_exact(r).take(p).enumerate() {
                let to = out[offset + p * by_p..].iter_mut().step_by(by_r.max(1));
                row.iter().zip(to).for_each(|(from, to)| *to = *from);
            }
        }
    }
}
