//! Which device computes: `auto | cpu | vulkan | metal | dx12 | gl`, the last four with `:N`.
//!
//! A device is resolved once, explicitly, and says what it is; nothing falls back silently. `auto`
//! takes a hardware GPU where there is one, else the CPU. A named device that cannot be had is an
//! error that lists what there is. A software rasterizer is used when it is named.
//!
//! Vulkan loaders crash when instances come and go on several threads, so one lock guards the
//! enumeration and the opening, and what was opened stays open for the life of the process.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::Device;
use burn_wgpu::WgpuSetup;
use serde::Serialize;

use crate::op::gpu::shader::Shader;
use crate::{Error, Result};

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
    /// Every API, in the order in which `auto` asks them.
    pub const ALL: [Self; 4] = [Self::Metal, Self::Vulkan, Self::Dx12, Self::Gl];

    /// Its name as an option's value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Dx12 => "dx12",
            Self::Gl => "gl",
        }
    }

    fn wgpu(self) -> wgpu::Backend {
        match self {
            Self::Vulkan => wgpu::Backend::Vulkan,
            Self::Metal => wgpu::Backend::Metal,
            Self::Dx12 => wgpu::Backend::Dx12,
            Self::Gl => wgpu::Backend::Gl,
        }
    }

    /// Whether this build can speak to it at all.
    fn is_built_in(self) -> bool {
        wgpu::Instance::enabled_backend_features().contains(self.wgpu().into())
    }
}

/// What `--device` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A hardware GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An adapter of one API: the one with this index, or the best.
    Gpu(Api, Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, index) = match text.split_once(':') {
            None => (text, None),
            Some((name, index)) => (name, Some(index)),
        };
        let api = match name {
            "auto" | "cpu" if index.is_some() => return Err(format!("{name} takes no index")),
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            _ => Api::ALL.into_iter().find(|api| api.name() == name),
        };
        let api = api.ok_or("expected auto, cpu, vulkan, metal, dx12 or gl, or vulkan:1")?;
        let index = match index {
            None => None,
            Some(index) => {
                Some(index.parse().map_err(|_| format!("'{index}' is not an adapter's index"))?)
            }
        };
        Ok(Self::Gpu(api, index))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(api, None) => f.write_str(api.name()),
            Self::Gpu(api, Some(index)) => write!(f, "{}:{index}", api.name()),
        }
    }
}

/// What kind of hardware an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A card of its own.
    Discrete,
    /// A GPU beside the CPU.
    Integrated,
    /// A GPU shared with a virtual machine.
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
    /// Largest buffer that a kernel can see, in bytes.
    pub storage_buffer_bytes: u64,
    /// Storage buffers that a kernel can see.
    pub storage_buffers: u32,
    /// Invocations a workgroup.
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
    fn describe(api: Api, index: usize, handle: &wgpu::Adapter) -> Self {
        let info = handle.get_info();
        let limits = handle.limits();
        let driver = [info.driver, info.driver_info];
        Self {
            api,
            index,
            name: info.name,
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
                wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
                wgpu::DeviceType::VirtualGpu => Kind::Virtual,
                wgpu::DeviceType::Cpu => Kind::Software,
                wgpu::DeviceType::Other => Kind::Other,
            },
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

    /// How `--device` names it.
    pub fn id(&self) -> String {
        format!("{}:{}", self.api.name(), self.index)
    }

    /// Why it cannot run the kernels, where it cannot.
    pub fn problem(&self) -> Option<String> {
        // One binding is kept by Burn for itself.
        let bindings =
            Shader::ALL.iter().map(|shader| shader.facts().bindings.len() as u32 + 1).max();
        let bindings = bindings.unwrap_or_default();
        let invocations = Shader::ALL.iter().map(|shader| shader.facts().workgroup_size).max();
        let invocations = invocations.unwrap_or_default();
        if self.limits.workgroup_invocations < invocations {
            return Some(format!(
                "it runs {} invocations a workgroup, the kernels need {invocations}",
                self.limits.workgroup_invocations
            ));
        }
        if self.limits.storage_buffers < bindings {
            return Some(format!(
                "its kernels see {} storage buffers, {bindings} are needed",
                self.limits.storage_buffers
            ));
        }
        None
    }
}

