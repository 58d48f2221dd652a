//! The layer on a GPU.

pub(crate) mod launch;
pub mod shader;
mod training;

use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::attributes::BufferIOAttr;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use launch::{MAX_ITERATIONS, empty, launch, launch_on, sum_rows, sum_to_one_stage, target};
use super::software::padding::{padded, resize};
use shader::{
    LANE_SAMPLES, START_BIAS, START_Y, START_ZERO, Shader, TILE_W, TILED_P, TILED_Q, TILED_V,
    TILED_W,
};
use super::{MpsOps, forward_plan, grads_plan, rebuilt, spec_of};
use crate::mps::plan::{Plan, Strategy, View};
use crate::mps::{MpsSpec, Order};

/// Samples that one group of `grad_tiled.wgsl` sums where the batch allows: a group's sums
/// are stored and added up once more.
const TILED_SAMPLES: usize = 8;

/// Samples a partial sum of `grad_core.wgsl`: few, so that a batch of 128 keeps a GPU busy.
const GROUP_SIZE: usize = 4;

/// Most partial sums of one gradient.
const MAX_GROUPS: usize = 1024;

/// Most bytes of partial sums, half of what WebGPU guarantees one binding may hold.
const MAX_PARTIAL_BYTES: usize = 64 << 20;

/// Cuts three nested loops, the outermost first, into pieces of at most [`MAX_ITERATIONS`]; a piece
/// is `[begin, end]` of each loop, in their order.
fn pieces([outer, middle, inner]: [usize; 3]) -> Vec<[usize; 6]> {
    // A loop's end costs an iteration, so one of `n` counts as `n + 1`, and its body one more.
    let r = inner.min(MAX_ITERATIONS / 4);
    let k = middle.min(MAX_ITERATIONS / (r + 2)).max(1);
    let s = outer.min(MAX_ITERATIONS / (k * (r + 2) + 2)).max(1);
    let cut = |extent: usize, size: usize| {
        (0..extent).step_by(size).map(move |begin| [begin, extent.min(begin + size)])
    };
    let mut pieces = Vec::new();
    for [s_begin, s_end] in cut(outer, s) {
        for [k_begin, k_end] in cut(middle, k) {
            for [r_begin, r_end] in cut(inner, r) {
                pieces.push([s_begin, s_end, k_begin, k_end, r_begin, r_end]);
            }
        }
    }
    pieces
}

/// The parameters that both contraction kernels begin with.
fn view_params(batch: usize, view: &View) -> Vec<usize> {
    let View { s, r, v, w, k, x, f, g, y } = *view;
    [batch, s, r, v, w, k].into_iter().chain(x).chain(f).chain(g).chain(y).collect()
}

/// `[F, G]` of the cores `[A, C]`.
fn in_order<T>([a, c]: [T; 2], order: Order) -> [T; 2] {
    match order {
        Order::CFirst => [c, a],
        Order::AFirst => [a, c],
    }
}

/// Loop iterations of one invocation of `contract_tiled.wgsl`.
fn tiled_iterations(view: &View) -> usize {
    view.k * (view.s / 4 * (view.r / 4 + 2) + 2)
}

/// The gradient by one core as `grad_tiled.wgsl` sees it.
struct TiledGrad {
    /// Extents `[h, i, p, q]`.
    extents: [usize; 4],
    /// Strides `[h, k, i]` of the core that is contracted.
    core: [usize; 3],
    /// Strides `[h, q]` of a sample of what that core meets first.
    first: [usize; 2],
    /// Strides `[p, i]` of a sample of the other.
    second: [usize; 2],
    /// Strides `[p, k, q]` of the gradient.
    grad: [usize; 3],
}

impl TiledGrad {
    /// By `G`: `F` meets `X` first.
    fn by_g(view: &View) -> Self {
        let View { s, r, v, w, x: [x_s, x_r], f: [f_r, f_k, f_v], g, y, .. } = *view;
        Self { extents: [r, v, w, s], core: [f_r, f_k, f_v], first: [x_r, x_s], second: y, grad: g }
    }

    /// By `F`: `G` meets the gradient of the output first.
    fn by_f(view: &View) -> Self {
        let View { s, r, v, w, x: [x_s, x_r], f, g, y, .. } = *view;
        Self { extents: [w, s, r, v], core: g, first: y, second: [x_r, x_s], grad: f }
    }

