//! The WGSL files in `shaders/`: what each declares, for the launches and for the tests that hold the
//! files against it.

use burn_cubecl::cubecl::prelude::KernelId;
use burn_cubecl::template::{KernelSource, SourceTemplate};

/// Invocations a workgroup of the plain kernels, and of the ceilings.
pub const WORKGROUP_SIZE: u32 = 64;

/// Samples of an invocation of `contract_tiled.wgsl`.
pub const LANE_SAMPLES: u32 = 2;

/// Extents of `w` and `v` of an invocation's tile in `contract_tiled.wgsl`.
pub const TILED_W: u32 = 32;
/// See [`TILED_W`].
pub const TILED_V: u32 = 8;

/// Extents of `p` and `q` of an invocation's tile in `grad_tiled.wgsl`.
pub const TILED_P: u32 = 32;
/// See [`TILED_P`].
pub const TILED_Q: u32 = 16;

/// Elements that one invocation of `resize.wgsl` copies.
pub const RESIZE_PIECE: u32 = 32;

/// Elements that one invocation of the contraction kernels computes along `w`.
pub const TILE_W: u32 = 16;

/// Extents of `i` and `j` of an invocation's tile in `matmul_tiled.wgsl`.
pub const MATMUL_I: u32 = 16;
/// See [`MATMUL_I`].
pub const MATMUL_J: u32 = 32;

/// Extents of `i` and `j` of an invocation's tile in `matmul.wgsl`.
pub const MATMUL_ROWS: u32 = 4;
/// See [`MATMUL_ROWS`].
pub const MATMUL_COLUMNS: u32 = 12;

/// What a launch of `contract.wgsl` begins its sums with: nothing.
pub const START_ZERO: usize = 0;

/// The same: the bias.
pub const START_BIAS: usize = 1;

/// The same: what the output already holds, from an earlier launch.
pub const START_Y: usize = 2;

/// The text of a tiled kernel, or of their sums, after the functions that all of them use.
macro_rules! with_blocks {
    ($file:literal) => {
        concat!(
            include_str!("../../../shaders/software/blocks.wgsl"),
            include_str!(concat!("../../../shaders/", $file))
        )
    };
}

/// The kernels, by the file that holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shader {
    /// `contract.wgsl`: the layer, and `grad_x`.
    Contract,
    /// `grad_core.wgsl`: partial sums of `grad_a` or `grad_c`.
    GradCore,
    /// `sum_rows.wgsl`: sums over the batch.
    SumRows,
    /// `contract_tiled.wgsl`: what `contract.wgsl` computes, for software adapters.
    ContractTiled,
    /// `grad_tiled.wgsl`: what `grad_core.wgsl` computes, for software adapters.
    GradTiled,
    /// `sum_grads.wgsl`: the last sums of the backward pass, for software adapters.
    SumGrads,
    /// `resize.wgsl`: a copy with other extents, for software adapters.
    Resize,
    /// `gather_images.wgsl`: a batch of images from the resident data set.
    GatherImages,
    /// `relu_dropout.wgsl`: both in one pass.
    ReluDropout,
    /// `relu_dropout_grad.wgsl`: its gradient.
    ReluDropoutGrad,
    /// `softmax_cross_entropy.wgsl`: the loss and its gradient.
    SoftmaxCrossEntropy,
    /// `adam.wgsl`: a step of the optimizer.
    Adam,
    /// `matmul.wgsl`: a matrix product of any size, for software adapters.
    Matmul,
    /// `matmul_tiled.wgsl`: the same in blocks of 4 x 4.
    MatmulTiled,
    /// `ceiling_fma.wgsl`: a measurement of the multiply-add rate.
    CeilingFma,
    /// `ceiling_copy.wgsl`: a measurement of the copy bandwidth.
    CeilingCopy,
}

impl Shader {
    /// Every kernel.
    pub const ALL: [Self; 16] = [
        Self::Contract,
        Self::GradCore,
        Self::SumRows,
        Self::ContractTiled,
        Self::GradTiled,
        Self::SumGrads,
        Self::Resize,
        Self::GatherImages,
        Self::ReluDropout,
        Self::ReluDropoutGrad,
        Self::SoftmaxCrossEntropy,
        Self::Adam,
        Self::Matmul,
        Self::MatmulTiled,
        Self::CeilingFma,
        Self::CeilingCopy,
    ];

