//! The tensors of a reference file.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::{Error, Result};

/// The tensors of one file by name, each checked before it is copied.
pub(super) struct Reader<'a> {
    pub path: &'a Path,
    pub file: &'a SafeTensors<'a>,
    pub metadata: HashMap<String, String>,
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