    /// Loop iterations of one invocation a sample.
    fn iterations(&self) -> usize {
        let [h, i, ..] = self.extents;
        i / 4 * (h / 4 + 2) + 2
    }

    /// Invocations a group, but for the lanes.
    fn tiles(&self, k: usize) -> usize {
        let [_, _, p, q] = self.extents;
        k * p.div_ceil(TILED_P as usize) * q.div_ceil(TILED_Q as usize)
    }

    /// The parameters that the kernel begins with.
    fn params(&self, batch: usize, k: usize) -> Vec<usize> {
        let Self { extents, core, first, second, grad } = self;
        [&[batch], &extents[..], &[k], core, first, second, grad].concat()
    }
}

/// Whether the tiled kernels can compute this: blocks of 4 in every mode, and `iterations` that no
/// driver ends.
fn can_tile(view: &View, iterations: usize) -> bool {
    let View { s, r, v, w, .. } = *view;
    [s, r, v, w].iter().all(|extent| extent.is_multiple_of(4)) && iterations <= MAX_ITERATIONS
}

/// `y = contraction of x with both cores, plus bias`, into a new tensor of shape `shape`.
fn contract(
    x: &CubeTensor,
    cores: [&CubeTensor; 2],
    bias: Option<&CubeTensor>,
    (view, plan): (View, Plan),
    shape: [usize; 3],
) -> CubeTensor {
    let y = empty(x, shape);
    let batch = shape[0];
    let [f, g] = in_order(cores, plan.order);
    if plan.strategy == Strategy::Tiled && can_tile(&view, tiled_iterations(&view)) {
        let mut params = view_params(batch, &view);
        params.push(if bias.is_some() { START_BIAS } else { START_ZERO });
        let tiles = view.v.div_ceil(TILED_V as usize) * view.w.div_ceil(TILED_W as usize);
        let lanes = Shader::ContractTiled.workgroup_size() as usize;
        let lanes = batch.div_ceil(LANE_SAMPLES as usize).next_multiple_of(lanes);
        // The binding needs a buffer even where it is not read.
        let inputs = [x, f, g, bias.unwrap_or(g)];
        launch(Shader::ContractTiled, lanes * tiles, &inputs, &y, &params);
        return y;
    }
    let invocations = batch * view.v * view.w.div_ceil(TILE_W as usize);
    let mut start = if bias.is_some() { START_BIAS } else { START_ZERO };
    for piece in pieces([view.s, view.k, view.r]) {
        let mut params = view_params(batch, &view);
        params.push(start);
        params.extend(piece);
        // The binding needs a buffer even where it is not read.
        launch(Shader::Contract, invocations, &[x, f, g, bias.unwrap_or(g)], &y, &params);
        start = START_Y;
    }
    y
}

/// The gradient by the core that `view` calls `G`, of shape `shape`.
fn grad_core(
    x: &CubeTensor,
    f: &CubeTensor,
    grad_y: &CubeTensor,
    view: &View,
    shape: [usize; 3],
) -> CubeTensor {
    let batch = grad_y.meta.shape()[0];
    let columns: usize = shape.iter().product();
    let most = (MAX_PARTIAL_BYTES / (columns * size_of::<f32>())).clamp(1, MAX_GROUPS);
    let group_size = GROUP_SIZE.max(batch.div_ceil(most));
    let groups = batch.div_ceil(group_size);
    let partial = empty(x, [groups, columns]);
    let invocations = groups * view.k * view.s * view.w.div_ceil(TILE_W as usize);
    let mut add = 0;
    for piece in pieces([group_size.min(batch), view.v, view.r]) {
        let mut params = view_params(batch, view);
        params.extend([groups, group_size, add]);
        params.extend(piece);
        launch(Shader::GradCore, invocations, &[x, f, grad_y], &partial, &params);
        add = 1;
    }
    sum_rows(partial, [groups, columns], shape)
}

