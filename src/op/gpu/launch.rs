//! Launches of the WGSL kernels in `shaders/`, and the few that all operations share.
//!
//! A kernel is its source and nothing else: extents, strides and batch arrive in a small buffer of
//! parameters, so each file is compiled once a device.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::ir::attributes::BufferIOAttr;
use burn_cubecl::cubecl::ir::features::Plane;
use burn_cubecl::cubecl::ir::{ElemType, UIntKind};
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::cubecl::server::KernelArguments;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::template::SourceKernel;
use burn_cubecl::tensor::CubeTensor;

use super::shader::{Kernel, Shader};
use crate::mps::plan::Target;

/// WebGPU's limit on workgroups along one dimension; larger launches are laid out over two.
const MAX_WORKGROUPS: u32 = 65_535;

/// Rows that one invocation of `sum_rows.wgsl` adds up: few on a GPU, which has lanes to spare, and on a
/// software adapter, where a launch takes 90 µs, so many that a batch is summed in one.
const ROWS: usize = 64;
const SOFTWARE_ROWS: usize = 1024;

/// Most loop iterations an invocation may be asked for. llvmpipe ends every loop of an invocation
/// once they have run 65,535 times altogether (found with bonds of 299 and 448, whose outputs
/// lacked most of their terms); a GPU's watchdog, too, prefers several short launches.
pub const MAX_ITERATIONS: usize = 60_000;

/// What computes on a device: a GPU, or a program on the CPU.
pub fn target(device: &CubeDevice) -> Target {
    // Burn's wgpu backend leaves these out on a software adapter. Where a GPU has none (OpenGL), it
    // is taken for software too, whose kernels are right everywhere.
    match device.client().properties().features.plane.contains(Plane::Ops) {
        true => Target::Gpu,
        false => Target::Software,
    }
}

/// Launches `shader` over at least `invocations`; `inputs` are read, `output` is written whole.
pub fn launch(
    kernel: impl Into<Kernel>,
    invocations: usize,
    inputs: &[&CubeTensor],
    output: &CubeTensor,
    params: &[usize],
) {
    let read = inputs.iter().map(|&input| (input, BufferIOAttr::ReadOnly));
    let buffers: Vec<_> = read.chain([(output, BufferIOAttr::WriteOnly)]).collect();
    // `mps_linear` has checked that every count fits; see `check_countable`.
    let params: Vec<u32> = params.iter().map(|&value| value as u32).collect();
    launch_on(kernel, invocations, &buffers, &params);
}

/// The same with buffers in the order of their bindings, whatever is done with them.
pub fn launch_on(
    kernel: impl Into<Kernel>,
    invocations: usize,
    buffers: &[(&CubeTensor, BufferIOAttr)],
    params: &[u32],
) {
    let client = &buffers[0].0.client;
    let long = client.properties().supports_type(ElemType::UInt(UIntKind::U64));
    let kernel = Kernel { long, ..kernel.into() };
    let shader = kernel.shader;
    debug_assert_eq!(params.len(), shader.params().len());
    debug_assert_eq!(buffers.len() + 1, shader.bindings().len());
    let workgroups = (invocations as u64).div_ceil(u64::from(shader.workgroup_size())) as u32;
    let rows = workgroups.div_ceil(MAX_WORKGROUPS);
    let count = CubeCount::Static(workgroups.div_ceil(rows), rows, 1);

    let mut arguments = KernelArguments::new();
    for (tensor, access) in buffers {
        arguments = arguments.with_buffer_io(tensor.handle.clone().binding(), *access);
    }
    let params = client.create_from_slice(bytemuck::cast_slice(params));
    arguments = arguments.with_buffer_io(params.binding(), BufferIOAttr::ReadOnly);
    let kernel = SourceKernel::new(kernel, CubeDim::new_1d(shader.workgroup_size()));
    client.launch(Box::new(kernel), count, arguments);
}

/// An uninitialised f32 tensor beside `like`.
pub fn empty(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        shape.into(),
        DType::F32,
    )
}

/// Sums `input`, seen as `[rows, columns]`, over its rows, into a tensor of shape `shape`.
pub fn sum_rows(
    input: CubeTensor,
    [rows, columns]: [usize; 2],
    shape: impl Into<Shape>,
) -> CubeTensor {
    let (input, rows) = sum_to_one_stage(input, [rows, columns]);
    let output = empty(&input, shape);
    let (kernel, columns) = Shader::SumRows.wide(columns);
    launch(kernel, columns, &[&input], &output, &[rows, columns, 1, rows]);
    output
}

/// Sums rows in groups until they are few enough for one more launch; how many are left.
pub fn sum_to_one_stage(
    mut input: CubeTensor,
    [mut rows, columns]: [usize; 2],
) -> (CubeTensor, usize) {
    let at_once = match target(&input.device) {
        Target::Software => SOFTWARE_ROWS,
        _ => ROWS,
    };
    let (kernel, elements) = Shader::SumRows.wide(columns);
    while rows > at_once {
        let groups = rows.div_ceil(at_once);
        let output = empty(&input, [groups, columns]);
        let params = [rows, elements, groups, at_once];
        launch(kernel, groups * elements, &[&input], &output, &params);
        (input, rows) = (output, groups);
    }
    (input, rows)
}
