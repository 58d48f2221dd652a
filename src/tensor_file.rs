//! Files in the safetensors format: the length of a header, the header in JSON, the tensors.
//!
//! Files are not trusted. A header is read only up to a limit, and must agree with the length of its file before anything
//! is allocated for the content.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorView};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Size of the header's length, in bytes.
const LENGTH: usize = 8;

/// Longest header that is read, in bytes; a tensor takes some hundred.
const MAX_HEADER: u64 = 1 << 20;

/// How other files begin that are met in place of this one, and what can be done about it.
const KINDS: [(&[u8], &str); 5] = [
    (
        b"PK\x03\x04",
        "a ZIP archive; if torch.save wrote it, save its state_dict with safetensors.torch.save_file, if Keras did, its \
         weights with safetensors.numpy.save_file",
    ),
    (b"\x80\x02", "a Python pickle; save its state_dict with safetensors.torch.save_file"),
    (b"\x89HDF", "an HDF5 file; save the model's weights with safetensors.numpy.save_file"),
    (b"GGUF", "a GGUF file; convert it"),
    (b"version https://git-lfs", "a Git LFS pointer; get the file itself with git lfs pull"),
];

/// A header that agrees with the length of its file.
#[derive(Debug)]
pub struct Header {
    /// Name, type, shape and place of every tensor, and the metadata.
    tensors: Metadata,
    /// Offset of the tensors in the file.
    begin: usize,
    /// Length of the whole file, in bytes.
    length: u64,
}

/// A file whose header has been read.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    /// What has been read so far.
    bytes: Vec<u8>,
    header: Header,
}

impl Header {
    /// Reads the header at the beginning of a file of `length` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when there is none, or it does not agree with the length.
    pub fn parse(path: &Path, start: &[u8], length: u64) -> Result<Self> {
        let wrong = |found: &dyn std::fmt::Display| {
            let kind = KINDS.iter().find(|(magic, _)| start.starts_with(magic));
            let found = kind.map_or_else(|| found.to_string(), |(_, kind)| kind.to_string());
            Err(Error::malformed(path, "content", "a safetensors file", found))
        };
        let Some(header) = header_length(start) else {
            return wrong(&format!("{} bytes", start.len()));
        };
        if header as u64 > MAX_HEADER {
            return wrong(&format!("a header of {header} bytes"));
        }
        let begin = LENGTH + header;
        let Some(header) = start.get(LENGTH..begin) else {
            return wrong(&format!("a header that ends after {} bytes", start.len()));
        };
        let tensors: Metadata = match serde_json::from_slice(header) {
            Ok(tensors) => tensors,
            Err(error) => return wrong(&error),
        };
        let expected = begin as u64 + tensors.data_len() as u64;
        if expected != length {
            let found = match length < expected {
                true => format!("{length}: the file is cut short"),
                false => format!("{length}: something was appended"),
            };
            return Err(Error::malformed(path, "size", format!("{expected} bytes"), found));
        }
        Ok(Self { tensors, begin, length })
    }