/// The gradients by both cores and the bias through the tiled kernels, where they can compute them.
fn grads_tiled(
    x: &CubeTensor,
    cores: [&CubeTensor; 2],
    grad_y: &CubeTensor,
    (view, order): (View, Order),
    bias_shape: [usize; 2],
) -> Option<(CubeTensor, CubeTensor, CubeTensor)> {
    let [by_g, by_f] = [TiledGrad::by_g(&view), TiledGrad::by_f(&view)];
    let iterations = by_g.iterations().max(by_f.iterations());
    if !can_tile(&view, iterations) {
        return None;
    }
    let batch = grad_y.meta.shape()[0];
    let View { v, w, k, .. } = view;
    let [f, g] = in_order(cores, order);
    let of_g = (by_g, [f, x, grad_y], g);
    let of_f = (by_f, [g, grad_y, x], f);
    let partials = [of_g, of_f].map(|(grad, inputs, core)| {
        let columns = core.meta.shape().num_elements();
        let lanes = Shader::GradTiled.workgroup_size() as usize;
        let most = (MAX_PARTIAL_BYTES / (columns * size_of::<f32>())).clamp(1, MAX_GROUPS);
        let groups = batch.div_ceil(TILED_SAMPLES).next_multiple_of(lanes).min(most).min(batch);
        let partial = empty(x, [groups, columns]);
        let a_launch = groups * (MAX_ITERATIONS / iterations);
        for begin in (0..batch).step_by(a_launch) {
            let mut params = grad.params(batch, k);
            let end = batch.min(begin + a_launch);
            params.extend([groups, begin, end, usize::from(begin > 0)]);
            let invocations = groups.next_multiple_of(lanes) * grad.tiles(k);
            launch(Shader::GradTiled, invocations, &inputs, &partial, &params);
        }
        let (partial, rows) = sum_to_one_stage(partial, [groups, columns]);
        (partial, [rows, columns], empty(x, core.meta.shape().clone()))
    });
    let outputs = w * v;
    let (sums_y, rows_y) = sum_to_one_stage(grad_y.clone(), [batch, outputs]);
    let grad_bias = empty(x, bias_shape);
    let [(partial_g, sizes_g, grad_g), (partial_f, sizes_f, grad_f)] = partials;
    let sizes = [sizes_g, sizes_f, [rows_y, outputs]].map(|[rows, columns]| [rows, columns / 4]);
    let params: Vec<u32> = sizes.as_flattened().iter().map(|&size| size as u32).collect();
    let read = [&partial_g, &partial_f, &sums_y].map(|tensor| (tensor, BufferIOAttr::ReadOnly));
    let written = [&grad_g, &grad_f, &grad_bias].map(|tensor| (tensor, BufferIOAttr::WriteOnly));
    let fours = sizes.iter().map(|[_, columns]| columns).sum();
    launch_on(Shader::SumGrads, fours, &[read, written].concat(), &params);
    // G is A where C comes first, and C where A does.
    Some(match order {
        Order::CFirst => (grad_g, grad_f, grad_bias),
        Order::AFirst => (grad_f, grad_g, grad_bias),
    })
}

impl MpsOps for CubeBackend {
    fn mps_linear(x: CubeTensor, a: CubeTensor, c: CubeTensor, bias: CubeTensor) -> CubeTensor {
        forward(x, a, c, Some(bias))
    }

    fn mps_contract(x: CubeTensor, a: CubeTensor, c: CubeTensor) -> CubeTensor {
        forward(x, a, c, None)
    }

    fn mps_grads(
        x: CubeTensor,
        a: CubeTensor,
        c: CubeTensor,
        grad_y: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let (spec, batch) = spec_of(x.meta.shape(), a.meta.shape(), c.meta.shape());
        let target = target(&x.device);
        let plan = grads_plan(&spec, batch, target);
        if let Some(padded) = padded(&spec, batch, plan, target) {
            let MpsSpec { m, n, j, l, .. } = padded;
            let [a, c] = [resize(a, padded.a_shape()), resize(c, padded.c_shape())];
            let [x, grad_y] = [resize(x, [batch, j, l]), resize(grad_y, [batch, m, n])];
            let (grad_a, grad_c, grad_bias) = Self::mps_grads(x, a, c, grad_y);
            return (
                resize(grad_a, spec.a_shape()),
                resize(grad_c, spec.c_shape()),
                resize(grad_bias, spec.bias_shape()),
            );
        }
        if plan.strategy == Strategy::Rebuilt {
            return rebuilt::grads::<Self>(x, a, c, grad_y, &spec, batch);
        }
        let [x, a, c, grad_y] = [x, a, c, grad_y].map(into_contiguous);
        if plan.strategy == Strategy::Tiled {
            let view = View::forward(&spec, plan.order);
            let cores = [&a, &c];
            let grads = grads_tiled(&x, cores, &grad_y, (view, plan.order), spec.bias_shape());
            if let Some(grads) = grads {
                return grads;
            }
        }
        let of_a = View::forward(&spec, Order::CFirst);
        let of_c = View::forward(&spec, Order::AFirst);
        let grad_a = grad_core(&x, &c, &grad_y, &of_a, spec.a_shape());
        let grad_c = grad_core(&x, &a, &grad_y, &of_c, spec.c_shape());
        (grad_a, grad_c, sum_rows(grad_y, [batch, spec.outputs()], spec.bias_shape()))
    }

