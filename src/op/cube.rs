//! The layer on a GPU: launches of the WGSL kernels in `shaders/`.
//!
//! A kernel is its source and nothing else: extents, strides and batch arrive in a small buffer of
//! parameters, so each file is compiled once a device.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::attributes::BufferIOAttr;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim, KernelId};
use burn_cubecl::cubecl::server::KernelArguments;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::template::{KernelSource, SourceKernel, SourceTemplate};
use burn_cubecl::tensor::CubeTensor;

use super::{MpsOps, spec_of};
use crate::mps::Order;
use crate::mps::plan::View;

/// Invocations a workgroup; every shader of `shaders/` declares the same.
pub const WORKGROUP_SIZE: u32 = 64;

/// Elements that one invocation of the contraction kernels computes along `w`.
pub const TILE_W: u32 = 16;

/// What a launch of `contract.wgsl` begins its sums with: nothing.
pub const START_ZERO: usize = 0;

/// The same: the bias.
pub const START_BIAS: usize = 1;

/// The same: what the output already holds, from an earlier launch.
pub const START_Y: usize = 2;

/// WebGPU's limit on workgroups along one dimension; larger launches are laid out over two.
const MAX_WORKGROUPS: u32 = 65_535;

/// Samples a partial sum of `grad_core.wgsl`: few, so that a batch of 128 keeps a GPU busy.
const GROUP_SIZE: usize = 4;

/// Most partial sums of one gradient.
const MAX_GROUPS: usize = 1024;

/// Rows that one invocation of `sum_rows.wgsl` adds up.
const ROWS: usize = 64;

/// Most loop iterations an invocation may be asked for. llvmpipe ends every loop of an invocation
/// once they have run 65,535 times altogether (found with bonds of 299 and 448, whose outputs
/// lacked most of their terms); a GPU's watchdog, too, prefers several short launches.
const MAX_ITERATIONS: usize = 60_000;

/// Most bytes of partial sums, half of what WebGPU guarantees one binding may hold.
const MAX_PARTIAL_BYTES: usize = 64 << 20;

/// The kernels, by the file that holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shader {
    /// `contract.wgsl`: the layer, and `grad_x`.
    Contract,
    /// `grad_core.wgsl`: partial sums of `grad_a` or `grad_c`.
    GradCore,
    /// `sum_rows.wgsl`: sums over the batch.
    SumRows,
}

impl Shader {
    /// Every kernel.
    pub const ALL: [Self; 3] = [Self::Contract, Self::GradCore, Self::SumRows];

    /// The name of its file in `shaders/`.
    pub fn file(self) -> &'static str {
        match self {
            Self::Contract => "contract.wgsl",
            Self::GradCore => "grad_core.wgsl",
            Self::SumRows => "sum_rows.wgsl",
        }
    }

    /// Its WGSL text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Contract => include_str!("../../shaders/contract.wgsl"),
            Self::GradCore => include_str!("../../shaders/grad_core.wgsl"),
            Self::SumRows => include_str!("../../shaders/sum_rows.wgsl"),
        }
    }

    /// Its bindings in order: the buffers it reads, the one it writes, and the parameters.
    pub fn bindings(self) -> &'static [&'static str] {
        match self {
            Self::Contract => &["x", "f", "g", "bias", "y", "params"],
            Self::GradCore => &["x", "f", "grad_y", "partial", "params"],
            Self::SumRows => &["input", "output", "params"],
        }
    }

    /// The members of its `Params`, in order; all are u32.
    pub fn params(self) -> &'static [&'static str] {
        match self {
            Self::Contract => &[
                "batch", "s", "r", "v", "w", "k", "x_s", "x_r", "f_r", "f_k", "f_v", "g_w", "g_k",
                "g_s", "y_w", "y_v", "start", "s_begin", "s_end", "k_begin", "k_end", "r_begin",
                "r_end",
            ],
            Self::GradCore => &[
                "batch",
                "s",
                "r",
                "v",
                "w",
                "k",
                "x_s",
                "x_r",
                "f_r",
                "f_k",
                "f_v",
                "g_w",
                "g_k",
                "g_s",
                "y_w",
                "y_v",
                "groups",
                "group_size",
                "add",
                "b_begin",
                "b_end",
                "v_begin",
                "v_end",
                "r_begin",
                "r_end",
            ],
            Self::SumRows => &["rows", "columns", "groups", "group_size"],
        }
    }
}