    /// What the metadata has under a key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.tensors.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// What the metadata has under a key, as JSON of a `format`: `what` says what it describes, as in `a training run`.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when there is none, or it is of another format.
    pub fn described<T: DeserializeOwned>(
        &self,
        path: &Path,
        key: &str,
        format: u32,
        what: &str,
    ) -> Result<T> {
        /// The part that every version has.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let wrong = |expected: &str, found: &dyn std::fmt::Display| {
            Error::malformed(path, "metadata", expected, found)
        };
        let text = self.metadata(key).ok_or_else(|| {
            wrong(&format!("the key '{key}', of {what}"), &"none: another program's file")
        })?;
        let version: Version =
            serde_json::from_str(text).map_err(|error| wrong("a version", &error))?;
        if version.format != format {
            let found = format!("{}, written by another version of this program", version.format);
            return Err(Error::malformed(path, "format", format, found));
        }
        serde_json::from_str(text).map_err(|error| wrong(what, &error))
    }

    /// Name, type, shape and place of every tensor.
    pub fn tensors(&self) -> &Metadata {
        &self.tensors
    }

    /// Checks that the file holds these tensors of f32 and no other.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] naming the first tensor that is missing or another.
    pub fn check_holds<'a>(
        &self,
        path: &Path,
        expected: impl IntoIterator<Item = (String, &'a [usize])>,
    ) -> Result<()> {
        let mut count = 0;
        for (name, shape) in expected {
            let found = match self.tensors.info(&name) {
                Some(info) if info.dtype == Dtype::F32 && info.shape == shape => {
                    count += 1;
                    continue;
                }
                Some(info) => format!("{} {:?}", info.dtype, info.shape),
                None => "none".into(),
            };
            let expected = format!("F32 {shape:?}");
            return Err(Error::malformed(path, format!("tensor '{name}'"), expected, found));
        }
        let held = self.tensors.offset_keys().len();
        if held != count {
            return Err(Error::malformed(path, "tensors", count, held));
        }
        Ok(())
    }

    /// The numbers of a tensor of f32, in the bytes of the whole file.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when one is not finite.
    pub fn numbers(&self, path: &Path, name: &str, file: &[u8]) -> Result<Vec<f32>> {
        finite(path, name, bytemuck::pod_collect_to_vec(self.bytes(name, file)))
    }

    /// The bytes of a tensor in those of the whole file; none where the tensor is not there.
    pub fn bytes<'a>(&self, name: &str, file: &'a [u8]) -> &'a [u8] {
        let (from, to) = self.tensors.info(name).map_or((0, 0), |info| info.data_offsets);
        file.get(self.begin + from..self.begin + to).unwrap_or_default()
    }
}

impl TensorFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read, [`Error::Malformed`] as [`Header::parse`].
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let mut bytes = Vec::new();
        let mut read = |bytes: &mut Vec<u8>, count: u64| {
            file.by_ref().take(count).read_to_end(bytes).map_err(Error::io("read", path))
        };
        read(&mut bytes, LENGTH as u64)?;
        let header = header_length(&bytes).map_or(0, |length| length as u64).min(MAX_HEADER);
        read(&mut bytes, header)?;
        let header = Header::parse(path, &bytes, length)?;
        Ok(Self { path: path.to_path_buf(), file, bytes, header })
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the rest; the header and the whole file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Malformed`] when its size has changed since it was opened.
    pub fn content(self) -> Result<(Header, Vec<u8>)> {
        let Self { path, file, mut bytes, header } = self;
        // One byte more than expected, so that a file that has grown is refused.
        let rest = header.length - bytes.len() as u64;
        file.take(rest + 1).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        if bytes.len() as u64 != header.length {
            let expected = format!("{} bytes, its size when it was opened", header.length);
            return Err(Error::malformed(&path, "size", expected, bytes.len()));
        }
        Ok((header, bytes))
    }
}

/// Checks that all numbers of a tensor are finite.
///
/// # Errors
///
/// [`Error::Malformed`] when one is not.
pub fn finite(path: &Path, name: &str, numbers: Vec<f32>) -> Result<Vec<f32>> {
    match numbers.iter().find(|number| !number.is_finite()) {
        None => Ok(numbers),
        Some(number) => {
            Err(Error::malformed(path, format!("tensor '{name}'"), "finite numbers", number))
        }
    }
}

/// The length of a file's header, if the file has one and it fits a `usize`.
fn header_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<LENGTH>()?;
    usize::try_from(u64::from_le_bytes(*length)).ok()
}

/// The header with its length, if the file is long enough.
pub fn header_of(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..LENGTH.checked_add(header_length(bytes)?)?)
}

/// The bytes of a file with these tensors `(name, shape, numbers)` and metadata.
///
/// # Errors
///
/// [`Error::Internal`] when numbers do not fill their shape.
pub fn to_bytes<'a>(
    tensors: impl IntoIterator<Item = (String, Vec<usize>, &'a [f32])>,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    let broken = |error: safetensors::SafeTensorError| Error::internal("writing tensors", error);
    let views = tensors.into_iter().map(|(name, shape, numbers)| {
        Ok((name, TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(numbers))?))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    safetensors::serialize(views, Some(metadata)).map_err(broken)
}