    /// The name of its file in `shaders/`.
    pub fn file(self) -> &'static str {
        match self {
            Self::Contract => "contract.wgsl",
            Self::GradCore => "grad_core.wgsl",
            Self::SumRows => "sum_rows.wgsl",
            Self::ContractTiled => "software/contract_tiled.wgsl",
            Self::GradTiled => "software/grad_tiled.wgsl",
            Self::SumGrads => "software/sum_grads.wgsl",
            Self::Resize => "software/resize.wgsl",
            Self::GatherImages => "gather_images.wgsl",
            Self::ReluDropout => "relu_dropout.wgsl",
            Self::ReluDropoutGrad => "relu_dropout_grad.wgsl",
            Self::SoftmaxCrossEntropy => "softmax_cross_entropy.wgsl",
            Self::Adam => "adam.wgsl",
            Self::Matmul => "software/matmul.wgsl",
            Self::MatmulTiled => "software/matmul_tiled.wgsl",
            Self::CeilingFma => "ceiling_fma.wgsl",
            Self::CeilingCopy => "ceiling_copy.wgsl",
        }
    }

    /// Its WGSL text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Contract => include_str!("../../../shaders/contract.wgsl"),
            Self::GradCore => include_str!("../../../shaders/grad_core.wgsl"),
            Self::SumRows => include_str!("../../../shaders/sum_rows.wgsl"),
            Self::ContractTiled => with_blocks!("software/contract_tiled.wgsl"),
            Self::GradTiled => with_blocks!("software/grad_tiled.wgsl"),
            Self::SumGrads => with_blocks!("software/sum_grads.wgsl"),
            Self::Resize => include_str!("../../../shaders/software/resize.wgsl"),
            Self::GatherImages => include_str!("../../../shaders/gather_images.wgsl"),
            Self::ReluDropout => include_str!("../../../shaders/relu_dropout.wgsl"),
            Self::ReluDropoutGrad => {
                include_str!("../../../shaders/relu_dropout_grad.wgsl")
            }
            Self::SoftmaxCrossEntropy => {
                include_str!("../../../shaders/softmax_cross_entropy.wgsl")
            }
            Self::Adam => include_str!("../../../shaders/adam.wgsl"),
            Self::Matmul => include_str!("../../../shaders/software/matmul.wgsl"),
            Self::MatmulTiled => with_blocks!("software/matmul_tiled.wgsl"),
            Self::CeilingFma => include_str!("../../../shaders/ceiling_fma.wgsl"),
            Self::CeilingCopy => include_str!("../../../shaders/ceiling_copy.wgsl"),
        }
    }

    /// Invocations a workgroup, as the file declares them.
    pub fn workgroup_size(self) -> u32 {
        match self {
            Self::SoftmaxCrossEntropy => 256,
            // What llvmpipe computes at once on most CPUs: more would only be harder to share out.
            Self::ContractTiled | Self::GradTiled | Self::Matmul | Self::MatmulTiled => 8,
            _ => WORKGROUP_SIZE,
        }
    }

    /// The kernel over `count` elements and the number of its invocations: four elements each where that
    /// comes out even.
    pub fn wide(self, count: usize) -> (Kernel, usize) {
        let wide = count.is_multiple_of(4);
        (Kernel { wide, ..self.into() }, if wide { count / 4 } else { count })
    }

    /// Its bindings in order: the buffers it reads, the one it writes, and the parameters.
    pub fn bindings(self) -> &'static [&'static str] {
        match self {
            Self::Contract | Self::ContractTiled => &["x", "f", "g", "bias", "y", "params"],
            Self::GradCore => &["x", "f", "grad_y", "partial", "params"],
            Self::GradTiled => &["core", "first", "second", "partial", "params"],
            Self::SumGrads => {
                &["partial_g", "partial_f", "grad_y", "grad_g", "grad_f", "grad_bias", "params"]
            }
            Self::GatherImages => &["images", "order", "x", "params"],
            Self::ReluDropout => &["x", "params"],
            Self::ReluDropoutGrad => &["y", "grad_y", "params"],
            Self::SoftmaxCrossEntropy => &["labels", "order", "logits", "sums", "params"],
            Self::Adam => &["grad", "value", "mean", "square", "params"],
            Self::SumRows | Self::Resize | Self::CeilingCopy => &["input", "output", "params"],
            Self::Matmul | Self::MatmulTiled => &["a", "b", "bias", "c", "params"],
            Self::CeilingFma => &["output", "params"],
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
            Self::ContractTiled => &[
                "batch", "s", "r", "v", "w", "k", "x_s", "x_r", "f_r", "f_k", "f_v", "g_w", "g_k",
                "g_s", "y_w", "y_v", "start",
            ],
            Self::GradTiled => &[
                "batch", "h", "i", "p", "q", "k", "core_h", "core_k", "core_i", "first_h",
                "first_q", "second_p", "second_i", "grad_p", "grad_k", "grad_q", "groups",
                "b_begin", "b_end", "add",
            ],
            Self::SumRows => &["rows", "columns", "groups", "group_size"],
            Self::SumGrads => {
                &["rows_g", "columns_g", "rows_f", "columns_f", "rows_y", "columns_y"]
            }
            Self::Resize => &["in_0", "in_1", "in_2", "out_0", "out_1", "out_2"],
            Self::GatherImages => &["batch", "words", "pixels"],
            Self::ReluDropout => &["count", "seed_low", "seed_high", "threshold", "scale"],
            Self::ReluDropoutGrad => &["count", "scale"],
            Self::SoftmaxCrossEntropy => &["batch", "classes", "begin", "end", "add"],
            Self::Adam => &["count", "beta_1", "beta_2", "size", "epsilon"],
            Self::Matmul => &[
                "rows", "columns", "a_i", "a_k", "b_k", "b_j", "c_i", "c_j", "bias_i", "bias_j",
                "start", "k_begin", "k_end",
            ],
            Self::MatmulTiled => {
                &["rows", "inner", "columns", "a_turned", "b_turned", "c_turned", "start"]
            }
            Self::CeilingFma => &["invocations", "iterations"],
            Self::CeilingCopy => &["count"],
        }
    }
}

