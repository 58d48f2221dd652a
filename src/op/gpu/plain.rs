//! The plain kernels, which read well, need neither workgroup memory nor barriers, and compute every layer.

use burn_cubecl::tensor::CubeTensor;

use super::launch::{empty, launch, sum_rows};
use super::params::{ContractParams, GradCoreParams, count};
use super::shader::{START_BIAS, START_OUTPUT, START_ZERO, TILE_W};
use crate::mps::plan::{Contraction, Gradients, Partials, Piece};

/// The gradients by the cores `[a, c]` and the bias.
pub fn grads(
    Gradients { partials: [of_a, of_c], .. }: &Gradients,
    x: &CubeTensor,
    [a, c]: [&CubeTensor; 2],
    grad_y: CubeTensor,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let grad_a = grad_core(of_a, x, c, &grad_y, a);
    let grad_c = grad_core(of_c, x, a, &grad_y, c);
    let [batch, m, n] = grad_y.meta.shape().dims();
    (grad_a, grad_c, sum_rows(grad_y, [batch, m * n], [m, n]))
}

/// The contraction of `x` with `f` and `g`, plus the bias.
pub fn contract(
    Contraction { view, pieces }: &Contraction,
    [x, f, g]: [&CubeTensor; 3],
    bias: Option<&CubeTensor>,
    shape: [usize; 3],
) -> CubeTensor {
    let [batch, ..] = shape;
    let y = empty(x, shape);
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
        launch(invocations, &[x, f, g, bias.unwrap_or(g)], &y, &params);
        start = START_OUTPUT;
    }
    y
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
