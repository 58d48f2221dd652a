//! A network's matrices under the names and in the layout that PyTorch gives them in an `nn.Sequential` of the same layers:
//! the first layer's are `0.weight` of shape `[out, in]` and `0.bias`. A tensor layer's cores are merged into its matrix.
//!
//! `load_state_dict(safetensors.torch.load_file(FILE), strict=True)` reads it into such a model, in which every layer here
//! is one module: `nn.Linear` for `dense` and `mps`, `nn.ReLU`, `nn.GELU`, `nn.Dropout`.

use std::collections::HashMap;

use crate::Result;
use crate::compress::Matrix;
use crate::net::Snapshot;
use crate::tensor_file;

/// The bytes of the file.
///
/// # Errors
///
/// [`crate::Error::Argument`] when a core has a number that is not finite, which no file that was read has.
pub fn to_bytes(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for (at, layer) in snapshot.stack().layers.iter().enumerate() {
        let Some(Matrix { weight, bias, inputs, outputs }) =
            Matrix::of(layer, snapshot.of_layer(at)?)?
        else {
            continue;
        };
        let number = |at: usize| weight[at % inputs * outputs + at / inputs];
        let turned = (0..weight.len()).map(number).collect();
        tensors.push((format!("{at}.weight"), vec![outputs, inputs], turned));
        tensors.extend(bias.map(|bias| (format!("{at}.bias"), vec![outputs], bias)));
    }
    // What tells other programs that the layout is PyTorch's.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let tensors = tensors.iter();
    let tensors = tensors.map(|(name, shape, numbers)| (name.clone(), shape.clone(), &numbers[..]));
    tensor_file::to_bytes(tensors, metadata)
}
