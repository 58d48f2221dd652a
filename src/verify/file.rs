//! Reference files: operands in f32 and expected results in f64, by name.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use super::reader::Reader;
use super::{Case, chains, convolutions, two_cores};
use crate::files::is_litter;
use crate::{Error, Result};

/// Reads every `.safetensors` file of a folder, in order of their names, or the one file that is given.
///
/// A file contains the operands in f32 and the expected results in f64:
///
/// | layer | operands | results |
/// |---|---|---|
/// | two cores | `x[b,j,l] a[m,k,j] c[l,k,n] bias[m,n] dy[b,m,n]` | `y da dc dbias dx` |
/// | a convolution | `x[b,c,h,w] a[m,k,j] c[l,k,n] bias[m,n] dy[b,m·n,h',w']`; `kernel`, `stride` and `padding` in the metadata | `y da dc dbias dx` |
/// | a chain | `x[b,i1,…,id] g1[1,o1,i1,k1] g2[k1,o2,i2,k2] … bias[o1,…,od] dy[b,o1,…,od]` | `y dg1 dg2 … dbias dx` |
///
/// # Errors
///
/// [`Error::Io`] and [`Error::Malformed`], naming the file and the tensor.
pub fn from_folder(folder: &Path) -> Result<Vec<Case>> {
    if folder.is_file() {
        return Ok(vec![from_file(folder)?]);
    }
    let entries = std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))?;
    let mut files = Vec::<PathBuf>::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("read the folder", folder))?;
        if !is_litter(&entry.file_name()) {
            files.push(entry.path());
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    if files.is_empty() {
        return Err(Error::malformed(folder, "folder", "files named *.safetensors", "none"));
    }
    files.iter().map(|file| from_file(file)).collect()
}

fn from_file(path: &Path) -> Result<Case> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::malformed(path, "content", "a safetensors file", error))?;
    let metadata = SafeTensors::read_metadata(&bytes)
        .map_err(|error| Error::malformed(path, "content", "a safetensors file", error))?;
    let metadata = metadata.1.metadata().clone().unwrap_or_default();
    let reader = Reader { path, file: &file, metadata };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if reader.has("g1") {
        return chains::read(name, &reader).map(Case::Chain);
    }
    match reader.metadata.contains_key("kernel") {
        true => convolutions::read(name, &reader).map(Case::Convolution),
        false => two_cores::read(name, &reader).map(Case::TwoCores),
    }
}
