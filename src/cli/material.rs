//! The options that say where, and on which images, networks are trained.

use clap::Args;

use super::data::DataArgs;
use crate::device::DeviceChoice;

/// The device and the images.
#[derive(Debug, Args)]
pub struct MaterialArgs {
    /// Where to train: auto, cpu, vulkan, metal, dx12 or gl; the last four also as NAME:N
    #[arg(long, default_value_t)]
    pub device: DeviceChoice,

    #[command(flatten)]
    pub data: DataArgs,

    /// Train on the first N images only
    #[arg(long, value_name = "N")]
    pub train_images: Option<usize>,
}
