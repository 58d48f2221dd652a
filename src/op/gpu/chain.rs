//! Chains of cores on adapters: a launch for every step.

use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{empty, launch, part, sum_rows};
use super::params::{ChainGradParams, ChainStepParams, count};
use super::shader::{CHAIN_TILE, START_BIAS, START_OUTPUT, START_ZERO};
use crate::mps::chain::Step;
use crate::mps::plan::{Piece, most_groups, pieces};
use crate::op::chain::{ChainKernels, CoreGrads, PlacedStep, reversed};

/// Elements that one group of a gradient's partial sums adds up where there are enough: few, so that a batch keeps a GPU
/// busy.
const GROUP: usize = 64;

/// One step of every sample of a batch. Without `t`, all its numbers are 1.
fn step(
    placed: &PlacedStep,
    weights: &CubeTensor,
    t: Option<&CubeTensor>,
    batch: usize,
    bias: Option<&CubeTensor>,
) -> CubeTensor {
    let PlacedStep { step, begin } = *placed;
    let core = part(weights, begin, [step.sums() * step.terms()]);
    let out = empty(weights, [batch, step.output()]);
    for (invocations, params) in step_launches(&step, batch, t.is_none(), bias.is_some()) {
        // A binding needs a buffer even where it is not read.
        let inputs = [&core, t.unwrap_or(&core), bias.unwrap_or(&core)];
        launch(invocations, &inputs, &out, &params);
    }
    out
}

/// The launches of a step: over how many invocations, and their parameters. `ones`: all numbers of `T` are 1.
pub fn step_launches(
    step: &Step,
    batch: usize,
    ones: bool,
    has_bias: bool,
) -> impl Iterator<Item = (usize, ChainStepParams)> {
    let invocations =
        batch * step.p.extent * step.r.extent * step.sums().div_ceil(CHAIN_TILE as usize);
    let first = if has_bias { START_BIAS } else { START_ZERO };
    let starts = std::iter::once(first).chain(std::iter::repeat(START_OUTPUT));
    let pieces = pieces([1, 1, step.terms()]).into_iter().zip(starts);
    pieces.map(move |(Piece { inner: [q_begin, q_end], .. }, start)| {
        let params = ChainStepParams {
            p: count(batch * step.p.extent),
            p_t: count(step.p.t),
            p_out: count(step.p.out),
            r: count(step.r.extent),
            r_t: count(step.r.t),
            r_out: count(step.r.out),
            s: (&step.s).into(),
            q: (&step.q).into(),
            ones: u32::from(ones),
            start,
            bias_count: count(step.output()),
            q_begin: count(q_begin),
            q_end: count(q_end),
        };
        (invocations, params)
    })
}

/// The gradient by the core of a step. Without `t`, all its numbers are 1.
fn core_grad(
    placed: &PlacedStep,
    t: Option<&CubeTensor>,
    d: &CubeTensor,
    batch: usize,
) -> CubeTensor {
    let step = placed.step;
    let (rows, columns) = (batch * step.p.extent, step.sums() * step.terms());
    let groups = (rows * step.r.extent).div_ceil(GROUP).min(most_groups(columns)).clamp(1, rows);
    let group_size = rows.div_ceil(groups);
    let groups = rows.div_ceil(group_size);
    let partial = empty(d, [groups, columns]);
    let invocations = groups * step.terms() * step.sums().div_ceil(CHAIN_TILE as usize);
    let pieces = pieces([group_size, step.r.extent, 1]);
    for (launched, Piece { outer, middle, .. }) in pieces.iter().enumerate() {
        let params = ChainGradParams {
            p: count(rows),
            p_t: count(step.p.t),
            p_out: count(step.p.out),
            r: count(step.r.extent),
            r_t: count(step.r.t),
            r_out: count(step.r.out),
            s: (&step.s).into(),
            q: (&step.q).into(),
            ones: u32::from(t.is_none()),
            groups: count(groups),
            group_size: count(group_size),
            add: u32::from(launched > 0),
            p_begin: count(outer[0]),
            p_end: count(outer[1]),
            r_begin: count(middle[0]),
            r_end: count(middle[1]),
        };
        launch(invocations, &[t.unwrap_or(d), d], &partial, &params);
    }
    sum_rows(partial, [groups, columns], [columns])
}

impl ChainKernels for CubeBackend {
    fn apply(
        steps: &[PlacedStep],
        weights: &CubeTensor,
        x: CubeTensor,
        batch: usize,
        bias: Option<usize>,
    ) -> CubeTensor {
        let weights = into_contiguous(weights.clone());
        let mut x = into_contiguous(x);
        for (at, placed) in steps.iter().enumerate() {
            let is_last = at + 1 == steps.len();
            let bias = bias.filter(|_| is_last);
            let bias = bias.map(|begin| part(&weights, begin, [placed.step.output()]));
            x = step(placed, &weights, Some(&x), batch, bias.as_ref());
        }
        x
    }

    fn core_grads(
        steps: &[PlacedStep],
        weights: &CubeTensor,
        x: CubeTensor,
        grad_y: CubeTensor,
        batch: usize,
        wants_x: bool,
    ) -> (CoreGrads<Self>, Option<CubeTensor>) {
        let weights = into_contiguous(weights.clone());
        // The input of every step.
        let mut inputs = vec![into_contiguous(x)];
        for placed in &steps[..steps.len() - 1] {
            inputs.push(step(placed, &weights, inputs.last(), batch, None));
        }
        let mut grad = into_contiguous(grad_y);
        let mut grads = Vec::with_capacity(steps.len());
        for (at, (placed, back)) in steps.iter().rev().zip(reversed(steps)).enumerate() {
            grads.push((core_grad(placed, inputs.pop().as_ref(), &grad, batch), placed.begin));
            if wants_x || at + 1 < steps.len() {
                grad = step(&back, &weights, Some(&grad), batch, None);
            }
        }
        (grads, wants_x.then_some(grad))
    }

    fn fold(placed: &PlacedStep, weights: &CubeTensor, t: Option<&CubeTensor>) -> CubeTensor {
        let out = step(placed, &into_contiguous(weights.clone()), t, 1, None);
        part(&out, 0, [placed.step.output()])
    }

    fn fold_grad(placed: &PlacedStep, t: Option<&CubeTensor>, grad: &CubeTensor) -> CubeTensor {
        core_grad(placed, t, &into_contiguous(grad.clone()), 1)
    }
}
