//! The parameters of the kernels: for each WGSL struct `Params` its twin in Rust, member by member. A test
//! checks names, types and offsets of one against those of the other.

use bytemuck::{Pod, Zeroable};

use crate::mps;

/// A member of a parameter struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its name, the same in Rust and WGSL.
    pub name: &'static str,
    /// Its type: `u32`, `f32`, `View`, `CoreModes`, `Window` or `Role`.
    pub kind: &'static str,
    /// Its offset in bytes.
    pub offset: usize,
}

impl Member {
    /// The members of a member that is a struct itself.
    pub fn members(&self) -> Option<&'static [Self]> {
        match self.kind {
            "View" => Some(View::MEMBERS),
            "CoreModes" => Some(CoreModes::MEMBERS),
            "Window" => Some(Window::MEMBERS),
            "Role" => Some(Role::MEMBERS),
            _ => None,
        }
    }
}

macro_rules! members {
    ($(#[$doc:meta])* $name:ident { $($member:ident: $kind:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, Pod, Zeroable)]
        #[expect(missing_docs, reason = "the members are those of the WGSL struct, described there")]
        pub struct $name {
            $(pub $member: $kind,)+
        }

        impl $name {
            /// The members in their order.
            pub const MEMBERS: &'static [Member] = &[$(Member {
                name: stringify!($member),
                kind: stringify!($kind),
                offset: std::mem::offset_of!($name, $member),
            },)+];
        }
    };
}

macro_rules! params {
    ($($name:ident { $($member:ident: $kind:ident),+ $(,)? })+) => {
        $(members! {
            /// Of the kernel of that name.
            $name { $($member: $kind),+ }
        })+
    };
}

members! {
    /// Extents and strides of one contraction, in `shaders/prelude/view.wgsl`.
    View {
        s: u32, r: u32, v: u32, w: u32, k: u32,
        x_s: u32, x_r: u32,
        f_r: u32, f_k: u32, f_v: u32,
        g_w: u32, g_k: u32, g_s: u32,
        y_w: u32, y_v: u32,
    }
}

members! {
    /// Three modes of a core, in `shaders/prelude/core_modes.wgsl`.
    CoreModes {
        extent_0: u32, extent_1: u32, extent_2: u32,
        core_0: u32, core_1: u32, core_2: u32,
        tensor_0: u32, tensor_1: u32, tensor_2: u32,
    }
}

impl From<&[mps::chain::CoreMode; 3]> for CoreModes {
    fn from(modes: &[mps::chain::CoreMode; 3]) -> Self {
        let of = |stride: fn(&mps::chain::CoreMode) -> usize| {
            modes.each_ref().map(|mode| count(stride(mode)))
        };
        let [extent_0, extent_1, extent_2] = of(|mode| mode.extent);
        let [core_0, core_1, core_2] = of(|mode| mode.core);
        let [tensor_0, tensor_1, tensor_2] = of(|mode| mode.tensor);
        Self { extent_0, extent_1, extent_2, core_0, core_1, core_2, tensor_0, tensor_1, tensor_2 }
    }
}

members! {
    /// What is convolved, in `shaders/prelude/window.wgsl`.
    Window {
        channels: u32, height: u32, width: u32, kernel_rows: u32, kernel_columns: u32, stride: u32, padding: u32,
        rows: u32, columns: u32,
    }
}

impl From<&mps::conv::Window> for Window {
    fn from(window: &mps::conv::Window) -> Self {
        let [channels, height, width] = window.input.map(count);
        let [kernel_rows, kernel_columns] = window.kernel.map(count);
        let [stride, padding] = [window.stride, window.padding].map(count);
        let [rows, columns] = window.output().map(count);
        Self {
            channels,
            height,
            width,
            kernel_rows,
            kernel_columns,
            stride,
            padding,
            rows,
            columns,
        }
    }
}

members! {
    /// What a workgroup of `gpu/grads.wgsl` computes that sums the gradient by one core.
    Role {
        view: View, reversed: u32, f_is_a: u32, samples: u32, tile_w: u32, tile_s: u32, chunk_v: u32, chunk_r: u32,
        slots: u32, begin: u32, workgroups: u32,
    }
}

impl From<&mps::View> for View {
    fn from(view: &mps::View) -> Self {
        let mps::View { s, r, v, w, k, x, f, g, y } = *view;
        let [s, r, v, w, k] = [s, r, v, w, k].map(count);
        let ([x_s, x_r], [y_w, y_v]) = (x.map(count), y.map(count));
        let ([f_r, f_k, f_v], [g_w, g_k, g_s]) = (f.map(count), g.map(count));
        Self { s, r, v, w, k, x_s, x_r, f_r, f_k, f_v, g_w, g_k, g_s, y_w, y_v }
    }
}

