//! The layer in tiles that stay in registers: `contract_tiled.wgsl`, `grad_tiled.wgsl` and `sum_grads.wgsl`.
//!
//! They move blocks of 4 x 4, so every extent but the bond's is a multiple of 4: the plan sees to it.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::attributes::BufferIOAttr::{ReadOnly, WriteOnly};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use crate::mps::MpsSpec;
use crate::mps::plan::{Contraction, Gradients, Partials, Plan, SOFTWARE_LANES};
use crate::op::MpsOps;
use crate::op::gpu::launch::{empty, launch, launch_on, part, sum_to_one_stage};
use crate::op::gpu::params::{ContractTiledParams, GradTiledParams, SumGradsParams, count};
use crate::op::gpu::shader::{
    GRAD_TILED_S, GRAD_TILED_W, LANE_SAMPLES, START_BIAS, START_ZERO, TILED_V, TILED_W,
};
use crate::op::kernels::{Operands, Updated};
use crate::op::layer::before_relu;
use crate::op::training::TrainingOps;

/// The contraction of `x` with `f` and `g`, plus the bias.
pub fn contract(
    Contraction { view, .. }: &Contraction,
    [x, f, g]: [&CubeTensor; 3],
    bias: Option<&CubeTensor>,
    shape: [usize; 3],
) -> CubeTensor {
    let [batch, ..] = shape;
    let y = empty(x, shape);
    let start = if bias.is_some() { START_BIAS } else { START_ZERO };
    let params = ContractTiledParams { batch: count(batch), view: view.into(), start };
    let tiles = view.v.div_ceil(TILED_V as usize) * view.w.div_ceil(TILED_W as usize);
    let lanes = batch.div_ceil(LANE_SAMPLES as usize).next_multiple_of(SOFTWARE_LANES as usize);
    // The binding needs a buffer even where it is not read.
    launch(lanes * tiles, &[x, f, g, bias.unwrap_or(g)], &y, &params);
    y
}

/// The gradients by both cores and the bias.
pub fn grads(
    partials: &[Partials; 2],
    x: &CubeTensor,
    [a, c]: [&CubeTensor; 2],
    grad_y: CubeTensor,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [_, m, n] = grad_y.meta.shape().dims();
    let grad_a = empty(x, a.meta.shape().clone());
    let grad_c = empty(x, c.meta.shape().clone());
    let grad_bias = empty(x, [m, n]);
    grads_to(partials, x, [a, c], grad_y, [&grad_a, &grad_c, &grad_bias]);
    (grad_a, grad_c, grad_bias)
}

/// `grad_x`, if it is wanted, and the state after a step of Adam.
pub fn update(
    plan: &Plan<Gradients>,
    operands: Operands<CubeBackend>,
    wants_x: bool,
) -> Updated<CubeBackend> {
    let Operands { state, x, y, grad_y, words, update } = operands;
    let MpsSpec { m, n, j, l, .. } = update.spec;
    let [x, state] = [x, state].map(into_contiguous);
    let grad_y = into_contiguous(before_relu::<CubeBackend>(y, grad_y, update.relu));
    let (batch, numbers) = (x.meta.shape()[0], state.meta.shape().num_elements());
    let x = part(&x, 0, [batch, j, l]);
    let grad_y = part(&grad_y, 0, [batch, m, n]);
    let a = part(&state, 0, update.spec.a_shape());
    let c = part(&state, update.c, update.spec.c_shape());
    let stride = numbers / 3;
    let grads = empty(&x, [1, stride]);
    let grad_a = part(&grads, 0, update.spec.a_shape());
    let grad_c = part(&grads, update.c, update.spec.c_shape());
    let grad_bias = match update.bias {
        Some(begin) => part(&grads, begin, [m, n]),
        None => empty(&x, [m, n]),
    };
    let to = [&grad_a, &grad_c, &grad_bias];
    grads_to(&plan.pass.partials, &x, [&a, &c], grad_y.clone(), to);
    let grad_x = wants_x.then(|| {
        let grad_x = CubeBackend::mps_grad_x(a.clone(), c.clone(), grad_y);
        CubeBackend::float_reshape(grad_x, Shape::new([batch, j * l]))
    });
    // While these are there, the state is a shared buffer, and would be copied.
    drop((a, c));
    Updated { grad_x, state: CubeBackend::adam(state, grads, words, update.betas) }
}

/// Writes the gradients by `A`, `C` and the bias.
fn grads_to(
    partials: &[Partials; 2],
    x: &CubeTensor,
    [a, c]: [&CubeTensor; 2],
    grad_y: CubeTensor,
    grads: [&CubeTensor; 3],
) {
    let [batch, m, n] = grad_y.meta.shape().dims();
    let [of_a, of_c] = partials;
    let [(partial_a, rows_a), (partial_c, rows_c)] = [(of_a, c, a), (of_c, a, c)]
        .map(|(partials, f, g)| partial_sums(partials, x, f, &grad_y, g));
    let (sums_y, rows_y) = sum_to_one_stage(grad_y, [batch, m * n]);
    let fours = |tensor: &CubeTensor| tensor.meta.shape().num_elements() / 4;
    let [columns_a, columns_c, columns_y] = grads.map(fours);
    let params = SumGradsParams {
        rows_a: count(rows_a),
        columns_a: count(columns_a),
        rows_c: count(rows_c),
        columns_c: count(columns_c),
        rows_y: count(rows_y),
        columns_y: count(columns_y),
    };
    let read = [&partial_a, &partial_c, &sums_y].map(|tensor| (tensor, ReadOnly));
    let written = grads.map(|tensor| (tensor, WriteOnly));
    launch_on(columns_a + columns_c + columns_y, &[read, written].concat(), &params);
}

/// Sums over groups of samples of the gradient by `g`, and how many there are; the other core is `f`.
fn partial_sums(
    Partials { view, reversed, groups, pieces, .. }: &Partials,
    x: &CubeTensor,
    f: &CubeTensor,
    grad_y: &CubeTensor,
    g: &CubeTensor,
) -> (CubeTensor, usize) {
    let [batch, ..] = x.meta.shape().dims::<3>();
    let columns = g.meta.shape().num_elements();
    let partial = empty(x, [*groups, columns]);
    let inputs = if *reversed { [f, grad_y, x] } else { [f, x, grad_y] };
    let tiles =
        view.k * view.w.div_ceil(GRAD_TILED_W as usize) * view.s.div_ceil(GRAD_TILED_S as usize);
    let invocations = groups.next_multiple_of(SOFTWARE_LANES as usize) * tiles;
    for (launched, piece) in pieces.iter().enumerate() {
        let [b_begin, b_end] = piece.outer.map(count);
        let params = GradTiledParams {
            batch: count(batch),
            view: view.into(),
            groups: count(*groups),
            b_begin,
            b_end,
            add: u32::from(launched > 0),
        };
        launch(invocations, &inputs, &partial, &params);
    }
    sum_to_one_stage(partial, [*groups, columns])
}
