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
    contraction: &Contraction,
    [x, f, g]: [&CubeTensor; 3],
    bias: Option<&CubeTensor>,
    shape: [usize; 3],
) -> CubeTensor {
    let [batch, ..] = shape;
    let y = empty(x, shape);
    for (invocations, params) in contractions(contraction, batch, bias.is_some()) {
        // The binding needs a buffer even where it is not read.
        launch(invocations, &[x, f, g, bias.unwrap_or(g)], &y, &params);
    }
    y
}

/// The launches of a contraction: over how many invocations, and their parameters.
pub fn contractions(
    Contraction { view, pieces }: &Contraction,
    batch: usize,
    has_bias: bool,
) -> impl Iterator<Item = (usize, ContractParams)> {
    let invocations = batch * view.v * view.w.div_ceil(TILE_W as usize);
    let first = if has_bias { START_BIAS } else { START_ZERO };
    let starts = std::iter::once(first).chain(std::iter::repeat(START_OUTPUT));
    pieces.iter().zip(starts).map(move |(Piece { outer, middle, inner }, start)| {
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
        (invocations, params)
    })
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
