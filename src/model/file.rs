//! A trained network as one safetensors file: the weights by name (`mps1.a`, `dense4.weight`, …) in f32, with the shapes
//! of [`Stack::weights`], and in the metadata, as JSON under the key `tnet-gpu-model`, the stack, a name for
//! each class, and, where it is known, the brightness of the border of the images it was trained on.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::net::{Snapshot, Stack};
use crate::tensor_file::{self, Header};
use crate::{Error, Result};

/// The metadata key that identifies such a file.
pub const KEY: &str = "tnet-gpu-model";

/// The version of the format. No other version is read.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Metadata {
    format: u32,
    network: Stack,
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    border: Option<u8>,
}

/// The bytes of the file; `classes` has a name for each class, `border` is that of the training images.
///
/// # Errors
///
/// [`Error::Internal`] when it cannot be written, which no network is known to cause.
pub fn to_bytes(snapshot: &Snapshot, classes: &[String], border: Option<u8>) -> Result<Vec<u8>> {
    let metadata = Metadata {
        format: FORMAT,
        network: snapshot.stack().clone(),
        classes: classes.to_vec(),
        border,
    };
    let metadata = serde_json::to_string(&metadata)
        .map_err(|error| Error::internal("writing a network", error))?;
    let named = snapshot.stack().weights()?.into_iter().zip(snapshot.weights());
    tensor_file::to_bytes(
        named.map(|((name, weight), numbers)| (name, weight.shape, &numbers[..])),
        HashMap::from([(KEY.to_owned(), metadata)]),
    )
}

/// What a header says, checked against the tensors that it lists.
pub(super) struct Plan {
    metadata: Metadata,
    names: Vec<String>,
}

impl Plan {
    pub(super) fn new(path: &Path, header: &Header) -> Result<Self> {
        let wrong = |what: &str, expected: &str, found: &dyn std::fmt::Display| {
            Error::malformed(path, what, expected, found)
        };
        let metadata: Metadata = header.described(path, KEY, FORMAT, "a network")?;
        let outputs = metadata.network.outputs();
        let outputs = outputs.map_err(|error| wrong("network", "a possible one", &error))?;
        if metadata.classes.len() != outputs {
            return Err(wrong("classes", &outputs.to_string(), &metadata.classes.len()));
        }
        let weights = metadata.network.weights()?;
        let expected = weights.iter().map(|(name, weight)| (name.clone(), &weight.shape[..]));
        header.check_holds(path, expected)?;
        Ok(Self { metadata, names: weights.into_iter().map(|(name, _)| name).collect() })
    }

    /// Reads the network, the names of its classes, and the border of its images.
    pub(super) fn read(
        self,
        path: &Path,
        header: &Header,
        bytes: &[u8],
    ) -> Result<(Snapshot, Vec<String>, Option<u8>)> {
        let numbers = self.names.iter().map(|name| header.numbers(path, name, bytes));
        let numbers = numbers.collect::<Result<_>>()?;
        let Metadata { network, classes, border, .. } = self.metadata;
        Ok((Snapshot::new(network, numbers)?, classes, border))
    }
}
