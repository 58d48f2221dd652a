//! Choosing and opening a device: `auto | cpu | vulkan | metal | dx12 | gl`, the last four also with
//! an index, as in `vulkan:1`.
//!
//! A device is chosen once, explicitly, and reports what it is; nothing falls back silently. An adapter is used only
//! after it has computed a small kernel right (`shaders/device/probe.wgsl`). `auto` takes the first hardware GPU that
//! does, else the CPU, and says why it passed others over. If a named device is not available or fails, the error lists
//! those that there are. A software rasterizer is used only if it is named.
//!
//! Some Vulkan loaders crash when several threads create and destroy instances, so one lock guards
//! enumeration and opening, and whatever was opened stays open for the life of the process.

mod adapter;
mod probe;

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::Device;
use burn_wgpu::WgpuSetup;

pub use adapter::{Adapter, Api, Kind, Limits};
use adapter::{best_hardware, hardware};
#[cfg(feature = "cli")]
pub(crate) use probe::is_running as is_probing;

use crate::mps::strategy::Target;
use crate::op;
use crate::text::one_line;
use crate::{Error, Result};

/// A device as the user names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A hardware GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An adapter of one API: the one with this index, else the best one.
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

/// A device ready for use, and what to tell the user about it.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// Burn's handle, without autodiff.
    pub device: Device,
    /// The adapter; none for the CPU device.
    pub adapter: Option<Adapter>,
    /// Its description: `vulkan:0, NVIDIA H200, driver 570.1`.
    pub description: String,
    /// Why `auto` chose it, or a note that it is a software adapter.
    pub remark: Option<String>,
}

impl OpenDevice {
    /// Checks buffers, given by name and size in bytes, against the largest buffer that a kernel on the
    /// device can bind. The CPU has no such limit.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] naming the first buffer that does not fit.
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

/// An API that has been queried: its instance, and its adapters in the driver's order, each with the
/// device opened on it, if any.
struct Known {
    instance: wgpu::Instance,
    adapters: Vec<(Adapter, wgpu::Adapter, Option<Device>)>,
}

/// The process-wide state behind the lock. Each API is queried once, and its instance is kept.
#[derive(Default)]
struct State {
    known: Vec<(Api, Known)>,
}

fn state() -> MutexGuard<'static, State> {
    static STATE: Mutex<State> = Mutex::new(State { known: Vec::new() });
    // After a panic while the lock was held, at worst an API is queried again.
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
        // The features that Burn requests when it opens an adapter itself, without wgpu's experimental
        // ones, which nothing here uses. Opening the adapter here selects exactly the one named; Burn
        // selects by kind, and cannot tell two software adapters apart.
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
        .map_err(|error| format!("its driver opens no device ({error})"))?;
        probe::run(&device, &queue)?;
        let setup = WgpuSetup {
            instance: instance.clone(),
            adapter: handle.clone(),
            device,
            queue,
            backend: adapter.api.wgpu(),
        };
        let device =
            Device::wgpu_options().setup(setup).init().map_err(|error| error.to_string())?;
        let target = if adapter.kind == Kind::Software { Target::Software } else { Target::Gpu };
        op::register(&device, target);
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

/// All adapters of all APIs, in the order in which `auto` considers the APIs.
pub fn adapters() -> Vec<Adapter> {
    let mut state = state();
    Api::ALL.into_iter().flat_map(|api| state.adapters(api)).collect()
}

/// What `auto` selects.
#[derive(Debug, Clone)]
pub struct Automatic {
    /// The adapter; none for the CPU device.
    pub adapter: Option<Adapter>,
    /// Why it is that one.
    pub reason: String,
    /// The adapters that come before it and cannot be used, each with the reason.
    pub passed_over: Vec<String>,
}

/// Tries the adapters in turn, and opens the one that `auto` selects.
pub fn automatic() -> Automatic {
    let mut state = state();
    let mut software = None;
    let mut passed_over = Vec::new();
    for api in Api::ALL {
        let adapters = state.adapters(api);
        for adapter in hardware(&adapters) {
            let opened = adapter.problem().map_or(Ok(()), Err);
            match opened.and_then(|()| state.open(adapter)) {
                Ok(_) => {
                    let reason = format!("it is a {}", adapter.kind);
                    return Automatic { adapter: Some(adapter.clone()), reason, passed_over };
                }
                Err(problem) => {
                    let problem = one_line(problem);
                    passed_over.push(format!("{} ({}): {problem}", adapter.id(), adapter.name));
                }
            }
        }
        software = software.or(adapters.into_iter().find(|adapter| adapter.kind == Kind::Software));
    }
    let reason = match software {
        None => "no GPU was found".into(),
        Some(adapter) => format!(
            "no hardware GPU was found; {} ({}) is software and slower than the CPU device",
            adapter.id(),
            adapter.name
        ),
    };
    let reason = if passed_over.is_empty() { reason } else { "no GPU that works was found".into() };
    Automatic { adapter: None, reason, passed_over }
}

/// Opens the device that `choice` names.
///
/// # Errors
///
/// [`Error::Device`], which lists the available devices, when the named one is not available, the
/// driver does not open it, or it fails to compute a small kernel.
pub fn open(choice: DeviceChoice) -> Result<OpenDevice> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu(None)),
        DeviceChoice::Auto => {
            let Automatic { adapter, reason, passed_over } = automatic();
            let passed_over = passed_over.iter().map(|over| format!("; passed over {over}"));
            let remark = format!("chosen by auto: {reason}{}", passed_over.collect::<String>());
            match adapter {
                Some(adapter) => open_adapter(choice, &adapter, Some(remark)),
                None => Ok(cpu(Some(remark))),
            }
        }
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

/// What to install if the driver or its loader may be missing.
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
    let device = opened.map_err(|problem| {
        unavailable(
            choice,
            format!("{} ({}) cannot be used: {problem}", adapter.id(), adapter.name),
        )
    })?;
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
    let problem = one_line(problem);
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
    fn names_survive_parsing_and_printing() {
        for text in ["auto", "cpu", "vulkan", "metal:0", "dx12:3", "gl"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["", "cuda", "cpu:0", "auto:1", "vulkan:", "vulkan:-1", "vulkan:x"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }
}