/// A device ready for tensors, and what to tell the user about it.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// Burn's handle, without autodiff.
    pub device: Device,
    /// The adapter, where it is not the CPU device.
    pub adapter: Option<Adapter>,
    /// What it is: `vulkan:0, NVIDIA H200, driver 570.1`.
    pub description: String,
    /// Why this one, where `auto` chose; that it is software, where it is.
    pub remark: Option<String>,
}

impl OpenDevice {
    /// Holds what shall be put on the device, by name and bytes, against the largest buffer that its
    /// kernels can see. The CPU has no such limit.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] naming the first that does not fit.
    pub fn check_buffers(&self, buffers: impl IntoIterator<Item = (String, u64)>) -> Result<()> {
        let Some(adapter) = &self.adapter else { return Ok(()) };
        let limit = adapter.limits.storage_buffer_bytes;
        match buffers.into_iter().find(|&(_, bytes)| bytes > limit) {
            None => Ok(()),
            Some((what, bytes)) => {
                Err(Error::TooLarge { what, bytes, limit, device: self.description.clone() })
            }
        }
    }
}

/// What the process knows of one API: its instance, and its adapters in the driver's order, each
/// with the device opened on it, if one was.
struct Known {
    instance: wgpu::Instance,
    adapters: Vec<(Adapter, wgpu::Adapter, Option<Device>)>,
}

/// The process-wide state behind the lock. An API is asked once, and its instance is kept.
#[derive(Default)]
struct State {
    known: Vec<(Api, Known)>,
}

fn state() -> MutexGuard<'static, State> {
    static STATE: Mutex<State> = Mutex::new(State { known: Vec::new() });
    // A panic while the lock was held leaves at worst an API to be asked again.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn known(&mut self, api: Api) -> &mut Known {
        let at = self.known.iter().position(|(other, _)| *other == api).unwrap_or_else(|| {
            self.known.push((api, Known::ask(api)));
            self.known.len() - 1
        });
        &mut self.known[at].1
    }

    fn adapters(&mut self, api: Api) -> Vec<Adapter> {
        self.known(api).adapters.iter().map(|(adapter, ..)| adapter.clone()).collect()
    }

    fn open(&mut self, adapter: &Adapter) -> Result<Device, String> {
        let Known { instance, adapters } = self.known(adapter.api);
        let (_, handle, opened) = &mut adapters[adapter.index];
        if let Some(device) = opened {
            return Ok(device.clone());
        }
        // What Burn asks for when it opens an adapter itself, without wgpu's experimental
        // features, which nothing here uses. Opening here takes exactly the adapter named; Burn
        // names them by kind, and cannot tell two software adapters apart.
        let features = handle
            .features()
            .difference(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS)
            .difference(wgpu::Features::all_experimental_mask());
        let (device, queue) = pollster::block_on(handle.request_device(&wgpu::DeviceDescriptor {
            label: Some("tnet-gpu"),
            required_features: features,
            required_limits: handle.limits(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        }))
        .map_err(|error| error.to_string())?;
        let setup = WgpuSetup {
            instance: instance.clone(),
            adapter: handle.clone(),
            device,
            queue,
            backend: adapter.api.wgpu(),
        };
        let device =
            Device::wgpu_options().setup(setup).init().map_err(|error| error.to_string())?;
        *opened = Some(device.clone());
        Ok(device)
    }
}

impl Known {
    fn ask(api: Api) -> Self {
        let backends = wgpu::Backends::from(api.wgpu());
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let found = pollster::block_on(instance.enumerate_adapters(backends));
        let adapters = found
            .into_iter()
            .enumerate()
            .map(|(index, handle)| (Adapter::describe(api, index, &handle), handle, None))
            .collect();
        Self { instance, adapters }
    }
}

/// Every adapter of every API, in the order in which `auto` considers the APIs.
pub fn adapters() -> Vec<Adapter> {
    let mut state = state();
    Api::ALL.into_iter().flat_map(|api| state.adapters(api)).collect()
}

