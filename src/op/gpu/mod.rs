//! The layer on a GPU.
//!
//! [`shader`] is the table of all WGSL kernels, [`params`] what each takes, `launch` how one is started.
//! Here are the plain kernels, which read well and compute every layer; software adapters have others
//! ([`super::software`]).

pub(crate) mod launch;
pub mod params;
pub mod shader;
pub(crate) mod target;
mod training;

use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::layer::{LayerOps, activate};
use super::software::{padding, tiled};
use super::training::Activation;
use crate::mps::Order;
use crate::mps::plan::{Contraction, Gradients, Partials, Piece, Plan, Strategy, Target};
use launch::{empty, launch, sum_rows};
use params::{ContractParams, GradCoreParams, count};
use shader::{START_BIAS, START_OUTPUT, START_ZERO, TILE_W};

impl LayerOps for CubeBackend {
    fn target(tensor: &CubeTensor) -> Target {
        target::target(&tensor.device)
    }

    fn resize<const D: usize>(tensor: CubeTensor, shape: [usize; D]) -> CubeTensor {
        padding::resize(tensor, shape)
    }

    fn contract(
        plan: &Plan<Contraction>,
        x: CubeTensor,
        [a, c]: [CubeTensor; 2],
        bias: Option<CubeTensor>,
        activation: Activation,
        shape: [usize; 3],
    ) -> CubeTensor {
        let [x, a, c] = [x, a, c].map(into_contiguous);
        let bias = bias.map(into_contiguous);
        let [f, g] = match plan.order {
            Order::CFirst => [&c, &a],
            Order::AFirst => [&a, &c],
        };
        let y = empty(&x, shape);
        match plan.strategy {
            Strategy::Tiled => tiled::contract(&plan.pass, [&x, f, g], bias.as_ref(), &y),
            _ => contract(&plan.pass, [&x, f, g], bias.as_ref(), &y),
        }
        activate::<Self>(y, activation)
    }

    fn grads(
        plan: &Plan<Gradients>,
        x: CubeTensor,
        [a, c]: [CubeTensor; 2],
        grad_y: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [x, a, c, grad_y] = [x, a, c, grad_y].map(into_contiguous);
        if plan.strategy == Strategy::Tiled {
            return tiled::grads(&plan.pass.partials, &x, [&a, &c], grad_y);
        }
        let [of_a, of_c] = &plan.pass.partials;
        let grad_a = grad_core(of_a, &x, &c, &grad_y, &a);
        let grad_c = grad_core(of_c, &x, &a, &grad_y, &c);
        (grad_a, grad_c, sum_of_samples(grad_y))
    }
}

/// The sum of `grad_y[batch, M, N]` over the batch.
fn sum_of_samples(grad_y: CubeTensor) -> CubeTensor {
    let [batch, m, n] = grad_y.meta.shape().dims();
    sum_rows(grad_y, [batch, m * n], [m, n])
}

/// Writes the contraction of `x` with `f` and `g`, plus the bias, to `y`.
fn contract(
    Contraction { view, pieces }: &Contraction,
    [x, f, g]: [&CubeTensor; 3],
    bias: Option<&CubeTensor>,
    y: &CubeTensor,
) {
    let [batch, ..] = y.meta.shape().dims::<3>();
    let invocations = batch * view.v * view.w.div_ceil(TILE_W as usize);
    let mut start = if bias.is_some() { START_BIAS } else { START_ZERO };
    for Piece { outer, middle, inner } in pieces {
        let [[s_begin, s_end], [k_begin, k_end], [r_begin, r_end]] =
            [outer, middle, inner].map(|range| range.map(count));
        let params = ContractParams {
            batch: count(batch),
            view: view.into(),
            start,
            s_begin,
            s_end,
            k_begin,
            k_end,
            r_begin,
            r_end,
        };
        // The binding needs a buffer even where it is not read.
        launch(invocations, &[x, f, g, bias.unwrap_or(g)], y, &params);
        start = START_OUTPUT;
    }
}

/// The gradient by the core `g`, the `G` of the view; the other core is `f`.
fn grad_core(
    partials: &Partials,
    x: &CubeTensor,
    f: &CubeTensor,
    grad_y: &CubeTensor,
    g: &CubeTensor,
) -> CubeTensor {
    let Partials { view, groups, group_size, pieces, .. } = partials;
    let [batch, ..] = x.meta.shape().dims::<3>();
    let shape = g.meta.shape().clone();
    let columns = shape.num_elements();
    let partial = empty(x, [*groups, columns]);
    let invocations = groups * view.k * view.s * view.w.div_ceil(TILE_W as usize);
    for (launched, Piece { outer, middle, inner }) in pieces.iter().enumerate() {
        let [[b_begin, b_end], [v_begin, v_end], [r_begin, r_end]] =
            [outer, middle, inner].map(|range| range.map(count));
        let params = GradCoreParams {
            batch: count(batch),
            view: view.into(),
            groups: count(*groups),
            group_size: count(*group_size),
            add: u32::from(launched > 0),
            b_begin,
            b_end,
            v_begin,
            v_end,
            r_begin,
            r_end,
        };
        launch(invocations, &[x, f, grad_y], &partial, &params);
    }
    sum_rows(partial, [*groups, columns], shape)
}
