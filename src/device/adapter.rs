//! Adapters: what there is, what the kernels need of one, and which is best.

use std::fmt;

use serde::Serialize;

use crate::op::gpu::shader::Shader;

/// A graphics API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Vulkan: Linux, Windows, Android.
    Vulkan,
    /// Metal: macOS, iOS.
    Metal,
    /// DirectX 12: Windows.
    Dx12,
    /// OpenGL and OpenGL ES.
    Gl,
}

impl Api {
    /// All APIs, in the order in which `auto` queries them.
    pub const ALL: [Self; 4] = [Self::Metal, Self::Vulkan, Self::Dx12, Self::Gl];

    /// Its name as the user types it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Dx12 => "dx12",
            Self::Gl => "gl",
        }
    }

    pub(super) fn wgpu(self) -> wgpu::Backend {
        match self {
            Self::Vulkan => wgpu::Backend::Vulkan,
            Self::Metal => wgpu::Backend::Metal,
            Self::Dx12 => wgpu::Backend::Dx12,
            Self::Gl => wgpu::Backend::Gl,
        }
    }

    /// Whether this build supports it.
    pub(super) fn is_built_in(self) -> bool {
        wgpu::Instance::enabled_backend_features().contains(self.wgpu().into())
    }
}

/// The kind of hardware behind an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A separate card.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A GPU passed to a virtual machine.
    Virtual,
    /// The driver does not say (usual for OpenGL).
    Other,
    /// A rasterizer that runs on the CPU, such as lavapipe.
    Software,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Other => "GPU of unknown kind",
            Self::Software => "software",
        })
    }
}

/// The limits of an adapter that decide what it can train.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Largest buffer that a kernel can bind, in bytes.
    pub storage_buffer_bytes: u64,
    /// Number of storage buffers that a kernel can bind.
    pub storage_buffers: u32,
    /// Invocations per workgroup.
    pub workgroup_invocations: u32,
    /// Workgroup memory, in bytes.
    pub workgroup_memory_bytes: u32,
    /// Workgroups along one dimension of a launch.
    pub workgroups: u32,
}

/// One adapter of one API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// The API that reaches it.
    pub api: Api,
    /// Its index among that API's adapters; `vulkan:0`.
    pub index: usize,
    /// Its name, as the driver gives it.
    pub name: String,
    /// What kind of hardware it is.
    pub kind: Kind,
    /// Driver and version, as the driver gives them.
    pub driver: String,
    /// The limits that matter.
    pub limits: Limits,
}

impl Adapter {
    pub(super) fn describe(api: Api, index: usize, handle: &wgpu::Adapter) -> Self {
        let info = handle.get_info();
        let limits = handle.limits();
        let driver = [info.driver, info.driver_info];
        Self {
            api,
            index,
            kind: match info.device_type {
                _ if is_software(&info.name) => Kind::Software,
                wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
                wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
                wgpu::DeviceType::VirtualGpu => Kind::Virtual,
                wgpu::DeviceType::Cpu => Kind::Software,
                wgpu::DeviceType::Other => Kind::Other,
            },
            name: info.name,
            driver: driver.join(" ").trim().to_owned(),
            limits: Limits {
                storage_buffer_bytes: limits.max_storage_buffer_binding_size,
                storage_buffers: limits.max_storage_buffers_per_shader_stage,
                workgroup_invocations: limits.max_compute_invocations_per_workgroup,
                workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
                workgroups: limits.max_compute_workgroups_per_dimension,
            },
        }
    }

    /// Its name as the user types it.
    pub fn id(&self) -> String {
        format!("{}:{}", self.api.name(), self.index)
    }

    /// Why it cannot run the kernels, if it cannot.
    pub fn problem(&self) -> Option<String> {
        let bindings = Shader::ALL.iter().map(|shader| shader.facts().bindings.len() as u32).max();
        let bindings = bindings.unwrap_or_default();
        let invocations = Shader::ALL.iter().map(|shader| shader.facts().workgroup_size).max();
        let invocations = invocations.unwrap_or_default();
        if self.limits.workgroup_invocations < invocations {
            return Some(format!(
                "it runs {} invocations per workgroup, the kernels need {invocations}",
                self.limits.workgroup_invocations
            ));
        }
        if self.limits.storage_buffers < bindings {
            return Some(format!(
                "its kernels can bind {} storage buffers, {bindings} are needed",
                self.limits.storage_buffers
            ));
        }
        None
    }
}

/// Whether a driver's name for an adapter is that of a rasterizer on the CPU: through OpenGL, none tells its kind.
fn is_software(name: &str) -> bool {
    const NAMES: [&str; 6] =
        ["llvmpipe", "softpipe", "swrast", "swiftshader", "software", "basic render driver"];
    let name = name.to_lowercase();
    NAMES.iter().any(|software| name.contains(software))
}

/// The adapters that are no software, the best kind first.
pub(super) fn hardware(adapters: &[Adapter]) -> Vec<&Adapter> {
    let mut hardware: Vec<&Adapter> =
        adapters.iter().filter(|adapter| adapter.kind != Kind::Software).collect();
    hardware.sort_by_key(|adapter| adapter.kind);
    hardware
}

/// The first of these whose limits are those that the kernels need.
pub(super) fn best_hardware(adapters: &[Adapter]) -> Option<&Adapter> {
    hardware(adapters).into_iter().find(|adapter| adapter.problem().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(kind: Kind, index: usize, workgroup_invocations: u32) -> Adapter {
        Adapter {
            api: Api::Vulkan,
            index,
            name: String::new(),
            kind,
            driver: String::new(),
            limits: Limits {
                storage_buffer_bytes: 1 << 27,
                storage_buffers: 8,
                workgroup_invocations,
                workgroup_memory_bytes: 1 << 14,
                workgroups: 65_535,
            },
        }
    }

    #[test]
    fn rasterizers_are_told_by_name() {
        for name in ["softpipe", "Software Rasterizer", "zink Vulkan 1.3(llvmpipe (LLVM 15.0.6))"] {
            assert!(is_software(name), "{name}");
        }
        for name in ["NVIDIA H100", "AMD Radeon RX 7900 (RADV)", "Mesa Intel(R) Arc(tm) Graphics"] {
            assert!(!is_software(name), "{name}");
        }
    }

    #[test]
    fn the_best_is_hardware_that_can_run_the_kernels() {
        let best = |adapters: &[Adapter]| best_hardware(adapters).map(|adapter| adapter.index);
        let integrated = adapter(Kind::Integrated, 0, 256);
        let discrete = adapter(Kind::Discrete, 1, 256);
        let weak = adapter(Kind::Discrete, 2, 32);
        let software = adapter(Kind::Software, 3, 256);
        assert_eq!(best(&[integrated.clone(), discrete, software.clone()]), Some(1));
        assert_eq!(best(&[weak.clone(), integrated]), Some(0));
        assert_eq!(best(&[weak, software]), None);
    }
}
