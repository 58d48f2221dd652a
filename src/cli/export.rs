//! `tnet-gpu export`: write a trained network for other programs.

use std::path::PathBuf;

use clap::Args;

use super::model::ModelArgs;
use super::out;
use crate::Result;
use crate::export::{Format, write};
use crate::net::features;
use crate::text::shown;

/// Options of `export`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu export runs/mps-bond1-1 --format onnx --out model.onnx",
    "tnet-gpu export runs/mps-bond1-1 --format dense --out model.safetensors",
])]
pub struct ExportArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// What to write: onnx (tensor layers as two products), safetensors (the weights as they are), or dense (matrices
    /// under the names of PyTorch's nn.Sequential, in the safetensors format)
    #[arg(long, value_enum)]
    format: Format,

    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Let --out be a file that exists, and replace it
    #[arg(long)]
    exist_ok: bool,
}

/// Runs the command.
pub fn run(args: &ExportArgs) -> Result<()> {
    let model = args.model.read()?;
    write(&model, args.format, &args.out, args.exist_ok)?;
    let stack = model.snapshot.stack();
    let [channels, height, width] = stack.input;
    let input = match args.format {
        Format::Onnx => format!("images [batch, {channels}, {height}, {width}]"),
        Format::Safetensors | Format::Dense => format!("{} inputs", features(stack.input)),
    };
    out(&format!("{}: {input} to {} classes", shown(&args.out), stack.outputs()?))
}
