//! A trained network for other programs: as ONNX ([`onnx`]), as safetensors with the cores ([`crate::model::file`]), or
//! with the cores merged, as PyTorch's `nn.Sequential` names its weights ([`pytorch`]). With the feature `cli`, also as a web
//! page (`html`).

#[cfg(feature = "cli")]
pub mod html;
pub mod onnx;
mod protobuf;
pub mod pytorch;

use std::path::Path;

use crate::files::Pending;
use crate::model::{ModelFile, file};
use crate::{Error, Result};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ONNX, a tensor layer as two products.
    Onnx,
    /// The weights as they are, in the safetensors format.
    Safetensors,
    /// Matrices in PyTorch's layout and under its names, in the safetensors format.
    Dense,
}

/// The bytes of a file.
///
/// # Errors
///
/// As [`onnx::to_bytes`].
pub fn to_bytes(model: &ModelFile, format: Format) -> Result<Vec<u8>> {
    let ModelFile { snapshot, classes, border, .. } = model;
    match format {
        Format::Onnx => onnx::to_bytes(snapshot, classes),
        Format::Safetensors => file::to_bytes(snapshot, classes, *border),
        Format::Dense => pytorch::to_bytes(snapshot),
    }
}

/// Writes a file, whole or not at all, of what `bytes` makes. With `exist_ok` it may take the place of another.
///
/// # Errors
///
/// [`Error::Exists`] when there is a file and `exist_ok` is not set, [`Error::Io`] when it cannot be written, and that of
/// `bytes`.
pub fn write(path: &Path, exist_ok: bool, bytes: impl FnOnce() -> Result<Vec<u8>>) -> Result<()> {
    if !exist_ok && path.exists() {
        return Err(Error::Exists { file: path.to_path_buf() });
    }
    let pending = Pending::create(path)?;
    pending.commit(&bytes()?)?;
    Ok(())
}