    fn mps_grad_bias(grad_y: CubeTensor) -> CubeTensor {
        let grad_y = into_contiguous(grad_y);
        let [batch, m, n] = grad_y.meta.shape().dims();
        sum_rows(grad_y, [batch, m * n], [m, n])
    }

    fn mps_grad_x(a: CubeTensor, c: CubeTensor, grad_y: CubeTensor) -> CubeTensor {
        let [batch, m, n] = grad_y.meta.shape().dims();
        let [_, k, j] = a.meta.shape().dims();
        let l = c.meta.shape()[0];
        let spec = MpsSpec { m, n, j, l, k };
        let target = target(&grad_y.device);
        let plan = forward_plan(&spec.transposed(), batch, target);
        if let Some(padded) = padded(&spec, batch, plan, target) {
            let [a, c] = [resize(a, padded.a_shape()), resize(c, padded.c_shape())];
            let grad_y = resize(grad_y, [batch, padded.m, padded.n]);
            return resize(Self::mps_grad_x(a, c, grad_y), [batch, j, l]);
        }
        if plan.strategy == Strategy::Rebuilt {
            return rebuilt::grad_x::<Self>(a, c, grad_y, &spec, batch);
        }
        let [a, c, grad_y] = [a, c, grad_y].map(into_contiguous);
        let view = View::transposed(&spec, plan.order);
        contract(&grad_y, [&a, &c], None, (view, plan), [batch, j, l])
    }
}

fn forward(x: CubeTensor, a: CubeTensor, c: CubeTensor, bias: Option<CubeTensor>) -> CubeTensor {
    let (spec, batch) = spec_of(x.meta.shape(), a.meta.shape(), c.meta.shape());
    let target = target(&x.device);
    let plan = forward_plan(&spec, batch, target);
    if let Some(padded) = padded(&spec, batch, plan, target) {
        let [a, c] = [resize(a, padded.a_shape()), resize(c, padded.c_shape())];
        let bias = bias.map(|bias| resize(bias, padded.bias_shape()));
        let y = forward(resize(x, [batch, padded.j, padded.l]), a, c, bias);
        return resize(y, [batch, spec.m, spec.n]);
    }
    if plan.strategy == Strategy::Rebuilt {
        return rebuilt::forward::<CubeBackend>(x, a, c, bias, &spec, batch);
    }
    let [x, a, c] = [x, a, c].map(into_contiguous);
    let bias = bias.map(into_contiguous);
    let view = View::forward(&spec, plan.order);
    contract(&x, [&a, &c], bias.as_ref(), (view, plan), [batch, spec.m, spec.n])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_iteration_once_and_none_is_too_long() {
        for extents in [[1, 1, 1], [28, 1, 28], [28, 448, 28], [3, 70_000, 2], [2, 3, 100_000]] {
            let mut covered = 0;
            for [s0, s1, k0, k1, r0, r1] in pieces(extents) {
                let (s, k, r) = (s1 - s0, k1 - k0, r1 - r0);
                covered += s * k * r;
                assert!(s * (k * (r + 2) + 2) <= 65_535, "{extents:?}: {s} {k} {r}");
            }
            assert_eq!(covered, extents.iter().product::<usize>(), "{extents:?}");
        }
        assert_eq!(pieces([28, 16, 28]).len(), 1, "the article's layer needs one launch");
    }
}
