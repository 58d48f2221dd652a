//! What computes on an adapter: a GPU, or the CPU in its place. The kernels differ.

use std::sync::{PoisonError, RwLock};

use burn::backend::DispatchDevice;
use burn::tensor::Device;
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::ir::features::Plane;

use crate::mps::strategy::Target;

/// What is known of the devices that were opened, and what every adapter is taken for, if that was forced.
struct Known {
    forced: Option<Target>,
    devices: Vec<(CubeDevice, Target)>,
}

static KNOWN: RwLock<Known> = RwLock::new(Known { forced: None, devices: Vec::new() });

/// Makes the whole process take every adapter for one target, or, with none, for what it is.
///
/// For tests: a GPU's kernels on a software adapter. The executable forces what `TNET_TARGET` names.
pub fn force_target(target: Option<Target>) {
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).forced = target;
}

/// Notes what an adapter is that was just opened.
pub(crate) fn register(device: &Device, target: Target) {
    if let DispatchDevice::Cube(device) = device.as_dispatch() {
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        known.devices.push((device.clone(), target));
    }
}

/// What computes on a device: see [`Target`].
///
/// Of a device that was not opened by [`crate::device`] the graphics API's kind is not known here. Burn reports no
/// subgroup operations for software adapters; a GPU that has none is taken for one, too.
pub fn target(device: &CubeDevice) -> Target {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let noted = known.devices.iter().find(|(other, _)| other == device);
    match (known.forced, noted) {
        (Some(target), _) | (None, Some(&(_, target))) => target,
        (None, None) => match device.client().properties().features.plane.contains(Plane::Ops) {
            true => Target::Gpu,
            false => Target::Software,
        },
    }
}
