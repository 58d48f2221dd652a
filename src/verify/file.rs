//! Reference files: operands in f32 and expected results in f64, by name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

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

/// The tensors of one file by name, each checked before it is copied.
pub(super) struct Reader<'a> {
    path: &'a Path,
    file: &'a SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> Reader<'a> {
    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_ok()
    }

    fn tensor(&self, name: &str) -> Result<TensorView<'a>> {
        self.file.tensor(name).map_err(|_| {
            Error::malformed(self.path, format!("tensor '{name}'"), "it to exist", "none")
        })
    }

    /// The shape of a tensor of `D` modes.
    pub fn shape<const D: usize>(&self, name: &str) -> Result<[usize; D]> {
        let tensor = self.tensor(name)?;
        tensor.shape().try_into().map_err(|_| {
            Error::malformed(
                self.path,
                format!("tensor '{name}'"),
                format!("{D} extents"),
                format!("{:?}", tensor.shape()),
            )
        })
    }

    /// Whole numbers of the metadata, with commas between them.
    pub fn numbers<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let found = self.metadata.get(name).map_or("none", String::as_str);
        let numbers: Option<Vec<usize>> =
            found.split(',').map(|number| number.trim().parse().ok()).collect();
        numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| {
            let expected = format!("{N} whole numbers");
            Error::malformed(self.path, format!("metadata '{name}'"), expected, found)
        })
    }

    /// The first extent of a tensor.
    pub fn first(&self, name: &str) -> Result<usize> {
        let tensor = self.tensor(name)?;
        let first = tensor.shape().first().copied().filter(|extent| *extent > 0);
        first.ok_or_else(|| {
            let found = format!("{:?}", tensor.shape());
            Error::malformed(self.path, format!("tensor '{name}'"), "extents of 1 or more", found)
        })
    }

    /// An error of operands that do not fit each other.
    pub fn unfit(&self, error: Error) -> Error {
        Error::malformed(self.path, "shapes", "operands that fit", error)
    }

    fn bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [u8]> {
        let tensor = self.tensor(name)?;
        if tensor.dtype() == dtype && tensor.shape() == shape {
            return Ok(tensor.data());
        }
        Err(Error::malformed(
            self.path,
            format!("tensor '{name}'"),
            format!("{dtype} {shape:?}"),
            format!("{} {:?}", tensor.dtype(), tensor.shape()),
        ))
    }

    /// The numbers of an operand.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let bytes = self.bytes(name, Dtype::F32, shape)?;
        Ok(bytemuck::pod_collect_to_vec(bytes))
    }

    /// The numbers of a result.
    pub fn f64(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let bytes = self.bytes(name, Dtype::F64, shape)?;
        Ok(bytemuck::pod_collect_to_vec(bytes))
    }
}
