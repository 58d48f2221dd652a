//! The WGSL files in `shaders/`, as the Rust side knows them: one table, which the launches read and the tests
//! check against the files.

use burn_cubecl::cubecl::prelude::{ExecutionMode, KernelId};
use burn_cubecl::template::{KernelSource, SourceTemplate};
use bytemuck::Pod;

use super::params::{self, Member};
use crate::mps::plan::SOFTWARE_LANES;

/// Outputs along `w` of an invocation of `contract.wgsl` and `grad_core.wgsl`.
pub const TILE_W: u32 = 16;

/// Outputs along `s` of an invocation of `chain_step.wgsl` and `chain_grad.wgsl`.
pub const CHAIN_TILE: u32 = 4;

/// Samples of an invocation of `contract_tiled.wgsl`.
pub const LANE_SAMPLES: u32 = 2;

/// Extents of `w` and `v` of an invocation's tile in `contract_tiled.wgsl`.
pub const TILED_W: u32 = 32;
/// See [`TILED_W`].
pub const TILED_V: u32 = 8;

/// Extents of `w` and `s` of an invocation's tile in `grad_tiled.wgsl`.
pub const GRAD_TILED_W: u32 = 32;
/// See [`GRAD_TILED_W`].
pub const GRAD_TILED_S: u32 = 16;

/// Elements that one invocation of `resize.wgsl` copies.
pub const RESIZE_PIECE: u32 = 32;

/// Extents of `i` and `j` of an invocation's tile in `matmul_tiled.wgsl`.
pub const MATMUL_I: u32 = 16;
/// See [`MATMUL_I`].
pub const MATMUL_J: u32 = 32;

/// Extents of `i` and `j` of an invocation's tile in `matmul.wgsl`.
pub const MATMUL_ROWS: u32 = 4;
/// See [`MATMUL_ROWS`].
pub const MATMUL_COLUMNS: u32 = 12;

/// What a sum begins with: nothing.
pub const START_ZERO: u32 = 0;
/// What a sum begins with: the bias.
pub const START_BIAS: u32 = 1;
/// What a sum begins with: what the output already holds, from an earlier launch.
pub const START_OUTPUT: u32 = 2;

/// What `masked` of `gpu/matmul.wgsl` names: the left operand.
pub const MASKED_A: u32 = 1;
/// The right operand.
pub const MASKED_B: u32 = 2;

/// Text that is put before that of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prelude {
    /// Where an invocation is in its launch; before every kernel.
    Invocation,
    /// `View`.
    View,
    /// `CoreModes`.
    CoreModes,
    /// `Window`.
    Window,
    /// What a sum begins with.
    Start,
    /// What the plain kernels of the layer share.
    Plain,
    /// `Element`: a number, or four where the kernel is wide.
    Element,
    /// `Quad`: four numbers as the device loads them fastest.
    Quad,
    /// Blocks of 4 x 4.
    Blocks,
    /// `Element`: always one number.
    Scalar,
    /// ReLU and dropout.
    Dropout,
    /// Quotients of small numbers.
    Divide,
    /// What follows a result on a GPU: bias, ReLU and dropout.
    After,
    /// Runs of `x` on a GPU: of four numbers at once where the kernel is wide.
    Runs,
    /// The same of the gradient by the output.
    Passed,
    /// The same of results.
    Store,
    /// The same of cores and of sums by them.
    Cores,
    /// Tiles in a GPU's workgroup memory.
    Load,
    /// Sums in registers.
    Tile,
    /// The size of a tile of a GPU's product.
    Side,
}

macro_rules! prelude {
    ($file:literal) => {
        include_str!(concat!("../../../shaders/", $file))
    };
}

