//! The layer in the GPU's kernels: `gpu/contract.wgsl`, `gpu/grads_whole.wgsl` and `gpu/grads.wgsl`, cut by
//! [`crate::mps::tiles`].

use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::attributes::BufferIOAttr::{ReadOnly, WriteOnly};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{Active, empty, launch_elements, part, sum_rows, sum_to_one_stage};
use super::matmul::finish;
use super::params::{GpuContractParams, GpuGradsParams, GpuGradsWholeParams, Role, count};
use super::shader::{START_BIAS, START_ZERO, Shader};
use crate::mps::plan::{Gradients, MAX_ITERATIONS, Plan, most_groups};
use crate::mps::tiles::{ContractTiles, GradTiles, GradsTiles, WholeTiles, is_even};
use crate::mps::{MpsSpec, Order, View};
use crate::op::MpsOps;
use crate::op::activation::Activation;
use crate::op::kernels::{Operands, Updated};
use crate::op::layer::before_relu;
use crate::op::state::ALIGNMENT;
use crate::op::training::TrainingOps;

/// The contraction of `x` with `f` and `g`, plus the bias, and an activation.
pub fn contract(
    view: &View,
    [x, f, g]: [&CubeTensor; 3],
    bias: Option<&CubeTensor>,
    active: Option<(CubeTensor, Activation)>,
    shape: [usize; 3],
) -> CubeTensor {
    let [batch, ..] = shape;
    let tiles = ContractTiles::of(view, batch);
    let active = Active::of(active.as_ref());
    let y = empty(x, shape);
    if tiles.parts == 1 {
        contract_to(view, &tiles, [x, f, g], bias, active, &y);
    } else {
        let parts = empty(x, [tiles.parts, batch * view.w * view.v]);
        contract_to(view, &tiles, [x, f, g], None, Active::NONE, &parts);
        finish(&parts, tiles.parts, bias, active, &y);
    }
    y
}

fn contract_to(
    view: &View,
    tiles: &ContractTiles,
    [x, f, g]: [&CubeTensor; 3],
    bias: Option<&CubeTensor>,
    active: Active,
    y: &CubeTensor,
) {
    let batch = x.meta.shape().num_elements() / (view.s * view.r);
    let params = GpuContractParams {
        batch: count(batch),
        view: view.into(),
        samples: count(tiles.samples),
        tile_w: count(tiles.tile_w),
        tile_v: count(tiles.tile_v),
        chunk_s: count(tiles.chunk_s),
        chunk_r: count(tiles.chunk_r),
        part_k: count(tiles.part_k),
        parts: count(tiles.parts),
        start: if bias.is_some() { START_BIAS } else { START_ZERO },
        relu: active.relu,
        seed: active.seed,
        threshold: active.threshold,
        scale: active.scale,
    };
    // The bindings need a buffer even where it is not read.
    let inputs = [x, f, g, bias.unwrap_or(g), active.words.unwrap_or(g)];
    let buffers = inputs.map(|input| (input, ReadOnly)).into_iter().chain([(y, WriteOnly)]);
    let invocations = tiles.workgroups * Shader::GpuContract.facts().workgroup_size as usize;
    launch_elements(is_even(view), invocations, &buffers.collect::<Vec<_>>(), &params);
}

/// Where the gradients lie in a row of partial sums.
struct Row {
    c: usize,
    bias: usize,
    stride: usize,
}

/// Partial sums of all gradients, side by side, and how many there are; `grad_y` has yet to pass a ReLU with the output
/// `y` and the scale `relu`, if there is one.
fn partial_grads(
    plan: &Plan<Gradients>,
    [x, a, c, grad_y, y]: [&CubeTensor; 5],
    relu: Option<f32>,
    row: &Row,
) -> (CubeTensor, usize) {
    let Plan { layer, order, pass: Gradients { view, .. }, .. } = plan;
    let batch = x.meta.shape().num_elements() / layer.inputs();
    let most_groups = most_groups(row.stride);
    // The gradients do not depend on the order: whichever fits whole.
    for order in [*order, order.other()] {
        let view = View::forward(layer, order);
        let whole = WholeTiles::of(&view, batch, most_groups);
        if let Some(tiles) = whole.filter(|tiles| tiles.iterations(&view) <= MAX_ITERATIONS) {
            let partial = whole_grads(layer, order, &tiles, [x, a, c, grad_y, y], relu, row);
            return sum_to_one_stage(partial, [tiles.groups, row.stride]);
        }
    }
    let tiles = GradsTiles::of(view, batch, most_groups);
    let GradsTiles { groups, group_size, cores } = tiles;
    let role = |reversed: bool, tiles: &GradTiles| {
        let view = if reversed { view.reversed() } else { *view };
        // The gradient is that by the other core than F.
        let f_is_a = (*order == Order::AFirst) != reversed;
        Role {
            view: (&view).into(),
            reversed: u32::from(reversed),
            f_is_a: u32::from(f_is_a),
            samples: count(tiles.samples),
            tile_w: count(tiles.tile_w),
            tile_s: count(tiles.tile_s),
            chunk_v: count(tiles.chunk_v),
            chunk_r: count(tiles.chunk_r),
            slots: count(tiles.slots),
            begin: count(if f_is_a { row.c } else { 0 }),
            workgroups: count(tiles.workgroups * groups),
        }
    };
    let [first, second] = [role(false, &cores[0]), role(true, &cores[1])];
    let columns = if row.bias < row.stride { layer.outputs() } else { 0 };
    let params = GpuGradsParams {
        first,
        second,
        batch: count(batch),
        groups: count(groups),
        group_size: count(group_size),
        columns: count(row.stride),
        bias_begin: count(row.bias),
        bias_columns: count(columns),
        relu: u32::from(relu.is_some()),
        scale: relu.unwrap_or(1.0),
    };
    let lanes = Shader::GpuGrads.facts().workgroup_size as usize;
    let workgroups = (first.workgroups + second.workgroups) as usize;
    let workgroups = workgroups + groups * columns.div_ceil(4 * lanes);
    let partial = empty(x, [groups, row.stride]);
    let inputs = [x, a, c, grad_y, y].map(|input| (input, ReadOnly));
    let buffers: Vec<_> = inputs.into_iter().chain([(&partial, WriteOnly)]).collect();
    launch_elements(is_even(view), workgroups * lanes, &buffers, &params);
    sum_to_one_stage(partial, [groups, row.stride])
}