/// A count as the kernels have it. That it fits was checked before: see `check_countable` in [`crate::op`].
pub fn count(count: usize) -> u32 {
    count as u32
}

params! {
    ContractParams {
        batch: u32, view: View, start: u32,
        s_begin: u32, s_end: u32, k_begin: u32, k_end: u32, r_begin: u32, r_end: u32,
    }
    GradCoreParams {
        batch: u32, view: View, groups: u32, group_size: u32, add: u32,
        b_begin: u32, b_end: u32, v_begin: u32, v_end: u32, r_begin: u32, r_end: u32,
    }
    ChainStepParams {
        p: u32, p_t: u32, p_out: u32, r: u32, r_t: u32, r_out: u32, s: CoreModes, q: CoreModes,
        ones: u32, start: u32, bias_count: u32, q_begin: u32, q_end: u32,
    }
    ChainGradParams {
        p: u32, p_t: u32, p_out: u32, r: u32, r_t: u32, r_out: u32, s: CoreModes, q: CoreModes,
        ones: u32, groups: u32, group_size: u32, add: u32, p_begin: u32, p_end: u32, r_begin: u32, r_end: u32,
    }
    PatchesParams { count: u32, window: Window }
    PatchesGradParams { count: u32, window: Window }
    PoolParams { count: u32, window: Window, mean: u32 }
    PoolGradParams { count: u32, window: Window, mean: u32 }
    SumRowsParams { rows: u32, columns: u32, groups: u32, group_size: u32 }
    GatherImagesParams { batch: u32, words: u32, pixels: u32, count: u32 }
    ActivateParams { count: u32, relu: u32, seed: u32, threshold: u32, scale: f32 }
    ReluGradParams { count: u32, scale: f32 }
    SoftmaxCrossEntropyParams { batch: u32, classes: u32, count: u32, smoothing: f32 }
    AverageParams { count: u32 }
    AdamParams { rows: u32, columns: u32, begin: u32, stride: u32, beta_1: f32, beta_2: f32 }
    GpuContractParams {
        batch: u32, view: View, samples: u32, tile_w: u32, tile_v: u32, chunk_s: u32, chunk_r: u32, part_k: u32,
        parts: u32, start: u32, relu: u32, seed: u32, threshold: u32, scale: f32,
    }
    GpuGradsParams {
        first: Role, second: Role, batch: u32, groups: u32, group_size: u32, columns: u32, bias_begin: u32,
        bias_columns: u32, relu: u32, scale: f32,
    }
    GpuGradsWholeParams {
        view: View, batch: u32, groups: u32, group_size: u32, columns: u32, f_begin: u32, g_begin: u32, bias_begin: u32,
        bias_columns: u32, slots_f: u32, slots_g: u32, relu: u32, scale: f32,
    }
    GpuMatmulParams {
        rows: u32, inner: u32, columns: u32, a_i: u32, a_k: u32, b_k: u32, b_j: u32, part_k: u32, parts: u32,
        masked: u32, mask_scale: f32, row: u32, sums: u32, sums_begin: u32, start: u32, relu: u32, seed: u32, threshold: u32, scale: f32,
    }
    FinishParams {
        parts: u32, count: u32, features: u32, start: u32, relu: u32, seed: u32, threshold: u32, scale: f32,
    }
    CeilingFmaParams { invocations: u32, iterations: u32 }
    CeilingCopyParams { count: u32 }
    ContractTiledParams { batch: u32, view: View, start: u32 }
    GradTiledParams {
        batch: u32, view: View, groups: u32, b_begin: u32, b_end: u32, add: u32,
    }
    SumGradsParams {
        rows_a: u32, columns_a: u32, rows_c: u32, columns_c: u32, rows_y: u32, columns_y: u32,
    }
    ResizeParams { in_0: u32, in_1: u32, in_2: u32, out_0: u32, out_1: u32, out_2: u32 }
    MatmulParams {
        rows: u32, columns: u32, a_i: u32, a_k: u32, b_k: u32, b_j: u32, c_i: u32, c_j: u32,
        bias_i: u32, bias_j: u32, start: u32, k_begin: u32, k_end: u32,
    }
    MatmulTiledParams {
        rows: u32, inner: u32, columns: u32,
        a_transposed: u32, b_transposed: u32, c_transposed: u32, start: u32,
        k_begin: u32, k_end: u32,
    }
}