/// The adapter that `auto` takes, or why it takes the CPU.
pub fn automatic() -> Result<Adapter, String> {
    let mut state = state();
    let mut software = None;
    for api in Api::ALL {
        let adapters = state.adapters(api);
        if let Some(best) = best_hardware(&adapters) {
            return Ok(best.clone());
        }
        software = software.or(adapters.into_iter().next());
    }
    Err(match software {
        None => "no GPU was found".into(),
        Some(adapter) => format!(
            "no hardware GPU was found; {} ({}) is software and slower than the CPU device",
            adapter.id(),
            adapter.name
        ),
    })
}

/// The first of the best kind, leaving out software and what cannot run the kernels.
fn best_hardware(adapters: &[Adapter]) -> Option<&Adapter> {
    adapters
        .iter()
        .filter(|adapter| adapter.kind != Kind::Software && adapter.problem().is_none())
        .min_by_key(|adapter| adapter.kind)
}

/// Opens what `choice` names.
///
/// # Errors
///
/// [`Error::Device`], with the list of what there is, when a named device cannot be had or the
/// driver refuses.
pub fn open(choice: DeviceChoice) -> Result<OpenDevice> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu(None)),
        DeviceChoice::Auto => match automatic() {
            Ok(adapter) => {
                let remark = format!("chosen by auto: a {}", adapter.kind);
                open_adapter(choice, &adapter, Some(remark))
            }
            Err(reason) => Ok(cpu(Some(format!("chosen by auto: {reason}")))),
        },
        DeviceChoice::Gpu(api, index) => {
            let adapter = named(choice, api, index)?;
            let remark = (adapter.kind == Kind::Software)
                .then(|| "this adapter is software: it runs on the CPU".to_owned());
            open_adapter(choice, &adapter, remark)
        }
    }
}

fn named(choice: DeviceChoice, api: Api, index: Option<usize>) -> Result<Adapter> {
    let adapters = state().adapters(api);
    let found = match index {
        Some(index) => adapters.get(index),
        None => best_hardware(&adapters).or(adapters.first()),
    };
    found.cloned().ok_or_else(|| {
        let problem = match (api.is_built_in(), adapters.len()) {
            (false, _) => format!("{} does not exist on this operating system", api.name()),
            (true, 0) => format!("no {} adapter was found{}", api.name(), remedy(api)),
            (true, count) => format!("{} has {count} adapter(s), counted from 0", api.name()),
        };
        unavailable(choice, problem)
    })
}

/// How to get an adapter where the driver or its loader may be what is missing.
fn remedy(api: Api) -> &'static str {
    if api == Api::Vulkan && cfg!(target_os = "linux") {
        " (install the GPU's driver; Debian's libvulkan1 and mesa-vulkan-drivers bring the loader and a software adapter)"
    } else {
        ""
    }
}

fn open_adapter(
    choice: DeviceChoice,
    adapter: &Adapter,
    remark: Option<String>,
) -> Result<OpenDevice> {
    if let Some(problem) = adapter.problem() {
        return Err(unavailable(choice, format!("{} cannot be used: {problem}", adapter.id())));
    }
    let opened = state().open(adapter);
    let device = opened.map_err(|error| unavailable(choice, error))?;
    let description = format!("{}, {}, {}", adapter.id(), adapter.name, adapter.driver);
    Ok(OpenDevice { device, adapter: Some(adapter.clone()), description, remark })
}

fn cpu(remark: Option<String>) -> OpenDevice {
    OpenDevice {
        device: Device::flex(),
        adapter: None,
        description: format!("cpu, {} threads", rayon::current_num_threads()),
        remark,
    }
}

fn unavailable(choice: DeviceChoice, problem: String) -> Error {
    let ids = std::iter::once("cpu".to_owned()).chain(
        adapters().into_iter().map(|adapter| format!("{} ({})", adapter.id(), adapter.name)),
    );
    Error::Device {
        requested: choice.to_string(),
        problem,
        available: ids.collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for text in ["auto", "cpu", "vulkan", "metal:0", "dx12:3", "gl"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["", "cuda", "cpu:0", "auto:1", "vulkan:", "vulkan:-1", "vulkan:x"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

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