/// The same of a layer that fits into workgroup memory.
fn whole_grads(
    layer: &MpsSpec,
    order: Order,
    tiles: &WholeTiles,
    [x, a, c, grad_y, y]: [&CubeTensor; 5],
    relu: Option<f32>,
    row: &Row,
) -> CubeTensor {
    let view = View::forward(layer, order);
    let ([f, g], [f_begin, g_begin]) = match order {
        Order::CFirst => ([c, a], [row.c, 0]),
        Order::AFirst => ([a, c], [0, row.c]),
    };
    let columns = if row.bias < row.stride { layer.outputs() } else { 0 };
    let [slots_g, slots_f] = tiles.slots;
    let params = GpuGradsWholeParams {
        view: (&view).into(),
        batch: count(x.meta.shape().num_elements() / layer.inputs()),
        groups: count(tiles.groups),
        group_size: count(tiles.group_size),
        columns: count(row.stride),
        f_begin: count(f_begin),
        g_begin: count(g_begin),
        bias_begin: count(row.bias),
        bias_columns: count(columns),
        slots_f: count(slots_f),
        slots_g: count(slots_g),
        relu: u32::from(relu.is_some()),
        scale: relu.unwrap_or(1.0),
    };
    let partial = empty(x, [tiles.groups, row.stride]);
    let inputs = [x, f, g, grad_y, y].map(|input| (input, ReadOnly));
    let buffers: Vec<_> = inputs.into_iter().chain([(&partial, WriteOnly)]).collect();
    let MpsSpec { n, j, l, .. } = *layer;
    let wide = [n, j, l, row.c, row.bias, row.stride].iter().all(|run| run.is_multiple_of(4));
    let invocations = tiles.workgroups * Shader::GpuGradsWhole.facts().workgroup_size as usize;
    launch_elements(wide, invocations, &buffers, &params);
    partial
}

/// The gradients by the cores and the bias.
pub fn grads(
    plan: &Plan<Gradients>,
    x: CubeTensor,
    [a, c]: [CubeTensor; 2],
    grad_y: CubeTensor,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let spec = &plan.layer;
    let shapes: [Shape; 3] =
        [spec.a_shape().into(), spec.c_shape().into(), spec.bias_shape().into()];
    // Each where a kernel can bind it.
    let [of_a, of_c, of_bias] =
        [0, 1, 2].map(|at: usize| shapes[at].num_elements().next_multiple_of(ALIGNMENT));
    let row = Row { c: of_a, bias: of_a + of_c, stride: of_a + of_c + of_bias };
    let (partial, rows) = partial_grads(plan, [&x, &a, &c, &grad_y, &grad_y], None, &row);
    // In one launch; what lies between them is summed, too, and not read.
    let sums = sum_rows(partial, [rows, row.stride], [row.stride]);
    let [shape_a, shape_c, shape_bias] = shapes;
    (part(&sums, 0, shape_a), part(&sums, row.c, shape_c), part(&sums, row.bias, shape_bias))
}

/// `grad_x`, if it is wanted, and the state after a step of Adam.
pub fn update(
    plan: &Plan<Gradients>,
    operands: Operands<CubeBackend>,
    wants_x: bool,
) -> Updated<CubeBackend> {
    let Operands { state, x, y, grad_y, words, update } = operands;
    let spec = update.spec;
    let [x, y, grad_y, state] = [x, y, grad_y, state].map(into_contiguous);
    let stride = state.meta.shape().num_elements() / 3;
    let a = part(&state, 0, spec.a_shape());
    let c = part(&state, update.c, spec.c_shape());
    let row = Row { c: update.c, bias: update.bias_or_end(stride), stride };
    let (partial, rows) = partial_grads(plan, [&x, &a, &c, &grad_y, &y], update.relu, &row);
    let grad_x = wants_x.then(|| {
        let batch = x.meta.shape()[0];
        // The contraction has no gradient of a ReLU before it.
        let grad_y = before_relu::<CubeBackend>(y, grad_y, update.relu);
        let grad_y = CubeBackend::float_reshape(grad_y, Shape::new([batch, spec.m, spec.n]));
        let grad_x = CubeBackend::mps_grad_x(a.clone(), c.clone(), grad_y);
        CubeBackend::float_reshape(grad_x, Shape::new([batch, spec.inputs()]))
    });
    // While these are there, the state is a shared buffer, and would be copied.
    drop((a, c));
    let partial = part(&partial, 0, [rows, stride]);
    Updated { grad_x, state: CubeBackend::adam(state, partial, words, update.betas) }
}