/// A kernel as it is compiled: a text, some of whose constants take other values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The text.
    pub shader: Shader,
    /// Whether `Element` is a vec4.
    pub wide: bool,
    /// Whether `Quad` is of integers of 64 bits.
    pub long: bool,
}

impl Kernel {
    /// The text that is compiled.
    pub fn text(self) -> String {
        const WIDE: [[&str; 2]; 4] = [
            ["alias Element = f32;", "alias Element = vec4<f32>;"],
            ["alias Index = u32;", "alias Index = vec4<u32>;"],
            ["OFFSETS: Index = Index(0u);", "OFFSETS: Index = Index(0u, 1u, 2u, 3u);"],
            ["const WIDTH: u32 = 1u;", "const WIDTH: u32 = 4u;"],
        ];
        const LONG: [[&str; 2]; 3] = [
            ["alias Quad = vec4<f32>;", "alias Quad = vec2<u64>;"],
            [
                "return quad;",
                "let low = vec2<u32>(u32(quad.x), u32(quad.y));
    let high = vec2<u32>(u32(quad.x >> 32u), u32(quad.y >> 32u));
    return bitcast<vec4<f32>>(vec4<u32>(low.x, high.x, low.y, high.y));",
            ],
            [
                "return four;",
                "let low = vec2<u64>(bitcast<vec4<u32>>(four).xz);
    let high = vec2<u64>(bitcast<vec4<u32>>(four).yw);
    return low | (high << vec2<u32>(32u));",
            ],
        ];
        let wide = WIDE.iter().filter(|_| self.wide);
        let changes = wide.chain(LONG.iter().filter(|_| self.long));
        changes.fold(self.shader.text().to_owned(), |text, [from, to]| text.replace(from, to))
    }
}

impl From<Shader> for Kernel {
    fn from(shader: Shader) -> Self {
        Self { shader, wide: false, long: false }
    }
}

impl KernelSource for Kernel {
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