impl KernelSource for Shader {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.text())
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(*self)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Launches `shader` over at least `invocations`; `inputs` are read, `output` is written whole.
fn launch(
    shader: Shader,
    invocations: usize,
    inputs: &[&CubeTensor],
    output: &CubeTensor,
    params: &[usize],
) {
    debug_assert_eq!(params.len(), shader.params().len());
    debug_assert_eq!(inputs.len() + 2, shader.bindings().len());
    // `mps_linear` has checked that every count fits; see `check_countable`.
    let params: Vec<u8> = params.iter().flat_map(|&value| (value as u32).to_ne_bytes()).collect();
    let workgroups = (invocations as u64).div_ceil(u64::from(WORKGROUP_SIZE)) as u32;
    let rows = workgroups.div_ceil(MAX_WORKGROUPS);
    let count = CubeCount::Static(workgroups.div_ceil(rows), rows, 1);

    let mut arguments = KernelArguments::new();
    for input in inputs {
        arguments =
            arguments.with_buffer_io(input.handle.clone().binding(), BufferIOAttr::ReadOnly);
    }
    let params = output.client.create_from_slice(&params);
    arguments = arguments
        .with_buffer_io(output.handle.clone().binding(), BufferIOAttr::WriteOnly)
        .with_buffer_io(params.binding(), BufferIOAttr::ReadOnly);
    let kernel = SourceKernel::new(shader, CubeDim::new_1d(WORKGROUP_SIZE));
    output.client.launch(Box::new(kernel), count, arguments);
}

/// An uninitialised f32 tensor beside `like`.
fn empty(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        shape.into(),
        DType::F32,
    )
}

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

/// `y = contraction of x with both cores, plus bias`, into a new tensor of shape `shape`.
fn contract(
    x: &CubeTensor,
    [a, c]: [&CubeTensor; 2],
    bias: Option<&CubeTensor>,
    (view, order): (View, Order),
    shape: [usize; 3],
) -> CubeTensor {
    let y = empty(x, shape);
    let batch = shape[0];
    let [f, g] = match order {
        Order::CFirst => [c, a],
        Order::AFirst => [a, c],
    };
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

/// Sums `input`, seen as `[rows, columns]`, over its rows, into a tensor of shape `shape`.
fn sum_rows(
    mut input: CubeTensor,
    [mut rows, columns]: [usize; 2],
    shape: impl Into<Shape>,
) -> CubeTensor {
    while rows > ROWS {
        let groups = rows.div_ceil(ROWS);
        let output = empty(&input, [groups, columns]);
        let params = [rows, columns, groups, ROWS];
        launch(Shader::SumRows, groups * columns, &[&input], &output, &params);
        (input, rows) = (output, groups);
    }
    let output = empty(&input, shape);
    launch(Shader::SumRows, columns, &[&input], &output, &[rows, columns, 1, rows]);
    output
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

impl MpsOps for CubeBackend {
    fn mps_linear(x: CubeTensor, a: CubeTensor, c: CubeTensor, bias: CubeTensor) -> CubeTensor {
        forward(x, a, c, Some(bias))
    }

    fn mps_contract(x: CubeTensor, a: CubeTensor, c: CubeTensor) -> CubeTensor {
        forward(x, a, c, None)
    }

    fn mps_grad_cores(
        x: CubeTensor,
        a: CubeTensor,
        c: CubeTensor,
        grad_y: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        let [x, a, c, grad_y] = [x, a, c, grad_y].map(into_contiguous);
        let (spec, _) = spec_of(x.meta.shape(), a.meta.shape(), c.meta.shape());
        let of_a = View::forward(&spec, Order::CFirst);
        let of_c = View::forward(&spec, Order::AFirst);
        (
            grad_core(&x, &c, &grad_y, &of_a, spec.a_shape()),
            grad_core(&x, &a, &grad_y, &of_c, spec.c_shape()),
        )
    }

    fn mps_grad_bias(grad_y: CubeTensor) -> CubeTensor {
        let grad_y = into_contiguous(grad_y);
        let [batch, m, n] = grad_y.meta.shape().dims();
        sum_rows(grad_y, [batch, m * n], [m, n])
    }

    fn mps_grad_x(a: CubeTensor, c: CubeTensor, grad_y: CubeTensor) -> CubeTensor {
        let [a, c, grad_y] = [a, c, grad_y].map(into_contiguous);
        let [batch, m, n] = grad_y.meta.shape().dims();
        let [_, k, j] = a.meta.shape().dims();
        let l = c.meta.shape()[0];
        let spec = crate::mps::MpsSpec { m, n, j, l, k };
        let order = Order::cheaper(&spec.transposed());
        let view = View::transposed(&spec, order);
        contract(&grad_y, [&a, &c], None, (view, order), [batch, j, l])
    }
}

fn forward(x: CubeTensor, a: CubeTensor, c: CubeTensor, bias: Option<CubeTensor>) -> CubeTensor {
    let [x, a, c] = [x, a, c].map(into_contiguous);
    let bias = bias.map(into_contiguous);
    let (spec, batch) = spec_of(x.meta.shape(), a.meta.shape(), c.meta.shape());
    let order = Order::cheaper(&spec);
    let view = View::forward(&spec, order);
    contract(&x, [&a, &c], bias.as_ref(), (view, order), [batch, spec.m, spec.n])
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
