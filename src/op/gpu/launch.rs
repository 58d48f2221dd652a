//! Launches of the WGSL kernels in `shaders/`, and the few that all operations share.
//!
//! A kernel is its source and nothing else: extents, strides and batch arrive in a small buffer of
//! parameters, so each file is compiled once per device.

use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::ir::attributes::BufferIOAttr;
use burn_cubecl::cubecl::ir::{ElemType, UIntKind};
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::cubecl::server::{KernelArguments, MetadataBindingInfo};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::template::SourceKernel;
use burn_cubecl::tensor::CubeTensor;

use super::params::{SumRowsParams, count};
use super::shader::{Kernel, Params, Shader};
use super::target::target;
use crate::mps::strategy::Target;
use crate::op::activation::Activation;

static LAUNCHES: AtomicU64 = AtomicU64::new(0);

/// Kernels of ours that this process has launched. Burn's own are not counted.
#[cfg(feature = "cli")]
pub fn launches() -> u64 {
    LAUNCHES.load(Ordering::Relaxed)
}

/// WebGPU's limit on workgroups along one dimension; larger launches are laid out over two.
const MAX_WORKGROUPS: u32 = 65_535;

/// Rows that one invocation of `sum_rows.wgsl` adds up: few on a GPU, which has lanes to spare.
const ROWS: usize = 64;

/// The same on a software adapter, where a launch takes 90 µs: so many that a batch is summed in one.
const SOFTWARE_ROWS: usize = 1024;

/// An activation as the kernels take it.
#[derive(Clone, Copy)]
pub struct Active<'a> {
    /// The words that have its seed; without them nothing is dropped.
    pub words: Option<&'a CubeTensor>,
    pub relu: u32,
    pub seed: u32,
    pub threshold: u32,
    pub scale: f32,
}

impl<'a> Active<'a> {
    /// Nothing.
    pub const NONE: Self = Self { words: None, relu: 0, seed: 0, threshold: 0, scale: 1.0 };

    /// An activation, if there is one, and the words of the step.
    pub fn of(active: Option<&'a (CubeTensor, Activation)>) -> Self {
        let Some((words, activation)) = active else { return Self::NONE };
        let dropout = activation.dropout;
        Self {
            words: Some(words),
            relu: u32::from(activation.relu),
            seed: dropout.map_or(0, |dropout| count(dropout.seed)),
            threshold: dropout.map_or(0, |dropout| dropout.threshold()),
            scale: activation.scale(),
        }
    }
}

/// Launches the kernel that takes `params` over at least `invocations`; `inputs` are read, `output` is written
/// whole.
pub fn launch<P: Params>(
    invocations: usize,
    inputs: &[&CubeTensor],
    output: &CubeTensor,
    params: &P,
) {
    let read = inputs.iter().map(|&input| (input, BufferIOAttr::ReadOnly));
    let buffers: Vec<_> = read.chain([(output, BufferIOAttr::WriteOnly)]).collect();
    launch_on(invocations, &buffers, params);
}

/// The same with buffers in the order of their bindings, whatever is done with them.
pub fn launch_on<P: Params>(
    invocations: usize,
    buffers: &[(&CubeTensor, BufferIOAttr)],
    params: &P,
) {
    launch_elements(false, invocations, buffers, params);
}

/// The variants of a kernel that a launch chooses.
#[derive(Clone, Copy, Default)]
pub struct Variant {
    /// Whether `Element` is four numbers.
    pub wide: bool,
    /// Whether a tile of a product is large.
    pub large: bool,
}

/// The same of a kernel over elements, which are four numbers each where `wide` is set.
pub fn launch_elements<P: Params>(
    wide: bool,
    invocations: usize,
    buffers: &[(&CubeTensor, BufferIOAttr)],
    params: &P,
) {
    launch_variant(Variant { wide, large: false }, invocations, buffers, params);
}