impl Prelude {
    fn text(self, kernel: &Kernel) -> &'static str {
        match self {
            Self::Invocation => prelude!("prelude/invocation.wgsl"),
            Self::View => prelude!("prelude/view.wgsl"),
            Self::Window => prelude!("prelude/window.wgsl"),
            Self::CoreModes => prelude!("prelude/core_modes.wgsl"),
            Self::Start => prelude!("prelude/start.wgsl"),
            Self::Plain => prelude!("prelude/plain.wgsl"),
            Self::Element if kernel.wide => prelude!("prelude/element_vec4.wgsl"),
            Self::Element => prelude!("prelude/element_f32.wgsl"),
            Self::Quad if kernel.long => prelude!("software/prelude/quad_u64.wgsl"),
            Self::Quad => prelude!("software/prelude/quad_f32.wgsl"),
            Self::Blocks => prelude!("software/prelude/blocks.wgsl"),
            Self::Scalar => prelude!("prelude/element_f32.wgsl"),
            Self::Dropout => prelude!("prelude/dropout.wgsl"),
            Self::Divide => prelude!("gpu/prelude/divide.wgsl"),
            Self::After => prelude!("gpu/prelude/after.wgsl"),
            Self::Runs if kernel.wide => prelude!("gpu/prelude/runs_vec4.wgsl"),
            Self::Runs => prelude!("gpu/prelude/runs_f32.wgsl"),
            Self::Passed if kernel.wide => prelude!("gpu/prelude/passed_vec4.wgsl"),
            Self::Passed => prelude!("gpu/prelude/passed_f32.wgsl"),
            Self::Store if kernel.wide => prelude!("gpu/prelude/store_vec4.wgsl"),
            Self::Store => prelude!("gpu/prelude/store_f32.wgsl"),
            Self::Cores if kernel.wide => prelude!("gpu/prelude/cores_vec4.wgsl"),
            Self::Cores => prelude!("gpu/prelude/cores_f32.wgsl"),
            Self::Load => prelude!("gpu/prelude/load.wgsl"),
            Self::Tile => prelude!("gpu/prelude/tile.wgsl"),
            Self::Side if kernel.large => prelude!("gpu/prelude/side_16.wgsl"),
            Self::Side => prelude!("gpu/prelude/side_8.wgsl"),
        }
    }
}

/// What a kernel's file declares.
#[derive(Debug)]
pub struct Facts {
    /// Its path in `shaders/`.
    pub file: &'static str,
    /// Its text without the preludes.
    text: &'static str,
    /// What its text needs before it.
    pub preludes: &'static [Prelude],
    /// Invocations per workgroup.
    pub workgroup_size: u32,
    /// Its bindings in order; the parameters come last.
    pub bindings: &'static [&'static str],
    /// The members of its `Params`.
    pub params: &'static [Member],
}

/// The parameters of one kernel.
pub trait Params: Pod {
    /// The kernel that takes them.
    const SHADER: Shader;
}