/// The same of any variant.
pub fn launch_variant<P: Params>(
    Variant { wide, large }: Variant,
    invocations: usize,
    buffers: &[(&CubeTensor, BufferIOAttr)],
    params: &P,
) {
    let client = &buffers[0].0.client;
    let long = client.properties().supports_type(ElemType::UInt(UIntKind::U64));
    let facts = P::SHADER.facts();
    assert!(buffers.len() + 1 == facts.bindings.len(), "{}: {} buffers", facts.file, buffers.len());
    tracing::trace!(target: "tnet_gpu::op", kernel = %facts.file, invocations, "launch");
    LAUNCHES.fetch_add(1, Ordering::Relaxed);
    let [columns, rows] = workgroups(invocations, P::SHADER);
    let workgroups = CubeCount::Static(columns, rows, 1);

    let mut arguments = KernelArguments::new();
    for (tensor, access) in buffers {
        arguments = arguments.with_buffer_io(tensor.handle.clone().binding(), *access);
    }
    // The last binding. Not a buffer of ours: before it fills one, cubecl submits all that is queued, while it keeps
    // these by their content.
    arguments = arguments.with_info(MetadataBindingInfo::custom(words(params)));
    let kernel = Kernel { shader: P::SHADER, wide, long, large };
    let kernel = SourceKernel::new(kernel, CubeDim::new_1d(facts.workgroup_size));
    client.launch(Box::new(kernel), workgroups, arguments);
}

/// Workgroups of a launch over at least so many invocations, along both dimensions.
pub fn workgroups(invocations: usize, shader: Shader) -> [u32; 2] {
    let size = u64::from(shader.facts().workgroup_size);
    let workgroups = (invocations as u64).div_ceil(size) as u32;
    let rows = workgroups.div_ceil(MAX_WORKGROUPS);
    [workgroups.div_ceil(rows), rows]
}

/// The parameters as pairs of words, the first in the lower half.
fn words<P: Params>(params: &P) -> Vec<u64> {
    let pairs = bytemuck::bytes_of(params).chunks(size_of::<u64>());
    let pair = |bytes: &[u8]| {
        let mut pair = [0; size_of::<u64>()];
        pair[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(pair)
    };
    pairs.map(pair).collect()
}

/// Whether a kernel over `numbers` computes four per invocation, and how many elements it has then.
pub fn elements(numbers: usize) -> (bool, usize) {
    let wide = numbers.is_multiple_of(4);
    (wide, if wide { numbers / 4 } else { numbers })
}

/// An uninitialised f32 tensor on the device of `like`.
pub fn empty(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        shape.into(),
        DType::F32,
    )
}

/// Numbers of a contiguous tensor of 32-bit numbers from `begin` on, which are not copied.
pub fn part(tensor: &CubeTensor, begin: usize, shape: impl Into<Shape>) -> CubeTensor {
    let shape = shape.into();
    let bytes = |numbers: usize| (numbers * size_of::<u32>()) as u64;
    let after = tensor.meta.shape().num_elements() - begin - shape.num_elements();
    let handle = tensor.handle.clone().offset_start(bytes(begin)).offset_end(bytes(after));
    let (client, device) = (tensor.client.clone(), tensor.device.clone());
    CubeTensor::new_contiguous(client, device, shape, handle, tensor.dtype)
}

/// Sums `input`, seen as `[rows, columns]`, over its rows, into a tensor of shape `shape`.
pub fn sum_rows(
    input: CubeTensor,
    [rows, columns]: [usize; 2],
    shape: impl Into<Shape>,
) -> CubeTensor {
    let output = empty(&input, shape);
    sum_rows_to(input, [rows, columns], &output);
    output
}

/// The same into a contiguous tensor.
pub fn sum_rows_to(input: CubeTensor, [rows, columns]: [usize; 2], output: &CubeTensor) {
    let (input, rows) = sum_to_one_stage(input, [rows, columns]);
    sum_in_groups(&input, output, [rows, columns], rows);
}

/// Sums rows in groups until one more launch can sum them; returns the number of rows left.
pub fn sum_to_one_stage(
    mut input: CubeTensor,
    [mut rows, columns]: [usize; 2],
) -> (CubeTensor, usize) {
    let at_once = match target(&input.device) {
        Target::Software => SOFTWARE_ROWS,
        _ => ROWS,
    };
    while rows > at_once {
        let groups = rows.div_ceil(at_once);
        let output = empty(&input, [groups, columns]);
        sum_in_groups(&input, &output, [rows, columns], at_once);
        (input, rows) = (output, groups);
    }
    (input, rows)
}

fn sum_in_groups(
    input: &CubeTensor,
    output: &CubeTensor,
    [rows, columns]: [usize; 2],
    group_size: usize,
) {
    let (wide, columns) = elements(columns);
    let groups = rows.div_ceil(group_size);
    let params = SumRowsParams {
        rows: count(rows),
        columns: count(columns),
        groups: count(groups),
        group_size: count(group_size),
    };
    let buffers = [(input, BufferIOAttr::ReadOnly), (output, BufferIOAttr::WriteOnly)];
    launch_elements(wide, groups * columns, &buffers, &params);
}