macro_rules! shaders {
    ($(
        $(#[$doc:meta])*
        $name:ident: $file:literal, [$($prelude:ident)*], $size:expr, [$($binding:ident)*], $params:ident;
    )+) => {
        /// The kernels, by the file that holds them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Shader {
            $(
                #[doc = concat!("`", $file, "`: ")]
                $(#[$doc])*
                $name,
            )+
        }

        impl Shader {
            /// Every kernel.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }

        /// In the order of [`Shader::ALL`].
        static FACTS: &[Facts] = &[$(Facts {
            file: $file,
            text: prelude!($file),
            preludes: &[Prelude::Invocation, $(Prelude::$prelude),*],
            workgroup_size: $size,
            bindings: &[$(stringify!($binding),)* "params"],
            params: params::$params::MEMBERS,
        }),+];

        $(impl Params for params::$params {
            const SHADER: Shader = Shader::$name;
        })+
    };
}

shaders! {
    /// the layer, and `grad_x`.
    Contract: "contract.wgsl", [View Start Plain], 64, [x f g bias y], ContractParams;
    /// partial sums of `grad_a` or `grad_c`.
    GradCore: "grad_core.wgsl", [View Plain], 64, [x f grad_y partial], GradCoreParams;
    /// a core of a chain, applied to a batch.
    ChainStep: "chain_step.wgsl", [Start CoreModes], 64, [core t bias out], ChainStepParams;
    /// partial sums of the gradient by a core of a chain.
    ChainGrad: "chain_grad.wgsl", [CoreModes], 64, [t d partial], ChainGradParams;
    /// the patches of a batch under the kernel of a convolution.
    Patches: "patches.wgsl", [Window], 64, [x patches], PatchesParams;
    /// the gradient by images from that by their patches.
    PatchesGrad: "patches_grad.wgsl", [Window], 64, [d grad_x], PatchesGradParams;
    /// the largest numbers, or the means, under a kernel.
    Pool: "pool.wgsl", [Window], 64, [x y], PoolParams;
    /// its gradient.
    PoolGrad: "pool_grad.wgsl", [Window], 64, [x grad_y grad_x], PoolGradParams;
    /// sums over the batch.
    SumRows: "sum_rows.wgsl", [Element], 64, [input output], SumRowsParams;
    /// a batch of images from the resident data set.
    GatherImages: "gather_images.wgsl", [Element], 64, [images order x], GatherImagesParams;
    /// ReLU and dropout in one pass, or one of them; also the gradient of dropout.
    Activate: "activate.wgsl", [Element Dropout], 64, [x words], ActivateParams;
    /// the gradient of ReLU with dropout.
    ReluGrad: "relu_grad.wgsl", [Element], 64, [y grad_y], ReluGradParams;
    /// the loss and its gradient.
    SoftmaxCrossEntropy: "softmax_cross_entropy.wgsl", [], 64, [labels order logits sums], SoftmaxCrossEntropyParams;
    /// a step of the optimizer.
    Adam: "adam.wgsl", [Element], 64, [partial state words], AdamParams;
    /// a step of the mean of the weights.
    Average: "average.wgsl", [Element], 64, [state words mean], AverageParams;
    /// a measurement of the multiply-add rate.
    CeilingFma: "ceiling_fma.wgsl", [], 64, [output], CeilingFmaParams;
    /// a measurement of the copy bandwidth.
    CeilingCopy: "ceiling_copy.wgsl", [], 64, [input output], CeilingCopyParams;
    /// what `contract.wgsl` computes, and the activation, in tiles.
    GpuContract: "gpu/contract.wgsl", [View Start Element Dropout Divide After Runs Store Load Tile], 64, [x f g bias words y], GpuContractParams;
    /// what `grad_core.wgsl` computes of both cores, and of the bias, in tiles.
    GpuGrads: "gpu/grads.wgsl", [View Element Divide Runs Passed Load Tile], 64, [x a c grad_y y partial], GpuGradsParams;
    /// the same, of layers that fit into workgroup memory.
    GpuGradsWhole: "gpu/grads_whole.wgsl", [View Element Divide Runs Passed Cores Tile], 64, [x f g grad_y y partial], GpuGradsWholeParams;
    /// a matrix product of any size.
    GpuMatmul: "gpu/matmul.wgsl", [Start Scalar Dropout After Side Tile], 256, [a b mask bias words c], GpuMatmulParams;
    /// what follows a product or a contraction that was taken in parts.
    Finish: "gpu/finish.wgsl", [Start Scalar Dropout After], 64, [input bias words y], FinishParams;
    /// what `contract.wgsl` computes, in tiles.
    ContractTiled: "software/contract_tiled.wgsl", [View Start Quad Blocks], SOFTWARE_LANES, [x f g bias y], ContractTiledParams;
    /// what `grad_core.wgsl` computes, in tiles.
    GradTiled: "software/grad_tiled.wgsl", [View Quad Blocks], SOFTWARE_LANES, [f x grad_y partial], GradTiledParams;
    /// the last sums of the backward pass, in one launch.
    SumGrads: "software/sum_grads.wgsl", [Quad], 64, [partial_a partial_c grad_y grad_a grad_c grad_bias], SumGradsParams;
    /// a copy with other extents.
    Resize: "software/resize.wgsl", [], 64, [input output], ResizeParams;
    /// a matrix product of any size.
    Matmul: "software/matmul.wgsl", [Start], SOFTWARE_LANES, [a b bias c], MatmulParams;
    /// the same in blocks of 4 x 4.
    MatmulTiled: "software/matmul_tiled.wgsl", [Start Quad Blocks], SOFTWARE_LANES, [a b bias c], MatmulTiledParams;
}

impl Shader {
    /// What its file declares.
    pub fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }
}

/// A kernel as it is compiled: a shader, and which of its preludes' variants it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The shader.
    pub shader: Shader,
    /// Whether `Element` is a vec4.
    pub wide: bool,
    /// Whether `Quad` is of integers of 64 bits.
    pub long: bool,
    /// Whether a tile of a GPU's product is large.
    pub large: bool,
}

impl Kernel {
    /// A shader over single numbers, without any variant.
    pub fn plain(shader: Shader) -> Self {
        Self { shader, wide: false, long: false, large: false }
    }

    /// The text that is compiled: the preludes, then the shader's own.
    pub fn text(&self) -> String {
        let Facts { text, preludes, .. } = self.shader.facts();
        preludes.iter().map(|prelude| prelude.text(self)).chain([*text]).collect()
    }
}

impl KernelSource for Kernel {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.text())
    }

    fn id(&self) -> KernelId {
        // Unchecked: no counters around the loops. Every loop counts up to a bound that the host has computed from
        // extents, none waits for data, so that each ends. No access was ever checked, in either mode.
        KernelId::new::<Self>().info(*self).mode(ExecutionMode::Unchecked)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}
